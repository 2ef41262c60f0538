"""Near-field holograms of phase and amplitude objects in a plane wave, at one distance or several; their linear limit.

An object multiplies the wave by ``exp(i phase - absorption)``. A path of t in matter, n = 1 - delta + i beta, has
``phase = -k delta t`` and ``absorption = k beta t``: phases of X-rays are negative. Holograms are intensities divided
by that of the empty beam, which is 1. For a cone beam see `rephase.optics.propagation.effective_geometry`.
"""

import math
from typing import NamedTuple

import torch

from rephase.errors import OpticsError
from rephase.optics.propagation import Fresnel


class Contrast(NamedTuple):
    """Transfer functions [distance, row, column], in FFT order, of the contribution of a weak object to holograms."""

    phase: torch.Tensor
    absorption: torch.Tensor


def object_wave(phase: torch.Tensor, absorption: torch.Tensor | None = None) -> torch.Tensor:
    """Compute the wave directly behind the object, ``exp(i phase - absorption)``; complex, with the shape of `phase`.

    Parameters
    ----------
    phase
        Phase in radians, negative where X-rays pass through matter.
    absorption
        Absorption of the amplitude; by default 0, a pure phase object. Negative values would be gain.

    Raises
    ------
    OpticsError
        The absorption is negative.
    """
    if absorption is None:
        return torch.polar(torch.ones_like(phase), phase)
    if (absorption < 0).any():
        raise OpticsError(f"absorption down to {float(absorption.min()):.4g}: expected 0 or above; exp(-absorption)")
    return torch.polar(torch.exp(-absorption), phase)


def holograms(wave: torch.Tensor, fresnel_numbers: torch.Tensor | float) -> torch.Tensor:
    """Compute holograms [..., distance, row, column] of waves [..., row, column], ``|Fresnel wave|^2``.

    Parameters
    ----------
    wave
        Wave directly behind the objects, 1 in the empty beam.
    fresnel_numbers
        Fresnel number of each distance, [distance], or a number.

    Raises
    ------
    OpticsError
        As in `rephase.optics.propagation.Fresnel`.
    """
    propagator = Fresnel(torch.atleast_1d(torch.as_tensor(fresnel_numbers)))
    return propagator(wave[..., None, :, :]).abs() ** 2


def weak_contrast(
    fresnel_numbers: torch.Tensor | float,
    shape: tuple[int, int],
    *,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
) -> Contrast:
    """Compute contrast transfer functions: the spectrum of a weak object's hologram is linear in phase and absorption.

    ``I - 1 = 2 sin(chi) phase - 2 cos(chi) absorption`` with ``chi = pi f^2 / fresnel_number``, f in cycles per pixel,
    to first order in phase and absorption, both far below 1 (Cloetens et al. 1999, doi:10.1063/1.125225). A phase that
    is uniform over the field is invisible at every distance, because sin(chi) = 0 at f = 0.

    Parameters
    ----------
    fresnel_numbers
        As in `holograms`.
    shape
        Number of rows and columns.
    dtype, device
        Dtype and device of the result.
    """
    numbers = torch.atleast_1d(torch.as_tensor(fresnel_numbers, dtype=torch.float64, device=device))
    rows, columns = (torch.fft.fftfreq(n, dtype=torch.float64, device=device) for n in shape)
    chi = math.pi * (rows[:, None] ** 2 + columns**2) / numbers[:, None, None]
    return Contrast((2 * torch.sin(chi)).to(dtype), (-2 * torch.cos(chi)).to(dtype))
