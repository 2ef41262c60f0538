"""Propagation of coherent waves through free space: Fresnel, angular spectrum and far field, with sampling checks.

Fields are complex [..., row, column] on square pixels, and periodic: a wave that leaves on one side enters on the
other, so an object needs a margin of empty beam. The carrier exp(i k z) is left out. Every propagator is unitary, so
``back`` is both its inverse and its adjoint, and differentiable in the field; `Fresnel` also in its Fresnel number.
"""

import math
from typing import NamedTuple, Protocol

import torch

from rephase.errors import OpticsError, check_positive


class Propagator(Protocol):
    """Propagation from the wave behind the object to that on the detector, and back; both [..., row, column]."""

    def __call__(self, wave: torch.Tensor) -> torch.Tensor:
        """Wave on the detector."""
        ...

    def back(self, wave: torch.Tensor) -> torch.Tensor:
        """Wave behind the object."""
        ...


class FarField:
    """Fraunhofer diffraction, ``fftshift(fft2(wave))`` with norm="ortho": the beam hits pixel n // 2 of each side.

    This is the convention of pty-chi. A detector pixel corresponds to one cycle per field of view, see
    `far_field_pixel`.
    """

    def __call__(self, wave: torch.Tensor) -> torch.Tensor:
        """Wave on the detector."""
        return torch.fft.fftshift(torch.fft.fft2(wave, norm="ortho"), dim=(-2, -1))

    def back(self, wave: torch.Tensor) -> torch.Tensor:
        """Wave behind the object."""
        return torch.fft.ifft2(torch.fft.ifftshift(wave, dim=(-2, -1)), norm="ortho")


class Fresnel:
    """Paraxial propagation: the spectrum times ``exp(-i pi (fx^2 + fy^2) / fresnel_number)``, f in cycles per pixel.

    Parameters
    ----------
    fresnel_number
        ``pixel^2 / (wavelength distance)`` from `fresnel_number`: a number, or a tensor with one for each field that
        broadcasts with their leading axes.

    Raises
    ------
    OpticsError
        The Fresnel number is not above 0; or, at the call, the fields have fewer than ``1 / fresnel_number`` pixels
        along a side, so that the kernel's phase changes by more than pi from one to the next.
    """

    def __init__(self, fresnel_number: torch.Tensor | float):
        self.fresnel_number = torch.as_tensor(fresnel_number, dtype=torch.float64)
        if not (torch.isfinite(self.fresnel_number).all() and (self.fresnel_number > 0).all()):
            raise OpticsError(
                f"fresnel_number = {fresnel_number}: expected numbers above 0, pixel^2 / (wavelength distance); "
                "back() goes upstream"
            )

    def __call__(self, wave: torch.Tensor) -> torch.Tensor:
        """Wave further down the beam."""
        self._check_sampling(wave.shape)
        rows, columns = (self._kernel(n, wave) for n in wave.shape[-2:])
        return torch.fft.ifft2(torch.fft.fft2(wave) * rows[..., :, None] * columns[..., None, :])

    def back(self, wave: torch.Tensor) -> torch.Tensor:
        """Wave further up the beam."""
        return self(wave.conj()).conj()

    def _kernel(self, n: int, wave: torch.Tensor) -> torch.Tensor:
        frequency = torch.fft.fftfreq(n, dtype=torch.float64, device=wave.device)
        # in float64, because the phase covers many turns
        phase = -math.pi * frequency**2 / self.fresnel_number.to(wave.device)[..., None]
        return torch.exp(1j * phase).to(wave.dtype)

    def _check_sampling(self, shape: torch.Size) -> None:
        smallest = float(self.fresnel_number.detach().min())
        needed = math.ceil(1 / smallest - 1e-9)
        if min(shape[-2:]) < needed:
            raise OpticsError(
                f"field of {shape[-2]} x {shape[-1]} pixels: under-sampled at the Fresnel number {smallest:.4g}; "
                f"expected at least {needed} pixels along each side: pad it, take larger pixels or a shorter distance"
            )


class AngularSpectrum:
    """Propagation without the paraxial approximation: the spectrum times ``exp(i z (sqrt(k^2 - q^2) - k))``.

    Parameters
    ----------
    wavelength, pixel, distance
        In nm.

    Raises
    ------
    OpticsError
        A value is not above 0, or the pixels are so small for the wavelength that the finest waves would be evanescent;
        or, at the call, the field has so few pixels that the kernel's phase changes by more than pi from one to the
        next.
    """

    def __init__(self, *, wavelength: float, pixel: float, distance: float):
        _check_lengths(wavelength=wavelength, pixel=pixel, distance=distance)
        if pixel * math.sqrt(2) <= wavelength:
            raise OpticsError(
                f"pixel = {pixel:g} nm: expected more than {wavelength / math.sqrt(2):.4g} nm, wavelength / sqrt(2); "
                "finer waves do not propagate"
            )
        self.wavelength, self.pixel, self.distance = wavelength, pixel, distance

    def __call__(self, wave: torch.Tensor) -> torch.Tensor:
        """Wave further down the beam."""
        self._check_sampling(wave.shape)
        rows, columns = (
            torch.fft.fftfreq(n, d=self.pixel, dtype=torch.float64, device=wave.device) for n in wave.shape[-2:]
        )
        squared = rows[:, None] ** 2 + columns**2
        # sqrt(1/wavelength^2 - f^2) - 1/wavelength without the difference of two large numbers
        depth = -squared / ((self.wavelength**-2 - squared).sqrt() + 1 / self.wavelength)
        kernel = torch.exp(2j * math.pi * self.distance * depth).to(wave.dtype)
        return torch.fft.ifft2(torch.fft.fft2(wave) * kernel)

    def back(self, wave: torch.Tensor) -> torch.Tensor:
        """Wave further up the beam."""
        return self(wave.conj()).conj()

    def _check_sampling(self, shape: torch.Size) -> None:
        edge = 1 / (2 * self.pixel)
        slope = edge / math.sqrt(self.wavelength**-2 - 2 * edge**2)  # of the finest waves (at a corner) to the beam
        needed = math.ceil(2 * self.distance * slope / self.pixel - 1e-9)
        if min(shape[-2:]) < needed:
            raise OpticsError(
                f"field of {shape[-2]} x {shape[-1]} pixels: under-sampled at {self.distance:g} nm; expected at least "
                f"{needed} pixels along each side: pad it, take larger pixels or a shorter distance"
            )


class Geometry(NamedTuple):
    """Parallel beam with the same hologram as a cone beam: ``pixel`` and ``distance`` in nm, ``magnification``."""

    pixel: float
    distance: float
    magnification: float


def effective_geometry(*, pixel: float, source_distance: float, detector_distance: float) -> Geometry:
    """Apply Fresnel scaling: a cone-beam hologram is that of a parallel beam, magnified ``M = (z1 + z2) / z1`` times.

    The parallel beam has pixels M times finer and propagates over ``z1 z2 / (z1 + z2)``. Its wave is that of the cone
    beam without the spherical factor of the illumination (Paganin, Coherent X-Ray Optics, 2006, appendix B).

    Parameters
    ----------
    pixel
        Detector pixel, in nm.
    source_distance, detector_distance
        Distances z1 from focus to object and z2 from object to detector, in nm.

    Raises
    ------
    OpticsError
        A value is not above 0.
    """
    _check_lengths(pixel=pixel, source_distance=source_distance, detector_distance=detector_distance)
    magnification = (source_distance + detector_distance) / source_distance
    return Geometry(pixel / magnification, detector_distance / magnification, magnification)


def fresnel_number(*, wavelength: float, pixel: float, distance: float) -> float:
    """Return the Fresnel number ``pixel^2 / (wavelength distance)``, lengths in nm; `OpticsError` if any is not > 0."""
    _check_lengths(wavelength=wavelength, pixel=pixel, distance=distance)
    return pixel**2 / (wavelength * distance)


def far_field_pixel(*, wavelength: float, detector_pixel: float, distance: float, n_pixels: int) -> float:
    """Return the pixel in nm of a wave with a far-field detector: ``wavelength distance / (n_pixels detector_pixel)``.

    Parameters
    ----------
    wavelength, detector_pixel, distance
        Wavelength, detector pixel and distance from object to detector, in nm.
    n_pixels
        Number of detector pixels along this side.

    Raises
    ------
    OpticsError
        A value is not above 0.
    """
    _check_lengths(wavelength=wavelength, detector_pixel=detector_pixel, distance=distance)
    check_positive("n_pixels", n_pixels, remedy="count the pixels along a side", error=OpticsError)
    return wavelength * distance / (n_pixels * detector_pixel)


def _check_lengths(**lengths: float) -> None:
    for name, length in lengths.items():
        check_positive(name, length, remedy="give a length in nm", error=OpticsError)
