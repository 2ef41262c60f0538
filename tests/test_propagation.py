"""Propagation of waves against the analytic Gaussian beam and a published convention; what is unitary stays so."""

import math

import numpy as np
import pytest
import torch

from rephase.errors import OpticsError
from rephase.optics.propagation import (
    AngularSpectrum,
    FarField,
    Fresnel,
    effective_geometry,
    far_field_pixel,
    fresnel_number,
)

WAVELENGTH, PIXEL = 0.1, 50.0  # nm
NEAR = fresnel_number(wavelength=WAVELENGTH, pixel=PIXEL, distance=5e5)


def random_wave(*shape, dtype=torch.complex128):
    return torch.randn(*shape, dtype=dtype, generator=torch.Generator().manual_seed(1))


def gaussian_beam(distance, waist=400.0, n=96):
    """Field of a Gaussian beam in closed form, without its carrier; waist in nm, at distance 0."""
    x = PIXEL * (torch.arange(n, dtype=torch.float64) - n // 2)
    squared = x[:, None] ** 2 + x**2
    q = 1 + 1j * distance * WAVELENGTH / (math.pi * waist**2)
    return torch.exp(-squared / waist**2 / q) / q


def propagators():
    return [FarField(), Fresnel(NEAR), AngularSpectrum(wavelength=WAVELENGTH, pixel=PIXEL, distance=5e5)]


@pytest.mark.parametrize("distance", [5e5, 2e6])
def test_a_gaussian_beam_spreads_as_its_closed_form_says(distance):
    expected = gaussian_beam(distance)
    width = math.hypot(1, distance * WAVELENGTH / (math.pi * 400**2))
    assert float(expected.abs().max()) == pytest.approx(1 / width)
    by_fresnel = Fresnel(fresnel_number(wavelength=WAVELENGTH, pixel=PIXEL, distance=distance))(gaussian_beam(0))
    exact = AngularSpectrum(wavelength=WAVELENGTH, pixel=PIXEL, distance=distance)(gaussian_beam(0))
    for found in (by_fresnel, exact):  # at slopes of 1e-4 both are the same
        assert float((found - expected).abs().max()) < 1e-6


def test_a_tilted_wave_gains_the_phase_of_its_own_path():
    """Angular spectrum at 0.4 rad, where the paraxial phase is wrong by far."""
    n, wavelength, pixel, distance = 64, 1.0, 2.5, 20.0
    sine = wavelength * 16 / n / pixel
    wave = torch.exp(2j * math.pi * torch.arange(n, dtype=torch.float64) * 16 / n).expand(n, n)
    found = AngularSpectrum(wavelength=wavelength, pixel=pixel, distance=distance)(wave)
    expected = wave * np.exp(2j * math.pi * distance / wavelength * (math.cos(math.asin(sine)) - 1))
    assert torch.allclose(found, expected)
    paraxial = Fresnel(fresnel_number(wavelength=wavelength, pixel=pixel, distance=distance))(wave)
    assert torch.allclose(paraxial, wave * np.exp(-1j * math.pi * distance / wavelength * sine**2))


def test_the_fresnel_kernel_is_that_of_hotopy():
    """``|ifft2(fft2(psi) exp(-i pi (fx^2 + fy^2) / fr))|^2`` with f in cycles per pixel, written out in numpy."""
    wave = random_wave(48, 40).numpy()
    fy, fx = np.meshgrid(np.fft.fftfreq(48), np.fft.fftfreq(40), indexing="ij")
    expected = np.abs(np.fft.ifft2(np.fft.fft2(wave) * np.exp(-1j * np.pi * (fx**2 + fy**2) / 0.03))) ** 2
    found = Fresnel(0.03)(torch.as_tensor(wave)).abs() ** 2
    assert np.allclose(found.numpy(), expected, rtol=1e-12)


def test_the_far_field_of_a_shifted_aperture_is_a_ramp_about_the_middle():
    wave = torch.zeros(2, 16, 16, dtype=torch.complex128)
    wave[0, 0, 0], wave[1, 0, 3] = 1, 1
    far = FarField()(wave)
    assert torch.allclose(far[0], torch.full((16, 16), 1 / 16, dtype=torch.complex128))
    column = torch.arange(16, dtype=torch.float64) - 8
    assert torch.allclose(far[1], torch.exp(-2j * math.pi * 3 * column / 16).expand(16, 16) / 16)


@pytest.mark.parametrize("propagator", propagators(), ids=lambda p: type(p).__name__)
def test_energy_is_kept_and_the_way_back_leads_to_the_start(propagator):
    wave = random_wave(3, 64, 80)
    found = propagator(wave)
    assert torch.allclose(found.abs().pow(2).sum((-2, -1)), wave.abs().pow(2).sum((-2, -1)))
    assert torch.allclose(propagator.back(found), wave)
    assert not torch.allclose(found, wave)


def test_two_half_steps_are_one_step():
    wave = random_wave(64, 64)
    half, whole = Fresnel(2 * NEAR), Fresnel(NEAR)
    assert torch.allclose(half(half(wave)), whole(wave))
    half, whole = (AngularSpectrum(wavelength=WAVELENGTH, pixel=PIXEL, distance=d) for d in (2.5e5, 5e5))
    assert torch.allclose(half(half(wave)), whole(wave))


def test_each_distance_has_its_own_fresnel_number():
    wave = random_wave(3, 1, 64, 64)
    numbers = torch.tensor([0.02, 0.05])
    found = Fresnel(numbers)(wave)
    assert found.shape == (3, 2, 64, 64)
    assert torch.allclose(found[:, 1], Fresnel(float(numbers[1]))(wave[:, 0]))


@pytest.mark.parametrize("propagator", propagators(), ids=lambda p: type(p).__name__)
def test_single_precision_is_kept_and_close_to_double(propagator):
    found = propagator(random_wave(64, 64).to(torch.complex64))
    assert found.dtype == torch.complex64
    assert float((found - propagator(random_wave(64, 64))).abs().max()) < 1e-5


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
@pytest.mark.parametrize("propagator", propagators(), ids=lambda p: type(p).__name__)
def test_a_gpu_gives_the_same(propagator):
    on_gpu = propagator(random_wave(64, 64).cuda())
    assert torch.allclose(on_gpu.cpu(), propagator(random_wave(64, 64)))


@pytest.mark.parametrize("propagator", propagators(), ids=lambda p: type(p).__name__)
def test_gradients_of_an_intensity_are_those_of_finite_differences(propagator):
    wave = random_wave(24, 24).requires_grad_()
    assert torch.autograd.gradcheck(lambda wave: propagator(wave).abs() ** 2, wave, fast_mode=True)


def test_the_distance_can_be_refined():
    number = torch.tensor(0.05, dtype=torch.float64, requires_grad=True)
    wave = random_wave(24, 24)
    assert torch.autograd.gradcheck(lambda number: Fresnel(number)(wave).abs() ** 2, number, fast_mode=True)


def test_under_sampling_is_reported_with_the_sampling_that_is_needed():
    number = fresnel_number(wavelength=WAVELENGTH, pixel=PIXEL, distance=2e6)
    assert 1 / number == pytest.approx(80)
    Fresnel(number)(random_wave(80, 80))
    with pytest.raises(OpticsError, match="field of 79 x 96 pixels: under-sampled.*at least 80 pixels"):
        Fresnel(number)(random_wave(79, 96))
    exact = AngularSpectrum(wavelength=WAVELENGTH, pixel=PIXEL, distance=2e6)
    exact(random_wave(81, 81))
    with pytest.raises(OpticsError, match="under-sampled at 2e.06 nm; expected at least 81 pixels"):
        exact(random_wave(80, 80))


def test_what_a_cone_beam_shows_in_parallel_light():
    """Near-field set of P25: focus 3.65 mm before the sample, detector 1.12 m behind, pixels of 55 um."""
    geometry = effective_geometry(pixel=55e3, source_distance=3.65e6, detector_distance=1.12e9)
    assert geometry.magnification == pytest.approx(307.849, abs=1e-3)
    assert 1 / geometry.distance == pytest.approx(1 / 3.65e6 + 1 / 1.12e9)
    assert geometry.pixel == pytest.approx(178.659, abs=1e-3)
    far = far_field_pixel(wavelength=0.1, detector_pixel=75e3, distance=2e9, n_pixels=256)
    assert far == pytest.approx(10.4167, abs=1e-4)


def test_impossible_lengths_are_refused():
    good = {"wavelength": 0.1, "pixel": 50.0, "distance": 1e6}
    for name in good:
        for value in (0.0, -1.0, math.nan, math.inf):
            with pytest.raises(OpticsError, match=f"{name} = .*above 0; give a length in nm"):
                fresnel_number(**{**good, name: value})
            with pytest.raises(OpticsError, match=f"{name} = "):
                AngularSpectrum(**{**good, name: value})
    with pytest.raises(OpticsError, match="pixel = 0.07 nm: expected more than 0.07071 nm"):
        AngularSpectrum(wavelength=0.1, pixel=0.07, distance=1.0)
    with pytest.raises(OpticsError, match="fresnel_number = -0.1: expected numbers above 0"):
        Fresnel(-0.1)
    with pytest.raises(OpticsError, match="source_distance = 0"):
        effective_geometry(pixel=1.0, source_distance=0.0, detector_distance=1.0)
    with pytest.raises(OpticsError, match="n_pixels = 0"):
        far_field_pixel(wavelength=0.1, detector_pixel=1.0, distance=1.0, n_pixels=0)
