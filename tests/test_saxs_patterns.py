"""Simulated and measured curves of the posteriors: forward model, exposures, masks, stores, and what is refused."""

import math

import numpy as np
import pytest
import torch

from rephase.config.scattering import SaxsSimulation
from rephase.config.sections import validate
from rephase.errors import ConfigError, CurveError, StoreError
from rephase.formats.curves import SaxsCurve
from rephase.inference.patterns import expected_of, pattern_of, store_patterns
from rephase.labs.scattering.data.measured import measured_pattern
from rephase.labs.scattering.data.saxs import SaxsSimulator
from rephase.optics.saxs import curve


def simulator(**changes):
    return SaxsSimulator(SaxsSimulation(**{"shape": "sphere", "q": (0.1, 3.0), "n_q": 80} | changes))


def draw(n=200, seed=0, **changes):
    return simulator(**changes).draw(n, np.random.default_rng(seed))


def test_spheres_scatter_as_rayleigh_says():
    radius, forward, background = 3.0, 20.0, 0.01
    spheres = simulator()
    x = spheres.q.double() * radius
    by_hand = forward * (3 * (x.sin() - x * x.cos()) / x**3) ** 2 + background
    found = spheres.intensity(torch.tensor([[radius, forward, background]]).double())
    assert found[0].tolist() == pytest.approx(by_hand.tolist(), rel=1e-5)


@pytest.mark.parametrize(("shape", "sizes"), [("ellipsoid", (2.0, 5.0)), ("core_shell_sphere", (3.0, 1.0))])
def test_intensities_are_those_of_the_forward_model_scaled_at_small_q(shape, sizes):
    one = simulator(shape=shape, contrast_ratio=0.4)
    u = torch.tensor([[*sizes, 50.0, 1e-3]]).double()
    contrast = torch.tensor([[1.0, 0.4][: 1 + (shape != "ellipsoid")]]).double()
    q = torch.cat([torch.tensor([1e-5]), one.q]).double()
    theirs = curve(shape, q, u[:, :2], contrast)[0]
    assert one.intensity(u)[0].tolist() == pytest.approx((50 * theirs[1:] / theirs[0] + 1e-3).tolist(), rel=1e-6)


def test_a_spread_fills_the_minima():
    alike, spread = simulator(), simulator(spread=(0.05, 0.3))
    assert spread.names == (*alike.names, "spread")
    sharp = alike.intensity(torch.tensor([[5.0, 1.0, 1e-9]]).double()).min()
    assert spread.intensity(torch.tensor([[5.0, 1.0, 1e-9, 0.2]]).double()).min() > 10 * sharp


def test_counts_have_the_mean_and_the_variance_of_photons():
    spheres = simulator()
    u = torch.tensor([[2.0, 10.0, 1e-2]]).expand(4000, 3)
    batch = pattern_of(spheres, u, np.random.default_rng(1))
    expected = expected_of(spheres, u, batch)
    pull = ((batch.counts - expected) / expected.sqrt())[batch.mask & (expected > 1)]
    assert abs(float(pull.mean())) < 4 / math.sqrt(len(pull))
    assert float(pull.var()) == pytest.approx(1, abs=0.02)


def test_unknowns_and_exposures_are_within_their_bounds_and_fill_them():
    batch, one = draw(2000), simulator()
    assert one.prior.outside(batch.u) == ()
    fewest, most = one.exposures()
    assert (batch.photons >= fewest * 0.999).all()
    assert (batch.photons <= most * 1.001).all()
    assert fewest[[0, -1]].tolist() == pytest.approx([10, 10])
    assert most[[0, -1]].tolist() == pytest.approx([300, 300 * 30**2], rel=1e-5)
    assert batch.photons[:, 0].log().std() == pytest.approx(math.log(30) / math.sqrt(12), rel=0.05)


def test_what_is_hidden_has_no_counts_and_is_as_much_as_asked():
    batch = draw(2000, hidden=0.2, missing=0.0)
    n_before = batch.mask.int().argmax(1)
    assert (batch.counts[~batch.mask] == 0).all()
    assert n_before.float().mean() == pytest.approx(0.1 * 79, abs=0.6)
    assert n_before.max() <= 16
    n_inside = 80 - n_before - batch.mask.flip(1).int().argmax(1)
    assert (batch.mask.sum(1) == n_inside).all()  # nothing is missing between
    assert 1 - draw(2000, hidden=0.0, missing=0.3).mask.float().mean() == pytest.approx(0.15, abs=0.01)


def test_some_points_are_left_of_every_curve():
    assert draw(50_000, n_q=16, hidden=0.0, missing=0.66).mask.any(1).all()


def test_draws_depend_on_the_seed_alone():
    for first, again, other in zip(draw(), draw(), draw(seed=1)):
        assert torch.equal(first, again)
        assert not torch.equal(first, other)


def test_a_store_is_the_same_with_any_number_of_workers_and_resumes(tmp_path):
    small = simulator(n_samples=60, chunk=20)
    first = store_patterns(tmp_path / "a.zarr", small)
    second = store_patterns(tmp_path / "b.zarr", small, workers=2)
    again = store_patterns(tmp_path / "a.zarr", small)
    samples = [0, 25, 59]
    for one, two, three in zip(first[samples], second[samples], again[samples]):
        assert torch.equal(one, two)
        assert torch.equal(one, three)
    assert sorted(np.concatenate(list(first.splits.values()))) == list(range(60))
    assert first[[3]].mask.dtype == torch.bool
    with pytest.raises(StoreError, match=r"config.sizes is \[1.0, 10.0\] there"):
        store_patterns(tmp_path / "a.zarr", simulator(n_samples=60, chunk=20, sizes=(1.0, 5.0)))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sizes": (5.0, 1.0)}, r"radius = \(5.0, 1.0\): expected two finite numbers above 0 in rising order"),
        ({"background": (0.0, 1.0)}, "background = .*above 0"),
        ({"photons": (-1.0, 2.0)}, r"photons = \(-1.0, 2.0\): expected two numbers above 0 in rising order"),
        ({"q": (4.0, 0.05)}, r"q = \(4.0, 0.05\): expected two numbers above 0 in rising order"),
    ],
)
def test_bounds_that_cannot_be_are_refused(changes, message):
    with pytest.raises(ConfigError, match=message):
        simulator(**changes)


@pytest.mark.parametrize("changes", [{"hidden": 0.5}, {"hidden": 0.48}, {"missing": 0.8, "n_q": 16}])
def test_curves_of_which_nothing_may_be_left_are_refused(changes):
    with pytest.raises(ConfigError, match=r"hidden = .*, missing = .*expected 5 or more points .* lower hidden"):
        validate(SaxsSimulation, changes, "scattering.saxs.data")


def test_an_unknown_shape_is_refused():
    with pytest.raises(ConfigError, match="shape = 'cube'"):
        validate(SaxsSimulation, {"shape": "cube"}, "scattering.saxs.data")


@pytest.fixture
def measured():
    """A curve of spheres without noise, on an even grid, with errors of 2 %."""
    spheres, q = simulator(), np.linspace(0.08, 3.5, 700)
    x = 2.0 * q
    intensity = 20 * (3 * (np.sin(x) - x * np.cos(x)) / x**3) ** 2 + 0.005
    return spheres, SaxsCurve(q, intensity, 0.02 * intensity)


def test_a_measured_curve_becomes_effective_counts(measured):
    spheres, given = measured
    pattern, notes = measured_pattern(given, spheres)
    mask = pattern.mask[0]
    expected = pattern.photons * spheres.intensity(torch.tensor([[2.0, 20.0, 0.005]]))
    off = (pattern.counts / expected)[0, mask] - 1
    assert off.abs().median() < 2e-3
    assert torch.isnan(pattern.u).all()
    assert any("outside the range" in note for note in notes)
    is_free = (pattern.photons[0] < spheres.exposures()[1]).numpy()
    mask, in_bin = mask.numpy(), (spheres.q > 1.0).numpy() & is_free  # of several points the mean is more precise
    n_points = np.bincount(np.rint(np.log(given.q / 0.1) / np.log(30) * 79).astype(int).clip(0), minlength=80)[:80]
    relative = pattern.counts[0].numpy()[mask & in_bin] ** -0.5
    assert np.median(relative * np.sqrt(n_points[mask & in_bin])) == pytest.approx(0.02, rel=0.05)


def test_means_beyond_what_a_flow_has_seen_are_masked_or_weakened(measured):
    spheres, given = measured
    sure, notes = measured_pattern(given._replace(sigma=1e-4 * given.intensity), spheres)
    _, most = spheres.exposures()
    assert torch.equal(sure.photons[sure.mask], most[sure.mask[0]])
    assert any("more precise" in note for note in notes)
    noisy = np.where((given.q > 0.5) & (given.q < 0.6), given.intensity * 50, given.sigma)
    unsure, notes = measured_pattern(given._replace(sigma=noisy), spheres)
    inside = (spheres.q > 0.52) & (spheres.q < 0.58)
    assert not unsure.mask[0, inside].any()
    assert any("less precise" in note for note in notes)
    gone = np.where((given.q > 0.5) & (given.q < 0.6), -1.0, given.intensity)
    negative, notes = measured_pattern(given._replace(intensity=gone), spheres)
    assert not negative.mask[0, inside].any()
    assert any("not above 0" in note for note in notes)


def test_what_the_file_says_is_reported_first(measured):
    spheres, given = measured
    assert measured_pattern(given._replace(notes=("I in 1/m",)), spheres).notes[0] == "I in 1/m"


def test_a_fine_resolution_is_reported(measured):
    spheres, given = measured
    notes = measured_pattern(given._replace(dq=0.018 * given.q), spheres).notes
    assert "resolution neglected, as the flow has none: at most dq/q = 0.018 at q = " in "; ".join(notes)
    for without in (None, np.zeros_like(given.q), np.where(given.q > 3.01, 1.0, 0.0)):  # the flow ends at 3 /nm
        assert "resolution" not in "; ".join(measured_pattern(given._replace(dq=without), spheres).notes)


def test_exposures_that_photons_do_not_make_are_reported(measured):
    spheres, given = measured
    exposure = 30 * (given.q / 0.1) ** 0.5

    def told(uneven):
        sigma = np.sqrt(given.intensity / (exposure * uneven))
        return [note for note in measured_pattern(given._replace(sigma=sigma), spheres).notes if "exposure" in note]

    assert told(1.0) == []
    (slight,) = told(np.where(given.q > 1, 1.0, 4.0))
    assert "a factor of" in slight
    assert "MCMC" not in slight
    (strong,) = told(5 ** np.sin(4 * np.log(given.q)))
    assert "trust MCMC" in strong
    (relative,) = told(0.05**-2 / (given.intensity * exposure))
    assert "is sigma from counts?" in relative


def test_noise_of_faint_points_is_no_exposure_of_its_own(measured):
    spheres, given = measured
    q, true = given.q[::4], given.intensity[::4]
    sigma = np.sqrt(true / (30 * q / 0.1))
    noisy = true + sigma * np.random.default_rng(0).normal(size=len(q))
    notes = measured_pattern(SaxsCurve(q, noisy, sigma), spheres).notes
    assert not [note for note in notes if "exposure" in note]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c._replace(dq=0.1 * c.q), r"dq/q = 0.1 at q = .*: expected 0.02 or less.*desmear the curve"),
        (lambda c: c._replace(q=c.q * 10), "usable for q = 0.79.*expects it from 0.1.* or less .*unit of q"),
        (lambda c: c._replace(q=c.q * 100), "0 usable points within q = 0.1–3 /nm"),
        (lambda c: c._replace(intensity=c.intensity * 1e3, sigma=c.sigma * 1e3), "intensity is 1.9.*e.04.*0.1–100 /cm"),
    ],
)
def test_curves_that_a_flow_has_not_seen_are_refused(measured, change, message):
    spheres, given = measured
    with pytest.raises(CurveError, match=message):
        measured_pattern(change(given), spheres)
