"""Crystals for the learned solver: amplitudes as the solvers see them, gaps, the stream, the loss, and a film."""

import itertools
import math
import os

import numpy as np
import pytest
import torch

from rephase.config.phasing import PhasingData, PhasingSearch
from rephase.crystal.reflections.statistics import unique_hkl
from rephase.crystal.structure_factors import structure_factors
from rephase.crystal.symmetry import find_symmetry
from rephase.errors import ConfigError, GridError
from rephase.labs.phasing.data import PhasingCrystals, batch_of, kinds_of, parts
from rephase.labs.phasing.film import film
from rephase.labs.phasing.losses import aligned, mixed_with_true, phasor_misfit
from rephase.labs.phasing.scores import attempts, map_cc
from rephase.learning.batches import bytes_of
from rephase.random_crystals.crystals import RandomCrystalOptions, random_crystals
from rephase.solvers.learned.network import RecurrentNetwork, State
from rephase.solvers.learned.starts import random_starts
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
        grid = torch.zeros(n_h * n_k * (n_l // 2 + 1)).scatter(0, made.place[i], made.amplitude[i])
        torch.testing.assert_close(
            grid[cells], problem.amplitude, rtol=1e-3, atol=2e-3 * float(problem.amplitude.max())
        )
        n_half = int((made.place[i] > 0).sum()) - int((l == 0).sum())  # both mates of the plane l = 0 are listed
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
        place = made.place[i]
        h, k, l = (place // (n_k * n_l), place // n_l % n_k, place % n_l)
        h, k = torch.minimum(h, n_h - h), torch.minimum(k, n_k - k)  # |h|, |k|, l are one class in m m m
        key = (h * 1000 + k) * 1000 + l
        for values in (made.is_measured[i].float(), made.amplitude[i]):
            smallest, largest = (
                torch.zeros(int(key.max()) + 1).scatter_reduce(0, key, values, how, include_self=False)
                for how in ("amin", "amax")
            )
            torch.testing.assert_close(smallest, largest, rtol=1e-3, atol=1e-2)
    there = made.place > 0
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


def test_several_processes_do_not_train_on_the_same_crystals():
    data = PhasingCrystals(PhasingData(**EXACT))
    with pytest.raises(ConfigError, match="2 processes: expected 1 .* leave --devices"):
        data.loader("train", 4, rank=1, n_ranks=2)
    assert len(data.loader("validation", 4, rank=1, n_ranks=2)) == 2


@pytest.mark.filterwarnings("ignore:This DataLoader will create 3 worker")
def test_workers_make_each_block_of_batches_once(monkeypatch, tmp_path):
    data = PhasingCrystals(PhasingData(**EXACT | {"n_epoch": 40}))
    crystals = data.draw(16, np.random.default_rng(0))
    draw_of_one = crystals.take(torch.zeros(12, dtype=torch.int64))

    def noted(n, rng):
        assert n == 12
        (tmp_path / f"{os.getpid()} {rng.integers(1 << 62)}").touch(exist_ok=False)
        return draw_of_one

    monkeypatch.setattr(data, "draw", noted)
    monkeypatch.setattr("rephase.labs.phasing.data._MADE_AT_ONCE", 12)
    monkeypatch.setattr("rephase.learning.batches.loader_options", lambda device: {"num_workers": 3})
    sizes = [len(batch.F) for batch in data.loader("train", 4, seed=3)]
    assert sizes == [4] * 10
    names = [path.name.split() for path in tmp_path.iterdir()]
    assert len(names) == len({block for _, block in names}) == 4  # of three batches each
    assert len({process for process, _ in names}) == 3


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


@pytest.mark.parametrize("shift", [(0.0, 0.0, 0.0), (0.5, 0.0, 0.5), (0.21, 0.17, 0.13)])
def test_the_loss_is_zero_for_the_truth_at_any_origin_and_hand(exact, shift):
    for part in parts(exact[1]):
        moved = shifted(part.true, part, torch.tensor(shift).expand(len(part), 3))
        for hand in (moved, moved.conj()):
            assert float(phasor_misfit(hand, aligned(part, hand), part.data).max()) < 0.01
            torch.testing.assert_close(map_cc(part, hand), torch.ones(len(part)), rtol=0, atol=0.01)


def test_phasors_without_confidence_have_a_misfit_of_one(exact):
    part = next(parts(exact[1]))
    torch.testing.assert_close(phasor_misfit(0 * part.true, part.true, part.data), torch.ones(len(part)))


def test_starts_obey_the_group_unless_they_are_free():
    part = next(parts(batch(6, groups=("P -1",))[1]))
    is_free = torch.arange(len(part)) % 2 == 0
    operations = part.operations.without_group(is_free)
    start = random_starts(part.data.spheres, operations, torch.Generator().manual_seed(0))
    imaginary = start.imag.abs().amax((1, 2, 3)) / start.abs().amax((1, 2, 3))
    assert torch.equal(imaginary > 1e-3, is_free)


def test_starts_near_the_truth_are_a_share(exact):
    part = next(parts(exact[1]))
    start = torch.ones_like(part.true)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        torch.testing.assert_close(mixed_with_true(start, part.true, 0.0), start)
        assert not torch.equal(mixed_with_true(start, part.true, 1.0), start)


def test_attempts_of_an_untrained_network_are_no_better_than_chance(exact):
    few = exact[1].take(torch.arange(2))
    network = RecurrentNetwork(width=4, n_layers=1).eval()
    found = attempts(network, few, PhasingSearch(n_starts=2, n_steps=1), torch.Generator().manual_seed(0))
    shares = {name: float(value) for name, value in found.shares().items()}
    assert shares["mean_map_cc"] == pytest.approx(shares["chance_map_cc"], abs=0.05)
    assert shares["chance_map_cc"] < 0.6
    assert shares["solved_any"] >= shares["solved_first"] >= shares["well_solved_first"]
    assert found.map_cc.shape == (2, 2)


class Oracle(RecurrentNetwork):
    """A network that takes half of the way to given phasors in its first step, and the rest in its second."""

    def __init__(self, answer):
        super().__init__(width=4, n_layers=1)
        self.answer = answer

    def states(self, data, phasors):
        start = self.start(data, phasors).phasors
        for part in (0.0, 0.5, 1.0):
            yield State((1 - part) * start + part * self.answer, None)


def test_a_film_of_the_other_hand_at_another_origin_ends_at_the_true_map():
    one = batch(4, groups=("P 21 21 21",))[1].take(torch.tensor([0]))
    part = next(parts(one))
    turn = torch.exp(1j * math.pi * (part.data.spheres.hkl @ torch.tensor([1, 0, 1])))  # by half of a and c: allowed
    oracle, generator = Oracle(part.true.conj() * turn), torch.Generator().manual_seed(0)
    seen = film(oracle, one, n_starts=3, n_steps=2, generator=generator)
    assert seen.map_cc.shape == seen.confidence.shape == (3, 3)
    torch.testing.assert_close(seen.confidence[[0, 2]], torch.ones(2, 3), rtol=0, atol=1e-5)
    torch.testing.assert_close(seen.map_cc[2], torch.ones(3), rtol=0, atol=1e-4)
    assert (seen.map_cc[0] < 0.7).all()
    torch.testing.assert_close(seen.maps[2], seen.true, rtol=0, atol=1e-3)
    assert (seen.maps[0] - seen.true).abs().max() > 1


def test_the_groups_of_the_crystals_are_all_of_the_generator_by_default():
    made = PhasingCrystals(PhasingData(**EXACT)).draw(120, np.random.default_rng(0))
    orders = set(made.is_there.sum(1).tolist())
    assert orders == {1, 2, 4, 8}
    assert len(find_symmetry("P b c a").point_group) == 8
