"""``rephase solve``: a file in, files out; mistakes are one line."""

import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import gemmi
import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
import typer

from rephase.commands import app
from rephase.crystal.map_files import read_density
from rephase.crystal.reflections.files import read_reflections, write_hklf4
from rephase.crystal.reflections.phase_lists import read_phases
from rephase.crystal.reflections.simulation import simulate_reflections
from rephase.crystal.structures import read_crystal
from rephase.crystal.symmetry import find_symmetry
from rephase.labs.solving.pictures import write_figures
from rephase.paths import ROOT
from rephase.random_crystals.crystals import RandomCrystalOptions, random_crystals
from rephase.solvers import RECIPES
from rephase.solvers.solution import RESULTS
from rephase.solvers.solve import solve


@pytest.fixture(scope="module")
def sample(tmp_path_factory):
    """A list of reflections without its cell, and the options that give it."""
    options = RandomCrystalOptions(space_groups=("P 1 21/c 1",), n_atoms=(6, 7))
    crystal = random_crystals(1, generator=torch.Generator().manual_seed(0), options=options).crystal(0)
    path = tmp_path_factory.mktemp("sample") / "sample.hkl"
    write_hklf4(path, simulate_reflections(crystal, 0.95)[0])
    return path, ["--cell", ",".join(f"{x:.5f}" for x in crystal.cell.parameters), "--space-group", "P 21/c"]


def test_a_file_in_and_files_out(command, sample, tmp_path):
    path, known = sample
    status, printed, complaints = command(
        "solve", str(path), *known, "--out", str(tmp_path / "out"), "--effort", "0.05", "--d-min", "1.0"
    )
    assert status == 0, complaints
    written = {file.name for file in (tmp_path / "out").iterdir()}
    assert {"solution.mtz", "solution.res", "solution.json", "density.ccp4", "density.png", "molecule.pdf"} <= written
    summary = json.loads((tmp_path / "out" / "solution.json").read_text())
    assert summary["verdict"] == "solved"
    assert summary["d_min"] >= 1.0
    assert "verdict: solved" in printed
    assert printed.splitlines()[-1] == f"page: {tmp_path / 'out' / 'solve.html'}"
    assert (tmp_path / "out" / "solve.html").stat().st_size < 6e6
    assert plt.imread(tmp_path / "out" / "density.png").shape[1] > 1800  # a page wide, 300 dots an inch


def test_what_is_known_starts_the_search(command, sample, tmp_path):
    path, known = sample
    first, second = tmp_path / "first", tmp_path / "second"
    command("solve", str(path), *known, "--out", str(first), "--effort", "0.05", "--formula", "C6")
    start = ["--phases", str(first / "solution.mtz"), "--fragment", str(first / "solution.res")]
    status, printed, complaints = command("solve", str(path), *known, *start, "--out", str(second), "--effort", "0.01")
    assert status == 0, complaints
    assert "verdict: solved" in printed
    before, after = (gemmi.read_mtz_file(str(out / "solution.mtz")) for out in (first, second))
    phi = [np.radians(np.array(mtz.column_with_label("PHI"))) for mtz in (before, after)]
    weight = np.array(before.column_with_label("F")) ** 2
    assert (weight * np.cos(phi[0] - phi[1])).sum() > 0.95 * weight.sum()  # the same origin and hand


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--cell", "7,8,nine"], "ConfigError: --cell '7,8,nine': expected six numbers"),
        (["--solver", "rar"], "ConfigError: solver 'rar' is not known; did you mean 'raar'?"),
        (["--fragment", "none.res"], "CifError: crystal 'none.res': no such file"),
        (["--d-min", "50"], "ReflectionError: "),
        (["--d-min", "0"], "ReflectionError: d_min = 0.0: expected a number above 0"),
        (["--effort", "nan"], "ConfigError: effort = nan: expected a number above 0"),
        (["--effort", "1e20"], "ConfigError: effort = 1e+20: expected at most 1e+06"),
        (["--wavelength", "nan"], "ReflectionError: wavelength = nan: expected an X-ray wavelength"),
        (["--wavelength", "0"], "ReflectionError: wavelength = 0.0: expected an X-ray wavelength"),
        (["--wavelength", "-1"], "ReflectionError: wavelength = -1.0: expected an X-ray wavelength"),
        (["--formula", "C10Xx2"], "CifError: formula 'C10Xx2': expected element symbols and counts"),
    ],
)
def test_a_mistake_is_one_line(command, sample, tmp_path, options, message):
    path, known = sample
    status, _, complaints = command("solve", str(path), *known, *options, "--out", str(tmp_path / "out"))
    assert status == 2
    assert complaints.strip().splitlines()[-1].startswith(message)
    assert "Traceback" not in complaints


def test_a_folder_that_cannot_be_made_stops_before_the_work(command, sample):
    status, _, complaints = command("solve", str(sample[0]), *sample[1], "--out", __file__)
    assert status == 2
    assert "cannot be made (File exists); give a folder" in complaints


def test_a_missing_file_and_a_missing_cell(command, sample, tmp_path):
    status, _, complaints = command("solve", str(tmp_path / "none.hkl"))
    assert status == 2
    assert complaints.startswith("ReflectionError")
    status, _, complaints = command("solve", str(sample[0]))
    assert status == 2
    assert "--cell" in complaints


@pytest.fixture(scope="module")
def solved(sample):
    """The solution of the sample."""
    cell, group = (sample[1][place] for place in (1, 3))
    data = read_reflections(sample[0], cell=[float(x) for x in cell.split(",")], space_group=group)
    return solve(data, effort=0.01, d_min=1.0)


@pytest.fixture
def out(solved, tmp_path, monkeypatch):
    """A folder with results; to solve again takes no time."""
    monkeypatch.setattr("rephase.labs.solving.request.solve", lambda *_, **__: solved)
    return solved.write(tmp_path / "out", formula="C6")


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if not path.name.startswith(".")}


@pytest.mark.parametrize("result", ["solution.hkl", "density.png"])
@pytest.mark.parametrize("link", [Path.symlink_to, Path.hardlink_to])
@pytest.mark.parametrize("is_of_data", [True, False])
def test_a_link_between_data_and_results_does_not_lose_the_data(command, sample, out, link, result, is_of_data):
    path, known = sample
    data, target = out.parent / "data.hkl", out / result
    target.unlink(missing_ok=True)
    (target if is_of_data else data).write_bytes(path.read_bytes())
    link(data, target) if is_of_data else link(target, data)
    before = contents(out)
    status, _, complaints = command("solve", data, *known, "--out", out)
    assert status == 2
    assert complaints.startswith(f"ConfigError: --out {out}: {data} would be replaced by the result {result}; give")
    assert contents(out) == before
    assert data.read_bytes() == path.read_bytes()


@pytest.mark.parametrize(
    ("option", "given"),
    [("--phases", "solution.mtz"), ("--fragment", "solution.cif"), ("--fragment", "solution.res"), (None, "solution")],
)
def test_what_is_read_beside_the_data_is_not_replaced(command, sample, out, option, given):
    path, known = sample
    before, data = contents(out), path
    if option is None:  # the reader takes the cell from solution.res
        data, option = out / "solution.sca", "--phases"
        data.write_bytes(path.read_bytes())
        before, given = contents(out), "solution.mtz"
    status, _, complaints = command("solve", data, *known, option, out / given, "--out", out)
    assert status == 2
    assert "would be replaced by the result" in complaints
    assert contents(out) == before


def test_results_are_solved_again_and_a_refinement_is_not_lost(command, sample, out):
    path, known = sample
    others = {"solution.lst": b"SHELXL", "solution.fcf": b"data_"}
    for name, text in others.items():
        (out / name).write_bytes(text)
    assert command("solve", path, *known, "--out", out)[0] == 0
    assert contents(out).keys() == {*RESULTS, *others}
    for path_of_result in out.iterdir():
        os.utime(path_of_result, (1e9, 1e9))  # to touch is not to change
    assert command("solve", path, *known, "--out", out)[0] == 0
    assert others.items() <= contents(out).items()
    refined = (out / "solution.res").read_text().replace("L.S. 10", "L.S. 4")
    (out / "solution.res").write_text(refined)
    status, _, complaints = command("solve", path, *known, "--out", out)
    assert status == 2
    assert "solution.res was changed after rephase wrote it" in complaints
    assert "a refinement would be lost" in complaints
    assert (out / "solution.res").read_text() == refined


def test_a_file_of_the_user_is_not_replaced(command, sample, tmp_path):
    path, known = sample
    for name in RESULTS:
        own = tmp_path / name / name
        own.parent.mkdir()
        own.write_text("mine")
        status, _, complaints = command("solve", path, *known, "--out", own.parent)
        assert status == 2
        assert f"{name} was changed after rephase wrote it, or rephase did not write it" in complaints
        assert contents(own.parent) == {name: b"mine"}


KILLED = """
import os, signal, sys
import rephase.solvers.solution
from rephase.cli import main
rephase.solvers.solution.write_mtz = lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL)
main()
"""


def test_a_kill_while_results_are_written_leaves_the_old(command, sample, out):
    before = contents(out)
    arguments = ["solve", *sample[0:1], *sample[1], "--out", out, "--effort", "0.01", "--d-min", "1.0"]
    killed = subprocess.run([sys.executable, "-c", KILLED, *map(str, arguments)], capture_output=True)
    assert killed.returncode == -9
    assert contents(out) == before
    assert command("solve", sample[0], *sample[1], "--out", out)[0] == 0
    assert contents(out).keys() == {*RESULTS}
    assert not list(out.glob(".partial*"))


def test_another_process_that_solves_there_is_waited_for(command, sample, out):
    script = (
        f"from rephase.files.writing import only_writer\nwith only_writer({str(out)!r}): print(flush=True), input()"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        other.stdout.readline()
        status, _, complaints = command("solve", sample[0], *sample[1], "--out", out)
        other.communicate(b"\n")
    assert status == 2
    assert complaints.startswith(f"DiskError: {out}: another process of rephase is writing there")


@pytest.mark.parametrize("largest", [100, 3000, 30000])  # bytes: the first result does not fit, a later one
def test_a_full_disk_leaves_the_old(command, sample, out, full_disk, largest):
    before = contents(out)
    with full_disk(largest):
        status, _, complaints = command("solve", sample[0], *sample[1], "--out", out)
    assert status == 2
    assert re.match(r"DiskError: .* cannot be written \(File too large\)", complaints.splitlines()[-1])
    assert contents(out) == before
    assert not list(out.glob(".partial*"))


NAMES = ["$a$ b", "$", "ü", os.fsdecode(b"\xfc"), "x" * 246, "<b>&", "a\nb", "'\"#%", "-"]


@pytest.mark.parametrize("name", NAMES)
def test_a_file_of_any_name_is_solved(command, sample, out, tmp_path, name):
    data = tmp_path / f"{name}.hkl"
    data.write_bytes(sample[0].read_bytes())
    status, printed, complaints = command("solve", data, *sample[1], "--out", tmp_path / f"{name[:200]} results")
    assert status == 0, complaints
    assert "written: " in printed
    found = read_reflections(data, cell=(9.1, 5.3, 9.0, 90, 95.9, 90)).name
    assert found == {"\udcfc": "ü", "a\nb": "a_b"}.get(name, name)


def test_results_of_any_name_are_read(solved, tmp_path):
    folder = solved.write(tmp_path / os.fsdecode(b"\xfc $"), formula="C6")
    assert len(read_phases(folder / "solution.mtz").phi) == len(solved.hkl)
    assert read_density(folder / "density.ccp4").density.shape == solved.density.shape


@pytest.mark.parametrize("name", [*NAMES, "\udcfc", "結晶", "x" * 500])
def test_results_of_any_name_are_written(solved, tmp_path, name):
    folder = tmp_path / os.fsdecode(b"\xfc $")
    named = replace(solved, reflections=replace(solved.reflections, name=name))
    named.write(folder, formula="C6")
    assert json.loads((folder / "solution.json").read_text(encoding="utf-8"))["name"] == name
    assert (folder / "solution.res").read_bytes().isascii()
    assert (folder / "solution.cif").read_bytes().isascii()
    assert read_crystal(folder / "solution.cif")
    assert read_crystal(folder / "solution.res")
    if name.isascii():  # the fonts have no others
        write_figures(named, folder)


def test_names_are_printed_and_written_in_any_locale(sample, tmp_path):
    data = os.fsencode(tmp_path) + b"/\xfc.hkl"
    Path(os.fsdecode(data)).write_bytes(sample[0].read_bytes())
    plain = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}  # the file system speaks ASCII
    command = [sys.executable, "-m", "rephase.cli", "solve", data, *sample[1], "--effort", "0.01", "--d-min", "1.0"]
    found = subprocess.run([*command, "--out", data + b".d"], capture_output=True, env=os.environ | plain)
    assert found.returncode == 0, found.stderr
    with open(data + b".d/solution.json", encoding="utf-8") as summary:
        assert json.load(summary)["name"] == "ü"


def test_a_column_is_named(command, sample, tmp_path):
    path, options = sample
    status, _, errors = command("solve", str(path), *options, "--out", str(tmp_path), "--column", "I")
    assert status != 0
    assert "have no names" in errors


def test_every_solver_is_named_in_help_and_docs():
    (option,) = (option for option in typer.main.get_command(app).commands["solve"].params if option.name == "solver")
    text = (ROOT / "docs" / "how-to" / "solve-a-crystal.md").read_text(encoding="utf-8")
    for name in RECIPES:
        assert name in option.help
        assert f"`{name}`" in text


@pytest.mark.parametrize("is_stated", [True, False])
def test_every_file_is_in_the_standard_setting(command, tmp_path, is_stated):
    """P 21/n becomes P 21/c in the model, the map coefficients and the reflections."""
    options = RandomCrystalOptions(space_groups=("P 1 21/n 1",), n_atoms=(6, 7))
    crystal = random_crystals(1, generator=torch.Generator().manual_seed(3), options=options).crystal(0)
    path, out = tmp_path / "sample.hkl", tmp_path / "out"
    write_hklf4(path, simulate_reflections(crystal, 1.0)[0])
    known = ["--cell", ",".join(f"{x:.5f}" for x in crystal.cell.parameters)]
    known += ["--space-group", "P 21/n"] if is_stated else []
    status, _, complaints = command("solve", str(path), *known, "--standard", "--out", str(out), "--effort", "0.05")
    assert status == 0, complaints
    mtz = gemmi.read_mtz_file(str(out / "solution.mtz"))
    model = gemmi.make_small_structure_from_block(gemmi.cif.read(str(out / "solution.cif")).sole_block())
    assert mtz.spacegroup.xhm() == model.spacegroup.xhm() == "P 1 21/c 1"
    assert mtz.cell.volume == pytest.approx(crystal.cell.volume, rel=1e-3)
    hkl = read_reflections(out / "solution.hkl", cell=mtz.cell.parameters).hkl
    assert not find_symmetry("P 1 21/c 1").is_absent(hkl).any()
    d_hkl = [model.cell.calculate_d(index) for index in hkl.tolist()]
    assert min(d_hkl) == pytest.approx(json.loads((out / "solution.json").read_text())["d_min"], abs=1e-3)
