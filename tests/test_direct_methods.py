"""Direct methods in dual space: relations of phases, atoms of maps, and the crystals that they solve."""

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from rephase.crystal.cell import Cell
from rephase.crystal.phases import unit_phasor
from rephase.crystal.reflections.phase_lists import PhaseList
from rephase.crystal.reflections.simulation import simulate_reflections
from rephase.crystal.reflections.statistics import absolute_amplitude
from rephase.crystal.symmetry import find_symmetry
from rephase.devices import WORK
from rephase.errors import ConfigError
from rephase.random_crystals.crystals import RandomCrystalOptions, random_crystals
from rephase.solvers import RECIPES, recipes_for
from rephase.solvers.direct_methods.atoms import PointAtoms, asymmetric_unit, find_atoms
from rephase.solvers.direct_methods.relations import Classes, Triplets
from rephase.solvers.grids import HalfGrid
from rephase.solvers.problem import working_problem
from rephase.solvers.solve import solve
from rephase.solvers.strategy import direct_starts, pursue, suited
from rephase.solvers.symmetric_grids import symmetric_shape
from rephase.solvers.trials import aligned_phasors

CPU, aten = torch.device("cpu"), torch.ops.aten
GROUPS = ["P 1", "C 1 2 1", "P 21 21 21", "P n a 21", "P -1", "P 41", "R 3"]


def crystal_of(symbol, n_atoms=12):
    """A random crystal of a space group."""
    options = RandomCrystalOptions(space_groups=(symbol,), n_atoms=(n_atoms, n_atoms), elements=("C", "N", "O"))
    made = random_crystals(1, generator=torch.Generator().manual_seed(3), options=options, dtype=torch.float64)
    return made.crystal(0)


def problem_of(symbol, n_atoms=12, d_min=1.0):
    """A phase problem, and the true phasors [n_known] of its list."""
    data, truth = simulate_reflections(crystal_of(symbol, n_atoms), d_min)
    merged = data.merge().reflections
    problem = working_problem(merged, absolute_amplitude(merged))
    hkl, F = merged.group.expand(truth.hkl, truth.F)
    listed = problem.reduced.hkl(hkl).tolist()
    value = dict(zip(map(tuple, listed), F))
    true = [value.get(tuple(h), 0) for h in problem.hkl_numpy[: problem.n_known].tolist()]
    return problem, unit_phasor(torch.as_tensor(np.array(true), dtype=torch.complex64))


@pytest.fixture(scope="module", params=GROUPS)
def case(request):
    return problem_of(request.param)


@pytest.fixture(scope="module", params=["P 1", "P 21 21 21", "C 1 2 1"])
def large(request):
    return problem_of(request.param, n_atoms=30)


def tables(problem):
    hkl = problem.hkl_numpy[: problem.n_known]
    return hkl, Classes(hkl, problem.symmetry, CPU)


def test_equivalents_have_the_phases_of_the_group(case):
    problem, true = case
    _, classes = tables(problem)
    present = true != 0
    of_classes = true[classes.first]
    assert torch.allclose(classes.spread(of_classes)[present], true[present], atol=1e-4)
    assert torch.allclose(classes.allowed(of_classes), of_classes, atol=1e-4)
    random = torch.polar(torch.ones(len(of_classes)), torch.arange(len(of_classes)).float())
    allowed = classes.allowed(random)
    assert torch.allclose(classes.allowed(allowed), allowed, atol=1e-5)


def test_true_phases_nearly_satisfy_the_tangent_formula(case):
    problem, true = case
    hkl, classes = tables(problem)
    E = problem.E[torch.as_tensor(classes.first)]
    strong = np.sort(E.argsort(descending=True)[:80].numpy())
    triplets = Triplets(hkl, problem.E, classes, strong, 2000)
    found = triplets.tangent(true[classes.first][None])[0]
    agreement = (found * true[classes.first].conj()).real[strong]
    assert 500 < len(triplets) <= 2000
    assert agreement.mean() > 0.85
    others = np.setdiff1d(np.arange(len(E)), strong)
    assert not found[others].any()


def test_relations_join_three_reflections_whose_indices_add_up_to_nothing(case):
    problem, _ = case
    hkl, classes = tables(problem)
    triplets = Triplets(hkl, problem.E, classes, np.arange(40), 300)
    both = np.concatenate([hkl, -hkl])
    target = hkl[classes.first[triplets._target.numpy()]]
    assert (target == both[triplets._k] + both[triplets._rest]).all()


@pytest.mark.parametrize("symbol", GROUPS)
def test_the_asymmetric_unit_has_one_point_of_each_general_set(symbol):
    symmetry = find_symmetry(symbol)
    cell = Cell(9, 9, 12, 90, 90, 120) if symbol == "R 3" else Cell(9, 9, 12, 90, 90, 90)
    shape = symmetric_shape([18, 18, 20], symmetry)
    unit = asymmetric_unit(shape, symmetry, cell)
    covered = np.zeros(shape, int)
    for rotation, translation in zip(symmetry.rotations, symmetry.translations):
        points = (np.argwhere(unit) / shape) @ rotation.T + translation
        steps = np.round(points * shape).astype(int)
        assert np.allclose(points * shape, steps)
        np.add.at(covered, tuple((steps % shape).T), 1)
    assert covered.max() == 1
    assert covered.mean() > (0.8 if symbol in ("C 1 2 1", "R 3", "P -1") else 0.999)


@pytest.mark.parametrize("symbol", GROUPS)
def test_atoms_are_found_in_the_map_of_their_structure_factors(symbol):
    symmetry, cell = find_symmetry(symbol), Cell(10, 10, 13, 90, 90, 120 if symbol == "R 3" else 90)
    atoms = torch.tensor([[[0.12, 0.21, 0.13], [0.33, 0.09, 0.31], [0.26, 0.37, 0.07]]])
    weight = torch.tensor([[3.0, 2.6, 2.2]])
    h, k, l = np.indices((17, 17, 21)).reshape(3, -1)
    hkl = np.stack([h - 8, k - 8, l - 10], axis=1)
    hkl = hkl[(cell.d_spacing(np.where(hkl.any(1)[:, None], hkl, 1)) > 1.1) & hkl.any(1)]
    hkl = hkl[(hkl[:, 2] > 0) | ((hkl[:, 2] == 0) & ((hkl[:, 1] > 0) | ((hkl[:, 1] == 0) & (hkl[:, 0] > 0))))]
    F = PointAtoms(hkl, symmetry, CPU)(atoms, weight)
    images = (atoms[0].numpy() @ symmetry.rotations.transpose(0, 2, 1) + symmetry.translations[:, None]).reshape(-1, 3)
    whole = np.tile(weight[0].numpy(), len(symmetry.rotations)) @ np.exp(2j * np.pi * images @ hkl.T)
    n_lattice = len(symmetry.rotations) // len(symmetry.point_group)
    present = ~symmetry.is_absent(hkl)
    assert np.allclose(n_lattice * F[0].numpy()[present], whole[present], atol=1e-3)
    shape = symmetric_shape([20, 20, 26], symmetry)
    maps = HalfGrid(torch.as_tensor(hkl), shape).to_map(torch.as_tensor(whole, dtype=torch.complex64)[None])
    xyz, height = find_atoms(maps, torch.as_tensor(asymmetric_unit(shape, symmetry, cell)), 3)
    for place, image in enumerate(xyz[0].numpy()):
        apart = image - images
        apart = np.linalg.norm((apart - np.round(apart)) @ cell.orthogonalisation.T, axis=1)
        assert apart.min() < 0.1
        assert apart.argmin() % 3 == place  # by height
    assert (height[0].diff() <= 0).all()


def test_true_phases_stay():
    problem, true = problem_of("P 21 21 21", n_atoms=30)
    F = problem.direct_methods.refined(true[None], 20, torch.Generator().manual_seed(0))
    weight = problem.amplitude**2
    agreement = (unit_phasor(F[0]) * true.conj()).real @ weight / weight.sum()
    assert agreement > 0.6  # a third of the atoms is not looked for


def test_atoms_of_true_phases_explain_the_amplitudes(large):
    problem, true = large
    direct, generator = problem.direct_methods, torch.Generator().manual_seed(0)
    random = torch.polar(torch.ones(1, len(true)), 6.28 * torch.rand(1, len(true), generator=generator))
    found, wrong = (direct.refined(start, 2, generator) for start in (true[None], random))
    assert direct.correlation(found) > direct.correlation(wrong) + 0.2
    assert direct.correlation(problem.E[None].to(torch.complex64)) == pytest.approx(1, abs=1e-4)


def test_a_search_from_the_best_of_many_starts_finds_the_crystal(large):
    problem, true = large
    trials = RECIPES["direct_methods"][0].trials(problem, 2, torch.Generator().manual_seed(1))
    padded = torch.cat([true, true.new_zeros(len(problem.hkl) - problem.n_known)])
    aligned = aligned_phasors(problem, torch.cat([padded[None], trials.F]), 0)
    weight = problem.amplitude**2
    assert ((aligned[1:] * aligned[0].conj()).real @ weight / weight.sum()).max() > 0.9


def test_a_start_without_atoms_stays(monkeypatch):
    problem, _ = problem_of("P 21 21 21")

    def no_peaks(maps, unit, n):
        return torch.zeros(len(maps), n, 3), torch.zeros(len(maps), n)

    monkeypatch.setattr("rephase.solvers.direct_methods.dual_space.find_atoms", no_peaks)
    recipe = RECIPES["direct_methods"][0]._replace(n_starts=1)
    phasors, _ = direct_starts(problem, 3, recipe, torch.Generator().manual_seed(0))
    torch.testing.assert_close(phasors.abs(), torch.ones_like(phasors.abs()))


def test_direct_methods_are_left_out_where_they_cannot_be_used():
    searches = recipes_for("classical", 1.0, find_symmetry("P 21 21 21"))
    others = tuple(each for each in searches if not each.n_direct)
    assert suited(searches, 300, is_free=True) == searches != others
    assert suited(searches, 301, is_free=True) == suited(searches, 20, is_free=False) == others
    alone = suited(RECIPES["direct_methods"], 301, is_free=True)
    assert [each.n_direct for each in alone] == [0, 0]


def test_too_many_atoms_for_direct_methods_alone_are_said(monkeypatch):
    data, truth = simulate_reflections(crystal_of("P 21 21 21"), 1.0)
    monkeypatch.setattr("rephase.solvers.strategy.MOST_DIRECT", 3)
    with pytest.warns(UserWarning, match="too many for direct methods: trials start from random phases.*classical"):
        solve(data, solver="direct_methods", effort=1e-3, model=False)
    phases = PhaseList(truth.hkl, np.angle(truth.F), np.ones(len(truth.F)))
    with pytest.raises(ConfigError, match="'direct_methods' starts from random phases only.*--solver classical"):
        solve(data, solver="direct_methods", phases=phases)


def test_known_phases_and_many_atoms_cost_no_direct_methods(monkeypatch):
    data, truth = simulate_reflections(crystal_of("P 21 21 21"), 1.0)
    seen = []

    def recorded(problem, searches, *args, **options):
        seen.append((problem.known is None, any(each.n_direct for each in searches)))
        return pursue(problem, searches, *args, **options)

    monkeypatch.setattr("rephase.solvers.solve.pursue", recorded)
    phases = PhaseList(truth.hkl, np.angle(truth.F), np.ones(len(truth.F)))
    solve(data, phases=phases, effort=0.05, model=False)
    assert seen[0] == (False, False)
    solve(data, effort=0.05, model=False)
    assert seen[-1] == (True, True)
    monkeypatch.setattr("rephase.solvers.strategy.MOST_DIRECT", 3)
    solve(data, effort=0.05, model=False)
    assert seen[-1] == (True, False)


class NoIntegerProducts(TorchDispatchMode):
    """Raises where integers are multiplied as matrices, which no GPU can."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        is_product = func.overloadpacket in (aten.mv, aten.mm, aten.addmm, aten.addmv, aten.bmm, aten.dot)
        assert not (is_product and any(not (a.is_floating_point() or a.is_complex()) for a in args))
        return func(*args, **(kwargs or {}))


def test_trials_multiply_no_matrices_of_integers(large):
    problem, _ = large
    recipe = RECIPES["direct_methods"][0].shortened(0.05)
    with NoIntegerProducts():
        recipe.trials(problem, 2, torch.Generator().manual_seed(1))
        with pytest.raises(AssertionError):
            torch.ones(2, 2, dtype=torch.int64) @ torch.ones(2, dtype=torch.int64)


def test_starts_of_many_atoms_are_refined_in_smaller_parts(large, monkeypatch):
    problem, _ = large
    n_waves = problem.direct_methods.n_atoms * len(problem.symmetry.point_group) * len(problem.hkl_numpy)
    assert problem.direct_methods.n_at_once > 1
    monkeypatch.setitem(WORK, "waves of atoms", WORK["waves of atoms"]._replace(cpu=n_waves // 100))
    assert problem.direct_methods.n_at_once == 1
    recipe = RECIPES["direct_methods"][0].shortened(0.05)
    phasors, is_known = direct_starts(problem, 2, recipe, torch.Generator().manual_seed(0))
    assert phasors.shape == (2, problem.n_known)
    assert not is_known.any()
