"""The shape of the project: imports go one way, importing does no work, notebooks are clean."""

import ast
import subprocess
import sys
import tomllib
from pathlib import Path

import nbformat
import pytest
from packaging.requirements import Requirement

from rephase.config import load_config
from rephase.paths import NOTEBOOKS, ROOT

PACKAGE = ROOT / "src" / "rephase"
ROWS = [
    {"errors", "paths"},
    {"reading", "writing", "processes", "tables", "bounded_requests"},
    {"checksums", "foreign_documents"},
    {"config_sections", "plain_yaml"},
    {"image_config", "posterior_config"},
    {"devices", "config"},
    {"crystal"},
    {"optics"},
    {"solvers"},
    {"store", "checkpoints", "priors"},
    {"datasets"},
    {"losses"},
    {"models"},
    {"metrics"},
    {
        "completion_metrics",
        "classification_metrics",
        "wave_metrics",
        "activation_maps",
        "calibration",
        "posterior_fits",
        "adaptation",
    },
    {"runs", "cards"},
    {"weights"},
    {"completion_routes"},
    {"completion"},
    {"cod"},
    {"training"},
    {"evaluation"},
    {"completion_evaluation", "classification_evaluation"},
    {"experiments"},
    {"completing", "classifying", "posteriors", "wave_posteriors"},
    {"shipping", "inference", "posterior_losses", "posterior_quarters"},
    {"image_inference"},
    {"solving"},
    {"plots"},
    {"solution_figures", "completion_figures", "posterior_figures"},
    {"solving_figures"},
    {"completing_figures", "inference_figures", "classifying_figures", "wave_posterior_figures"},
    {"image_inference_figures", "posterior_run_figures"},
    {"grazing_figures"},
    {"figures"},
    {"run_status"},
    {"report"},
    {"pipeline"},
    {"commands"},
    {"cli"},
]
NOTEBOOK_FILES = sorted(NOTEBOOKS.glob("*.ipynb"))


def row_of(room: str) -> int:
    return next(number for number, row in enumerate(ROWS) if room in row)


def test_a_module_imports_only_from_rows_above_its_own():
    for path in PACKAGE.rglob("*.py"):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        if parts == ("__init__",):
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("rephase."):
                imported = node.module.split(".")[1]
                assert row_of(imported) <= row_of(parts[0]), f"{path.name} imports {node.module}"
                assert imported == parts[0] or row_of(imported) < row_of(parts[0]), f"{path.name} imports {node.module}"


def test_importing_loads_no_training_and_no_tables():
    script = (
        "import sys, rephase; print([m for m in ('lightning', 'Dans_Diffraction', 'matplotlib') if m in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


@pytest.mark.parametrize("path", NOTEBOOK_FILES, ids=lambda path: path.stem)
def test_notebook_is_prose_and_calls(path: Path):
    cells = nbformat.read(path, as_version=4).cells
    code = [cell for cell in cells if cell.cell_type == "code"]
    assert sum("parameters" in cell.metadata.get("tags", []) for cell in code) == 1
    for cell in code:
        assert not cell.outputs, "outputs are stored"
        assert len(cell.source.splitlines()) <= 8
        assert "def " not in cell.source
        assert "for epoch" not in cell.source
    words = [sum(len(c.source.split()) for c in cells if c.cell_type == kind) for kind in ("markdown", "code")]
    assert words[0] > 0.4 * sum(words)
    assert cells[0].source.startswith(f"# {path.stem[:2]} · ")
    for expected in ("**Question.**", "**In:**", "**Out:**", "**Time:**"):
        assert expected in cells[0].source


def test_notebooks_do_all_that_the_full_work_lists():
    config, called = load_config("paper"), "\n".join(path.read_text() for path in NOTEBOOK_FILES)
    steps = {"run_experiment(run, ": config.images.experiments, "train_and_score(run, data, ": config.completion.models,
             "train_and_score_phases(run, data, ": config.monoclinic_phases.models}  # fmt: skip
    missing = [call + name for call, names in steps.items() for name in names if f'{call}\\"{name}\\")' not in called]
    assert not missing


@pytest.mark.parametrize("path", NOTEBOOK_FILES, ids=lambda path: path.stem)
def test_notebook_kernel_has_name_and_language(path: Path):
    kernel = nbformat.read(path, as_version=4).metadata.kernelspec
    assert (kernel.name, kernel.language) == ("python3", "python")


def test_doctests_of_the_public_face():
    import doctest

    import rephase.config
    import rephase.crystal.cell
    import rephase.crystal.decimal_numbers
    import rephase.crystal.peaks
    import rephase.crystal.reflection_names
    import rephase.crystal.shelx
    import rephase.crystal.structure
    import rephase.crystal.structure_factors as structure_factors
    import rephase.optics.helium as helium
    from rephase.crystal.structure import read_crystal

    crystal = rephase.crystal
    lists = (crystal.decimal_numbers, crystal.reflection_names)
    modules = (
        *lists,
        rephase.config,
        crystal.cell,
        crystal.peaks,
        crystal.shelx,
        crystal.structure,
        structure_factors,
        helium,
    )
    for module in modules:
        result = doctest.testmod(module, extraglobs={"read_crystal": read_crystal})
        assert result.failed == 0, module.__name__


def test_what_the_package_depends_on_is_what_is_tested():
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    lines = (ROOT / "requirements.txt").read_text().split("# to test")[0].splitlines()
    pinned = dict(line.split("==") for line in lines if "==" in line)
    needed = [Requirement(text) for text in declared]
    assert [each.name for each in needed] == list(pinned)
    assert all(each.specifier.contains(pinned[each.name]) for each in needed)
