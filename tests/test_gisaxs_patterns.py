"""Simulated patterns at grazing incidence: zeros of Bessel functions, limits, averages, masks, noise, gradients."""

import math

import numpy as np
import pytest
import scipy.special
import torch

from rephase.config.scattering import GisaxsSimulation
from rephase.config.sections import ModelConfig, validate
from rephase.errors import ConfigError
from rephase.labs.scattering.data.gisaxs import GisaxsSimulator
from rephase.labs.scattering.models import POSTERIOR_MODELS
from rephase.learning.models import build_model
from rephase.optics.detector import wavelength_nm

ALIKE = {"spread": None, "background": (1e-9, 2e-9)}


def simulator(**config):
    return GisaxsSimulator(GisaxsSimulation(**config))


def middle(simulator, n=1, **changes):
    """Unknowns [n, parameter] in the middle of their bounds, but for what is given."""
    u = simulator.from_normal(torch.zeros(n, *simulator.u_shape, dtype=torch.float64))
    for name, value in changes.items():
        u[:, simulator.names.index(name)] = torch.as_tensor(value, dtype=u.dtype)
    return u


@pytest.fixture(scope="module")
def drawn():
    return simulator().draw(64, np.random.default_rng(3))


def test_dark_fringes_of_cylinders_are_at_the_zeros_of_bessel_functions():
    cut = simulator(**ALIKE, pixels=(1, 400), alpha_deg=(0.195, 0.205), phi_deg=(0.0, 3.0))
    assert cut.pattern_shape == (400,)
    intensity = cut.intensity(middle(cut, radius=6.0))[0]
    is_dark = (intensity[1:-1] < intensity[:-2]) & (intensity[1:-1] < intensity[2:])
    k = 2 * math.pi / wavelength_nm(8048.0)
    q_of_dark = k * cut.exits.phi_deg[1:-1][is_dark].deg2rad().sin()
    expected = scipy.special.jn_zeros(1, 3) / 6.0
    assert q_of_dark[:3].tolist() == pytest.approx(expected, abs=k * math.radians(3 / 400))


def test_layers_of_the_substrate_are_not_seen():
    same = simulator(layer=(7.6e-6, 1.7e-7), roughness=(0.0, 1.0))
    u = middle(same, 2, roughness=0.0, thickness=[16.0, 23.0])
    first, second = same.intensity(u)
    assert torch.allclose(first, second, rtol=1e-6)
    thin, thick = simulator().intensity(u)
    assert not torch.allclose(thin, thick, rtol=0.1)


def test_patterns_are_bright_at_the_critical_angle_of_the_layer():
    """Yoneda's peak, beside a maximum of the standing wave in the layer."""
    column = simulator(**ALIKE, pixels=(200, 1), phi_deg=(0.4, 0.42), alpha_deg=(0.0, 0.5), layer=(7.6e-6, 1e-9))
    brightest = column.intensity(middle(column, height=3.0))[0].argmax()
    critical = math.degrees(math.sqrt(2 * 7.6e-6))
    assert float(column.exits.alpha_deg[brightest]) == pytest.approx(critical, abs=0.01)


def test_background_and_density_enter_linearly():
    sim = simulator()
    u = middle(sim, 3, density=[3e-4, 6e-4, 3e-4], background=[0.02, 0.02, 0.32])
    one, denser, brighter = sim.intensity(u)
    assert torch.allclose(denser - 0.02, 2 * (one - 0.02), rtol=1e-9)
    assert torch.allclose(brighter, one + 0.3, rtol=1e-9)


def test_few_radii_are_as_good_as_many():
    """Against patterns of islands that are all alike, added up by the law of Gauss over 201 radii."""
    sim, alike = simulator(pixels=(8, 8)), simulator(pixels=(8, 8), spread=None)
    sigmas = torch.linspace(-4, 4, 201, dtype=torch.float64)
    weight = torch.exp(-(sigmas**2) / 2)
    each = alike.intensity(middle(alike, 201, radius=6 * (1 + 0.2 * sigmas), background=0.1)) - 0.1
    expected = (weight[:, None, None] * each).sum(0) / weight.sum()
    found = sim.intensity(middle(sim, radius=6.0, spread=0.2, background=0.1))[0] - 0.1
    assert (found - expected).abs().sum() < 0.02 * expected.sum()


def test_a_cut_is_a_row_of_the_pattern():
    sim = simulator(pixels=(10, 24), alpha_deg=(0.0, 1.0))
    cut = simulator(pixels=(1, 24), alpha_deg=(0.3, 0.4))
    assert [len(axis) for axis in sim.axes.values()] == [10, 24]
    assert list(cut.axes) == ["angle from the plane of incidence (degrees)"]
    u = middle(sim)
    assert torch.allclose(sim.intensity(u)[:, 3], cut.intensity(u), rtol=1e-4)


def test_counts_are_poisson_about_the_model(drawn):
    expected = drawn.photons * simulator().intensity(drawn.u)
    seen, counts = expected[drawn.mask], drawn.counts[drawn.mask]
    is_bright = seen > 20
    z = ((counts - seen) / seen.sqrt())[is_bright]
    assert float(z.mean()) == pytest.approx(0, abs=4 / len(z) ** 0.5)
    assert float(z.var()) == pytest.approx(1, abs=0.05)
    brightest = drawn.counts.flatten(1).amax(1)
    assert brightest.median() > 20
    assert brightest.max() < 1e5


def test_draws_depend_on_the_generator_alone(drawn):
    again, other = (simulator().draw(64, np.random.default_rng(seed)) for seed in (3, 4))
    assert all(torch.equal(one, two) for one, two in zip(drawn, again))
    assert not torch.equal(drawn.counts, other.counts)
    assert simulator().prior.outside(drawn.u) == ()


def test_the_rod_and_the_horizon_are_hidden(drawn):
    exits = simulator().exits
    rows, columns = drawn.mask.any(2), drawn.mask.any(1)
    assert torch.equal(drawn.mask, rows[:, :, None] & columns[:, None])
    assert rows[:, exits.alpha_deg > 0.1].all()
    assert columns[:, exits.phi_deg > 0.2].all()
    assert 0.1 < float(rows[:, 0].float().mean()) < 0.9
    assert (drawn.counts[~drawn.mask] == 0).all()
    assert simulator(rod_deg=0.0, horizon_deg=0.0).draw(3, np.random.default_rng(0)).mask.all()


@pytest.mark.parametrize("shape", ["cylinder", "dome", "sphere"])
def test_gradients_are_those_of_differences(shape):
    sim = simulator(shape=shape, pixels=(3, 2), rod_deg=0.0)
    z = 0.5 * torch.randn(2, *sim.u_shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    assert torch.autograd.gradcheck(lambda z: sim.intensity(sim.from_normal(z)), z.requires_grad_(), rtol=1e-4)


def test_flows_take_images_and_cuts():
    for pixels, n_seen in (((16, 16), 8 + 16 + 16), ((1, 24), 2 * 8), ((24, 1), 2 * 8)):
        sim = simulator(pixels=pixels, alpha_deg=(0.3, 0.4), phi_deg=(0.5, 0.6))
        options = ModelConfig(options={"n_layers": 2, "width": 8, "n_features": 8, "channels": 2})
        model = build_model(POSTERIOR_MODELS, "nsf", sim.pattern_shape, options, simulator=sim)
        assert model.encoder.summary[0].in_features == n_seen  # convolutions, and of images rows and columns
        batch = sim.draw(3, np.random.default_rng(0))
        u = model.sample(batch, 5)
        assert u.shape == (5, 3, 8)
        assert sim.prior.outside(u) == ()
        model.physics_loss(batch).backward()
        assert all(torch.isfinite(p.grad).all() for p in model.parameters())


def test_flows_learn_from_images():
    sim = simulator(pixels=(16, 16))
    options = ModelConfig(options={"n_layers": 2, "width": 16, "n_features": 8, "channels": 4})
    model = build_model(POSTERIOR_MODELS, "nsf", sim.pattern_shape, options, simulator=sim)
    batch = sim.draw(32, np.random.default_rng(0))
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-2)
    before = model.loss(batch).item()
    for _ in range(40):
        optimiser.zero_grad()
        model.loss(batch).backward()
        optimiser.step()
    assert model.loss(batch).item() < before - 0.2


def test_the_cuts_of_the_notebook_see_something():
    for cut in ({"pixels": (1, 128), "alpha_deg": (0.3, 0.35)}, {"pixels": (128, 1), "phi_deg": (0.4, 0.45)}):
        batch = simulator(**cut).draw(4, np.random.default_rng(0))
        assert batch.counts.shape == (4, 128)
        assert (batch.mask.sum(1) > 100).all()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"alpha_deg": (0.5, 0.2)}, "expected edges in rising order"),
        ({"pixels": (0, 16)}, "expected edges in rising order"),
        ({"pixels": (1, 128)}, r"alpha_deg = \(0.0, 1.0\) of a single pixel: expected at most 0.1 degrees"),
        ({"pixels": (128, 1), "phi_deg": (0.3, 0.5)}, r"phi_deg = \(0.3, 0.5\) of a single pixel: .*narrower edges"),
        ({"rod_deg": 2.5}, "the whole detector may be hidden"),
        ({"pixels": (16, 1), "phi_deg": (-0.05, 0.05)}, "the whole detector may be hidden"),
        ({"horizon_deg": 1.0}, "the whole detector may be hidden"),
        ({"shape": "truncated_sphere"}, "shape = 'truncated_sphere': input should be 'cylinder', 'dome' or 'sphere'"),
    ],
)
def test_what_cannot_be_is_refused(changes, message):
    with pytest.raises(ConfigError, match=message):
        validate(GisaxsSimulation, changes, "scattering.gisaxs.data")


def test_bounds_in_falling_order_are_refused_by_their_name():
    with pytest.raises(ConfigError, match=r"thickness = \(40.0, 10.0\)"):
        simulator(thickness=(40.0, 10.0))
