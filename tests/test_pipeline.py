"""Headless runs: every notebook, parameters, failures, resume, sweeps, figures, the command line."""

import logging
import os
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import dask
import nbformat
import pandas as pd
import pytest

from rephase import pipeline
from rephase.config import load_config
from rephase.errors import ConfigError, DiskError, PipelineError
from rephase.figures import draw_all
from rephase.files.writing import only_writer
from rephase.laboratories import LABORATORIES
from rephase.paths import NOTEBOOKS
from rephase.pipeline import check_parameters, find_notebooks, run_notebooks
from rephase.processes import THREADS, available_cores
from rephase.runs import open_run, read_run
from rephase.runs.status import Outcome, read_notebook, read_status, write_status
from rephase.sweeps import plan_sweep, run_sweep
from rephase.sweeps.points import point_folder


@pytest.mark.parametrize(
    "key", ["completion.data.folder", "solving.benchmark.folder", "completion.comparison.file", "solving.file"]
)
def test_a_notebook_is_made_anew_when_a_file_changes(key, tmp_path):
    (notebook,) = find_notebooks(["08" if key.startswith("solving") else "12"])
    path = tmp_path / "a.cif"
    config = load_config("test", [f"{key}={tmp_path if key.endswith('folder') else path}"])
    path.write_text("one")
    before = pipeline.notebook_state(config, *notebook)
    path.write_text("two")
    assert pipeline.notebook_state(config, *notebook) != before


@pytest.mark.parametrize("config", ["test", "weights"])  # the second trains a few networks only
def test_figures_say_what_they_lack(tmp_path, config):
    drawn = dict(draw_all(open_run(tmp_path, config)))
    assert drawn["reciprocal_space"] == "not made: example.npz does not exist yet"
    assert drawn["phase_scores"] == "not made: results_*.csv does not exist yet"


def test_every_configuration_has_a_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.setattr("rephase.runs.RUNS", tmp_path)
    folders = {open_run(None, "test", overrides).folder for overrides in ([], ["seed=1"], ["seed=2"], [])}
    assert len(folders) == 3


def test_no_run_folder(tmp_path):
    with pytest.raises(ConfigError, match="no run folder"):
        read_run(tmp_path)


def test_unknown_parameter_is_refused():
    with pytest.raises(ConfigError, match="has no parameter 'confg'; did you mean 'config'"):
        check_parameters(NOTEBOOKS / "01_structure_factors.ipynb", {"confg": "quick"})


def test_notebook_without_parameters_cell(tmp_path):
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("1")])
    notebook.metadata["kernelspec"] = {"name": "python3", "language": "python", "display_name": "Python 3"}
    nbformat.write(notebook, tmp_path / "07_x.ipynb")
    with pytest.raises(ConfigError, match="no cell tagged 'parameters'"):
        check_parameters(tmp_path / "07_x.ipynb", {"config": "quick"})


def put_notebooks(folder, monkeypatch):
    """Let the laboratory of crystals have its notebooks in another folder."""
    monkeypatch.setitem(LABORATORIES, "crystals", replace(LABORATORIES["crystals"], folder=folder))


def test_unknown_notebook():
    with pytest.raises(ConfigError, match="no notebook or laboratory '77'"):
        find_notebooks(["77"])


def test_main_job_is_the_default_and_all_is_all():
    assert [path.name[:2] for path, _ in find_notebooks()] == ["01", "02", "03", "04", "05", "06", "08"]
    assert len(find_notebooks(["all"])) == len(list(NOTEBOOKS.glob("*.ipynb")))


def test_unknown_key_stops_before_anything_runs(tmp_path):
    with pytest.raises(ConfigError, match="did you mean 'width'"):
        run_notebooks("test", ["crystals.models.mlp.options.widht=3"], out=tmp_path)
    assert not (tmp_path / "notebooks").exists()


def test_later_notebook_is_made_anew_when_an_earlier_one_is(tmp_path, monkeypatch):
    ran = []
    monkeypatch.setattr(pipeline, "_execute", lambda run, notebook: ran.append(notebook.stem[:2]) or {"seconds": 0.0})
    run_notebooks("test", out=tmp_path, only=["06"], device="cpu")
    run_notebooks("test", out=tmp_path, device="cpu")
    assert ran == ["06", "01", "02", "03", "04", "05", "06", "08"]


def test_old_failure_does_not_fail_another_notebook(tmp_path, monkeypatch):
    monkeypatch.setattr(pipeline, "_execute", lambda run, notebook: {"seconds": 0.0, "error": "E: off", "cell": 3})
    with pytest.raises(PipelineError, match="05_unet3d failed in cell 3"):
        run_notebooks("test", out=tmp_path, only=["05"], device="cpu")
    monkeypatch.setattr(pipeline, "_execute", lambda run, notebook: {"seconds": 0.0})
    run_notebooks("test", out=tmp_path, only=["01"], device="cpu")


def test_wrong_folder_and_workers(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="is a file"):
        open_run(tmp_path / "file", "test")
    for workers in (0, -1, 10**20):
        with pytest.raises(ConfigError, match=f"workers = {workers}: expected 1 to 1000"):
            open_run(tmp_path / "run", "test", workers=workers)


def test_failed_notebook_keeps_its_partial_results(tmp_path, monkeypatch):
    folder = tmp_path / "notebooks"
    folder.mkdir()
    notebook = nbformat.read(NOTEBOOKS / "01_structure_factors.ipynb", as_version=4)
    notebook.cells.insert(6, nbformat.v4.new_code_cell("raise ValueError('the detector is off')"))
    nbformat.write(notebook, folder / "01_structure_factors.ipynb")
    put_notebooks(folder, monkeypatch)
    level = logging.getLogger("papermill").level
    with pytest.raises(
        PipelineError, match=r"01_structure_factors failed in cell \d+: ValueError: the detector is off"
    ):
        run_notebooks("test", out=tmp_path / "run", only=["01"], device="cpu")
    assert logging.getLogger("papermill").level == level
    partial = nbformat.read(tmp_path / "run" / "notebooks" / "01_structure_factors.ipynb", as_version=4)
    assert any(cell.get("outputs") for cell in partial.cells)
    assert "the detector is off" in (tmp_path / "run" / "report.html").read_text()


@pytest.fixture
def executed(monkeypatch):
    """Numbers of the notebooks that are executed, each of which writes an empty one."""
    numbers = []

    def execute(run, notebook):
        numbers.append(notebook.stem[:2])
        (run.folder / "notebooks").mkdir(exist_ok=True)
        nbformat.write(nbformat.v4.new_notebook(), run.folder / "notebooks" / notebook.name)
        return {"seconds": 1.0}

    monkeypatch.setattr(pipeline, "_execute", execute)
    return numbers


DAMAGED = [
    b"",
    b"{",
    b"[]",
    b"null",
    b"1",
    b'"x"',
    b"\xff\xfe",
    b"\0",
    b'{"01_structure_factors": 3}',
    b"[" * 5000,
    b"{}{}",
    b'{"01_structure_factors": {"finished": 3}}',
    b'{"01_structure_factors": {"finished": ["x"], "seconds": 1}}',
    b'{"01_structure_factors": {"seconds": "long"}}',
    b'{"01_structure_factors": {"error": {}}}',
]


@pytest.mark.parametrize("content", DAMAGED)
def test_a_damaged_record_counts_as_unfinished(tmp_path, content):
    (tmp_path / "status.json").write_bytes(content)
    with pytest.warns(UserWarning, match=r"status.json: damaged, .* nothing counts as finished"):
        assert read_status(tmp_path) == {}


def test_a_flipped_bit_in_the_record_counts_as_unfinished(tmp_path):
    write_status(tmp_path, {"01_x": Outcome(seconds=1.0, finished="abc")})
    path = tmp_path / "status.json"
    path.write_bytes(path.read_bytes().replace(b"abc", b"abb"))
    with pytest.warns(UserWarning, match="changed after it was written"):
        assert read_status(tmp_path) == {}


def test_with_a_damaged_record_notebooks_are_run_again(tmp_path, executed):
    run_notebooks("test", out=tmp_path, only=["01"], device="cpu")
    (tmp_path / "status.json").write_bytes(b"{")
    with pytest.warns(UserWarning, match="damaged"):
        run_notebooks("test", out=tmp_path, only=["01"], device="cpu")
    run_notebooks("test", out=tmp_path, only=["01"], device="cpu")
    assert executed == ["01", "01"]
    assert read_status(tmp_path)["01_structure_factors"].seconds == 1.0


@pytest.mark.parametrize("content", [None, b"", b'{"cells": ['])
def test_a_notebook_that_is_damaged_is_run_again(tmp_path, executed, content):
    run_notebooks("test", out=tmp_path, only=["01"], device="cpu")
    path = tmp_path / "notebooks" / "01_structure_factors.ipynb"
    path.unlink() if content is None else path.write_bytes(content)
    run_notebooks("test", out=tmp_path, only=["01"], device="cpu")
    assert executed == ["01", "01"]
    assert nbformat.read(path, as_version=4).cells == []


def in_another_thread(function, *arguments, **options):
    """What a function raises or returns where the locks of this thread do not count."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(function, *arguments, **options).result()


def test_a_run_folder_has_one_writer(tmp_path, executed):
    with only_writer(tmp_path), pytest.raises(DiskError, match="another process of rephase is writing there"):
        in_another_thread(run_notebooks, "test", out=tmp_path, only=["01"], device="cpu")
    assert executed == []


WAITING_RUN = """
from dataclasses import replace
from pathlib import Path
import nbformat
from rephase import pipeline
from rephase.laboratories import LABORATORIES
folder = Path({folder!r})
code = ["config = 0\\nrun_folder = 0\\ndevice = 0\\nworkers = 0",
        "import os, time; Path({folder!r}, 'kernel').write_text(str(os.getpid())); time.sleep(300)"]
cells = [nbformat.v4.new_code_cell("from pathlib import Path"),
         nbformat.v4.new_code_cell(code[0], metadata=dict(tags=["parameters"])), nbformat.v4.new_code_cell(code[1])]
notebook = nbformat.v4.new_notebook(cells=cells)
notebook.metadata["kernelspec"] = dict(name="python3", language="python", display_name="Python 3")
nbformat.write(notebook, folder / "01_waits.ipynb")
LABORATORIES["crystals"] = replace(LABORATORIES["crystals"], folder=folder)
pipeline.run_notebooks("test", out=folder / "run", only=["01"], device="cpu")
"""


def test_a_kernel_ends_with_its_run(tmp_path):
    script, told = WAITING_RUN.format(folder=str(tmp_path)), tmp_path / "kernel"
    with subprocess.Popen([sys.executable, "-c", script], stderr=subprocess.DEVNULL) as process:
        kernel = int(_soon(lambda: told.is_file() and told.read_text()))
        assert kernel  # it has said its number
        process.kill()
    assert _soon(lambda: not _lives(kernel), seconds=20)


def _soon(found, seconds=120):
    """What a function returns as soon as it returns something."""
    end = time.monotonic() + seconds
    while not (value := found()) and time.monotonic() < end:
        time.sleep(0.1)
    return value


def _lives(process):
    try:
        return "State:\tZ" not in Path(f"/proc/{process}/status").read_text()
    except FileNotFoundError:
        return False


@pytest.mark.parametrize("jobs", [0, -1, 10**6])
def test_a_number_of_jobs_that_makes_no_sense(tmp_path, jobs):
    with pytest.raises(ConfigError, match=f"jobs = {jobs}: expected 1 to 1000"):
        run_sweep(plan_sweep("tasks", jobs=jobs, out=tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_a_sweep_has_one_writer_and_a_folder_that_can_be_written(tmp_path):
    (tmp_path / "s.yaml").write_text("base: test\n")
    with pytest.raises(ConfigError, match="cannot be made"):
        run_sweep(plan_sweep(tmp_path / "s.yaml", out=tmp_path / "s.yaml"))
    with only_writer(tmp_path / "out"), pytest.raises(DiskError, match="another process of rephase"):
        in_another_thread(run_sweep, plan_sweep(tmp_path / "s.yaml", out=tmp_path / "out"))


@pytest.mark.parametrize("name", ["results.csv", "status.csv"])
def test_a_sweep_replaces_no_tables_of_others(tmp_path, monkeypatch, name):
    (tmp_path / "s.yaml").write_text("base: test\n")
    monkeypatch.setattr("rephase.engines.run_task", lambda task: "failed")
    out = run_sweep(plan_sweep(tmp_path / "s.yaml", out=tmp_path / "out"))
    assert run_sweep(plan_sweep(tmp_path / "s.yaml", out=out)) == out  # its own are replaced
    for folder in (tmp_path / "other", out):
        folder.mkdir(exist_ok=True)
        (folder / name).write_text("mine")
        with pytest.raises(ConfigError, match=f"{name} was changed after rephase wrote it, or rephase did not write"):
            run_sweep(plan_sweep(tmp_path / "s.yaml", out=folder))
        assert (folder / name).read_text() == "mine"


KERNEL = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
PARAMETERS = 'config = "quick"\nrun_folder = ""\ndevice = "auto"\nworkers = 2'


def printed_by(code, folder, monkeypatch):
    """The run of a notebook with one line of code, and what the line prints."""
    (folder / "notebooks").mkdir(parents=True)
    cells = [nbformat.v4.new_code_cell(PARAMETERS, metadata={"tags": ["parameters"]}), nbformat.v4.new_code_cell(code)]
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=KERNEL), folder / "notebooks" / "01_x.ipynb")
    put_notebooks(folder / "notebooks", monkeypatch)
    run = run_notebooks("test", out=folder / "run", only=["01"], device="cpu")
    (printed,) = read_notebook(run.folder / "notebooks" / "01_x.ipynb").cells[-1].outputs
    return run, printed.text


SCORES = (
    "from rephase.runs import COLUMNS, read_run; import pandas as pd; row = ['a', 'b', 'test', 'c', '', 0.5, 1, 0]; "
    "read_run(run_folder).save_table('results_x', pd.DataFrame([row], columns=COLUMNS)); print('saved')"
)


def test_a_run_is_whole_until_something_of_it_changes(tmp_path, monkeypatch):
    run, _ = printed_by(SCORES, tmp_path, monkeypatch)
    (tmp_path / "whole").mkdir()
    whole, notebooks = run.folder.rename(tmp_path / "whole" / "run"), find_notebooks(["01"])

    def is_whole_after(change):
        copy = shutil.copytree(whole, tmp_path / "run", symlinks=True, dirs_exist_ok=True)
        change(copy)
        try:
            return pipeline.is_run_whole(copy, run.config, notebooks)
        finally:
            shutil.rmtree(copy)

    assert is_whole_after(lambda folder: None)
    assert not pipeline.is_run_whole(whole, run.config.changed({"seed": 7}), notebooks)
    assert not pipeline.is_run_whole(tmp_path / "none", run.config, notebooks)
    for name in ("results.csv", "report.html", "config.yaml", "status.json", "notebooks/01_x.ipynb"):
        assert not is_whole_after(lambda folder, name=name: (folder / name).unlink()), name
    for name in ("results.csv", "config.yaml", "tables/results_x.csv", "notebooks/01_x.ipynb"):
        assert not is_whole_after(lambda folder, name=name: (folder / name).write_text("other")), name
    assert not is_whole_after(lambda folder: os.utime(folder / "report.html", (1, 1)))
    (tmp_path / "notebooks" / "01_x.ipynb").write_text((tmp_path / "notebooks" / "01_x.ipynb").read_text() + " ")
    assert not is_whole_after(lambda folder: None)


@pytest.mark.parametrize("name", ["a{b}", "{", "%s $HOME #1", "a b"])
def test_a_notebook_is_executed_in_a_folder_of_any_name(tmp_path, monkeypatch, name):
    run, printed = printed_by("print(run_folder)", tmp_path / name, monkeypatch)
    assert printed == f"{run.folder}\n"


@pytest.mark.skipif(available_cores() < 2, reason="it is about one of several cores")
def test_a_kernel_starts_threads_for_the_cores_that_it_was_given(tmp_path, monkeypatch):
    monkeypatch.delenv(THREADS)
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(cores)})
    try:
        _, printed = printed_by(f"import os; print(os.environ[{THREADS!r}])", tmp_path, monkeypatch)
    finally:
        os.sched_setaffinity(0, cores)
    assert printed == "1\n"


def test_an_engine_that_is_not_there(tmp_path):
    (tmp_path / "s.yaml").write_text("base: test\n")
    plan = plan_sweep(tmp_path / "s.yaml", engine="tcp://127.0.0.1:9", out=tmp_path / "out")
    with (
        dask.config.set({"distributed.comm.timeouts.connect": "0.1s"}),
        pytest.raises(ConfigError, match="engine 'tcp://127.0.0.1:9': no scheduler answers there"),
    ):
        run_sweep(plan)


def test_damaged_results_of_a_point_are_its_error(tmp_path, monkeypatch):
    (tmp_path / "s.yaml").write_text("base: test\nseeds: [1, 2]\n")

    def run_task(task):
        task.folder.mkdir()
        is_whole = "seed=1" in task.arguments
        (task.folder / "results.csv").write_bytes(b"value\n1\n" if is_whole else b'value\n"\xff\n')
        return ""

    monkeypatch.setattr("rephase.engines.run_task", run_task)
    folder = run_sweep(plan_sweep(tmp_path / "s.yaml", out=tmp_path / "out"))
    status = pd.read_csv(folder / "status.csv").set_index("seed")["error"]
    assert status.isna().to_dict() == {1: True, 2: False}
    assert "results.csv: damaged" in status[2]
    assert pd.read_csv(folder / "results.csv").to_dict("list") == {"value": [1], "seed": [1]}


@pytest.mark.parametrize("value", ["a/../../b", "x" * 400, "ü" * 400, "a\nb", "\\", "a\0"])
def test_folders_of_points_stay_in_the_sweep(tmp_path, value):
    path = point_folder(tmp_path, {"data.kind": value})
    path.mkdir()
    assert path.parent == tmp_path


@pytest.mark.parametrize(("engine", "kinds"), [("local", ["single_atom", "all_atoms"]), ("dask", ["single_atom"])])
def test_sweep_goes_on_after_a_failure(tmp_path, engine, kinds, monkeypatch):
    key = "crystals.data.perturbation.kind"
    cases = ["{crystals.data.crystals: [no.cif]}", *(f"{{{key}: {kind}}}" for kind in kinds)]
    (tmp_path / "s.yaml").write_text(f"base: test\nonly: ['02']\ncases: [{', '.join(cases)}]\n")
    folder = run_sweep(plan_sweep(tmp_path / "s.yaml", engine=engine, jobs=2, device="cpu", out=tmp_path / "out"))
    status = pd.read_csv(folder / "status.csv").fillna({key: "of test"}).set_index(key)["error"]
    assert status.isna().to_dict() == {"of test": False} | dict.fromkeys(kinds, True)
    assert "no.cif" in status["of test"]
    results = pd.read_csv(folder / "results.csv").groupby(key)["value"].mean()
    assert set(results.index) == set(kinds)
    assert results.nunique() == len(kinds)
    started = []
    monkeypatch.setattr("rephase.engines.run_task", lambda task: started.append(task.name) or "failed again")
    before = (folder / "results.csv").read_text()
    run_sweep(plan_sweep(tmp_path / "s.yaml", device="cpu", out=folder))
    status = pd.read_csv(folder / "status.csv").fillna({key: "of test"}).set_index(key)
    assert started == [status["folder"]["of test"]]
    assert status["error"]["of test"] == "failed again"
    assert (folder / "results.csv").read_text() == before


def test_error_on_the_command_line_is_one_line(command):
    status, printed, said = command("run", "--config", "test", "--set", "crystals.training.epoch=3")
    assert status == 2
    assert not printed
    assert said.splitlines() == ["ConfigError: test: unknown key 'crystals.training.epoch'; did you mean 'epochs'?"]
