"""Scores of waves: nothing that cannot be measured counts, everything else does; known values."""

import math

import numpy as np
import pytest
import skimage.metrics
import torch

from rephase.labs.waves.scores import align_wave, amplitude_ssim, phase_ssim, ring_correlation, wave_error


def objects(n=3, rows=40, columns=48, seed=0):
    """Smooth, complex, without symmetry."""
    coarse = torch.rand(2, n, 1, 8, 8, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    smooth = [torch.nn.functional.interpolate(c, (rows, columns), mode="bicubic")[:, 0] for c in coarse]
    return torch.polar(0.5 + 0.5 * smooth[0].clamp(0, 1), 2 * smooth[1])


def ramp(rows, columns, down, right):
    y, x = torch.arange(rows, dtype=torch.float64), torch.arange(columns, dtype=torch.float64)
    return torch.exp(2j * math.pi * (down * y[:, None] / rows + right * x / columns))


@pytest.mark.parametrize("slopes", [(0.0, 0.0), (0.3, -0.45), (3.2, 5.7)])
def test_phase_ramp_and_twin_do_not_count(slopes):
    true = objects()
    turned = true * ramp(40, 48, *slopes) * np.exp(2.1j)
    for pred in (turned, turned.flip((-2, -1)).conj()):
        found = align_wave(pred, true)
        assert float((found - true).abs().max()) < 1e-6
    assert float(wave_error(turned, true).min()) > 0.1


def test_what_is_wrong_stays_wrong():
    true = objects()
    noise = 0.05 * torch.randn(true.shape, dtype=true.dtype, generator=torch.Generator().manual_seed(3))
    expected = wave_error(true + noise, true)
    found = wave_error(align_wave((true + noise) * ramp(40, 48, 0.7, 0.2), true), true)
    assert torch.allclose(found, expected, rtol=0.01)
    assert (found <= expected + 1e-9).all()
    assert float(wave_error(align_wave(1.1 * true, true), true).max()) == pytest.approx(0.1)
    other = wave_error(align_wave(objects(seed=9), true), true)
    assert float(other.min()) > 0.3


def test_where_the_beam_never_was_nothing_counts():
    true, weight = objects(), torch.zeros(40, 48)
    weight[8:30, 8:40] = 1
    pred = torch.where(weight > 0, true * ramp(40, 48, 0.4, -0.3), 7)
    aligned = align_wave(pred, true, weight)
    assert float(wave_error(aligned, true, weight).max()) < 1e-6


def test_similarity_is_that_of_scikit_image():
    true = objects()
    pred = true + 0.05 * torch.randn(true.shape, dtype=true.dtype, generator=torch.Generator().manual_seed(3))
    for score, part in ((amplitude_ssim, np.abs), (phase_ssim, np.angle)):
        found = score(pred, true)
        for value, p, t in zip(found, part(pred.numpy()), part(true.numpy())):
            expected = skimage.metrics.structural_similarity(t, p, data_range=np.ptp(t))
            assert float(value) == pytest.approx(expected, abs=1e-6)
    assert torch.allclose(amplitude_ssim(true, true), torch.ones(3, dtype=torch.float64))


def test_phases_that_wrap_are_as_similar():
    true = torch.polar(torch.ones(1, 32, 32), torch.linspace(-6, -1, 32).expand(1, 32, 32))
    assert float(phase_ssim(true * np.exp(0.01j), true)) > 0.99


def test_ring_correlation_of_the_same_of_noise_and_of_a_band():
    true = torch.randn(2, 64, 64, dtype=torch.complex128, generator=torch.Generator().manual_seed(0))
    other = torch.randn(2, 64, 64, dtype=torch.complex128, generator=torch.Generator().manual_seed(1))
    assert torch.allclose(ring_correlation(true, true), torch.ones(2, 33, dtype=torch.float64))
    assert float(ring_correlation(other, true)[:, 3:].abs().mean()) < 0.1
    radius = 64 * torch.hypot(torch.fft.fftfreq(64)[:, None], torch.fft.fftfreq(64))
    mixed = torch.fft.ifft2(torch.where(radius < 10, torch.fft.fft2(true), torch.fft.fft2(other)))
    found = ring_correlation(mixed, true)
    assert torch.allclose(found[:, :10], torch.ones(2, 10, dtype=torch.float64))
    assert float(found[:, 11:].abs().mean()) < 0.1
    half = ring_correlation(true + other, true)[:, 10:].mean()
    assert float(half) == pytest.approx(math.sqrt(0.5), abs=0.02)
