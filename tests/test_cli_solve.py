"""``rephase solve``: a file in, files out; mistakes are one line."""

import json
import os

import gemmi
import numpy as np
import pytest
import torch
import typer

from rephase.cli import app
from rephase.crystal.random_crystals import RandomCrystalOptions, random_crystals
from rephase.crystal.reflection_files import write_hklf4
from rephase.crystal.simulation import simulate_reflections
from rephase.paths import ROOT
from rephase.solvers import RECIPES


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
    assert {"solution.mtz", "solution.res", "solution.json", "density.ccp4", "density.png", "density.html"} <= written
    summary = json.loads((tmp_path / "out" / "solution.json").read_text())
    assert summary["verdict"] == "solved"
    assert summary["d_min"] >= 1.0
    assert "verdict: solved" in printed


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


def test_nothing_that_was_worked_on_is_replaced(command, sample, tmp_path):
    path, options = sample
    here = tmp_path / "solution.hkl"
    here.write_bytes(path.read_bytes())
    status, _, errors = command("solve", str(here), *options, "--out", str(tmp_path))
    assert status != 0
    assert "solution.hkl would be replaced" in errors
    assert here.read_bytes() == path.read_bytes()
    out = tmp_path / "out"
    assert command("solve", str(path), *options, "--out", str(out))[0] == 0
    assert "REM the wavelength was not given" in (out / "solution.res").read_text()
    assert (
        command("solve", str(path), *options, "--out", str(out), "--wavelength", "1.54184")[0] == 0
    )  # again, nothing changed
    assert "CELL 1.54184" in (out / "solution.res").read_text()
    later = (out / "solution.json").stat().st_mtime + 60
    os.utime(out / "solution.res", (later, later))
    status, _, errors = command("solve", str(path), *options, "--out", str(out))
    assert status != 0
    assert "a refinement would be lost" in errors


def test_a_column_is_named(command, sample, tmp_path):
    path, options = sample
    status, _, errors = command("solve", str(path), *options, "--out", str(tmp_path), "--column", "I")
    assert status != 0
    assert "have no names" in errors


def test_every_solver_is_named_in_help_and_readme():
    (option,) = (option for option in typer.main.get_command(app).commands["solve"].params if option.name == "solver")
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    for name in RECIPES:
        assert name in option.help
        assert f"`{name}`" in text
