"""The recurrent network of the learned solver: what it commutes with, exactly, and what it does with gaps."""

import itertools
import math

import gemmi
import numpy as np
import pytest
import torch

from rephase.config.sections import ModelConfig
from rephase.crystal.cell import Cell
from rephase.crystal.phases import unit_phasor
from rephase.crystal.symmetry import find_symmetry, reduced_cell
from rephase.errors import ConfigError
from rephase.labs.phasing.models import PHASING_MODELS
from rephase.learning.models import build_model
from rephase.solvers.learned.network import RecurrentNetwork
from rephase.solvers.learned.spheres import Spheres, measured
from rephase.solvers.learned.starts import operations_of, point_atoms, random_starts

EXACT = {"rtol": 0, "atol": 1e-8}
N_STEPS = 3
SETTINGS = {  # cells in which each group's operations map the grid onto itself
    "P -1": ((7.1, 8.2, 9.3, 81, 84, 77), (12, 16, 18)),
    "P 1 21/c 1": ((7.1, 8.2, 9.3, 90, 104, 90), (12, 16, 18)),
    "P 21 21 21": ((7.1, 8.2, 9.3, 90, 90, 90), (12, 16, 18)),
    "P n a 21": ((7.1, 8.2, 9.3, 90, 90, 90), (12, 16, 18)),
    "C 1 2 1": ((12.0, 7.0, 8.0, 90, 103, 90), (16, 16, 16)),
    "F d d 2": ((14.0, 12.0, 9.0, 90, 90, 90), (16, 16, 16)),
    "P 41": ((8.0, 8.0, 9.3, 90, 90, 90), (16, 16, 20)),
    "P 31": ((8.0, 8.0, 9.3, 90, 90, 120), (16, 16, 18)),
}


def network(n_gradients=0, *, with_gradient=False):
    """A small network in double precision whose channels all differ."""
    with torch.random.fork_rng():
        torch.manual_seed(3)
        made = RecurrentNetwork(width=8, n_layers=2, n_basis=6, n_gradients=n_gradients).double()
        with torch.no_grad():
            for parameter in made.parameters():
                parameter += 0.1 * torch.randn_like(parameter)
    return made.requires_grad_(with_gradient)


def crystal(name="P 1", *, seed=0, parameters=None, shape=None, d_min=2.0):
    """Spheres, group and data of a crystal of random point atoms, in its reduced primitive cell."""
    given = SETTINGS.get(name, ((7.1, 8.2, 9.3, 81, 84, 77), (12, 16, 18)))
    symmetry, (parameters, shape) = find_symmetry(name), (parameters or given[0], shape or given[1])
    cell = Cell(*map(float, parameters))
    reduced = reduced_cell(cell, symmetry)
    spheres = Spheres(
        shape, torch.as_tensor(cell.orthogonalisation @ reduced.basis)[None], torch.tensor([d_min]).double()
    )
    group = symmetry.in_basis(reduced.basis)
    generator = torch.Generator().manual_seed(seed)
    F = random_starts(spheres, operations_of(group, 1, spheres.lattice), generator)
    return spheres, group, measured(spheres, F.abs(), torch.ones_like(spheres.inside))


def random_phasors(spheres, seed=1):
    """Phasors without any symmetry."""
    p1 = find_symmetry("P 1")
    generator = torch.Generator().manual_seed(seed)
    F = random_starts(spheres, operations_of(p1, len(spheres.d_min), spheres.lattice), generator)
    return F / F.abs().clamp(min=1e-9)


def moved(phasors, spheres, rotation, translation):
    """Phasors whose map at R x + t is that of the given ones at x, point by point."""
    maps = spheres.to_maps(phasors)
    shape = np.array(spheres.shape)
    points = np.stack(np.meshgrid(*map(np.arange, spheres.shape), indexing="ij"), -1).reshape(-1, 3)
    images = (points / shape) @ np.array(rotation).T + np.array(translation)
    places = images * shape
    np.testing.assert_allclose(places, np.rint(places), atol=1e-6)
    places = np.rint(places).astype(int) % shape
    out = torch.empty_like(maps)
    out[:, places[:, 0], places[:, 1], places[:, 2]] = maps[:, points[:, 0], points[:, 1], points[:, 2]]
    return spheres.from_maps(out)


@pytest.mark.parametrize("n_gradients", [0, 4])
@pytest.mark.parametrize("name", SETTINGS)
def test_a_step_commutes_with_every_operation_of_the_group(name, n_gradients):
    spheres, group, data = crystal(name)
    net, start = network(n_gradients), random_phasors(spheres)
    found = net(data, start, N_STEPS)
    assert float(found.abs().amax()) > 0.1
    for rotation, translation in zip(group.rotations, group.translations):
        image = net(data, moved(start, spheres, rotation, translation), N_STEPS)
        torch.testing.assert_close(image, moved(found, spheres, rotation, translation), **EXACT)


@pytest.mark.parametrize("name", SETTINGS)
def test_a_symmetric_start_leads_to_a_symmetric_answer(name):
    spheres, group, data = crystal(name)
    start = random_starts(spheres, operations_of(group, 1, spheres.lattice), torch.Generator().manual_seed(5))
    found = network(4)(data, start, N_STEPS)
    for rotation, translation in zip(group.rotations, group.translations):
        torch.testing.assert_close(moved(found, spheres, rotation, translation), found, **EXACT)


@pytest.mark.parametrize("n_gradients", [0, 4])
def test_shifting_the_start_by_a_point_of_the_grid_shifts_the_answer(n_gradients):
    spheres, _, data = crystal()
    net, start = network(n_gradients), random_phasors(spheres)
    for shift in ((5, 0, 0), (1, 7, 11)):
        angle = 2 * math.pi * spheres.hkl.double() @ (torch.tensor(shift).double() / torch.tensor(spheres.shape))
        turn = torch.polar(torch.ones_like(angle), angle)
        torch.testing.assert_close(net(data, start * turn, N_STEPS), net(data, start, N_STEPS) * turn, **EXACT)


@pytest.mark.parametrize("n_gradients", [0, 4])
def test_the_other_hand_has_the_conjugate_answer(n_gradients):
    spheres, _, data = crystal()
    net, start = network(n_gradients), random_phasors(spheres)
    torch.testing.assert_close(net(data, start.conj(), N_STEPS), net(data, start, N_STEPS).conj(), **EXACT)


@pytest.mark.parametrize("order", [(1, 2, 0), (2, 0, 1), (1, 0, 2)])
@pytest.mark.parametrize("n_gradients", [0, 4])
def test_permuting_the_axes_permutes_the_answer(order, n_gradients):
    spheres, _, data = crystal()
    shape = tuple(spheres.shape[axis] for axis in order)
    turned = Spheres(shape, spheres.lattice[:, :, list(order)], spheres.d_min)

    def permuted(coefficients):
        return turned.from_maps(spheres.to_maps(coefficients).permute(0, *(axis + 1 for axis in order)))

    net, start = network(n_gradients), random_phasors(spheres)
    amplitude = permuted(data.amplitude.to(torch.complex128)).real
    image = net(measured(turned, amplitude, turned.inside), permuted(start), N_STEPS)
    torch.testing.assert_close(image, permuted(net(data, start, N_STEPS)), **EXACT)


def test_a_rotated_crystal_has_the_same_phases():
    spheres, _, data = crystal()
    turn = torch.as_tensor(np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))[0])
    turned = Spheres(spheres.shape, turn @ spheres.lattice, spheres.d_min)
    net, start = network(4), random_phasors(spheres)
    image = net(measured(turned, data.amplitude, turned.inside), start, N_STEPS)
    torch.testing.assert_close(image, net(data, start, N_STEPS), **EXACT)


def listed(spheres, values):
    """The values inside a sphere in the order of their indices, which does not depend on the grid."""
    h, k, l = spheres.hkl[spheres.inside[0]].T
    return values[0][spheres.inside[0]][((h * 1000 + k) * 1000 + l).argsort()]


@pytest.mark.parametrize("n_gradients", [0, 4])
def test_a_finer_grid_changes_the_answer_only_by_aliasing(n_gradients):
    """The pointwise networks make components finer than any grid: what they fold back falls as the grid gets finer."""
    net, answers = network(n_gradients), []
    for factor in (1, 2, 4):
        spheres, _, data = crystal(shape=(12 * factor, 16 * factor, 18 * factor))
        answers.append(listed(spheres, net(data, random_phasors(spheres), 1)))
    changes = [float((answer - answers[-1]).abs().square().mean().sqrt()) for answer in answers[:2]]
    assert changes[0] < 0.05
    assert changes[1] < 0.3 * changes[0]


def test_a_gap_is_free_and_a_measured_phasor_is_at_most_one_long():
    spheres, _, data = crystal()
    is_measured = spheres.inside & (torch.rand(spheres.inside.shape, generator=torch.Generator().manual_seed(0)) > 0.15)
    with_gaps = measured(spheres, data.amplitude, is_measured)
    others = measured(spheres, torch.where(is_measured, data.amplitude, 100.0), is_measured)
    net, start = network(), random_phasors(spheres)
    with torch.no_grad():
        net.gain.fill_(50.0)
    found = net(with_gaps, start, N_STEPS)
    torch.testing.assert_close(net(others, start, N_STEPS), found, **EXACT)
    free = found.abs()[spheres.inside & ~is_measured]
    assert float(found.abs()[is_measured].max()) <= 1 < float(free.max()) <= 3.5
    assert float((with_gaps.E[spheres.inside & ~is_measured]).mean()) == pytest.approx(1, abs=0.2)


def test_normalised_amplitudes_do_not_depend_on_the_scale_and_have_a_mean_square_of_one():
    spheres, _, data = crystal("P 1 21/c 1")
    scaled = measured(spheres, 37 * data.amplitude, data.is_measured)
    for one, other in ((data.E, scaled.E), (data.amplitude, scaled.amplitude)):
        torch.testing.assert_close(one, other, **EXACT)
        assert float((spheres.weight * one.square()).sum() / spheres.weight.sum()) == pytest.approx(1)
    assert float(data.weight(0.4).sum()) == pytest.approx(1)


def test_the_half_grid_counts_the_reflections_of_the_whole_sphere():
    spheres, _, data = crystal()
    cell = gemmi.UnitCell(*SETTINGS["P -1"][0])
    half = gemmi.make_miller_array(cell, gemmi.SpaceGroup("P 1"), 2.0 * (1 - 1e-6))
    assert int(spheres.weight.sum()) == 2 * len(half)
    maps = spheres.to_maps(random_phasors(spheres))
    assert float(maps.square().mean()) == pytest.approx(1)
    torch.testing.assert_close(spheres.to_maps(spheres.from_maps(maps)), maps, **EXACT)
    assert float(data.confidence(0.5 * random_phasors(spheres))) == pytest.approx(0.25)


def test_point_atoms_lie_where_their_map_is_highest():
    spheres, *_ = crystal()
    place = torch.tensor([5, 3, 11])
    F = point_atoms(spheres, (place.double() / torch.tensor(spheres.shape))[None, None], torch.ones(1, 1).double())
    highest = int(spheres.to_maps(F)[0].argmax())
    assert np.unravel_index(highest, spheres.shape) == tuple(place.tolist())


def test_every_parameter_has_a_gradient_and_a_batch_gives_the_answers_of_its_samples():
    alone = [crystal("P -1", seed=seed) for seed in (0, 1)]
    spheres = Spheres(alone[0][0].shape, torch.cat([s.lattice for s, *_ in alone]), torch.tensor([2.0, 2.0]).double())
    data = measured(spheres, torch.cat([each.amplitude for *_, each in alone]), spheres.inside)
    net, start = network(4, with_gradient=True), random_phasors(spheres)
    found = net(data, start, 2)
    for i, (_, _, one) in enumerate(alone):
        torch.testing.assert_close(net(one, start[i : i + 1], 2), found[i : i + 1], **EXACT)
    found.abs().square().sum().backward()
    assert all(parameter.grad is not None and bool((parameter.grad != 0).any()) for parameter in net.parameters())


def test_impossible_options_are_refused():
    for options in ({"width": 10}, {"width": 8, "n_gradients": 3}, {"width": 8, "n_gradients": 10}):
        with pytest.raises(ConfigError, match="width = .*expected a multiple of 4"):
            build_model(PHASING_MODELS, "recurrent", (), ModelConfig(options=options))


def test_the_states_are_those_of_the_answer():
    spheres, _, data = crystal()
    phasors, made = random_phasors(spheres), network()
    states = [state.phasors for state in itertools.islice(made.states(data, phasors), N_STEPS + 1)]
    torch.testing.assert_close(states[0], unit_phasor(phasors) * spheres.inside)
    assert torch.equal(states[-1], made(data, phasors, N_STEPS))
    assert not torch.equal(states[-1], states[-2])
