"""The space group of data without one: named in spite of leaks into its absences, and the answer in it."""

import warnings
from dataclasses import replace
from types import SimpleNamespace

import gemmi
import numpy as np
import pytest
import torch

from rephase.crystal.cell import Cell
from rephase.crystal.reflections import Reflections
from rephase.crystal.reflections.simulation import Truth, simulate_reflections
from rephase.crystal.reflections.statistics import unique_hkl
from rephase.crystal.structure_factors import structure_factors
from rephase.crystal.structures import Atoms, Crystal
from rephase.crystal.symmetry import Symmetry, cell_of, find_symmetry, rows_of
from rephase.errors import ConfigError, ReflectionError, SymmetryError
from rephase.random_crystals.crystals import RandomCrystalOptions, random_crystals
from rephase.solvers.absences import evidence_of_absences, listed_reflections
from rephase.solvers.group_choice import Candidate, better, is_worth_its_parameters
from rephase.solvers.lattices import lattice_symmetry, without_group
from rephase.solvers.problem import PhaseProblem, working_problem
from rephase.solvers.settings import in_obverse_setting, in_setting, standard_setting
from rephase.solvers.solve import solve
from rephase.solvers.space_groups import GroupFit, fitting_groups

UNUSUAL = [
    "R 3:R",
    "R -3 c:R",
    "F d -3 m:1",
    "F d -3 m:2",
    "P 1 1 21/b",
    "A 1 2/a 1",
    "I 1 2/a 1",
    "B 1 1 2/b",
    "R 3 m:H",
]


def crystal_in(group: str, seed: int = 3) -> Crystal:
    options = RandomCrystalOptions(space_groups=(group,), n_atoms=(5, 7))
    return random_crystals(1, generator=torch.Generator().manual_seed(seed), options=options).crystal(0)


def ungrouped(crystal: Crystal, **spoiling: float) -> Reflections:
    data, _ = simulate_reflections(crystal, 1.0, **spoiling)
    return replace(data, symmetry=None, is_merged=False)


def rhombohedral_data() -> Reflections:
    """Reflections of R -3 to 0.9 Å with 2 % of noise, on the obverse setting: four atoms at general positions."""
    group, cell = find_symmetry("R -3:H"), Cell(10.5, 10.5, 14.0, 90.0, 90.0, 120.0)
    sites = np.array([[0.10, 0.25, 0.05], [0.22, 0.28, 0.10], [0.15, 0.05, 0.30], [0.30, 0.15, 0.42]])
    xyz = (np.einsum("oij,aj->aoi", group.rotations, sites) + group.translations).reshape(-1, 3) % 1.0

    def atoms(xyz: np.ndarray) -> Atoms:
        n, names = len(xyz), tuple(np.repeat(["S", "C", "O", "C"], len(xyz) // 4))
        return Atoms(names, names, (0,) * n, xyz, np.ones(n), np.full(n, 0.02))

    data, _ = simulate_reflections(Crystal("trigonal", cell, "R -3:H", atoms(sites), atoms(xyz)), 0.9, noise=0.02)
    return data


def cell_of_group(symmetry: Symmetry) -> Cell:
    """A cell of 400 Å^3 for each primitive lattice point, without more symmetry than the group has, if possible."""
    odd = np.array([[7.0, 0.9, 0.5], [0.9, 8.3, 0.7], [0.5, 0.7, 9.1]]) @ np.diag([1.0, 1.1, 1.2])
    metric = odd.T @ odd
    rotations = symmetry.rotations.astype(float)
    metric = np.einsum("oji,jk,okl->il", rotations, metric, rotations) / len(rotations)
    lattice = np.linalg.cholesky(metric).T
    n_points = len(symmetry.triplets) / len(symmetry.point_group)
    return cell_of(
        lattice * (400.0 * n_points * max(1, len(symmetry.point_group) / 8) / np.linalg.det(lattice)) ** (1 / 3)
    )


def solved_without_group(symmetry: Symmetry) -> tuple[Reflections, PhaseProblem, torch.Tensor]:
    """Reflections to 1.2 Å of six atoms, without a group, and F at a random origin."""
    rng, cell = np.random.default_rng(4), cell_of_group(symmetry)
    xyz = rng.random((6, 3))
    images = np.einsum("oij,nj->oni", symmetry.rotations, xyz) + symmetry.translations[:, None]

    def F_of(hkl):
        damping = np.exp(-2.0 / cell.d_spacing(hkl) ** 2 / 4)
        return damping * (np.exp(2j * np.pi * (images @ hkl.T)) * np.arange(6.0, 12.0)[:, None]).sum((0, 1))

    hkl = unique_hkl(cell, find_symmetry("P 1"), 1.2)
    intensity = abs(F_of(hkl)) ** 2
    listed = Reflections(hkl, intensity, 0.02 * intensity + 0.01 * intensity.mean(), cell)
    data = without_group(listed).reflections
    problem = working_problem(data, np.sqrt(data.intensity.clip(min=0)))
    old = problem.reduced.hkl_back(problem.hkl_numpy)
    F = F_of(old) * np.exp(2j * np.pi * old @ rng.random(3))
    return data, problem, torch.as_tensor(F, dtype=torch.complex64)


def in_any_origin_and_hand(symmetry: Symmetry) -> set[tuple]:
    """Numbers and axes that say the same about |F|: rotations and absences; origins and hands look alike."""
    hkl = np.stack(np.meshgrid(*[np.arange(-4, 5)] * 3, indexing="ij"), -1).reshape(-1, 3)
    return {(np.unique(symmetry.rotations.reshape(-1, 9), axis=0).tobytes(), symmetry.is_absent(hkl).tobytes())}


@pytest.mark.parametrize("group", ["P 1 21/n 1", "I 1 2/a 1", "P c a 21"])
def test_the_answer_is_in_the_group_and_setting_of_the_crystal_despite_a_leak(group):
    crystal = crystal_in(group)
    solution = solve(ungrouped(crystal, leak=0.1, noise=0.05), effort=0.1)
    assert solution.reflections.group.symbol == solution.space_groups[0].symmetry.symbol == group
    assert solution.reflections.cell == crystal.cell
    assert solution.verdict == "solved"
    assert not solution.reflections.group.is_absent(solution.hkl).any()
    truth = Truth(solution.hkl, structure_factors(crystal, solution.hkl, energy_kev=None))
    assert truth.score(solution.F, solution.reflections).map_cc[0] > 0.9


@pytest.mark.parametrize("leak", [0.02, 0.05, 0.1])
@pytest.mark.parametrize("group", ["C 1 2/c 1", "I 1 2/a 1"])
def test_a_background_in_the_absences_of_a_centring_does_not_hide_it(group, leak):
    assert lattice_symmetry(ungrouped(crystal_in(group), leak=leak)).symbol[0] == group[0]


def test_a_superstructure_is_no_background():
    data = ungrouped(crystal_in("P 1 21/c 1"))
    odd = data.hkl.sum(1) % 2 == 1
    weak = replace(data, intensity=np.where(odd, 0.1 * data.intensity, data.intensity))
    assert lattice_symmetry(weak).symbol == "P 1"


def test_absences_are_weighed_against_the_background_and_outliers():
    """Intensities as the evidence expects them: exponential, on a weak background where P 21/c forbids reflections."""
    cell, group, rng = Cell(9.0, 12.0, 14.0, 90.0, 100.0, 90.0), find_symmetry("P 1 21/c 1"), np.random.default_rng(0)
    hkl = unique_hkl(cell, find_symmetry("P 1 2/m 1"), 0.8)
    absent = np.flatnonzero(group.is_absent(hkl))
    intensity = rng.exponential(1.0, len(hkl))
    intensity[absent] *= 0.05
    intensity[rng.choice(absent, 3, replace=False)] = 3.0  # as by multiple diffraction
    listed = listed_reflections(Reflections(hkl, intensity, np.full(len(hkl), 0.01), cell, find_symmetry("P 1 2/m 1")))
    assert evidence_of_absences(listed, group) > 5
    assert evidence_of_absences(listed, find_symmetry("P 1 1 b")) < -5  # most of its absences are allowed in P 21/c
    assert evidence_of_absences(listed, find_symmetry("P 1 2/m 1")) == 0


@pytest.mark.parametrize("symbol", [entry.xhm() for entry in gemmi.spacegroup_table()][::25] + UNUSUAL)
def test_a_group_is_named_first_in_its_own_setting(symbol):
    """Phases of atoms at general positions, moved to another origin, name the group in any axes."""
    symmetry = find_symmetry(symbol)
    data, problem, F = solved_without_group(symmetry)
    first = fitting_groups(data, problem, F)[0].symmetry
    assert in_any_origin_and_hand(symmetry) & in_any_origin_and_hand(first)


def test_the_standard_setting_is_that_of_the_tables():
    for entry in gemmi.spacegroup_table():
        setting = standard_setting(find_symmetry(entry.xhm()))
        assert setting.symmetry.table_entry.number == entry.number
        assert setting.symmetry.table_entry.is_reference_setting()


@pytest.mark.parametrize("symbol", [entry.xhm() for entry in gemmi.spacegroup_table()])
def test_the_standard_setting_has_the_same_intensities_and_phases(symbol):
    """F of atoms moved to the new axes by hand equals the transformed F."""
    symmetry = find_symmetry(symbol)
    cell, xyz = cell_of_group(symmetry), np.array([[0.1, 0.2, 0.3], [0.35, 0.05, 0.45]])
    hkl = np.indices((9, 9, 9)).reshape(3, -1).T - 4
    hkl = hkl[hkl.any(1) & ~symmetry.is_absent(hkl)]

    def F_of(hkl, symmetry, xyz):
        images = np.einsum("oij,nj->oni", symmetry.rotations, xyz) + symmetry.translations[:, None]
        return np.exp(2j * np.pi * images @ hkl.T).mean((0, 1))

    F = F_of(hkl, symmetry, xyz)
    data = Reflections(hkl, abs(F) ** 2, np.ones(len(F)), cell, symmetry, phi=np.angle(F))
    setting = standard_setting(symmetry, cell)
    moved = in_setting(data, setting)
    new_xyz = np.linalg.solve(setting.basis, (xyz - setting.origin).T).T
    assert moved.group.table_entry.is_reference_setting()
    assert moved.group.misfit(moved.cell) is None
    assert np.linalg.det(setting.basis) > 0  # the hand is kept
    np.testing.assert_allclose(moved.d_hkl, data.d_hkl, rtol=1e-9)
    F_new = F_of(moved.hkl, moved.group, new_xyz)
    np.testing.assert_allclose(np.sqrt(moved.intensity) * np.exp(1j * moved.phi), F_new, atol=1e-9)


@pytest.mark.parametrize(
    ("symbol", "a", "c", "beta", "found"),
    [  # a + c, of length (100 + 144 + 240 cos 140°)^(1/2) = 7.76, at arccos((120 cos 140° + 144) / 93.2) from c
        ("P 1 21/c 1", 10, 12, 140.0, (7.76, 12.0, 124.02)),
        ("P 1 21/c 1", 10, 12, 80.0, (10.0, 12.0, 100.0)),
        ("P 1 21/c 1", 10, 12, 91.0, (10.0, 12.0, 91.0)),  # c - a would make the group P 21/n
        ("P 1 21/a 1", 21, 9, 125.0, (9.0, 18.2, 109.09)),
        ("I 1 2/a 1", 20, 12, 92.0, (22.96, 12.0, 119.49)),
    ],
)
def test_the_axes_of_a_standard_monoclinic_cell_are_the_least_oblique(symbol, a, c, beta, found):
    cell = Cell(a, 8.0, c, 90.0, beta, 90.0)
    new = cell_of(cell.orthogonalisation @ standard_setting(find_symmetry(symbol), cell).basis)
    assert (new.a, new.c, new.beta) == pytest.approx(found, abs=0.006)


def test_absences_of_a_centring_do_not_become_reflections_of_the_primitive_cell():
    """Of B 1 21 1 only h + l even remains in P 1 21 1."""
    cell = Cell(11.0, 6.0, 7.0, 90.0, 107.0, 90.0)
    hkl = unique_hkl(cell, find_symmetry("P 1"), 1.0)
    data = Reflections(hkl, np.ones(len(hkl)), np.ones(len(hkl)), cell)
    moved = in_setting(data, standard_setting(find_symmetry("B 1 21 1")))
    kept = hkl[hkl[:, [0, 2]].sum(1) % 2 == 0]
    np.testing.assert_allclose(np.sort(moved.d_hkl), np.sort(cell.d_spacing(kept)), rtol=1e-6)


def test_the_standard_setting_of_an_unknown_group_is_solved():
    crystal = crystal_in("P 1 21/n 1")
    solution = solve(ungrouped(crystal), effort=0.1, standard=True)
    data = solution.reflections
    assert data.group.symbol == "P 1 21/c 1"
    assert data.cell.volume == pytest.approx(crystal.cell.volume)
    setting = standard_setting(find_symmetry("P 1 21/n 1"), crystal.cell)
    old = np.rint(data.hkl @ np.linalg.inv(setting.basis)).astype(int)
    F = structure_factors(crystal, old, energy_kev=None) * np.exp(-2j * np.pi * old @ setting.origin)
    assert Truth(data.hkl, F).score(solution.F, data).map_cc[0] > 0.9


@pytest.mark.parametrize("stated", ["P 1 c 1", "P 1"])
def test_a_group_with_too_few_operations_is_reported(stated):
    data, _ = simulate_reflections(crystal_in("P 1 21/c 1"), 1.0)
    hkl, intensity = data.group.expand(data.hkl, data.intensity)  # each class as often as the stated group asks for it
    whole = replace(data, hkl=hkl, intensity=intensity, sigma=np.full(len(hkl), 0.01), is_merged=False)
    solution = solve(replace(whole, symmetry=find_symmetry(stated)), effort=0.1)
    assert solution.better_group.symmetry.symbol == "P 1 21/c 1"
    assert "P 1 21/c 1" in solution.summary()["next_step"]
    assert solution.verdict == "possible"


def test_a_wrong_group_without_absences_of_its_own_is_reported():
    data, _ = simulate_reflections(crystal_in("C 1 2/c 1"), 1.0)
    solution = solve(replace(data, symmetry=find_symmetry("C 1 2/m 1")), effort=0.1, model=False)
    assert solution.better_group.symmetry.symbol == "C 1 2/c 1"
    assert solution.verdict != "solved"


@pytest.mark.parametrize(("symbol", "same"), [("C 1 2/c 1", "C 1 2/n 1"), ("F d -3 m:2", "F d -3 m:1")])
def test_a_group_is_listed_at_one_origin(symbol, same):
    names = [fit.symmetry.symbol for fit in fitting_groups(*solved_without_group(find_symmetry(symbol)))]
    assert names[0] == symbol
    assert same not in names


@pytest.mark.parametrize(("misfit", "chosen"), [(0.15, "P 1 21 1"), (0.18, "P 1 21/m 1")])
def test_a_lower_misfit_must_outweigh_the_evidence(misfit, chosen):
    """By hand: 20 ln(0.216 / 0.150) = 7.3 is more than 25.6 - 20.0, and 20 ln(0.216 / 0.180) = 3.6 is less."""

    def candidate(symbol, evidence, misfit):
        fit = GroupFit(find_symmetry(symbol), 0.0, 0.0, 0.8, evidence)
        return Candidate(fit, SimpleNamespace(outcome=SimpleNamespace(misfit=misfit)), SimpleNamespace(model=None))

    best = better(candidate("P 1 21/m 1", 25.6, 0.216), candidate("P 1 21 1", 20.0, misfit))
    assert best.fit.symmetry.symbol == chosen


def test_a_third_of_a_sphere_with_the_absences_of_its_lattice_is_not_the_whole():
    """A list merged in R -3 holds as many rows as R 1 allows, if absences are listed."""
    rng, cell = np.random.default_rng(0), Cell(12.0, 12.0, 8.0, 90.0, 90.0, 120.0)
    hkl = find_symmetry("R -3:H").representative(unique_hkl(cell, find_symmetry("P 1"), 1.0))
    hkl = np.unique(hkl, axis=0)
    absent = find_symmetry("R -3:H").is_absent(hkl)
    mean = np.where(absent, 0.02, np.exp(-3.0 / cell.d_spacing(hkl) ** 2))
    data = Reflections(hkl, mean * rng.exponential(size=len(hkl)), 0.1 * mean, cell)
    merged = without_group(data).reflections
    assert merged.group.symbol == "R 1"
    assert len(merged) == len(unique_hkl(data.cell, merged.group, data.d_min))


def test_a_few_cubic_reflections_need_no_group():
    cell = Cell(9.1, 9.1, 9.1, 90.0, 90.0, 90.0)
    hkl = unique_hkl(cell, find_symmetry("F d -3 m:2"), 1.1)
    assert len(Reflections(hkl, np.ones(len(hkl)), np.ones(len(hkl)), cell)) < 30
    with pytest.raises(ReflectionError, match="at least 30"):
        Reflections(hkl, np.ones(len(hkl)), np.ones(len(hkl)), replace(cell, a=9.0, b=9.05))


def test_more_parameters_must_pay():
    """By hand: n = 1000, p = 100, index 2: ln(R1/R1') > 100 ln(1000) / 2000 = 0.345, a ratio of 1.41."""

    def solution(symbol, r1):
        figures = SimpleNamespace(n_parameters=100)
        reflections = type("Listed", (), {"group": find_symmetry(symbol), "__len__": lambda self: 1000})()
        return SimpleNamespace(model=SimpleNamespace(r1=r1, statistics=figures), reflections=reflections)

    higher = solution("P 1 21/m 1", 0.10)
    assert is_worth_its_parameters(solution("P 1 21 1", 0.070), higher)
    assert not is_worth_its_parameters(solution("P 1 21 1", 0.072), higher)


def test_the_right_group_is_not_doubted():
    data, _ = simulate_reflections(crystal_in("P 1 21 1"), 1.0)
    solution = solve(data, effort=0.1)
    assert solution.better_group is None
    assert solution.group_doubt == ""


def test_a_merohedral_twin_is_no_reason_to_doubt_the_group():
    """Two thirds of the intensity are those of R -3, one third is that of the domain turned about a + b."""
    law = np.array([[0, 1, 0], [1, 0, 0], [0, 0, -1]])
    data = rhombohedral_data()
    other = rows_of(data.group.representative(data.hkl @ law.T), data.hkl)
    both = 0.67 * data.intensity + 0.33 * data.intensity[other]
    solution = solve(replace(data, intensity=both), effort=0.1)
    assert solution.model.r1 > 0.15
    assert solution.better_group is None
    assert solution.twin.share.fraction == pytest.approx(0.33, abs=0.1)
    assert find_symmetry("R -3 m:H").has_in_laue_group(solution.twin.law)
    assert "TWIN" in solution.summary()["next_step"]
    assert "BASF 0." in solution.summary()["next_step"]


@pytest.mark.filterwarnings("ignore:.*absences of P 1 21/c 1 are strong")
def test_a_group_with_strong_absences_is_reported_with_the_better_one():
    data = replace(ungrouped(crystal_in("P 1 21/n 1"), leak=0.02), symmetry=find_symmetry("P 1 21/c 1"))
    solution = solve(data, effort=0.03, model=False)
    assert solution.verdict == "unsure"
    assert solution.better_group.symmetry.symbol == "P 1 21/n 1"
    assert "absences" in solution.group_doubt


def test_known_phases_and_the_standard_setting_exclude_each_other():
    crystal = crystal_in("P 1 21/n 1")
    data, _ = simulate_reflections(crystal, 1.0)
    with pytest.raises(ConfigError, match="standard"):
        solve(data, fragment=crystal, standard=True)


@pytest.mark.parametrize("has_absences", [False, True])
def test_the_reverse_setting_of_a_rhombohedral_lattice_is_turned(has_absences):
    obverse = rhombohedral_data()
    if has_absences:
        hkl = unique_hkl(obverse.cell, find_symmetry("P -3"), 0.9)
        absent = hkl[obverse.group.is_absent(hkl)]
        hkl = np.concatenate([obverse.hkl, absent])
        noise = obverse.sigma.min() * np.random.default_rng(2).normal(size=len(absent))
        intensity, sigma = np.concatenate([obverse.intensity, noise]), np.full(len(hkl), obverse.sigma.min())
        obverse = replace(obverse, hkl=hkl, intensity=intensity, sigma=sigma, is_merged=False)
    reverse = replace(obverse, hkl=obverse.hkl * (-1, -1, 1), is_merged=False)
    with pytest.warns(UserWarning, match="reverse setting") as said:
        solution = solve(reverse, effort=0.1)
    assert len(said) == 1
    assert solution.verdict == "solved"
    assert solution.reflections.group.symbol == "R -3:H"
    assert {*map(tuple, solution.hkl)} == {*map(tuple, solve(obverse, effort=0.1).hkl)}


def test_only_a_list_in_the_reverse_setting_is_turned():
    obverse = rhombohedral_data()
    mates = np.concatenate([obverse.hkl, obverse.hkl * (-1, -1, 1)])
    intensity, sigma = np.tile(obverse.intensity, 2), np.tile(obverse.sigma, 2)
    twin = replace(obverse, hkl=mates, intensity=intensity, sigma=sigma, is_merged=False)
    reverse = obverse.hkl * (-1, -1, 1)
    primitive = replace(obverse, hkl=reverse, symmetry=find_symmetry("P -3"))
    for data in (obverse, twin, primitive):
        assert in_obverse_setting(data) is data


def test_operations_outside_the_tables_have_no_standard_setting():
    odd = find_symmetry(["x,y,z", "x+1/4,y,z", "x+1/2,y,z", "x+3/4,y,z"])
    with pytest.raises(SymmetryError, match="standard"):
        standard_setting(odd)


@pytest.mark.parametrize(
    ("group", "d_min", "n"),
    [("P 1 21 1", 2.0, 29), ("P n a 21", 2.3, 22), ("P n a 21", 2.3, 16), ("P 21 21 21", 2.9, 14)],
)
def test_few_reflections_are_solved_without_a_comparison_of_groups(group, d_min, n):
    options = RandomCrystalOptions((group,), (5, 6))
    made = random_crystals(4, generator=torch.Generator().manual_seed(5), options=options)
    lists = [simulate_reflections(made.crystal(i), d_min)[0] for i in range(4 if d_min < 2.5 else 1)]
    data = next(each for each in lists if len(each) == n)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        solution = solve(data, solver="classical", effort=0.02, model=False)
    assert len(solution.reflections) == n
    assert solution.verdict != "solved"
