"""The notebook that shows the figures and tables of all laboratories, after one other notebook."""

import pytest

from rephase import pipeline
from rephase.laboratories import LABORATORIES
from rephase.pipeline import run_notebooks
from rephase.runs.status import read_notebook, read_status


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return run_notebooks("test", out=tmp_path_factory.mktemp("paper") / "run", only=["01", "paper"], device="cpu")


def outputs_of(run):
    cells = read_notebook(run.folder / "notebooks" / "90_figures_and_tables.ipynb").cells
    return [output for cell in cells for output in cell.get("outputs", ())]


def test_it_shows_what_is_there_and_names_what_is_missing(run):
    outputs = outputs_of(run)
    assert sum("image/png" in output.get("data", {}) for output in outputs) == 2  # those of 01
    missing = outputs[-1]["data"]["text/html"]
    assert "results_*.csv does not exist yet" in missing
    for name in LABORATORIES["waves"].figures:
        assert name in missing
    assert "strongest_reflections" not in missing
    assert (run.folder / "tables" / "strongest_reflections.tex").is_file()


def test_the_report_has_each_picture_once(run):
    report = (run.folder / "report.html").read_text()
    assert report.count("data:image/webp") == 2
    assert report.count("The same picture as above") == 2
    assert "IPython" not in report
    assert 'href="#01_structure_factors"' in report


def test_it_runs_again_only_when_another_notebook_has(run, monkeypatch):
    ran = []
    monkeypatch.setattr(pipeline, "_execute", lambda run, notebook: ran.append(notebook.stem[:2]) or {"seconds": 0.0})
    run_notebooks("test", out=run.folder, only=["paper"], device="cpu")
    assert ran == []
    run_notebooks("test", out=run.folder, only=["02", "90"], device="cpu")
    assert ran == ["02", "90"]
    assert read_status(run.folder)["90_figures_and_tables"].finished
