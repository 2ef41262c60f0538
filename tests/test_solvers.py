"""Solvers: grids and groups, projections, every iteration at the truth, whole solutions and what they write."""

import json
from dataclasses import replace
from functools import partial

import gemmi
import numpy as np
import pytest
import torch

from rephase.crystal.cell import Cell
from rephase.crystal.density import density_of
from rephase.crystal.map_files import read_density
from rephase.crystal.peaks import find_peaks
from rephase.crystal.phase_scores import score_phases
from rephase.crystal.reflections import Reflections
from rephase.crystal.reflections.files import read_reflections
from rephase.crystal.reflections.simulation import simulate_reflections
from rephase.crystal.reflections.statistics import unique_hkl
from rephase.crystal.structure_factors import structure_factors
from rephase.crystal.structures import read_crystal
from rephase.crystal.symmetry import find_symmetry, rows_of
from rephase.errors import ConfigError, GridError, ReflectionError
from rephase.random_crystals.crystals import RandomCrystalOptions, random_crystals
from rephase.solvers import RECIPES, recipes_for
from rephase.solvers.claims import CALIBRATIONS, verdict
from rephase.solvers.cost import check_memory
from rephase.solvers.grids import shape_for
from rephase.solvers.group import GroupTables
from rephase.solvers.iterations import ITERATIONS
from rephase.solvers.lattices import without_group
from rephase.solvers.maxima import around_peaks
from rephase.solvers.problem import PhaseProblem
from rephase.solvers.projections import Modulus
from rephase.solvers.solve import solve
from rephase.solvers.strategy import Recipe
from rephase.solvers.trials import Outcome, Trials, joined

GROUPS = ["P 1", "P -1", "P 1 21 1", "P 1 21/c 1", "C 1 2/c 1", "P 21 21 21", "P n a 21"]


def molecular_crystal(group, seed=1):
    options = RandomCrystalOptions(space_groups=(group,), n_atoms=(8, 10))
    return random_crystals(1, generator=torch.Generator().manual_seed(seed), options=options).crystal(0)


def simulate(crystal, d_min):
    symmetry = find_symmetry(crystal.space_group)
    hkl = unique_hkl(crystal.cell, symmetry, d_min)
    F = structure_factors(crystal, hkl, energy_kev=None)
    sigma = np.full(len(F), 1e-3 * np.abs(F).max() ** 2)
    return Reflections(hkl, np.abs(F) ** 2, sigma, crystal.cell, symmetry, name=crystal.name, is_merged=True), F


@pytest.fixture(scope="module", params=GROUPS)
def case(request):
    """A crystal, its problem at 1.1 Å, and its true F as a list of the problem."""
    crystal = molecular_crystal(request.param)
    data, F = simulate(crystal, 1.1)
    problem = PhaseProblem(data.hkl, np.abs(F), crystal.cell, data.group, reach=1.2)
    true = structure_factors(crystal, problem.reduced.hkl_back(problem.hkl_numpy), energy_kev=None)
    return crystal, problem, torch.as_tensor(true)[None].to(torch.complex64)


def correlation(problem, F, true):
    """Best over the allowed origins and hands of the group."""
    n = problem.n_known
    symmetry, cell = problem.symmetry, problem.reduced.cell
    present = ~symmetry.is_absent(problem.hkl_numpy[:n])
    lists = F[:, :n][:, present].numpy(), true[0, :n][present].numpy()
    return score_phases(*lists, hkl=problem.hkl_numpy[:n][present], cell=cell, symmetry=symmetry).map_cc


def test_the_measured_amplitudes_come_first(case):
    _, problem, true = case
    assert torch.allclose(true[0, : problem.n_known].abs(), problem.amplitude, atol=1e-3 * problem.amplitude.max())
    d_hkl = problem.reduced.cell.d_spacing(problem.hkl_numpy)
    measured = problem.E > 0
    assert d_hkl[: problem.n_known][measured].min() >= 1.1 - 1e-6
    assert d_hkl[problem.n_known :].max() < 1.1
    assert (problem.E[measured] ** 2).mean().item() == pytest.approx(1, abs=0.1)


def test_lists_and_maps_round_trip(case):
    _, problem, true = case
    maps = problem.grid.to_map(true)
    assert torch.allclose(problem.grid.from_map(maps), true, atol=1e-4 * true.abs().max())
    assert maps.std(correction=0) == pytest.approx(
        float((2 * true.abs() ** 2).sum().sqrt() / problem.n_voxels), rel=1e-4
    )


def test_the_size_of_a_grid_is_known_before_it_is_made(case):
    _, problem, _ = case
    voxels = np.prod(shape_for(problem.reduced.cell, problem.d_min / 1.2))
    assert problem.n_voxels <= voxels <= 1.3 * problem.n_voxels


@pytest.mark.parametrize("symmetry", [None, find_symmetry("P 1 21/c 1")])
def test_a_grid_that_no_memory_holds_is_refused(symmetry):
    index = np.arange(1, 41)
    hkl = np.stack([20 * index, index, index], axis=1)
    data = Reflections(hkl, np.full(40, 9.0), np.ones(40), Cell(800, 800, 800), symmetry)
    with pytest.raises(GridError, match=r"= 5.\de\+09 voxels, about 4\d{3} GiB; .*cut the data with d_min= .* correct"):
        solve(data)


def test_a_cell_of_sixty_angstrom_fits(monkeypatch):
    index = np.arange(1, 41)
    hkl = np.stack([index, index, index + 35], axis=1)  # to 0.64 Å: 430,000 unique reflections
    data = Reflections(hkl, np.ones(40), np.ones(40), Cell(60, 60, 60), find_symmetry("P 21 21 21"))
    check = partial(check_memory, data, (Recipe(),), reach=1.1, device=torch.device("cpu"))
    monkeypatch.setattr("rephase.solvers.cost.total_memory", lambda device: 8 << 30)
    check()
    monkeypatch.setattr("rephase.solvers.cost.total_memory", lambda device: 1 << 30)
    with pytest.raises(GridError, match="there are 1 GiB"):
        check()


def test_the_group_leaves_the_truth_as_it_is(case):
    _, problem, true = case
    assert torch.allclose(problem.group.average(true), true, atol=1e-4 * true.abs().max())


def test_the_origin_of_the_group_is_found_again(case):
    _, problem, true = case
    shift = torch.tensor([[0.137, 0.421, 0.29]])
    turned = true * torch.exp(2j * torch.pi * (shift @ problem.hkl.T.float()))
    moved, agreement = problem.group.move_to_origin(turned, problem.n_known, problem.grid.shape)
    assert agreement.item() > 0.85  # the origin is found on a grid
    assert correlation(problem, problem.group.average(moved), true)[0] > 0.99


@pytest.mark.parametrize("signs", [(1, 1, 1), (-1, 1, 1), (1, -1, 1), (1, 1, -1)])
def test_the_origin_is_refined_from_halfway_between_points_of_the_grid(case, signs):
    _, problem, true = case
    step = 0.25 * np.array(signs) / problem.grid.shape  # the grid of origins is twice as fine
    turned = true * torch.exp(2j * torch.pi * torch.as_tensor(problem.hkl_numpy @ step, dtype=torch.float32))
    moved = problem.group.refine_origin(turned, problem.n_known)
    assert problem.group.agreement(moved, problem.n_known).min() > 0.99


def test_lists_on_the_sphere_of_the_data_are_zero_beyond_it(case):
    _, problem, true = case
    within = problem.within_data
    assert within.n_voxels < problem.n_voxels
    assert within.reduced.cell.d_spacing(within.hkl_numpy).min() >= 1.1 - 1e-5
    rows = rows_of(within.hkl_numpy, problem.hkl_numpy)
    listed = problem.from_within_data(true[:, rows])
    assert torch.equal(listed[:, rows], true[:, rows])
    beyond = problem.reduced.cell.d_spacing(problem.hkl_numpy) < 1.1 - 1e-5
    assert beyond.any()
    assert not listed[:, beyond].any()
    n = problem.n_known
    present = problem.E > 0
    assert torch.equal(listed[:, :n][:, present], true[:, :n][:, present])


def test_amplitudes_are_kept_and_the_rest_is_free(case):
    _, problem, _ = case
    generator = torch.Generator().manual_seed(0)
    maps = torch.randn((2, *problem.grid.shape), generator=generator)
    F, n = problem.grid.from_map(Modulus(problem, problem.amplitude, damping=0.5)(maps)), problem.n_known
    before = problem.grid.from_map(maps - maps.mean((1, 2, 3), keepdim=True))
    assert torch.allclose(F[:, :n].abs(), problem.amplitude.expand(2, -1), atol=1e-3 * problem.amplitude.max())
    assert torch.allclose(F[:, n:], 0.5 * before[:, n:], atol=1e-3 * before.abs().max())
    strong = problem.amplitude > 0.1 * problem.amplitude.mean()
    turned = (F[:, :n] * before[:, :n].conj()).angle()[:, strong].abs()
    assert turned.max() < 1e-2


def test_weak_reflections_are_turned_by_a_quarter(case):
    _, problem, _ = case
    maps = torch.randn((1, *problem.grid.shape), generator=torch.Generator().manual_seed(0))
    before = problem.grid.from_map(maps)
    after = problem.grid.from_map(Modulus(problem, problem.amplitude, weak_share=0.3)(maps))
    present = problem.E > 0
    weak = present & (problem.E < 0.9 * problem.E[present].quantile(0.3))
    listed = after[:, : problem.n_known][:, weak]
    assert torch.allclose(listed, 1j * before[:, : problem.n_known][:, weak], atol=1e-3 * before.abs().max())


def test_a_missing_reflection_is_bounded():
    crystal = molecular_crystal("P 1 21/c 1")
    data, F = simulate(crystal, 1.1)
    strongest = np.abs(F).argmax()
    problem = PhaseProblem(*(np.delete(x, strongest, axis=0) for x in (data.hkl, np.abs(F))), crystal.cell, data.group)
    bounded = problem.limit[torch.isfinite(problem.limit)]
    assert len(bounded) == data.group.multiplicity(data.hkl[[strongest]])[0] // 2
    maps = 10 * torch.randn((1, *problem.grid.shape), generator=torch.Generator().manual_seed(0))
    free = problem.grid.from_map(Modulus(problem, problem.amplitude)(maps))[:, problem.n_known :].abs()
    assert (free <= problem.limit * (1 + 1e-3)).all()


@pytest.mark.parametrize("name", ITERATIONS)
def test_a_map_that_obeys_both_constraints_stays(case, name):
    _, problem, true = case
    modulus, maps = Modulus(problem, problem.amplitude), problem.grid.to_map(true)
    after = ITERATIONS[name](maps, modulus, maps.min() - 1, 0.75)
    assert torch.allclose(after, maps, atol=1e-3 * maps.abs().max())


def test_the_highest_peaks_are_left():
    maps = torch.zeros(2, 9, 8, 10)
    for height, place in ((5.0, (0, 0, 0)), (4.0, (4, 4, 5)), (3.0, (4, 0, 5))):
        maps[0][place] = height
    maps[1, 2, 2, 2] = 1.0
    support = around_peaks(maps, 2, 0.5) == 0
    assert support.sum((1, 2, 3)).tolist() == [2 * 27, 27]
    assert support[0, [-1, 4, 4], [-1, 4, 0], [-1, 5, 5]].tolist() == [True, True, False]
    assert not (around_peaks(maps, 2, 4.5)[0] == 0)[4, 4, 5]


@pytest.mark.parametrize("name", ["raar", "charge_flipping", "low_density_elimination"])
def test_iterations_stay_near_the_truth(case, name):
    _, problem, true = case
    modulus, sigma = Modulus(problem, problem.amplitude, damping=0.9), problem.sigma(problem.amplitude)
    maps = problem.grid.to_map(true)
    for _ in range(20):
        maps = ITERATIONS[name](maps, modulus, 0.8 * sigma, 0.75)
    F = problem.grid.get(modulus.coefficients(maps))
    assert correlation(problem, F, true)[0] > 0.85


@pytest.mark.parametrize("group", GROUPS)
def test_a_crystal_is_solved_in_its_own_setting(group):
    crystal = molecular_crystal(group, seed=2)
    data, F = simulate(crystal, 0.9)
    solution = solve(data)
    scores = score_phases(solution.F, F, hkl=data.hkl, cell=data.cell, symmetry=data.group)
    assert scores.map_cc[0] > 0.9
    assert solution.verdict == "solved"


def test_data_as_they_are_measured_are_solved():
    crystal = molecular_crystal("P 1 21/c 1", seed=4)
    data, truth = simulate_reflections(
        crystal, 0.9, noise=0.03, background=0.05, missing=0.05, strongest_missing=3, n_each=2
    )
    solution = solve(data)
    assert (data.intensity < 0).mean() > 0.05
    assert 2 * len(solution.reflections) == len(data)
    assert 0.01 < solution.r_int < 0.2
    assert truth.score(solution.F, solution.reflections).map_cc[0] > 0.9


def test_a_measured_crystal_is_solved(cod_file):
    data, crystal = read_reflections(cod_file("2200000.hkl")), read_crystal(cod_file("2200000.cif"))
    solution = solve(data, d_min=1.0)
    F = structure_factors(crystal, solution.hkl, energy_kev=None)
    where = {"hkl": solution.hkl, "cell": data.cell, "symmetry": data.group}
    assert score_phases(solution.F, F, **where).map_cc[0] > 0.9
    assert solution.verdict == "solved"


@pytest.mark.parametrize("model", [True, False])
def test_nothing_is_claimed_with_the_form_factors_of_another_radiation(model):
    data, _ = simulate(molecular_crystal("P -1", seed=2), 0.9)
    data = replace(data, radiation="neutron")
    assert solve(data, model=model).verdict == "possible"


def test_another_setting_gives_the_same_answer():
    crystal = read_crystal("triclinic")
    data, F = simulate(crystal, 0.8)
    assert score_phases(solve(data).F, F, hkl=data.hkl, cell=data.cell, symmetry=data.group).map_cc[0] > 0.9


@pytest.mark.parametrize("group", ["P -1", "P 1 21/c 1", "C 1 2/c 1", "P 21 21 21", "P b c a"])
def test_an_unknown_space_group_is_named(group):
    crystal = molecular_crystal(group, seed=3)
    data, _ = simulate(crystal, 1.0)
    solution = solve(replace(data, symmetry=None, is_merged=False), effort=0.3)
    assert solution.reflections.group.symbol == group
    assert solution.space_groups[0].symmetry.symbol == group
    assert solution.space_groups[0].agreement > 0.6
    assert group in solution.summary()["space_groups_that_fit"]


def test_a_group_is_named_by_a_part_of_many_reflections(monkeypatch):
    monkeypatch.setattr("rephase.solvers.space_groups._ENOUGH", 1000)
    data, _ = simulate(molecular_crystal("P 1 21/c 1", seed=3), 1.0)
    solution = solve(replace(data, symmetry=None, is_merged=False), effort=0.1)
    assert 2 * len(without_group(replace(data, symmetry=None, is_merged=False)).reflections) > 1000
    assert solution.space_groups[0].symmetry.symbol == "P 1 21/c 1"


def test_a_group_that_the_cell_fits_only_nearly_leaves_the_rim_as_it_is():
    cell = Cell(9.0, 9.03, 12.0)
    hkl = unique_hkl(cell, find_symmetry("P 1"), 1.3)
    tables = GroupTables(hkl, find_symmetry("P 4"), torch.device("cpu"))
    F = torch.polar(torch.ones(1, len(hkl)), torch.arange(len(hkl))[None].float())
    turned = rows_of(find_symmetry("P 4").equivalents(hkl)[0], np.concatenate([hkl, -hkl]))
    outside = torch.as_tensor((turned < 0).any(0))
    assert 0 < outside.sum() < len(hkl) / 4
    assert tables.average(F).shape == F.shape
    assert (tables.agreement(F, len(hkl)) <= 1 + 1e-5).all()


def test_a_trial_that_stands_alone_has_no_figure_of_merit():
    data, _ = simulate(molecular_crystal("P 21 21 21"), 1.1)
    shuffled = (replace(data, intensity=np.random.default_rng(seed).permutation(data.intensity)) for seed in range(8))
    alone = next(
        found for found in (solve(noise, effort=1e-6, model=False) for noise in shuffled) if found.n_agree == 1
    )
    assert alone.fom.max() == alone.summary()["mean_fom"] == 0
    solved = solve(data, model=False)
    assert solved.n_agree > 1
    assert solved.fom.mean() > 0.5


@pytest.mark.parametrize(
    ("misfit", "rival", "n_agree", "expected"),
    [
        (0.20, 0.30, 1, "possible"),  # stands out, but nothing confirms it
        (0.20, 0.30, 2, "solved"),
        (0.20, 0.21, 2, "unsure"),
        (0.20, 0.21, 12, "solved"),
        (0.30, 0.31, 12, "possible"),
    ],
)
def test_verdicts_at_medium_resolution(misfit, rival, n_agree, expected):
    nothing = torch.zeros(1)
    outcome = Outcome(nothing, nothing, misfit=misfit, rival=rival, n_agree=n_agree, n_trials=100)
    assert verdict(1.5, outcome) == expected
    assert verdict(2.0, outcome) != "solved"


@pytest.mark.parametrize(("n_agree", "expected"), [(20, "unsure"), (21, "possible"), (24, "possible")])
def test_at_two_angstrom_nearly_all_trials_must_agree(n_agree, expected):
    nothing = torch.zeros(1)
    outcome = Outcome(nothing, nothing, misfit=0.3, rival=0.31, n_agree=n_agree, n_trials=100)
    assert verdict(2.0, outcome) == expected


@pytest.mark.parametrize(("probability", "expected"), [(0.96, "solved"), (0.94, "possible"), (0.49, "unsure")])
def test_the_probability_of_a_network_decides_at_any_resolution(probability, expected):
    nothing = torch.zeros(1)
    outcome = Outcome(nothing, nothing, misfit=0.4, rival=0.35, n_agree=2, n_trials=100, probability=probability)
    assert verdict(2.0, outcome) == expected


@pytest.mark.parametrize("calibration", CALIBRATIONS.values())
def test_a_larger_lead_more_agreement_and_a_smaller_misfit_are_more_probable(calibration):
    by_lead = [calibration.probability(lead, 24, 0.3) for lead in (0.0, 0.01, 0.05, 0.1, np.inf)]
    by_agreement = [calibration.probability(0.05, n_agree, 0.35) for n_agree in (1, 2, 6, 24)]
    by_misfit = [calibration.probability(0.05, 6, misfit) for misfit in (0.5, 0.4, 0.3)]
    for stated in (by_lead, by_agreement, by_misfit):
        assert stated == sorted(stated)
        assert len(set(stated)) == len(stated)
    assert 0 < calibration.probability(0.0, 1, 0.4) < 0.5 < 0.95 < by_lead[-1] < 1
    assert np.isnan([calibration.probability(np.nan, 5, 0.3), calibration.probability(0.1, 5, np.nan)]).all()


def test_trials_are_ranked_by_confidence_if_there_is_one():
    F, misfit = torch.zeros(3, 1), torch.tensor([0.3, 0.2, 0.4])
    classical, judged = Trials(F, misfit), Trials(F, misfit, torch.tensor([0.5, 0.6, 0.7]))
    assert classical.merit.argmax() == 1
    assert joined([judged, judged.take(torch.tensor([1]))]).merit.tolist() == pytest.approx([0.5, 0.6, 0.7, 0.6])
    assert joined([classical, classical]).confidence is None
    with pytest.raises(ConfigError, match="2 batches, 1 of them with the confidence .* expected all or none"):
        joined([judged, classical])


def test_scores_know_neither_origin_nor_hand():
    data, F = simulate(molecular_crystal("P 1 21 1"), 1.2)
    where = {"hkl": data.hkl, "cell": data.cell, "symmetry": data.group}
    shift = np.array([0.5, 0.123, 0.0])
    moved = F * np.exp(2j * np.pi * data.hkl @ shift)
    scores = score_phases(np.stack([F, moved, moved.conj()]), F, **where)
    assert scores.map_cc == pytest.approx([1, 1, 1], abs=1e-6)
    assert scores.mean_phase_error_weighted == pytest.approx([0, 0, 0], abs=0.05)
    assert (scores.shells["map_cc"] > 0.999).all()
    wrong = F * np.exp(2j * np.pi * data.hkl @ np.array([0.25, 0.0, 0.0]))  # no origin of the group lies there
    assert score_phases(wrong, F, **where).map_cc[0] < 0.9


def test_random_phases_score_as_chance():
    data, F = simulate(molecular_crystal("P 1 21/c 1"), 1.2)
    phi = np.random.default_rng(0).uniform(-np.pi, np.pi, (20, len(F)))
    scores = score_phases(np.abs(F) * np.exp(1j * phi), F, hkl=data.hkl, cell=data.cell, symmetry=data.group)
    assert 0.0 < scores.map_cc.mean() < 0.3
    assert 70 < scores.mean_phase_error_weighted.mean() < 90


def test_noise_is_not_claimed_as_solved():
    data, F = simulate(molecular_crystal("P 1 21 1"), 1.1)
    shuffled = np.random.default_rng(0).permutation(data.intensity)
    noise = Reflections(data.hkl, shuffled, data.sigma, data.cell, data.symmetry)
    assert solve(noise, effort=0.05).verdict != "solved"


def test_the_same_seed_gives_the_same_phases():
    data, _ = simulate(molecular_crystal("P 1 21/c 1"), 1.0)
    assert np.array_equal(solve(data, seed=3).phi, solve(data, seed=3).phi)


@pytest.fixture(scope="module")
def solution():
    return solve(simulate(molecular_crystal("P 1 21/c 1"), 0.9)[0])


def test_what_is_written_can_be_read(solution, tmp_path):
    folder = replace(solution, model=None).write(tmp_path / "out")
    mtz = gemmi.read_mtz_file(str(folder / "solution.mtz"))
    assert [column.label for column in mtz.columns] == ["H", "K", "L", "F", "PHI", "FOM"]
    with pytest.warns(UserWarning, match="no σ"):
        back = read_reflections(folder / "solution.mtz")
    assert back.group.symbol == solution.reflections.group.symbol
    assert len(back) == len(solution.hkl)
    assert read_density(folder / "density.ccp4").density.shape == solution.density.shape
    assert json.loads((folder / "solution.json").read_text())["verdict"] == "solved"
    assert "HKLF 4" in (folder / "solution.res").read_text()
    assert len(read_crystal(folder / "solution.cif").asymmetric_unit) == len(solution.peaks().elements)
    again = read_reflections(folder / "solution.hkl")
    assert np.allclose(again.merge().reflections.intensity, solution.reflections.intensity, rtol=1e-3, atol=0.02)


def test_peaks_lie_on_the_atoms(solution):
    crystal = molecular_crystal("P 1 21/c 1")
    heavy = [i for i, element in enumerate(crystal.asymmetric_unit.elements) if element != "H"]
    density = solution.density
    peaks = solution.peaks()
    assert (peaks.height[: len(heavy)] > 4 * density.std()).all()
    assert len(peaks.height) >= len(heavy)


def test_of_equal_neighbours_the_first_is_the_peak():
    density = np.zeros((6, 6, 6))
    density[2, 2, 2:4] = 5.0
    density[5, 0, 0] = 4.0
    peaks = find_peaks(density, Cell(12, 12, 12), find_symmetry("P 1"), 10)
    assert len(peaks.height) == 2
    assert peaks.xyz_frac[0] * 6 == pytest.approx([2, 2, 2.5])
    assert peaks.xyz_frac[1] * 6 == pytest.approx([5, 0, 0])


def test_the_density_of_one_reflection_is_a_cosine():
    hkl, cell = np.array([[1, 0, 2]]), Cell(4, 5, 6)
    density = density_of(hkl, np.array([3 * np.exp(0.5j)]), cell, find_symmetry("P 1"))
    x, _, z = np.indices(density.shape) / np.array(density.shape)[:, None, None, None]
    assert density == pytest.approx(2 * 3 / 120 * np.cos(2 * np.pi * (x + 2 * z) - 0.5))


def test_peaks_at_a_face_of_the_cell_are_one():
    cell, shape = Cell(6, 7, 8), (24, 28, 32)
    x, y, z = (np.minimum(u, 1 - u) for u in np.meshgrid(*(np.arange(n) / n for n in shape), indexing="ij"))
    density = np.exp(-((6 * x) ** 2 + (7 * y) ** 2 + (8 * z) ** 2))
    density[-1, 0, 0] = density[0, 0, 0] * 0.999  # a ripple on the other side of the face
    density[-1, 1, 0] = 0.0
    peaks = find_peaks(density, cell, find_symmetry("P 1"), 10)
    distance = np.linalg.norm((peaks.xyz_frac - np.rint(peaks.xyz_frac)) * (6, 7, 8), axis=1)
    assert (distance < 0.5).sum() == 1


def test_unknown_solver_and_effort_are_errors():
    data, _ = simulate(molecular_crystal("P 1 21/c 1"), 1.2)
    with pytest.raises(ConfigError, match="raar"):
        solve(data, solver="rar")
    with pytest.raises(ConfigError, match="effort"):
        solve(data, effort=0)
    for d_min in (50.0, 0.0, -1.0, float("nan")):
        with pytest.raises(ReflectionError, match="d_min"):
            solve(data, d_min=d_min)


def test_every_recipe_names_an_iteration():
    assert {recipe.iteration for recipes in RECIPES.values() for recipe in recipes} == set(ITERATIONS)


def test_direct_methods_are_tried_where_the_group_has_no_centre_and_the_data_are_atomic():
    def has_direct_methods(symbol, d_min, solver="classical"):
        return any(recipe.n_direct for recipe in recipes_for(solver, d_min, find_symmetry(symbol)))

    assert has_direct_methods("P 21 21 21", 1.0)
    assert has_direct_methods("P 1", 1.3)
    assert not has_direct_methods("P -1", 1.0)
    assert not has_direct_methods("P 21 21 21", 1.5)
    assert not has_direct_methods("P 21 21 21", 1.0, "raar")
    assert has_direct_methods("P -1", 1.5, "direct_methods")


def test_strong_absences_are_reported_and_nothing_is_claimed():
    crystal = molecular_crystal("P 1 21/c 1")
    data, _ = simulate(crystal, 1.0)
    everything, intensity = data.group.expand(data.hkl, data.intensity)
    wrong = Reflections(everything, intensity, 0.01 * intensity + 1, crystal.cell, find_symmetry("P 1 21/a 1"))
    with pytest.warns(UserWarning, match="or its setting is wrong"):
        solution = solve(wrong, effort=0.02, model=False)
    assert solution.verdict == "unsure"
    assert solution.n_absent > 5
    assert "solve again with --space-group 'P 1 21/c 1'" in solution.summary()["next_step"]


def test_weak_absences_are_no_trouble():
    crystal = molecular_crystal("P 1 21/c 1")
    data, _ = simulate(crystal, 1.0)
    absent = np.array([[0, k, 0] for k in (1, 3, 5, 7)] + [[h, 0, 1] for h in range(1, 6)])
    hkl, noise = np.concatenate([data.hkl, absent]), np.full(len(absent), 0.01 * data.intensity.mean())
    whole = Reflections(
        hkl, np.concatenate([data.intensity, noise]), np.full(len(hkl), noise[0]), crystal.cell, data.group
    )
    merged = whole.merge()
    assert merged.n_absent == 9
    assert not merged.absences_are_strong


def test_a_list_that_contradicts_a_laue_group_is_not_expanded_under_it():
    crystal = molecular_crystal("P 1 21 1")
    data, F = simulate(crystal, 1.1)
    a, b, c = crystal.cell.parameters[:3]
    orthogonal = Cell(a, b, c, 90.0, 90.0, 90.0)
    rng = np.random.default_rng(0)
    hkl = unique_hkl(orthogonal, find_symmetry("P 1 2/m 1"), 1.1)
    kept = rng.random(len(hkl)) < 0.65
    listed = Reflections(hkl[kept], rng.exponential(100, kept.sum()), np.ones(kept.sum()), orthogonal, None)
    merged = without_group(listed)
    assert merged.n_contradictory == 0
    assert len(merged.reflections) == pytest.approx(kept.sum(), rel=0.05)
