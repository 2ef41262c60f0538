"""What is known starts the search: phases of some reflections, a fragment; SHELX atoms."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from rephase.crystal.cell import Cell
from rephase.crystal.phase_scores import score_phases
from rephase.crystal.reflections import Reflections
from rephase.crystal.reflections.files import write_mtz
from rephase.crystal.reflections.phase_lists import PhaseList, read_phases
from rephase.crystal.reflections.simulation import simulate_reflections
from rephase.crystal.reflections.statistics import unique_hkl
from rephase.crystal.structure_factors import structure_factors
from rephase.crystal.structures import read_crystal
from rephase.crystal.symmetry import find_symmetry, rows_of
from rephase.errors import CifError, ReflectionError, RephaseError
from rephase.random_crystals.crystals import RandomCrystalOptions, random_crystals
from rephase.solvers.known import _in_group, known_phasors, phasors_of_fragment, phasors_of_list
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


def listed(data, F, **changes):
    return replace(PhaseList(data.hkl, np.angle(F), np.ones(len(F)), data.cell, data.group), **changes)


def test_known_phases_are_held(sample):
    crystal, data, F = sample
    known = phasors_of_fragment(crystal, data)
    problem = PhaseProblem(data.hkl, np.abs(F), crystal.cell, data.group, known=known)
    held = torch.where(problem.known.abs() > 0.9, problem.amplitude * torch.sgn(problem.known), 0)
    maps = torch.randn((2, *problem.grid.shape), generator=torch.Generator().manual_seed(0))
    found = problem.grid.from_map(Modulus(problem, problem.amplitude, held=held)(maps))[:, : problem.n_known]
    assert 10 < (held != 0).sum() < problem.n_known
    assert torch.allclose(found[:, held != 0], held[held != 0].expand(2, -1), atol=1e-3 * problem.amplitude.max())


def test_the_answer_is_at_the_origin_and_in_the_hand_of_known_phases(sample):
    _, data, F = sample
    is_known = np.random.default_rng(0).random(len(F)) < 0.2
    for true in (F, F.conj()):
        few = PhaseList(data.hkl[is_known], np.angle(true[is_known]), np.ones(is_known.sum()))
        assert unaligned_correlation(solve(data, phases=few, effort=0.1), data, true) > 0.9


def test_a_group_without_the_other_hand_stays_what_it_is():
    crystal = read_crystal("triclinic")
    symmetry = find_symmetry("P 41")
    cell = Cell(9.0, 9.0, 11.0)
    hkl = unique_hkl(cell, symmetry, 1.2)
    sites = replace(crystal, cell=cell, space_group="P 41")
    F = structure_factors(_in_group(sites, symmetry), hkl, energy_kev=None)
    problem = PhaseProblem(hkl, np.abs(F), cell, symmetry, known=np.exp(-1j * np.angle(F)))
    true = PhaseProblem(hkl, np.abs(F), cell, symmetry, known=np.exp(1j * np.angle(F))).known * problem.amplitude
    free = torch.zeros(len(problem.hkl) - problem.n_known)
    moved = problem.at_known_origin(torch.cat([true, free]))[None]
    assert problem.group.agreement(moved, problem.n_known).min() > 0.99


def test_a_fragment_starts_the_search(sample):
    crystal, data, F = sample
    assert unaligned_correlation(solve(data, fragment=part_of(crystal, 4), effort=0.1), data, F) > 0.9


def test_a_whole_model_is_sure_and_a_wrong_one_is_not(sample):
    crystal, data, F = sample
    right = phasors_of_fragment(crystal, data)
    assert np.abs(np.angle(right * F.conj())).max() < 1e-3
    sites = crystal.asymmetric_unit
    elsewhere = np.random.default_rng(0).random(sites.xyz_frac.shape)
    wrong = replace(crystal, asymmetric_unit=replace(sites, xyz_frac=elsewhere))
    assert np.abs(right).mean() > 0.7 > 0.3 > np.abs(phasors_of_fragment(wrong, data)).mean()


@pytest.mark.parametrize("group", ["C 1 2/c 1", "P 1 21/n 1", "I 1 2/a 1", "P 43 21 2", "R -3:H"])
def test_a_list_may_name_any_equivalent_and_absences(group):
    symmetry = find_symmetry(group)
    a, gamma = 9.0, 120.0 if group.startswith("R") else 90.0
    cell = Cell(a, a, 13.0, 90.0, 90.0, gamma)
    hkl = unique_hkl(cell, symmetry, 1.5)
    rng = np.random.default_rng(0)
    centric = symmetry.centric_phase(hkl)
    phi = np.where(np.isnan(centric), rng.uniform(-np.pi, np.pi, len(hkl)), centric)
    images, shifts = symmetry.equivalents(hkl)
    which = rng.integers(0, len(images), len(hkl))
    rows = np.arange(len(hkl))
    forbidden = np.array([[1, 2, 3], [2, 1, 1], [1, 0, 0], [0, 1, 0], [0, 0, 1]])
    forbidden = forbidden[symmetry.is_absent(forbidden)]
    named = np.concatenate([forbidden, -images[which, rows]])  # Friedel mates of equivalents
    phases = np.concatenate([np.full(len(forbidden), 0.3), -(phi + shifts[which, rows])])
    data = Reflections(hkl, np.ones(len(hkl)), np.ones(len(hkl)), cell, symmetry, is_merged=True)
    found = phasors_of_list(PhaseList(named, phases, np.full(len(phases), 0.5)), data)
    assert np.allclose(found, 0.5 * np.exp(1j * phi))


def test_the_list_goes_before_the_fragment(sample):
    crystal, data, F = sample
    phases = PhaseList(-data.hkl[:30], np.full(30, 0.2), np.full(30, 0.7))
    both = known_phasors(data, phases, crystal)
    centric = data.group.is_centric(data.hkl)
    assert np.allclose(both[:30][~centric[:30]], 0.7 * np.exp(-0.2j))
    assert np.allclose(both[30:], phasors_of_fragment(crystal, data)[30:])


def test_phases_of_amplitudes_that_belong_to_no_crystal_are_not_believed(sample):
    _, data, F = sample
    shuffled = replace(data, intensity=np.random.default_rng(0).permutation(data.intensity))
    assert solve(shuffled, phases=listed(data, F, phi=np.angle(F)), effort=0.02).verdict == "unsure"


def test_wrong_phases_are_given_up(sample):
    data, truth = simulate_reflections(sample[0], 1.0)  # atomic resolution: any crystal of this size is solved at once
    F = truth.F[rows_of(data.hkl, truth.hkl)]
    wrong = listed(data, F, phi=np.random.default_rng(1).uniform(-np.pi, np.pi, len(F)))
    solution = solve(data, phases=wrong, effort=0.02)
    score = score_phases(solution.F, F, hkl=data.hkl, cell=data.cell, symmetry=data.group)
    assert score.map_cc[0] > 0.9


def test_phases_travel_through_files(sample, tmp_path):
    _, data, F = sample
    fom = np.linspace(0, 1, len(F))
    write_mtz(tmp_path / "known.mtz", data.hkl, np.abs(F), np.angle(F), fom, data.cell, data.group)
    rows = "\n".join(f"{h} {k} {l} {np.degrees(p):.4f} {w:.4f}" for (h, k, l), p, w in zip(data.hkl, np.angle(F), fom))
    tags = "\n".join(f"_refln_{tag}" for tag in ("index_h", "index_k", "index_l", "phase_calc", "fom"))
    (tmp_path / "known.cif").write_text(f"data_x\nloop_\n{tags}\n{rows}\n0 0 9 ? 1\n")
    for name in ("known.mtz", "known.cif"):
        known = phasors_of_list(read_phases(tmp_path / name), data)
        assert np.allclose(known, fom * np.exp(1j * np.angle(F)), atol=1e-3)


def test_lists_that_do_not_fit_are_errors(sample, tmp_path):
    crystal, data, F = sample
    right = listed(data, F)
    for wrong, message in (
        (replace(right, cell=Cell(20.0, 21.0, 22.0)), "cell 20, 21, 22"),
        (replace(right, hkl=right.hkl + 40), "none of its"),
        (replace(right, symmetry=find_symmetry("P 1 21 1")), "phases in P 1 21 1, but the data are in P 21 21 21"),
    ):
        with pytest.raises(ReflectionError, match=message):
            solve(data, phases=wrong)
    with pytest.raises(ReflectionError, match="weight outside"):
        replace(right, weight=right.weight + 1)
    with pytest.raises(ReflectionError, match="no phases in this list"):
        PhaseList(np.zeros((0, 3), int), np.zeros(0), np.zeros(0))
    with pytest.raises(CifError, match="transform it to the cell of the data"):
        solve(data, fragment=replace(crystal, cell=Cell(20.0, 21.0, 22.0)))
    for text, message in (("data_x\nloop_\n_refln_index_h\n1\n", "no phases in this CIF"), ("1 2 3", "not an MTZ")):
        (tmp_path / "x.cif").write_text(text)
        with pytest.raises(ReflectionError, match=message):
            read_phases(tmp_path / "x.cif")


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


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("SFAC C H O", "SFAC C H", "kind 3, but SFAC lists 2"),
        ("0.15 0.22", "0.15 abc", "H1"),
        ("CELL 0.71073 7.6 9.97 13.7 90 99 90\n", "", "no CELL"),
        ("SFAC C H O", "SFAC C H Xx", "unknown element"),
        ("C1  1  0.1", "C1  1  nan", "finite"),
        ("O2A 3  0.3 0.6 0.1 21.0", "O2A 3  0.3 0.6 0.1 31.0", "free variable 3, but FVAR gives 2"),
    ],
)
def test_wrong_shelx_atoms_are_errors(tmp_path, old, new, message):
    path = tmp_path / "model.ins"
    path.write_text(INSTRUCTIONS.replace(old, new))
    with pytest.raises(RephaseError, match=message):
        read_crystal(path)


def test_a_shelx_file_without_atoms_is_an_error(tmp_path):
    (tmp_path / "model.ins").write_text(INSTRUCTIONS.split("C1 ")[0])
    with pytest.raises(CifError, match="no atoms before HKLF"):
        read_crystal(tmp_path / "model.ins")


def test_parts_fragments_and_free_variables_of_shelx_files(tmp_path):
    path = tmp_path / "model.res"
    path.write_text(
        INSTRUCTIONS.replace("O2A 3", "FRAG 17\nC9 1 1.1 2.2 3.3\nFEND\nPART 1 21\nO2A\t3").replace(
            "O2B", "PART 0\nO2B"
        )
    )
    sites = read_crystal(path).asymmetric_unit
    assert sites.labels == ("C1", "H1", "O1", "O2A", "O2B")
    assert sites.occupancy[3:] == pytest.approx([0.7, 0.3])
