"""rephase as an installed package: it finds what it came with, and writes where its user works."""

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib

import nbformat
import pytest

from rephase.crystal.reflections.files import write_hklf4
from rephase.crystal.reflections.simulation import simulate_reflections
from rephase.crystal.structures import read_crystal
from rephase.errors import ExtraError
from rephase.labs.scattering.cards import POSTERIORS
from rephase.labs.waves.cards import IMAGE_POSTERIORS
from rephase.learning.weights import load_weights
from rephase.paths import IS_INSTALLED, ROOT

PACKAGE, NOT_CARRIED = ROOT / "src" / "rephase", shutil.ignore_patterns("__pycache__")
REFUSED = r"cannot be made \(Permission denied\); give a folder that can be written"
WHEEL = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
FOUND = """
import json
from rephase import read_crystal
from rephase.config import load_config, load_sweep
from rephase.errors import ConfigError
from rephase.labs.images.data.droplet_labels import label_table
from rephase.paths import RUNS
from rephase.pipeline import find_notebooks, run_notebooks
from rephase.labs.completion.cards import AMPLITUDES
from rephase.learning.weights import shipped_weights
try:
    run_notebooks("test", only=["01"])
except ConfigError as error:
    refused = str(error)
print(json.dumps({
    "refused": refused, "runs": str(RUNS), "seed": load_config("paper").seed, "sweep": load_sweep("tasks")[1],
    "crystal": read_crystal("SrTiO3").name, "labels": int(label_table().images.sum()),
    "weights": shipped_weights(AMPLITUDES), "notebooks": [path.stem for path, _ in find_notebooks(["01", "35"])],
}))
"""
CELLS = [
    ('config = "quick"\nrun_folder = ""\ndevice = "auto"\nworkers = 2', ["parameters"]),
    ("import rephase\nprint(rephase.__file__)", []),
]


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """A folder of packages with rephase as its wheel leaves it there, but for notebook 01: that prints where it is."""
    folder = tmp_path_factory.mktemp("site")
    for source, place in WHEEL["sources"].items():
        shutil.copytree(ROOT / source, folder / place, ignore=NOT_CARRIED)
    path = folder / "rephase" / "notebooks" / "01_structure_factors.ipynb"
    notebook = nbformat.read(path, as_version=4)
    notebook.cells = [nbformat.v4.new_code_cell(source, metadata={"tags": tags}) for source, tags in CELLS]
    nbformat.write(notebook, path)
    return folder


@pytest.fixture
def python(bound):
    """Run Python with the packages of a folder, in another folder, as a user whom permissions bind."""

    def run(packages, folder, *arguments):
        environment = os.environ | {"PYTHONPATH": str(packages), "OMP_NUM_THREADS": "1"}
        return subprocess.run(
            [*bound, sys.executable, *map(str, arguments)], cwd=folder, env=environment, capture_output=True, text=True
        )

    return run


@pytest.fixture
def rephase(python):
    """Run ``rephase`` in the same way."""
    return lambda packages, folder, *arguments: python(packages, folder, "-m", "rephase.cli", *arguments)


@pytest.fixture
def read_only():
    """Take the permission to write from folders and all that is in them, until the test ends."""
    changed = {}

    def refuse(folder):
        for path in (folder, *folder.rglob("*")):
            changed[path] = path.stat().st_mode
            path.chmod(changed[path] & 0o555)

    yield refuse
    for path, mode in changed.items():
        path.chmod(mode)


def test_everything_that_a_wheel_carries_is_mapped():
    assert not IS_INSTALLED
    assert sorted(WHEEL["only-include"]) == sorted(WHEEL["sources"])


def test_an_installed_package_finds_what_it_came_with(python, site, tmp_path, read_only):
    read_only(tmp_path)
    ended = python(site, tmp_path, "-c", FOUND)
    assert ended.returncode == 0, ended.stderr
    found = json.loads(ended.stdout)
    assert found["runs"] == str(tmp_path / "runs")
    assert re.fullmatch(rf"--out {tmp_path}/runs/test-\w+: {REFUSED}", found["refused"])
    assert found["notebooks"] == ["01_structure_factors", "35_calibration_and_out_of_distribution"]
    assert (found["crystal"], found["sweep"]) == ("SrTiO3", "tasks")
    assert found["weights"]
    assert found["labels"] == 7264


def test_a_package_that_cannot_be_written_runs_its_notebooks(rephase, site, tmp_path, read_only):
    read_only(site)
    ended = rephase(site, tmp_path, "run", "--config", "test", "--only", "01", "--device", "cpu")
    assert ended.returncode == 0, ended.stderr
    (run,) = (tmp_path / "runs").iterdir()
    (printed,) = nbformat.read(run / "notebooks" / "01_structure_factors.ipynb", as_version=4).cells[-1].outputs
    assert printed.text == f"{site / 'rephase' / '__init__.py'}\n"
    assert str(run / "report.html") in ended.stdout


def test_a_checkout_that_cannot_be_written(rephase, site, tmp_path, read_only):
    source = tmp_path / "checkout" / "src"
    shutil.copytree(PACKAGE, source / "rephase", ignore=NOT_CARRIED)
    write_hklf4(tmp_path / "sample.hkl", simulate_reflections(read_crystal("SrTiO3"), 0.6)[0])
    read_only(source.parent)
    ended = rephase(source, tmp_path, "solve", "sample.hkl", "--cell", "3.905,3.905,3.905,90,90,90")
    assert_refused(ended, source.parent / "runs" / "solve" / "sample")


def test_a_working_folder_that_cannot_be_written(rephase, site, tmp_path, read_only):
    read_only(tmp_path)
    assert_refused(rephase(site, tmp_path, "fetch-cod", "2200000"), tmp_path / "runs" / "cod")


def assert_refused(ended, folder):
    assert ended.returncode == 2
    assert re.fullmatch(rf"ConfigError: --out {folder}: {REFUSED}\n", ended.stderr)


def test_benchmarks_need_a_checkout(rephase, site, tmp_path):
    ended = rephase(site, tmp_path, "bench", "solve")
    assert ended.stderr == "ConfigError: benchmarks are not part of the package; work in a checkout of rephase\n"


@pytest.mark.parametrize(
    ("package", "user", "work"),
    [
        ("zuko", "rephase.labs.scattering.models.spline_flow", lambda: load_weights("nsf_saxs", POSTERIORS)),
        (
            "FrEIA",
            "rephase.labs.waves.models.couplings",
            lambda: load_weights("image_flow_holography", IMAGE_POSTERIORS),
        ),
    ],
)
def test_a_missing_package_is_reported_with_its_extra(monkeypatch, package, user, work):
    for module in [name for name in sys.modules if name == user or name.startswith(f"{package}.")]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, package, None)  # as if it were not installed
    with pytest.raises(ExtraError, match=rf"^{package} is not installed; .*pip install '\.\[posteriors\]'$"):
        work()
