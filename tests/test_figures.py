"""Figures and tables made again from a run folder, whatever state the folder is in; the report of a sweep."""

import os
import re

import pandas as pd
import pytest

from rephase.errors import ConfigError
from rephase.laboratories import LABORATORIES, all_figures, all_tables
from rephase.paths import NOTEBOOKS
from rephase.report import write_report, write_sweep_report
from rephase.runs import COLUMNS, newest_run, open_run
from rephase.runs.tables import latex


@pytest.fixture
def run(tmp_path, monkeypatch):
    """A run with the loss curve of one model and the sums of a perturbation, of the laboratory of crystals alone."""
    monkeypatch.setattr("rephase.figures.LABORATORIES", {"crystals": LABORATORIES["crystals"]})
    made = open_run(tmp_path / "run", "test", device="cpu")
    made.save_table("curve_mlp", pd.DataFrame({"epoch": [0, 1], "train_loss": [3.0, 2.0], "validation_loss": [4, 3]}))
    changes = {"kind": ["strain"] * 4, "amplitude_change": [0.1, 0.2, 0.3, 0.4], "phase_change_deg": [5, 6, 7, 8.0]}
    made.save_table("perturbations", pd.DataFrame(changes))
    return made


def test_every_figure_that_a_notebook_shows_can_be_drawn_again():
    texts = {path.name: path.read_text() for path in NOTEBOOKS.glob("*.ipynb")}
    shown = {name for text in texts.values() for name in re.findall(r'draw\(run, \\"(\w+)\\"\)', text)}
    assert shown == set(all_figures())
    for name, text in texts.items():
        assert "plt." not in text, f"{name} draws by itself"
        assert "matplotlib" not in re.sub(r'"[^"]*Hunter[^"]*"', "", text), f"{name} draws by itself"


def test_no_two_laboratories_share_the_name_of_a_figure_or_a_table():
    names = [name for lab in LABORATORIES.values() for name in (*lab.figures, *lab.tables)]
    assert len(names) == len({*names}) == len(all_figures()) + len(all_tables())


def test_what_a_run_has_is_made_and_the_rest_is_named(run, command):
    status, said, _ = command("figures", run.folder)
    assert status == 0
    assert f"loss_curves: {run.folder}/figures/loss_curves.png" in said
    assert f"perturbation_changes: {run.folder}/tables/perturbation_changes.tex" in said
    assert "model_comparison: not made: results_*.csv does not exist yet" in said
    assert "strain & 0.25 & 6.5" in (run.folder / "tables" / "perturbation_changes.tex").read_text()
    assert "strain,0.25,6.5" in (run.folder / "tables" / "perturbation_changes.csv").read_text()


def test_damaged_results_are_named_after_all_else_is_made(run, command):
    (run.folder / "tables" / "curve_mlp.csv").write_bytes(b"\0" * 40)
    status, said, error = command("figures", run.folder)
    assert status == 2
    assert "loss_curves: not made: " in said
    assert "curve_mlp.csv: damaged" in error
    assert len(error.splitlines()) == 1
    assert (run.folder / "figures" / "perturbation_comparison.pdf").is_file()


def test_damaged_collected_results_matter_to_nothing_made_from_the_tables(run, command):
    (run.folder / "results.csv").write_bytes(b'value\n"\xff\n')
    status, said, _ = command("figures", run.folder)
    assert status == 0
    assert "loss_curves.png" in said


def test_a_run_without_results_is_refused(tmp_path, command):
    run = open_run(tmp_path / "run", "test", device="cpu")
    status, _, error = command("figures", run.folder)
    assert status == 2
    assert "no results yet; run its notebooks" in error


@pytest.mark.parametrize("name", ["", "file", "nothing"])
def test_a_folder_that_is_no_run_is_refused(tmp_path, command, name):
    (tmp_path / "file").write_text("")
    status, _, error = command("figures", tmp_path / name)
    assert status == 2
    assert "no run folder (it has no config.yaml)" in error


def test_the_newest_run_with_results_is_the_default(tmp_path, monkeypatch):
    monkeypatch.setattr("rephase.runs.RUNS", tmp_path)
    with pytest.raises(ConfigError, match="no run in .* has results; give a run folder, or start one"):
        newest_run()
    for number, name in enumerate(["b", "a", "c"]):
        open_run(tmp_path / name, "test")
        (tmp_path / name / "results.csv").write_text("")
        os.utime(tmp_path / name / "results.csv", (number, number))
    (tmp_path / "c" / "results.csv").unlink()
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "results.csv").write_text("no run")
    assert newest_run() == tmp_path / "a"


def test_damaged_scores_are_named_in_the_report(run):
    run.save_table("results_mlp", pd.DataFrame([dict.fromkeys(COLUMNS, 1)]))
    (run.folder / "tables" / "results_mlp.csv").write_bytes(b"")
    assert "results_mlp.csv: damaged" in write_report(run, {}).read_text()


def test_a_table_in_latex():
    table = pd.DataFrame({"R_1 (%)": [1.23456, float("nan")], "a & b": ["50 % of σ", "x_1"], "n": [3, 123456]})
    lines = latex(table).splitlines()
    assert lines[0] == r"\begin{tabular}{rlr}"
    assert lines[2] == r"R\_1 (\%) & a \& b & n \\"
    assert lines[4] == r"1.235 & 50 \% of $\sigma$ & 3 \\"
    assert lines[5] == r"-- & x\_1 & 123456 \\"


SWEPT = {"crystals.training.epochs": [1, 2, 2], "seed": [0, 0, 1]}


def test_the_report_of_a_sweep_has_results_by_parameters_errors_and_links(tmp_path):
    status = pd.DataFrame({**SWEPT, "folder": ["one", "two", "<b>"], "error": ["", "", "DiskError: <i>full</i>"]})
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "report.html").write_text("")
    scores = dict(zip(COLUMNS, ("strain", "mlp", "test", "loss", "", 1.5, 4, 0)))
    rows = [scores, {**scores, "value": 2.5}, {**scores, "value": 3.5}, {**scores, "split": "test:Ni", "value": 99.0}]
    results = pd.DataFrame(rows).assign(**{key: [*values, values[0]] for key, values in SWEPT.items()})
    page = write_sweep_report(tmp_path, status, results).read_text()
    assert "3 runs, 1 failed" in page
    assert '<a href="one/report.html">one</a>' in page
    assert page.count("<a ") == 1
    assert "DiskError: &lt;i&gt;full&lt;/i&gt;" in page
    assert re.findall(r"<td>([\d.]+)</td>\s*</tr>", page) == ["1.5", "3"]  # means over the seeds
    assert "script-src 'none'" in page


def test_the_report_of_a_sweep_without_scores(tmp_path):
    status = pd.DataFrame({"seed": [0], "folder": ["one"], "error": ["failed"]})
    for results in (pd.DataFrame(), pd.DataFrame({"value": [1], "seed": [0]})):
        assert "No run has scores" in write_sweep_report(tmp_path, status, results).read_text()
