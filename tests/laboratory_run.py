"""What the run of every laboratory keeps; ``test_run_NAME.py`` runs one each, so that the runs share the cores."""

import shutil

import pandas as pd
import pytest
from drawn_texts import faults

from rephase import pipeline
from rephase.figures import draw
from rephase.laboratories import LABORATORIES
from rephase.learning.store import Shard, Store
from rephase.pipeline import run_notebooks
from rephase.runs import COLUMNS
from rephase.runs.status import read_notebook
from rephase.trainings import run_trainings


def check_tabular(text):
    """Whether every row of a LaTeX table has as many cells as it has columns, between the rules of booktabs."""
    head, *lines = text.splitlines()
    n_columns = len(head.removeprefix(r"\begin{tabular}").strip("{}"))
    assert [line for line in lines if line.startswith("\\") and "&" not in line] == [
        r"\toprule",
        r"\midrule",
        r"\bottomrule",
        r"\end{tabular}",
    ]
    assert {line.replace(r"\&", "").count("&") + 1 for line in lines if "&" in line} <= {n_columns}


class LaboratoryRun:
    """Tests of a run of all notebooks of one laboratory from configs/test.yaml, in a folder of its own."""

    name: str
    n_plotly = 0

    @pytest.fixture(scope="class")
    @classmethod
    def run(cls, tmp_path_factory):
        return run_notebooks("test", out=tmp_path_factory.mktemp(cls.name), only=[cls.name], device="cpu")

    @pytest.fixture(scope="class")
    @classmethod
    def results(cls, run):
        return pd.read_csv(run.folder / "results.csv")

    def test_results_are_tidy(self, results):
        assert list(results.columns) == COLUMNS
        assert results[["experiment", "model", "metric"]].notna().all(axis=None)

    def test_every_figure_is_there_in_print_and_on_screen(self, run):
        for name in LABORATORIES[self.name].figures:
            assert (run.folder / "figures" / f"{name}.pdf").stat().st_size > 1000
            assert (run.folder / "figures" / f"{name}.png").stat().st_size > 1000

    def test_report_shows_offline_what_the_notebooks_show(self, run):
        report = (run.folder / "report.html").read_text()
        notebooks = [read_notebook(path) for path in sorted((run.folder / "notebooks").glob("*.ipynb"))]
        outputs = [output for notebook in notebooks for cell in notebook.cells for output in cell.get("outputs", ())]
        shown = sum("image/png" in output.get("data", {}) for output in outputs)
        assert len(notebooks) == len(LABORATORIES[self.name].notebooks)
        assert report.count("data:image/webp;base64") + report.count("The same picture as above") == shown > 0
        assert report.count('<script type="application/json">') == self.n_plotly
        assert "default-src 'none'; img-src data: blob:;" in report.split("</head>")[0]

    def test_its_trainings_are_those_of_its_notebooks(self, run, monkeypatch):
        trained = {path.parent for path in (run.folder / "checkpoints").rglob("finished")}
        assert {training.folder for training in LABORATORIES[self.name].trainings(run)} == trained
        monkeypatch.setattr("rephase.learning.training.fit", lambda *_, **__: pytest.fail("a model was trained again"))
        run_trainings("test", out=run.folder, only=[self.name], device="cpu")

    def test_finished_notebooks_are_skipped(self, run, monkeypatch):
        monkeypatch.setattr(pipeline, "_execute", lambda *_: pytest.fail("a finished notebook ran again"))
        run_notebooks("test", out=run.folder, only=[self.name], device="cpu")

    def test_its_data_sets_are_those_that_its_notebooks_have_built(self, run, monkeypatch):
        filled = []
        monkeypatch.setattr(Store, "fill", lambda store, *_, **__: filled.append(store.path))
        for data_set in LABORATORIES[self.name].data_sets(run):
            data_set.build(Shard(1, 1))
        assert set(filled) == {path.parent for path in (run.folder / "data").rglob("seals")}

    def test_figures_and_tables_are_made_again_without_training(self, run, command, monkeypatch):
        unread = lambda *_: pytest.fail("a trained model was read")  # noqa: E731
        monkeypatch.setattr("rephase.learning.training.read_checkpoint", unread)
        monkeypatch.setattr("rephase.figures.LABORATORIES", {self.name: LABORATORIES[self.name]})
        shutil.rmtree(run.folder / "figures")
        results = (run.folder / "results.csv").read_bytes()
        before = {path.name: path.read_bytes() for path in (run.folder / "tables").iterdir()}
        status, printed, _ = command("figures", run.folder)
        assert status == 0
        for name in LABORATORIES[self.name].figures:
            assert f"{name}: {run.folder / 'figures' / name}.png" in printed
            assert (run.folder / "figures" / f"{name}.png").is_file()
        after = {path.name: path.read_bytes() for path in (run.folder / "tables").iterdir()}
        made = {f"{name}.{kind}" for name in LABORATORIES[self.name].tables for kind in ("csv", "tex")}
        assert after.items() >= before.items()
        assert after.keys() - before.keys() == made, "a table is missing, or has the name of a saved one"
        for name in LABORATORIES[self.name].tables:
            check_tabular(after[f"{name}.tex"].decode("ascii"))
        run.write_results()
        assert (run.folder / "results.csv").read_bytes() == results

    def test_no_text_of_a_figure_overlaps_another_or_is_cut(self, run):
        for name in LABORATORIES[self.name].figures:
            assert faults(draw(run, name)) == [], name
