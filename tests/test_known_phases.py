"""What is known starts the search: phases of some reflections, a fragment; SHELX atoms."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from rephase.crystal.cell import Cell
from rephase.crystal.random_crystals import RandomCrystalOptions, random_crystals
from rephase.crystal.reflection_files import read_reflections, write_mtz
from rephase.crystal.simulation import simulate_reflections
from rephase.crystal.structure import read_crystal
from rephase.crystal.symmetry import rows_of
from rephase.errors import CifError, ReflectionError, RephaseError
from rephase.solvers.known import phases_of_fragment
from rephase.solvers.problem import PhaseProblem
from rephase.solvers.projections import Modulus
from rephase.solvers.solve import solve

INSTRUCTIONS = """TITL test
CELL 0.71073 7.6 9.97 13.7 90 99 90
LATT 1
SYMM -X,0.5+Y,0.5-Z
SFAC C H O
FVAR 0.5 0.7
C1  1  0.1 0.2 0.3 11.0 0.04 0.05 =
    0.03 0.001 0.002 0.01
AFIX 43
H1  2  0.15 0.22 0.31 11.0 -1.2
DFIX_1 1.2 0.02 C1 O1
O1  3  0.5 0.5 10.5 10.5 0.05  ! on the centre
O2A 3  0.3 0.6 0.1 21.0 0.06
O2B 3  0.35 0.6 0.1 -21.0
HKLF 4
END
Q1  1  0.7 0.6 0.1 11.0 0.05 2.3
"""


@pytest.fixture(scope="module")
def sample():
    """A crystal whose origin its group fixes up to few choices, its reflections, and their true F."""
    options = RandomCrystalOptions(space_groups=("P 21 21 21",), n_atoms=(12, 14))
    crystal = random_crystals(1, generator=torch.Generator().manual_seed(5), options=options).crystal(0)
    data, truth = simulate_reflections(crystal, 1.3)
    return crystal, data, truth.F[rows_of(data.hkl, truth.hkl)]


def part_of(crystal, n):
    heavy = np.flatnonzero([element != "H" for element in crystal.asymmetric_unit.elements])
    return replace(crystal, asymmetric_unit=crystal.asymmetric_unit.take(heavy[:n]))


def unaligned_correlation(solution, data, F):
    F = F[rows_of(solution.hkl, data.hkl)]
    return float((np.abs(F) ** 2 * np.cos(solution.phi - np.angle(F))).sum() / (np.abs(F) ** 2).sum())


def test_known_phases_are_held(sample):
    crystal, data, F = sample
    known = phases_of_fragment(crystal, data)
    problem = PhaseProblem(data.hkl, np.abs(F), crystal.cell, data.group, known=known)
    held = torch.where(problem.known.abs() > 0.9, problem.amplitude * torch.sgn(problem.known), 0)
    maps = torch.randn((2, *problem.grid.shape), generator=torch.Generator().manual_seed(0))
    found = problem.grid.from_map(Modulus(problem, problem.amplitude, held=held)(maps))[:, : problem.n_known]
    assert 10 < (held != 0).sum() < problem.n_known
    assert torch.allclose(found[:, held != 0], held[held != 0].expand(2, -1), atol=1e-3 * problem.amplitude.max())


def test_the_answer_is_at_the_origin_and_in_the_hand_of_known_phases(sample):
    _, data, F = sample
    is_known = np.random.default_rng(0).random(len(F)) < 0.2
    for hand in (1, -1):
        listed = replace(data, phi=np.where(is_known, hand * np.angle(F), np.nan))
        solution = solve(data, phases=listed, effort=0.1)
        assert unaligned_correlation(solution, data, np.abs(F) * np.exp(1j * hand * np.angle(F))) > 0.9


def test_a_fragment_starts_the_search(sample):
    crystal, data, F = sample
    assert unaligned_correlation(solve(data, fragment=part_of(crystal, 4), effort=0.1), data, F) > 0.9


def test_a_whole_model_is_sure_and_a_wrong_one_is_not(sample):
    crystal, data, F = sample
    right = phases_of_fragment(crystal, data)
    assert np.abs(np.angle(np.exp(1j * (right.phi - np.angle(F))))).max() < 1e-3
    sites = crystal.asymmetric_unit
    elsewhere = np.random.default_rng(0).random(sites.xyz_frac.shape)
    wrong = replace(crystal, asymmetric_unit=replace(sites, xyz_frac=elsewhere))
    assert right.weight.mean() > 0.7 > 0.3 > phases_of_fragment(wrong, data).weight.mean()


def test_phases_travel_through_a_file(sample, tmp_path):
    _, data, F = sample
    write_mtz(tmp_path / "known.mtz", data.hkl, np.abs(F), np.angle(F), np.ones(len(F)), data.cell, data.group)
    with pytest.warns(UserWarning, match="no σ"):
        listed = read_reflections(tmp_path / "known.mtz")
    assert unaligned_correlation(solve(data, phases=listed, effort=0.01), data, F) > 0.95


def test_phases_and_fragments_of_another_cell_are_errors(sample):
    crystal, data, _ = sample
    with pytest.raises(ReflectionError, match="no phases in this list; give an MTZ"):
        solve(data, phases=replace(data, phi=None))
    other = Cell(20.0, 21.0, 22.0)
    with pytest.raises(ReflectionError, match="cell 20, 21, 22"):
        solve(data, phases=replace(data, cell=other, phi=np.zeros(len(data))))
    with pytest.raises(CifError, match="move it into the cell of the data"):
        solve(data, fragment=replace(crystal, cell=other))


def test_atoms_of_shelx_files(tmp_path):
    path = tmp_path / "model.res"
    path.write_text(INSTRUCTIONS)
    crystal = read_crystal(path)
    sites = crystal.asymmetric_unit
    assert sites.labels == ("C1", "H1", "O1", "O2A", "O2B")
    assert crystal.space_group == "P 1 21/c 1"
    assert sites.occupancy == pytest.approx([1, 1, 1, 0.7, 0.3])
    assert sites.xyz_frac[2] == pytest.approx([0.5, 0.5, 0.5])
    assert sites.u_iso[1] == pytest.approx(1.2 * sites.u_iso[0])
    assert sites.u_iso[2:] == pytest.approx([0.05, 0.06, 0.05])
    assert crystal.formula == "C4 H4 O6"


@pytest.mark.parametrize(("old", "new", "message"), [
    ("SFAC C H O", "SFAC C H", "kind 3, but SFAC lists 2"),
    ("0.15 0.22", "0.15 abc", "H1"),
    ("CELL 0.71073 7.6 9.97 13.7 90 99 90\n", "", "no CELL"),
    ("SFAC C H O", "SFAC C H Xx", "unknown element"),
    ("C1  1  0.1", "C1  1  nan", "finite"),
])  # fmt: skip
def test_wrong_shelx_atoms_are_errors(tmp_path, old, new, message):
    path = tmp_path / "model.ins"
    path.write_text(INSTRUCTIONS.replace(old, new))
    with pytest.raises(RephaseError, match=message):
        read_crystal(path)
    path.write_text(INSTRUCTIONS.split("C1 ")[0])
    with pytest.raises(RephaseError, match=r"no atoms before HKLF|no CELL"):
        read_crystal(path)
