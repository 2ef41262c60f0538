"""Random objects, and the holograms and ptychograms that are simulated of them."""

import math

import numpy as np
import pytest
import torch

from rephase.config.sections import validate
from rephase.config.waves import HologramSimulation, ObjectsConfig, PtychogramSimulation
from rephase.errors import ConfigError, OpticsError
from rephase.inference.patterns import store_patterns
from rephase.labs.waves.data.holograms import HologramSimulator
from rephase.labs.waves.data.objects import RandomObjects
from rephase.labs.waves.data.ptychograms import PtychogramSimulator
from rephase.labs.waves.scores import align_wave, wave_error
from rephase.optics.noise import poisson_deviance

HOLOGRAMS = {"size": 16, "fresnel_numbers": (0.1, 0.2), "n_samples": 40, "chunk": 20}
PTYCHOGRAMS = {"size": 16, "frame": 8, "n_side": 4, "step": 2.4, "probe_width": 2.5, "n_samples": 40, "chunk": 20}
MAKE = {
    "holography": lambda **changes: HologramSimulator(HologramSimulation(**HOLOGRAMS | changes)),
    "ptychography": lambda **changes: PtychogramSimulator(PtychogramSimulation(**PTYCHOGRAMS | changes)),
}


@pytest.fixture(params=MAKE)
def kind(request):
    return request.param


@pytest.fixture
def simulator(kind):
    return MAKE[kind]()


@pytest.fixture
def batch(simulator):
    return simulator.draw(30, np.random.default_rng(4))


def test_the_film_has_the_grain_that_was_asked_for():
    config = ObjectsConfig(n_cells=(1, 1), radii=(1e-3, 1e-3), texture=0, grain=0.2)
    objects = RandomObjects(config, 32, ((0.0, -1.0), (1.0, 0.2)))
    u = objects.draw(50, np.random.default_rng(0))
    z = objects.to_normal(u.double())
    assert u.shape == (50, 2, 32, 32)
    assert float((z - z.mean((2, 3), keepdim=True)).std()) == pytest.approx(0.2, rel=0.02)
    film = objects.share(u.double()).mean((2, 3))
    assert 0.03 < float(film.min()) < 0.06 < float(film.max()) < 0.2
    assert torch.allclose(film[:, 0], film[:, 1], atol=0.01)


def test_cells_are_as_many_and_as_large_as_they_may_be():
    """Slabs to balls of one radius and any density: the matter of n cells grows with n."""
    matter = []
    for n in (1, 4):
        config = ObjectsConfig(n_cells=(n, n), radii=(0.15, 0.15), texture=0, grain=1e-3)
        share = RandomObjects(config, 32, ((0.0, 1.0),)).draw(400, np.random.default_rng(0)).double()
        matter.append(-torch.log1p(-(share.clamp(0.04, 0.95) - 0.04) / 0.92).mean())
    # a disc of radius r covers pi r^2, a ball has 2/3 of its thickness: 5/6 between, of a density of 0.6
    assert float(matter[1] - matter[0]) == pytest.approx(3 * 0.6 * 5 / 6 * math.pi * 0.15**2, rel=0.1)


def test_unknowns_are_within_their_bounds_and_come_back_from_z(simulator, batch):
    z = simulator.to_normal(batch.u.double())
    assert torch.allclose(simulator.from_normal(z), batch.u.double(), atol=1e-6)
    for channel, ends in enumerate(simulator.objects.bounds):
        low, high = sorted(np.float32(ends))
        far = simulator.from_normal(torch.tensor([-40.0, 40.0]).reshape(2, 1, 1, 1).expand(2, *simulator.u_shape))
        for u in (batch.u, far):
            assert low <= float(u[:, channel].min()) < float(u[:, channel].max()) <= high
    assert simulator.log_prior(z) is None
    assert len(simulator.names) == len(simulator.units) == batch.u.shape[1]


def test_counts_have_the_noise_of_photons(simulator, batch):
    expected = batch.photons * simulator.intensity(batch.u)
    bright = batch.mask & (expected > 5)
    per_pixel = poisson_deviance(expected, batch.counts, bright).sum() / bright.sum()
    assert float(per_pixel) == pytest.approx(1, abs=0.1)
    assert not batch.counts[~batch.mask].any()
    low, high = simulator.config.photons
    assert low <= float(batch.photons.min()) < float(batch.photons.max()) <= high
    assert 0 < float((~batch.mask).double().mean()) < simulator.config.dead
    assert torch.equal(batch.mask, batch.mask[:, :1].expand_as(batch.mask))
    again = simulator.draw(30, np.random.default_rng(4))
    assert torch.equal(again.counts, batch.counts)
    assert not torch.equal(simulator.draw(30, np.random.default_rng(5)).u, batch.u)


def test_patterns_are_stored_and_read(simulator, tmp_path):
    data = store_patterns(tmp_path / "patterns.zarr", simulator)
    test = data[data.splits["test"]]
    assert test.counts.shape == (4, *simulator.pattern_shape)
    assert test.mask.dtype == torch.bool
    assert data.shape == simulator.pattern_shape


def test_what_networks_look_at_knows_the_object_and_nothing_of_dead_pixels(simulator, batch):
    seen = simulator.condition(batch)
    assert seen.shape == (30, simulator.n_seen, 16, 16)
    spoiled = batch._replace(counts=torch.where(batch.mask, batch.counts, 1e6), u=batch.u.flip(0))
    assert torch.equal(simulator.condition(spoiled), seen)
    assert float(simulator.exposure(batch).abs().max()) <= 1


def test_holograms_are_those_of_the_propagator_written_out():
    simulator = MAKE["holography"]()
    u = simulator.draw(1, np.random.default_rng(0)).u.double()
    f = np.fft.fftfreq(16)
    wave = np.exp(1j * u[0, 0].numpy())
    for found, number in zip(simulator.intensity(u)[0], (0.1, 0.2)):
        kernel = np.exp(-1j * np.pi * (f[:, None] ** 2 + f**2) / number)
        assert np.allclose(found, np.abs(np.fft.ifft2(np.fft.fft2(wave) * kernel)) ** 2, atol=1e-6)


def test_linear_inversion_comes_near_where_photons_are_many():
    simulator = MAKE["holography"](photons=(1e6, 1e6), dead=0, phase=(0.0, -0.1))
    batch = simulator.draw(20, np.random.default_rng(1))
    weak, _ = simulator.estimates(batch).unbind(1)
    true = batch.u[:, 0] - batch.u[:, 0].mean((1, 2), keepdim=True)
    assert float((weak - true).square().mean()) < 0.1 * float(true.square().mean())


def test_frames_hold_the_light_that_the_object_lets_through():
    """By Parseval, and all of an empty frame's light for an empty object."""
    simulator = MAKE["ptychography"]()
    u = simulator.draw(3, np.random.default_rng(0)).u.double()
    light = simulator.scan.probes(simulator.probe.to(torch.complex128)).abs().square()
    through = (simulator.scan.patches(u[:, 1].square()) * light).sum((2, 3))
    assert torch.allclose(simulator.intensity(u).sum((2, 3)), through)
    empty = torch.stack([torch.zeros(16, 16), torch.ones(16, 16)])[None]
    assert torch.allclose(simulator.intensity(empty).sum((2, 3)), torch.ones(1, 16))
    assert float(simulator.illumination.max()) == 1


def test_scans_of_another_data_set_are_those_that_a_flow_has_learned():
    own, other = MAKE["ptychography"](), MAKE["ptychography"](seed=1)
    assert torch.equal(own.positions, other.positions)
    assert not torch.equal(own.positions, MAKE["ptychography"](jitter_seed=1).positions)


def test_a_few_epochs_come_nearer_than_the_empty_beam():
    simulator = MAKE["ptychography"](photons=(1e6, 1e6), dead=0)
    batch = simulator.draw(20, np.random.default_rng(1))
    true, found = simulator.wave(batch.u), simulator.estimate(batch)
    errors = [
        wave_error(align_wave(w, true, simulator.illumination), true, simulator.illumination).mean()
        for w in (found, torch.ones_like(true))
    ]
    assert float(errors[0]) < 0.6 * float(errors[1])


def test_intensities_can_be_differentiated(kind):
    simulator = MAKE[kind]()
    u = simulator.draw(1, np.random.default_rng(0)).u.double().requires_grad_()
    simulator.intensity(u).square().sum().backward()
    assert u.grad is not None
    assert float(u.grad.abs().amin((1, 2, 3))) >= 0
    step = torch.zeros_like(u)
    step[0, :, 8, 8] = 1e-5
    with torch.no_grad():
        ahead, behind = (simulator.intensity(u + sign * step).square().sum() for sign in (1, -1))
    assert float(u.grad[0, :, 8, 8].sum()) == pytest.approx(float(ahead - behind) / 2e-5, rel=1e-4)


@pytest.mark.parametrize(
    ("changes", "error", "said"),
    [
        ({"photons": (0, 10)}, ConfigError, "photons = .*above 0 in rising order"),
        ({"photons": (100, 10)}, ConfigError, "photons = .*in rising order"),
        ({"phase": (-1.0, -1.0)}, ConfigError, "two finite numbers that differ"),
        ({"objects": {"n_cells": (3, 2)}}, ConfigError, "objects.n_cells = .*in rising order"),
        ({"objects": {"radii": (0, 0.1)}}, ConfigError, "objects.radii = .*above 0"),
    ],
)
def test_what_cannot_be_simulated(kind, changes, error, said):
    with pytest.raises(error, match=said):
        MAKE[kind](**changes)


@pytest.mark.parametrize("config", [HologramSimulation, PtychogramSimulation])
def test_phases_that_wrap_are_refused(config):
    validate(config, {"phase": (math.pi, -math.pi)}, "data")
    with pytest.raises(ConfigError, match=r"phase = \(0.0, -3.2\): .*expected radians within \[-pi, pi\]"):
        validate(config, {"phase": (0.0, -3.2)}, "data")


def test_experiments_that_cannot_be():
    with pytest.raises(OpticsError, match="expected at least 64 pixels along each side"):
        MAKE["holography"](fresnel_numbers=(1 / 64,))
    with pytest.raises(OpticsError, match="fresnel_number = .*above 0"):
        MAKE["holography"](fresnel_numbers=(0.0,))
    with pytest.raises(OpticsError, match="positions are outside of the object"):
        MAKE["ptychography"](step=5.0)
