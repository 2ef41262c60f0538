"""Patterns of oriented particles: the Airy disc of a rod along the beam, symmetry, beam stops, draws."""

import numpy as np
import pytest
import torch
from scipy.special import j1

from rephase.config.scattering import OrientedSimulation
from rephase.inference.patterns import PatternBatch
from rephase.labs.scattering.data.oriented import OrientedSimulator

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


N_RINGS = 12  # of 17 pixels: up to the corners, at 11.3 pixels


def parts(batch):
    """Intensities [sample, ring], harmonics [sample, wave, ring] and those of all rings, [sample, 2]."""
    found = SIMULATOR.summaries(batch)
    assert found.shape == (len(batch.counts), 5 * N_RINGS + 2)
    return found[:, :N_RINGS], found[:, N_RINGS:-2].unflatten(1, (4, N_RINGS)), found[:, -2:]


@pytest.fixture(scope="module")
def drawn():
    return SIMULATOR.draw(50, np.random.default_rng(6))


def test_rings_hold_all_that_was_measured(drawn):
    radius = torch.hypot(SIMULATOR.q_x, SIMULATOR.q_y) / (2 * SIMULATOR.config.q_max / 16)
    counted, photons = torch.zeros(50), torch.zeros(50)
    for number, intensity in enumerate(parts(drawn)[0].T):
        is_here = (radius.round(decimals=3) >= number) & (radius.round(decimals=3) < number + 1)
        given = (drawn.mask & is_here).sum((1, 2)) * drawn.photons.flatten()
        assert (intensity[given == 0] == 0).all()
        counted += torch.where(given > 0, given * (3 * intensity).exp() - 0.5, 0.0)
        photons += given
    assert torch.allclose(counted, drawn.counts.sum((1, 2)), rtol=1e-3, atol=0.1)
    assert torch.allclose(photons, drawn.mask.sum((1, 2)) * drawn.photons.flatten())


def test_a_pattern_that_is_turned_or_mirrored_turns_its_harmonics(drawn):
    turned = drawn._replace(counts=drawn.counts.rot90(1, (1, 2)), mask=drawn.mask.rot90(1, (1, 2)))
    mirrored = drawn._replace(counts=drawn.counts.mT, mask=drawn.mask.mT)  # χ becomes 90 degrees - χ
    intensity, around, of_all = parts(drawn)
    for changed, signs in ((turned, [-1, -1, 1, 1]), (mirrored, [-1, 1, 1, -1])):
        same, harmonics, whole = parts(changed)
        assert torch.allclose(same, intensity, atol=1e-5)
        assert torch.allclose(harmonics, torch.tensor(signs)[:, None] * around, atol=1e-5)
        assert torch.allclose(whole, torch.tensor(signs[:2]) * of_all, atol=1e-5)
    assert around.abs().amax() > 0.5


@pytest.mark.parametrize("phi", [20.0, 75.0, 160.0])
def test_patterns_of_needles_are_long_at_right_angles_to_them(phi):
    counts = 1e3 * SIMULATOR.intensity(unknowns(radius=1.0, length=6.0, phi=phi, background=1e-3))
    mask = torch.hypot(SIMULATOR.q_x, SIMULATOR.q_y)[None] < 2.0
    _, around, of_all = parts(PatternBatch(torch.zeros(1, 6), counts, torch.full((1, 1, 1), 1e3), mask))
    for cosine, sine in (of_all[0], around[0, :2, 4]):
        found = torch.rad2deg(torch.atan2(sine, cosine)) / 2
        assert float(found - phi) % 180 == pytest.approx(90, abs=4)


def test_what_is_hidden_does_not_enter(drawn):
    spoiled = drawn._replace(counts=torch.where(drawn.mask, drawn.counts, 1e5))
    assert torch.equal(SIMULATOR.summaries(drawn), SIMULATOR.summaries(spoiled))
    blind = drawn._replace(counts=0 * drawn.counts, mask=torch.zeros_like(drawn.mask))
    assert (SIMULATOR.summaries(blind) == 0).all()
