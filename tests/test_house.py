"""The shape of the project: imports go one way, importing does no work, notebooks are clean."""

import ast
import subprocess
import sys
import tomllib
from pathlib import Path

import nbformat
import numpy as np
import pytest
from packaging.requirements import Requirement

from rephase.config import load_config
from rephase.crystal.cell import Cell
from rephase.crystal.reflections import Reflections
from rephase.crystal.reflections.files import write_hklf4
from rephase.paths import NOTEBOOKS, ROOT

PACKAGE = ROOT / "src" / "rephase"
FLOORS = [
    {"errors", "paths"},
    {"deadlines", "files", "processes", "sources"},
    {"ranks"},
    {"config", "devices", "plots"},
    {"engines", "pages"},
    {"crystal", "runs"},
    {"refinement", "random_crystals", "optics"},
    {"formats", "learning"},
    {"solvers"},
    {"inference"},
    {"labs"},
    {"laboratories"},
    {"figures", "report", "shipping", "trainings"},
    {"pipeline"},
    {"data_sets", "sweeps"},
    {"commands"},
    {"cli"},
]
NOTEBOOK_FILES = sorted(NOTEBOOKS.glob("*.ipynb"))


def floor_of(room: str) -> int:
    return next(number for number, floor in enumerate(FLOORS) if room in floor)


def imports_of(path: Path) -> set[tuple[str, ...]]:
    """Parts of the names that a file imports from rephase, e.g. ("crystal", "cell"); in strings of types too."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {tuple(alias.name.split(".")) for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: a relative import"
            found |= {(*(node.module or "").split("."), alias.name) for alias in node.names}
    return {name[1:] for name in found if name[0] == "rephase" and name[1:] != ("__version__",)}


MODULES = [path for path in sorted(PACKAGE.rglob("*.py")) if path != PACKAGE / "__init__.py"]


def test_the_house_has_no_room_without_a_floor():
    rooms = {path.relative_to(PACKAGE).with_suffix("").parts[0] for path in MODULES}
    assert rooms == set().union(*FLOORS)


@pytest.mark.parametrize("room", sorted(set().union(*FLOORS)))
def test_a_room_imports_only_from_floors_below_its_own(room):
    for path in MODULES:
        if path.relative_to(PACKAGE).with_suffix("").parts[0] == room:
            for imported, *_ in imports_of(path):
                assert imported == room or floor_of(imported) < floor_of(room), f"{path.name} imports {imported}"


def test_no_laboratory_imports_another():
    for path in (PACKAGE / "labs").rglob("*.py"):
        own = path.relative_to(PACKAGE / "labs").parts[0]
        for room, *rest in imports_of(path):
            assert room != "labs" or rest[0] in (own, "laboratory"), f"{path} imports {room}.{rest[0]}"


@pytest.mark.parametrize(
    ("code", "heavy"),
    [
        ("import rephase", ("torch", "pandas", "numpy", "typer")),
        ("import rephase.cli; rephase.cli.main()", ("torch", "pandas", "numpy")),
        ("import rephase; rephase.solve, rephase.complete", ("lightning", "Dans_Diffraction", "matplotlib")),
    ],
)
def test_importing_loads_nothing_heavy(code, heavy):
    assert not {*heavy} & loaded_by(code, "--help")


def test_solve_loads_what_the_model_and_the_pictures_need_after_its_first_trial(tmp_path):
    hkl = np.array([hkl for hkl in np.ndindex(9, 9, 9) if any(hkl)])
    values = np.random.default_rng(0).gamma(1.0, 100.0, len(hkl))
    file = tmp_path / "sample.hkl"
    write_hklf4(file, Reflections(hkl, values, values**0.5, Cell(8, 9, 10, 90, 90, 90), None))
    code = "import rephase.cli, rephase.solvers.solve as s; s.pursue = lambda *_, **__: sys.exit(0); rephase.cli.main()"
    loaded = loaded_by(code, "solve", str(file), "--cell", "8,9,10,90,90,90", "--space-group", "P 1")
    later = ("scipy.spatial", "scipy.ndimage", "scipy.sparse", "pandas", "matplotlib", "plotly", "skimage")
    never = ("lightning", "zarr", "dask", "Dans_Diffraction", "sympy", "torch._dynamo")
    assert "rephase.solvers.strategy" in loaded
    assert not {*later, *never} & loaded


def loaded_by(code: str, *arguments: str) -> set[str]:
    """Modules that a process has loaded when it ends."""
    script = f"import atexit, sys; atexit.register(lambda: print('loaded', *sys.modules)); {code}"
    found = subprocess.run([sys.executable, "-c", script, *arguments], capture_output=True, text=True, check=True)
    loaded = found.stdout.splitlines()[-1].split()
    assert {"loaded", "rephase"} <= {*loaded}
    return {*loaded}


@pytest.mark.parametrize("path", NOTEBOOK_FILES, ids=lambda path: path.stem)
def test_notebook_is_prose_and_calls(path: Path):
    cells = nbformat.read(path, as_version=4).cells
    code = [cell for cell in cells if cell.cell_type == "code"]
    assert sum("parameters" in cell.metadata.get("tags", []) for cell in code) == 1
    for cell in code:
        assert not cell.outputs, "outputs are stored"
        assert len(ast.parse(cell.source).body) <= 8
        assert "def " not in cell.source
        assert "for epoch" not in cell.source
    words = [sum(len(c.source.split()) for c in cells if c.cell_type == kind) for kind in ("markdown", "code")]
    assert words[0] > 0.4 * sum(words)
    assert cells[0].source.startswith(f"# {path.stem[:2]} · ")
    for expected in ("**Question.**", "**In:**", "**Out:**", "**Time:**"):
        assert expected in cells[0].source


def test_notebooks_do_all_that_the_full_work_lists():
    config, called = load_config("paper"), "\n".join(path.read_text() for path in NOTEBOOK_FILES)
    steps = {
        "run_experiment(run, ": config.images.experiments,
        "train_and_score(run, data, ": config.completion.models,
        "train_and_score_phases(run, data, ": config.completion.phases.models,
    }
    missing = [call + name for call, names in steps.items() for name in names if f'{call}\\"{name}\\")' not in called]
    assert not missing


@pytest.mark.parametrize("path", NOTEBOOK_FILES, ids=lambda path: path.stem)
def test_notebook_kernel_has_name_and_language(path: Path):
    kernel = nbformat.read(path, as_version=4).metadata.kernelspec
    assert (kernel.name, kernel.language) == ("python3", "python")


def test_what_the_package_depends_on_is_what_is_tested():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lines = (ROOT / "requirements.txt").read_text().splitlines()
    pinned = dict(line.split("==") for line in lines if "==" in line)
    declared = [project["dependencies"], *project["optional-dependencies"].values()]
    needed = [Requirement(text) for group in declared for text in group]
    assert sorted(each.name for each in needed) == sorted(pinned)
    assert all(each.specifier.contains(pinned[each.name]) for each in needed)
