"""Crystals for the learned solver: amplitudes as the solvers see them, gaps, the stream, and the loss."""

import itertools

import numpy as np
import pytest
import torch

from rephase.config.phasing import PhasingData, PhasingSearch
from rephase.crystal.reflections.statistics import unique_hkl
from rephase.crystal.structure_factors import structure_factors
from rephase.crystal.symmetry import find_symmetry, reduced_cell
from rephase.errors import GridError
from rephase.labs.phasing.data import PhasingCrystals, batch_of, kinds_of, parts
from rephase.labs.phasing.losses import aligned, mixed_with_true, phasor_misfit
from rephase.labs.phasing.scores import attempts, map_cc
from rephase.learning.batches import bytes_of
from rephase.random_crystals.crystals import RandomCrystalOptions, random_crystals
from rephase.solvers.learned.network import RecurrentNetwork
from rephase.solvers.problem import PhaseProblem

EXACT = {"noise": 0.0, "missing": 0.0, "n_atoms": (5, 8), "d_min": (1.9, 2.1), "n_epoch": 40, "n_validation": 6}
GROUPS = ("P 1 21/c 1", "P 21 21 21", "C 1 2 1", "F d d 2", "P -1")


def batch(n=12, seed=0, groups=GROUPS, **options):
    config = PhasingData(**{**EXACT, **options})
    generator = torch.Generator().manual_seed(seed)
    crystals = random_crystals(n, generator=generator, options=RandomCrystalOptions(groups, config.n_atoms))
    return crystals, batch_of(crystals, config, generator)


@pytest.fixture(scope="module")
def exact():
    return batch(shapes=((40, 48, 60),))


def test_amplitudes_are_those_that_a_solver_sees(exact):
    crystals, made = exact
    assert len(made.F) == len(crystals)
    for i in range(len(crystals)):
        crystal, symmetry = crystals.crystal(i), crystals.symmetries[int(crystals.group[i])]
        hkl = unique_hkl(crystal.cell, symmetry, float(made.d_min[i]) * (1 - 1e-6))
        amplitude = np.abs(structure_factors(crystal, hkl, energy_kev=None))
        problem = PhaseProblem(hkl, amplitude, crystal.cell, symmetry, reach=1.0)
        n_h, n_k, n_l = made.shape[i].tolist()
        h, k, l = (problem.hkl[: problem.n_known] * (1 - 2 * (problem.hkl[: problem.n_known, 2:] < 0))).T
        cells = ((h % n_h) * n_k + k % n_k) * (n_l // 2 + 1) + l
        grid = torch.zeros(n_h * n_k * (n_l // 2 + 1)).scatter(0, made.cell[i], made.amplitude[i])
        torch.testing.assert_close(
            grid[cells], problem.amplitude, rtol=1e-3, atol=2e-3 * float(problem.amplitude.max())
        )
        n_half = int((made.cell[i] > 0).sum()) - int((l == 0).sum())  # both mates of the plane l = 0 are listed
        assert n_half == problem.n_known


def test_true_maps_obey_the_group_of_the_start(exact):
    _, made = exact
    for part in parts(made):
        data, operations = part.data, part.operations
        hkl = data.spheres.hkl.flatten(0, 2).float()
        F = (data.amplitude * part.true).flatten(1)
        for i, (rotations, translations, there) in enumerate(zip(*operations)):
            for rotation, translation in zip(rotations[there], translations[there]):
                kept = data.spheres.inside[i].flatten() & (hkl @ rotation)[:, 2].ge(0)
                h, k, l = (hkl[kept] @ rotation).round().long().T
                n_h, n_k, n_l = data.spheres.shape
                image = F[i, ((h % n_h) * n_k + k % n_k) * (n_l // 2 + 1) + l]
                turn = torch.polar(torch.ones(len(h)), 2 * torch.pi * hkl[kept] @ translation)  # of F*, F(h R) = ...
                torch.testing.assert_close(image, F[i, kept] * turn, rtol=0, atol=2e-2)


def test_equivalents_share_noise_and_gaps():
    _, made = batch(40, groups=("P 21 21 21",), missing=0.4, noise=0.2)
    for i in range(len(made.F)):
        n_l = int(made.shape[i, 2]) // 2 + 1
        n_h, n_k, _ = made.shape[i].tolist()
        cell = made.cell[i]
        h, k, l = (cell // (n_k * n_l), cell // n_l % n_k, cell % n_l)
        h, k = torch.minimum(h, n_h - h), torch.minimum(k, n_k - k)  # |h|, |k|, l are one class in m m m
        key = (h * 1000 + k) * 1000 + l
        for values in (made.is_measured[i].float(), made.amplitude[i]):
            smallest, largest = (
                torch.zeros(int(key.max()) + 1).scatter_reduce(0, key, values, how, include_self=False)
                for how in ("amin", "amax")
            )
            torch.testing.assert_close(smallest, largest, rtol=1e-3, atol=1e-2)
    there = made.cell > 0
    assert not made.is_measured[~there].any()
    shares = ((made.is_measured & there).sum(1) / there.sum(1)).tolist()
    assert 0.45 < min(shares) < 0.75 < 0.9 < max(shares) <= 1
    noise = (made.amplitude / made.F.abs() - 1)[made.is_measured & (made.F.abs() > 1)]
    assert 0.05 < float(noise.std()) < 0.2


def test_the_generator_gets_every_property_of_the_crystals():
    groups = ("P -1", "C 1 2/c 1")
    config = PhasingData(space_groups=groups, n_atoms=(6, 9), u_range=(0.02, 0.03), n_molecules=3, on_special=0.4)
    expected = RandomCrystalOptions(groups, (6, 9), (0.02, 0.03), n_molecules=3, on_special=0.4)
    assert kinds_of(config) == expected
    assert kinds_of(PhasingData()) == RandomCrystalOptions(n_atoms=(5, 30))


@pytest.fixture
def few(monkeypatch):
    """Make only as many crystals together as are asked for: a third of the time."""
    monkeypatch.setattr("rephase.labs.phasing.data._MADE_AT_ONCE", 32)


def test_batches_depend_only_on_their_number(few):
    data = PhasingCrystals(PhasingData(**EXACT))
    loader = data.loader("train", 16, seed=3)
    loader.sampler.set_epoch(0)
    first = list(loader)
    assert len(first) == 3
    again = data.loader("train", 16, seed=3)
    again.sampler.resume(0, 2)
    for kept, remade in zip(first[2:], again, strict=True):
        assert all(torch.equal(one, other) for one, other in zip(kept, remade))
    again.sampler.set_epoch(1)
    later = list(again)
    assert len(later) == 3
    lattices = [batch.lattice[0] for batch in [*first, *later, *data.loader("train", 16, seed=4)]]
    assert not any(torch.equal(one, other) for one, other in itertools.combinations(lattices, 2))


def test_the_validation_is_always_the_same(few):
    config = PhasingData(**EXACT)
    one, other = (next(iter(PhasingCrystals(config).loader("validation", 4))) for _ in range(2))
    assert len(one.F) == 4
    assert all(torch.equal(a, b) for a, b in zip(one, other))
    assert bytes_of(one) > 0


def test_crystals_that_fit_no_grid_are_left_out_or_refused():
    _, small = batch(shapes=((10, 12, 14), (12, 14, 16)))
    assert 0 < len(small.F) < 12
    with pytest.raises(GridError, match=r"none of 12 crystals fits, the smallest needs \(.*add larger grids"):
        batch(shapes=((4, 4, 4),))


def shifted(phasors, part, shift):
    """Coefficients F* of the structure moved by shifts [n, 3]."""
    angle = -2 * torch.pi * torch.einsum("ni,hkli->nhkl", shift, part.data.spheres.hkl.float())
    return phasors * torch.polar(torch.ones_like(angle), angle)


@pytest.mark.parametrize("group", [*GROUPS, "P 1", "P n a 21", "C 1 c 1", "P n m a", "P 41", "R 3"])
def test_the_loss_is_zero_for_the_truth_at_any_allowed_origin_and_hand(group):
    crystals, made = batch(2, groups=(group,), shapes=((40, 48, 64),))
    part, symmetry = next(parts(made)), crystals.symmetries[0]
    random, kinds = np.random.default_rng(0), []
    for i in range(len(part)):
        basis = reduced_cell(crystals.crystal(i).cell, symmetry).basis
        origins = symmetry.in_basis(basis).origins
        along = random.uniform(size=(len(origins.shifts), len(origins.polar))) @ origins.polar
        kinds.append([(False, shift) for shift in origins.shifts + along])
        if origins.other_hand is not None:
            kinds[-1] += [(True, shift + origins.other_hand) for shift in origins.shifts + along]
    for each in zip(*kinds):
        shift = torch.tensor(np.stack([shift for _, shift in each])).float()
        hand = part.true.conj() if each[0][0] else part.true
        moved = shifted(hand, part, shift)
        true, agreement = aligned(part, moved)
        assert float(phasor_misfit(moved, true, part.data).max()) < 0.01
        torch.testing.assert_close(agreement, torch.ones(len(part)), rtol=0, atol=0.01)
        torch.testing.assert_close(map_cc(part, moved), torch.ones(len(part)), rtol=0, atol=0.01)


@pytest.mark.parametrize("group", ["C 1 2 1", "C 1 c 1", "F d d 2", "P 1 21 1", "P n a 21", "P 41", "R 3"])
def test_an_origin_along_a_polar_axis_is_found_on_any_grid(group):
    crystals, made = batch(8, groups=(group,), n_atoms=(5, 12), d_min=(2.0, 2.0))
    for part in parts(made):
        random = torch.rand(len(part), 3, generator=torch.Generator().manual_seed(0))
        along = (part.operations.polar @ random[..., None])[..., 0]
        moved = shifted(part.true, part, along)
        torch.testing.assert_close(map_cc(part, moved), torch.ones(len(part)), rtol=0, atol=0.02)


def test_an_origin_that_the_group_does_not_have_counts_only_where_any_does(exact):
    part = next(parts(exact[1]))
    moved = shifted(part.true, part, torch.tensor([0.21, 0.17, 0.13]).expand(len(part), 3))
    true, _ = aligned(part, moved)
    assert float(phasor_misfit(moved, true, part.data).min()) > 0.1
    for hand in (moved, moved.conj()):
        true, agreement = aligned(part, hand, any_origin=True)
        assert float(phasor_misfit(hand, true, part.data).max()) < 0.01
        torch.testing.assert_close(agreement, torch.ones(len(part)), rtol=0, atol=0.01)
    torch.testing.assert_close(phasor_misfit(0 * part.true, part.true, part.data), torch.ones(len(part)))


def test_starts_near_the_truth_are_a_share(exact):
    part = next(parts(exact[1]))
    start = torch.ones_like(part.true)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        torch.testing.assert_close(mixed_with_true(start, part.true, 0.0), start)
        assert not torch.equal(mixed_with_true(start, part.true, 1.0), start)


def test_attempts_of_an_untrained_network_are_no_better_than_chance(exact):
    part = next(parts(exact[1]))
    network = RecurrentNetwork(width=4, n_layers=1).eval()
    found = attempts(network, part, PhasingSearch(n_starts=2, n_steps=1), torch.Generator().manual_seed(0))
    shares = {name: float(value) for name, value in found.shares().items()}
    assert shares["mean_map_cc"] == pytest.approx(shares["chance_map_cc"], abs=0.05)
    assert shares["chance_map_cc"] < 0.6
    assert shares["solved_any"] >= shares["solved_first"] >= shares["well_solved_first"]
    assert found.map_cc.shape == (2, len(part))


def test_the_groups_of_the_crystals_are_all_of_the_generator_by_default():
    made = PhasingCrystals(PhasingData(**EXACT)).draw(120, np.random.default_rng(0))
    orders = set(made.is_there.sum(1).tolist())
    assert orders == {1, 2, 4, 8}
    assert len(find_symmetry("P b c a").point_group) == 8
