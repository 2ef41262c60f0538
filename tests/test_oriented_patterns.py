"""Patterns of oriented particles: the Airy disc of a rod along the beam, symmetry, beam stops, draws."""

import numpy as np
import pytest
import torch
from scipy.special import j1

from rephase.datasets.oriented_patterns import OrientedSimulator
from rephase.posterior_config import OrientedSimulation

SIMULATOR = OrientedSimulator(OrientedSimulation(n_pixels=17))


def unknowns(**values):
    usual = {"radius": 3.0, "length": 8.0, "theta": 90.0, "phi": 0.0, "forward": 10.0, "background": 0.1}
    return torch.tensor([[(usual | values)[name] for name in SIMULATOR.names]], dtype=torch.float64)


def test_a_rod_along_the_beam_scatters_as_a_disc():
    found = SIMULATOR.intensity(unknowns(theta=0.0))[0].numpy()
    x = 3.0 * torch.hypot(SIMULATOR.q_x, SIMULATOR.q_y).double().numpy()
    disc = np.where(x > 0, 2 * j1(x) / np.where(x > 0, x, 1), 1)
    assert np.allclose(found, 10 * disc**2 + 0.1, rtol=1e-4)


def test_a_rod_along_x_is_narrow_along_x():
    found = SIMULATOR.intensity(unknowns())[0] - 0.1
    middle = 8
    assert found[middle, middle] == pytest.approx(10.0, rel=1e-6)
    assert found[middle, middle + 1] < found[middle + 1, middle]
    q = SIMULATOR.q_x[middle, middle + 1].double()
    assert found[middle, middle + 1] == pytest.approx(10 * float(torch.sinc(q * 4 / torch.pi)) ** 2, rel=1e-4)


def test_directions_half_a_turn_apart_are_one():
    ends = SIMULATOR.intensity(torch.cat([unknowns(theta=60.0), unknowns(theta=60.0, phi=180.0)]))
    mirrored = SIMULATOR.intensity(unknowns(theta=60.0, phi=30.0)).flip((1, 2))
    assert torch.allclose(ends[0], ends[1])
    assert torch.allclose(mirrored, SIMULATOR.intensity(unknowns(theta=60.0, phi=30.0)))


def test_draws_depend_on_the_generator_alone_and_stops_hide_the_middle():
    one, same = (SIMULATOR.draw(20, np.random.default_rng(3)) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(one, same))
    assert SIMULATOR.prior.outside(one.u) == ()
    radius = torch.hypot(SIMULATOR.q_x, SIMULATOR.q_y)
    assert one.mask[:, radius > 0.15 * 2.0].all()
    assert not one.mask[:, 8, 8].any()
    assert (one.counts[~one.mask] == 0).all()


def test_counts_are_expected_to_be_photons_times_intensity():
    drawn = SIMULATOR.draw(200, np.random.default_rng(4))
    expected = (drawn.photons * SIMULATOR.intensity(drawn.u)).where(drawn.mask, 0.0).double()
    excess = (drawn.counts.double() - expected).sum() / expected.sum().sqrt()
    assert abs(float(excess)) < 4


def test_intensities_have_gradients_in_every_unknown():
    u = unknowns(theta=50.0, phi=20.0).requires_grad_()
    SIMULATOR.intensity(u).log().sum().backward()
    assert torch.isfinite(u.grad).all()
    assert (u.grad != 0).all()
