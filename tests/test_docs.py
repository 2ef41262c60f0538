"""README and docs: the first page is short, commands and keys exist, links lead somewhere, examples run."""

import ast
import importlib.util
import re
import shlex
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import nbformat
import numpy as np
import pytest
import torch
import typer

from rephase.commands import app
from rephase.config import load_config, load_sweep
from rephase.crystal.reflections.files import write_hklf4
from rephase.crystal.reflections.simulation import simulate_reflections
from rephase.paths import BENCHMARKS, CONFIGS, NOTEBOOKS, ROOT
from rephase.pipeline import find_notebooks
from rephase.random_crystals.crystals import RandomCrystalOptions, random_crystals

README, DOCS = ROOT / "README.md", ROOT / "docs"
PAGES = [
    README,
    ROOT / "CONTRIBUTING.md",
    *(path for path in sorted(DOCS.rglob("*.md")) if "generated" not in path.parts),
]
TEXTS = {str(path.relative_to(ROOT)): path.read_text(encoding="utf-8") for path in PAGES} | {
    f"notebooks/{path.name}": "\n\n".join(
        cell.source for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "markdown"
    )
    for path in sorted(NOTEBOOKS.glob("*.ipynb"))
}
COMMAND = typer.main.get_command(app)
LABORATORIES = "crystals|solving|completion|phasing|images|scattering|waves"
INS = """TITL sample
CELL 1.54 {cell}
ZERR 4 0 0 0 0 0 0
LATT 1
SYMM -X, 0.5+Y, 0.5-Z
SFAC C
UNIT 28
HKLF 4
END
"""


def blocks(text: str, language: str = "") -> list[str]:
    """Fenced blocks of a page."""
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)


def commands() -> Iterator[tuple[str, str]]:
    """Every command of rephase in the pages, from blocks and from the text."""
    for page, text in TEXTS.items():
        lines = [line for block in blocks(text) for line in block.splitlines()]
        prose = re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE)
        spans = [" ".join(span.split()) for span in re.findall(r"`([^`]+)`", prose)]
        for line in (*lines, *spans):
            if re.match("rephase [a-z]", line) and not line.startswith("rephase bench NAME"):
                yield page, line.partition("  #")[0].strip()


def words(line: str) -> list[str]:
    return shlex.split(line.replace("$SLURM_ARRAY_TASK_ID", "1"), comments=True)[1:]


def options_of(arguments: list[str], option: str) -> list[str]:
    return [value for name, value in pairwise(arguments) if name == option]


@pytest.fixture(scope="module")
def generators():
    """The module that writes the generated pages."""
    spec = importlib.util.spec_from_file_location("generators", DOCS / "generators.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def slug(heading: str) -> str:
    return re.sub(r"[^\w -]", "", heading.strip().lower()).replace(" ", "-")


def test_the_first_page_is_short():
    assert len(README.read_bytes()) <= 8000


@pytest.mark.parametrize(("page", "line"), sorted(set(commands())))
def test_commands_parse(page, line, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for weights in re.findall(r"=(\S+\.safetensors)", line):
        Path(weights).parent.mkdir(parents=True)
        Path(weights).touch()
    arguments = words(line)
    with COMMAND.make_context("rephase", list(arguments)) as context:
        name, subcommand, rest = COMMAND.resolve_command(context, arguments)
        if rest and "--help" not in rest:  # without arguments the text names a command, it does not call it
            subcommand.make_context(name, rest, parent=context)
    if name == "run":
        (config,) = options_of(arguments, "--config") or ["quick"]
        load_config(config, options_of(arguments, "--set"))
        find_notebooks([name for only in options_of(arguments, "--only") for name in only.split(",")])
    if name == "sweep" and not arguments[1].endswith(".yaml"):
        load_sweep(arguments[1])
    if name == "bench" and arguments[1:] and not arguments[1].startswith("-"):
        files = [BENCHMARKS / f"{arguments[1]}.py", BENCHMARKS / "cases" / "options.py"]
        source = "".join(path.read_text() for path in files)
        given = {word for word in arguments if re.fullmatch("--[a-z-]+", word)} - {"--help"}
        assert not {option for option in given if option not in source}


def test_every_key_of_a_configuration_has_a_meaning(generators):
    rows = [line for line in generators.configuration().splitlines() if line.startswith("| `")]
    assert len(rows) > 100
    assert not [row for row in rows if row.endswith("|  |")]


def test_keys_of_configurations_exist(generators):
    reference = generators.configuration()
    named = {
        (page, key)
        for page, text in TEXTS.items()
        for key in re.findall(rf"`(?:--set )?((?:{LABORATORIES})(?:\.(?!json)[a-z_]+)+)(?:=[^`]*)?`", text)
    }
    assert len(named) > 10
    mappings = re.findall(r"^\| `(.*?)` \| mapping", reference, re.MULTILINE)  # of any keys
    known = {key for _, key in named if re.search(f"`{key}(.NAME)?`", reference) or key.rpartition(".")[0] in mappings}
    assert not {(page, key) for page, key in named if key not in known}


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.stem)
def test_the_reference_of_configurations_has_every_key(generators, path):
    def keys(values: dict, prefix: str) -> Iterator[str]:
        for key, value in values.items():
            if isinstance(value, dict) and f"# `{prefix}{key}`\n" in reference:
                yield from keys(value, f"{prefix}{key}.")
            else:
                yield f"{prefix}{key}"

    reference = generators.configuration()
    found = list(keys(load_config(path).model_dump(), ""))
    assert len(found) > 100
    missing = {key for key in found if not re.search(f"`{re.escape(key)}(.NAME)?`", reference)}
    assert not missing


def test_the_reference_of_commands_has_every_option(generators):
    reference = generators.command_line()
    for name, command in COMMAND.commands.items():
        section = reference.split(f"## `rephase {name}`")[1].split("## `rephase")[0]
        assert all(option in section for parameter in command.params for option in parameter.opts if option[0] == "-")


@pytest.mark.parametrize("page", TEXTS)
def test_links_lead_somewhere(page):
    prose = re.sub(r"^```.*?^```$", "", TEXTS[page], flags=re.DOTALL | re.MULTILINE)
    for target, anchor in re.findall(r"\]\(([^)#\s]*)#?([^)\s]*)\)", prose):
        if target.startswith("http"):
            continue
        path = (ROOT / page).parent / target if target else ROOT / page
        assert path.exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.*)$", path.read_text(encoding="utf-8"), re.MULTILINE)
            assert anchor in map(slug, headings), f"{target}#{anchor}"


@pytest.fixture
def workplace(tmp_path, monkeypatch):
    """A working directory with the files that examples read."""
    options = RandomCrystalOptions(space_groups=("P 1 21/c 1",), n_atoms=(6, 7))
    crystal = random_crystals(1, generator=torch.Generator().manual_seed(0), options=options).crystal(0)
    write_hklf4(tmp_path / "sample.hkl", simulate_reflections(crystal, 0.95)[0])
    cell = " ".join(f"{value:.4f}" for value in crystal.cell.parameters)
    (tmp_path / "sample.ins").write_text(INS.format(cell=cell))
    q = np.geomspace(0.1, 3.0, 80)
    curve = np.exp(-((2.5 * q) ** 2) / 5) + 1e-3  # a Guinier curve
    np.savetxt(tmp_path / "curve.dat", np.stack([q, curve, 0.03 * curve], axis=1), header="q(1/nm) I(1/cm) sigma")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("rephase.laboratories.LABORATORIES", {})
    return tmp_path


EXAMPLES = [(page, block) for page, text in TEXTS.items() for block in blocks(text, "python")]


@pytest.mark.parametrize(("page", "example"), EXAMPLES, ids=[page for page, _ in EXAMPLES])
def test_examples_run(page, example, workplace):
    names: dict = {}
    exec(compile(ast.parse(example), page, "exec"), names)
    if page == "README.md":
        assert names["F"].shape == (2,)
        assert names["solution"].verdict == "solved"


def test_what_the_first_page_prints_is_what_solve_prints(command, cod_file, tmp_path):
    (shown,) = (block for block in blocks(TEXTS["README.md"]) if block.startswith("name: "))
    status, printed, _ = command("solve", cod_file("2012000.hkl"), "--out", tmp_path / "solved")
    assert status == 0
    expected, found = (dict(re.findall("^(.*?): (.*)$", text, re.MULTILINE)) for text in (shown, printed))
    assert expected.keys() == found.keys()
    for key in ("name", "verdict", "next_step", "space_group", "d_min", "n_reflections", "n_absent", "formula", "z"):
        assert found[key] == expected[key]
    for key in ("r_factor", "r1"):  # trials differ from machine to machine
        assert float(found[key]) == pytest.approx(float(expected[key]), abs=0.01)
