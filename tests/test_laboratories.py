"""A laboratory from outside: registered in two lines, it is checked, run, drawn and reported like any other."""

import json
import sys
from pathlib import Path

import nbformat
import pandas as pd
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from rephase.config import load_config, load_sweep
from rephase.errors import ConfigError
from rephase.laboratories import LABORATORIES, all_figures
from rephase.paths import NOTEBOOKS
from rephase.pipeline import find_notebooks, notebook_state, run_notebooks
from rephase.sources import source_files

TOY = '''
"""Noise, and a model that predicts nothing of it."""

from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
import torch
from torch import nn

from rephase.labs.laboratory import Laboratory
from rephase.learning.models import build_model
from toy.noise import draws


class Zero(nn.Module):
    def __init__(self, shape):
        super().__init__()
        self.mean = nn.Parameter(torch.zeros(shape))


MODELS = {"zero": Zero}


def score(run):
    error = float((draws(run.config.seed) - build_model(MODELS, "zero", (3,)).mean.detach()).square().mean())
    row = {"experiment": "toy", "model": "zero", "split": "test", "metric": "mse", "unit": "", "value": error, "n": 5}
    run.save_table("toy_results_zero", pd.DataFrame([row | {"seed": run.config.seed}]))
    return run.results("toy_results")


def error_bar(run):
    figure, ax = plt.subplots()
    ax.bar(["zero"], run.results("toy_results")["value"])
    return figure


def check(config):
    if config.seed > 10:
        raise ValueError("seed = %d: expected at most 10" % config.seed)


LABORATORY = Laboratory(
    "toy", ("71",), Path(__file__).parent, check, figures={"toy_error": error_bar},
    tables={"toy_scores": lambda run: run.results("toy_results")},
)
'''
REGISTERED = "from rephase.laboratories import LABORATORIES\nLABORATORIES['toy'] = LABORATORY\n"
PARAMETERS = 'config = "quick"\nrun_folder = ""\ndevice = "auto"\nworkers = 2'
CALLS = """from rephase.figures import draw
from rephase.runs import open_run
from toy import score
run = open_run(run_folder, config, device=device, workers=workers)
score(run)
draw(run, "toy_error")
"""


@pytest.fixture
def toy(tmp_path, monkeypatch):
    """The folder of a program that registers a laboratory when it is imported."""
    package = tmp_path / "toy"
    package.mkdir()
    (package / "__init__.py").write_text(TOY + REGISTERED)
    (package / "noise.py").write_text(
        "import torch\ndef draws(seed):\n    return torch.randn(5, 3, generator=torch.Generator().manual_seed(seed))\n"
    )
    parameters = new_code_cell(PARAMETERS, metadata={"tags": ["parameters"]})
    notebook = new_notebook(cells=[new_markdown_cell("# 71 · A toy"), parameters, new_code_cell(CALLS)])
    notebook.metadata.kernelspec = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(notebook, package / "71_toy.ipynb")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=":")
    monkeypatch.syspath_prepend(tmp_path)
    __import__("toy")
    yield package
    forget_toy()


def forget_toy():
    del LABORATORIES["toy"], sys.modules["toy"], sys.modules["toy.noise"]


def test_an_installed_laboratory_is_found_by_the_command_line(toy, command, tmp_path):
    forget_toy()
    (tmp_path / "toy-1.0.dist-info").mkdir()
    (tmp_path / "toy-1.0.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: toy\nVersion: 1.0\n")
    (tmp_path / "toy-1.0.dist-info" / "entry_points.txt").write_text("[rephase.laboratories]\ntoy = toy\n")
    status, said, _ = command("run", "--config", "test", "--only", "toy", "--out", tmp_path / "run", "--device", "cpu")
    assert status == 0
    assert str(tmp_path / "run" / "report.html") in said
    assert (tmp_path / "run" / "figures" / "toy_error.png").is_file()


def test_two_lines_add_a_laboratory(toy, tmp_path):
    run = run_notebooks("test", out=tmp_path / "run", only=["toy"], device="cpu")
    results = pd.read_csv(run.folder / "results.csv")
    assert results["experiment"].tolist() == ["toy"]
    assert 0.2 < results["value"].item() < 3
    assert (run.folder / "figures" / "toy_error.pdf").is_file()
    report = (run.folder / "report.html").read_text()
    assert "<h2>Toy: toy scores</h2>" in report
    assert "A toy" in report
    assert json.loads((run.folder / "status.json").read_text())["71_toy"]["finished"]
    assert "toy_error" in all_figures()


def test_its_check_comes_first_and_only_for_its_own_notebooks(toy, tmp_path):
    with pytest.raises(ValueError, match="seed = 11: expected at most 10"):
        run_notebooks("test", ["seed=11"], out=tmp_path / "run", only=["71"])
    assert not (tmp_path / "run").exists()
    wrong = ["images.classify.path=/nowhere", "completion.models={nothing: {}}"]
    run_notebooks("test", wrong, out=tmp_path / "run", only=["toy"], device="cpu")


def test_a_notebook_is_stale_when_its_own_code_changes(toy):
    config, (notebook,) = load_config("test"), find_notebooks(["71"])
    before = notebook_state(config, *notebook)
    assert notebook_state(config, *notebook) == before
    (toy / "noise.py").write_text((toy / "noise.py").read_text() + "# changed\n")
    assert notebook_state(config, *notebook) != before


def test_code_of_a_laboratory_is_what_it_imports():
    own = {name: set(source_files(lab.package)) for name, lab in LABORATORIES.items()}
    package = Path(sys.modules["rephase"].__file__).parent
    for name, files in own.items():
        assert package / "labs" / name / "laboratory.py" in files
        assert not any(other != name and package / "labs" / other / "laboratory.py" in files for other in own)
    assert package / "optics" / "saxs.py" in own["scattering"]
    assert package / "optics" / "saxs.py" not in own["crystals"] | own["solving"]
    assert package / "solvers" / "solve.py" not in own["crystals"]
    assert package / "crystal" / "density.py" in own["crystals"]


def test_every_notebook_belongs_to_one_laboratory():
    listed = [number for laboratory in LABORATORIES.values() for number in laboratory.notebooks]
    assert sorted(listed) == sorted(path.name[:2] for path in NOTEBOOKS.glob("[0-9]*.ipynb"))


def test_every_laboratory_is_run_by_a_file_of_tests():
    files = Path(__file__).parent.glob("test_run_*.py")
    assert {path.stem.removeprefix("test_run_") for path in files} == set(LABORATORIES)


@pytest.mark.parametrize(("name", "nearest"), [("crystal", "crystals"), ("wave", "waves")])
def test_unknown_laboratories_and_notebooks_are_refused(name, nearest):
    with pytest.raises(ConfigError, match=f"no notebook or laboratory '{name}'; did you mean '{nearest}'"):
        find_notebooks([name])


def test_an_unknown_number_lists_the_notebooks():
    with pytest.raises(ConfigError, match="no notebook or laboratory '99'; known: 01, 02, .*, 90$"):
        find_notebooks(["99"])


def test_several_names_without_commas_are_refused_with_the_remedy():
    with pytest.raises(
        ConfigError, match="no notebook or laboratory '01 waves'; separate several by commas: 01,waves$"
    ):
        find_notebooks(["01 waves"])


def test_a_package_that_is_not_there_is_refused():
    for name in ("rephase.labs.nothing", "no_such_program"):
        with pytest.raises(ConfigError, match="no package"):
            source_files(name)


OLD = {
    "data: {crystals: [Ni]}\n": "data is now crystals.data",
    "monoclinic: {n_samples: 30}\n": "monoclinic is now completion.data",
    "monoclinic_phases: {}\ninference: {}\n": "monoclinic_phases is now completion.phases, inference is now",
    "posteriors: {saxs: {}}\n": "posteriors.saxs is now scattering.saxs",
    "posteriors: {ptychography: {}}\n": "posteriors.ptychography is now waves.ptychography",
}


@pytest.mark.parametrize("text", OLD)
def test_configurations_of_the_old_shape_are_refused_with_the_new_key(text, tmp_path):
    (tmp_path / "old.yaml").write_text(text)
    with pytest.raises(ConfigError, match=OLD[text]):
        load_config(tmp_path / "old.yaml")


def test_overrides_and_sweeps_of_the_old_shape_are_refused_with_the_new_key(tmp_path):
    with pytest.raises(ConfigError, match="training is now crystals.training"):
        load_config("test", ["training.epochs=3"])
    with pytest.raises(ConfigError, match="inference is now completion.comparison"):
        load_config("test").changed({"inference.d_cut": 1.4})
    (tmp_path / "sweep.yaml").write_text("base: test\ngrid: {data.perturbation.kind: [strain]}\n")
    with pytest.raises(ConfigError, match="data is now crystals.data"):
        load_sweep(tmp_path / "sweep.yaml")
