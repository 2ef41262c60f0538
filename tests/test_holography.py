"""Holograms: nothing in, nothing out; weak objects; photons. Inversion by transfer functions and by projections."""

import math
from functools import partial

import pytest
import torch

from rephase.errors import OpticsError
from rephase.labs.waves.engines.holography import invert_contrast, retrieve
from rephase.labs.waves.engines.projections import KnownObject, alternate, reflect
from rephase.optics.holography import holograms, object_wave, weak_contrast
from rephase.optics.noise import count

NUMBERS = torch.tensor([0.03, 0.05])


def blobs(n=64, depth=0.3):
    """Phases in radians, negative, of smooth blobs in a rim of empty beam; float64 [n, n]."""
    x = torch.arange(n, dtype=torch.float64) - (n - 1) / 2
    spot = lambda row, column, width: torch.exp(-((x[:, None] - row) ** 2 + (x - column) ** 2) / (2 * width**2))  # noqa: E731
    return -depth * (spot(-6, 4, 3) + 0.6 * spot(7, -5, 2.5) + 0.4 * spot(4, 9, 2))


def test_an_empty_beam_and_a_constant_phase_leave_no_trace():
    empty = object_wave(torch.zeros(2, 64, 64))
    assert torch.allclose(holograms(empty, NUMBERS), torch.ones(2, 2, 64, 64))
    assert torch.allclose(holograms(object_wave(torch.full((64, 64), -0.7)), NUMBERS), torch.ones(2, 64, 64), atol=1e-6)


def test_the_transmission_of_matter():
    """10 um of water at 8 keV, whose mass attenuation is 10.37 cm^2/g (NIST)."""
    k, delta, beta = 2 * math.pi / 0.155, 5.77e-6, 1.28e-8
    thickness = torch.tensor([[10e3]])
    wave = object_wave(-k * delta * thickness, k * beta * thickness)
    assert float(wave.abs() ** 2) == pytest.approx(math.exp(-thickness.item() / 9.64e5), abs=1e-4)
    assert float(wave.angle()) == pytest.approx(-2.339, abs=1e-3)


def test_holograms_keep_the_photons_and_differ_between_distances():
    found = holograms(object_wave(blobs(depth=2.0)), NUMBERS)
    assert found.shape == (2, 64, 64)
    assert torch.allclose(found.mean((1, 2)), torch.ones(2, dtype=torch.float64))
    assert float((found[0] - found[1]).abs().max()) > 0.1
    assert torch.allclose(holograms(object_wave(blobs(depth=2.0)), float(NUMBERS[1]))[0], found[1])


@pytest.mark.parametrize("kind", ["phase", "absorption"])
def test_weak_objects_follow_their_contrast_transfer(kind):
    """To first order: a tenth of the object leaves a hundredth of the error."""
    errors = []
    for depth in (1e-2, 1e-3):
        weak = blobs(depth=depth)
        given = {"phase": weak} if kind == "phase" else {"phase": torch.zeros_like(weak), "absorption": -weak}
        contrast = getattr(weak_contrast(NUMBERS, (64, 64), dtype=torch.float64), kind)
        expected = 1 + torch.fft.ifft2(contrast * torch.fft.fft2(given[kind])).real
        errors.append(float((holograms(object_wave(**given), NUMBERS) - expected).abs().max()))
    assert errors[0] < 3 * 1e-2**2
    assert errors[0] / errors[1] == pytest.approx(100, rel=0.1)


def test_a_phase_grating_shows_itself_at_its_talbot_distance_alone():
    """Period d: no contrast after d^2/wavelength, all of it, 2 phi, after half that distance."""
    n, period = 64, 8
    grating = 1e-3 * torch.cos(2 * math.pi * torch.arange(n, dtype=torch.float64) / period).expand(n, n)
    half = 2 / period**2  # fresnel number of a pixel after d^2 / (2 wavelength)
    at_half, at_whole = holograms(object_wave(grating), torch.tensor([half, half / 2], dtype=torch.float64))
    assert float((at_half - 1).abs().max()) == pytest.approx(2e-3, rel=1e-2)
    assert float((at_whole - 1).abs().max()) < 1e-5


def test_photons_are_counted_with_poisson_noise():
    expected = 50 * holograms(object_wave(blobs()), NUMBERS)
    counts = torch.stack([count(expected, generator=torch.Generator().manual_seed(s)) for s in range(200)])
    assert torch.equal(counts, counts.round())
    assert torch.allclose(counts.mean(0), expected, atol=5 * math.sqrt(65 / 200))
    assert float((counts - expected).pow(2).mean() / expected.mean()) == pytest.approx(1, abs=0.01)
    with pytest.raises(OpticsError, match="expected photons are negative or not finite"):
        count(-expected, generator=torch.Generator())


def test_an_object_cannot_amplify():
    with pytest.raises(OpticsError, match="absorption down to -0.5: expected 0 or above"):
        object_wave(torch.zeros(4, 4), torch.full((4, 4), -0.5))


def test_phase_can_be_learned_through_a_hologram():
    phase = blobs().requires_grad_()
    (gradient,) = torch.autograd.grad(holograms(object_wave(phase), 0.03).square().sum(), phase)
    assert torch.isfinite(gradient).all()
    assert float(gradient.abs().max()) > 0.1


def relative(found, true):
    """Error of phases over that of a guess of the mean."""
    return float(((found - found.mean()) - (true - true.mean())).norm() / (true - true.mean()).norm())


def test_contrast_is_inverted_up_to_coarse_and_lost_frequencies():
    """What is left is the mean curvature of the field, that sin(chi) is too small for; more distances lose less."""
    weak, numbers = blobs(depth=0.01), torch.tensor([0.02, 0.03, 0.05, 0.1])
    seen = holograms(object_wave(weak), numbers)
    errors = [relative(invert_contrast(seen, numbers, strength=strength), weak) for strength in (1e-2, 1e-4)]
    assert errors[1] < 0.05 < errors[0] < 0.3
    assert relative(invert_contrast(seen[:1], numbers[:1], strength=1e-2), weak) > errors[0]
    assert relative(-invert_contrast(seen, numbers, strength=1e-4), weak) > 1.9


def test_absorption_of_one_material_brings_the_mean_back():
    """With beta / delta known the zeroth frequency is seen as well."""
    weak, ratio = blobs(depth=0.01), 0.2
    seen = holograms(object_wave(weak, -ratio * weak), NUMBERS)
    found = invert_contrast(seen, NUMBERS, absorption_ratio=ratio, strength=1e-4)
    assert float((found - weak).norm() / weak.norm()) < 0.03
    assert float((invert_contrast(seen, NUMBERS, strength=1e-4) - weak).norm() / weak.norm()) > 0.3


@pytest.mark.parametrize("step", [alternate, partial(reflect, beta=0.9)], ids=["alternate", "reflect"])
def test_strong_phases_are_retrieved_from_one_hologram_with_a_support(step):
    """Where the contrast is no longer linear."""
    strong = blobs(depth=1.5)
    seen = holograms(object_wave(strong), 0.03)
    known = KnownObject(support=strong < -0.005, phase=(-math.pi, 0))
    found = retrieve(seen, 0.03, known, n_iterations=100, step=step)
    assert found.misfit.shape == (100,)
    assert float(found.misfit[-1]) < 0.2 * float(found.misfit[0])
    assert float((found.wave.angle() - strong).norm() / strong.norm()) < 0.06
    assert relative(invert_contrast(seen, 0.03), strong) > 0.2


def test_batches_keep_apart_and_the_truth_is_a_fixed_point():
    both = torch.stack([blobs(depth=0.5), blobs(depth=1.0)])
    seen = holograms(object_wave(both), NUMBERS)
    known = KnownObject(phase=(-math.pi, 0))
    found = retrieve(seen, NUMBERS, known, n_iterations=5)
    assert torch.allclose(found.wave[1], retrieve(seen[1], NUMBERS, known, n_iterations=5).wave)
    kept = retrieve(seen, NUMBERS, known, n_iterations=3, start=object_wave(both))
    assert torch.allclose(kept.wave, object_wave(both), atol=1e-6)
    assert float(kept.misfit.max()) < 1e-6


def test_what_was_not_measured_is_not_looked_at():
    true = object_wave(blobs(depth=1.0))
    seen, known = holograms(true, NUMBERS), KnownObject(phase=(-math.pi, 0))
    mask = torch.rand(seen.shape, generator=torch.Generator().manual_seed(0)) > 0.1
    found = [
        retrieve(torch.where(mask, seen, spoiled), NUMBERS, known, n_iterations=20, mask=mask)
        for spoiled in (0.0, -5.0)
    ]
    assert torch.equal(found[0].wave, found[1].wave)
    blind = retrieve(torch.where(mask, seen, 0.0), NUMBERS, known, n_iterations=20)
    assert float((found[0].wave - true).norm()) < 0.5 * float((blind.wave - true).norm())
    kept = retrieve(torch.where(mask, seen, 0.0), NUMBERS, known, n_iterations=3, start=true, mask=mask)
    assert torch.allclose(kept.wave, true, atol=1e-6)


def test_what_is_known_of_an_object_is_kept_to():
    wave = 1.5 * torch.randn(64, 64, dtype=torch.complex128, generator=torch.Generator().manual_seed(0))
    support = blobs() < -0.1
    known = KnownObject(support=support, phase=(-1.0, 0.0), absorption=(0.0, 0.5))
    once = known(wave)
    assert torch.allclose(known(once), once)
    assert (once[~support] == 1).all()
    assert float(once.angle().max()) <= 0
    assert float(once.angle().min()) >= -1 - 1e-12
    assert float(once.abs().max()) <= 1
    assert float(once.abs().min()) >= math.exp(-0.5) - 1e-7


def test_solvers_refuse_what_makes_no_sense():
    seen = torch.ones(2, 64, 64)
    known = KnownObject()
    with pytest.raises(OpticsError, match=r"holograms of shape \(2, 64, 64\) at 1 distances: expected \[..., 1, row"):
        invert_contrast(seen, 0.03)
    for solve in (invert_contrast, partial(retrieve, known=known, n_iterations=1)):
        with pytest.raises(OpticsError, match="holograms are negative or not finite"):
            solve(-seen, NUMBERS)
    with pytest.raises(OpticsError, match="strength = 0"):
        invert_contrast(seen, NUMBERS, strength=0.0)
    with pytest.raises(OpticsError, match="n_iterations = 0"):
        retrieve(seen, NUMBERS, known, n_iterations=0)
    with pytest.raises(OpticsError, match="under-sampled"):
        retrieve(seen, NUMBERS / 10, known, n_iterations=1)
    with pytest.raises(OpticsError, match=r"phase = \(1, 0\): expected the smaller value first"):
        KnownObject(phase=(1, 0))
    with pytest.raises(OpticsError, match=r"phase = \(-4.0, 0.0\): expected values within \[-pi, pi\]"):
        KnownObject(phase=(-4.0, 0.0))
    with pytest.raises(OpticsError, match="support is False everywhere"):
        KnownObject(support=torch.zeros(4, 4, dtype=torch.bool))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
def test_retrieval_is_the_same_on_a_gpu():
    seen, known = holograms(object_wave(blobs()), NUMBERS), KnownObject(phase=(-math.pi, 0))
    assert torch.allclose(invert_contrast(seen.cuda(), NUMBERS).cpu(), invert_contrast(seen, NUMBERS))
    found = retrieve(seen.cuda(), NUMBERS, known, n_iterations=5).wave
    assert torch.allclose(found.cpu(), retrieve(seen, NUMBERS, known, n_iterations=5).wave)
