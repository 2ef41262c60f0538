"""Phases from near-field holograms: linear inversion by contrast transfer, and iterated projections."""

from typing import NamedTuple

import torch

from rephase.errors import OpticsError, check_positive
from rephase.labs.waves.engines.projections import KnownObject, Step, alternate, with_amplitude
from rephase.optics.holography import weak_contrast
from rephase.optics.propagation import Fresnel


class Retrieved(NamedTuple):
    """Waves behind the objects [..., row, column], and the misfit [..., iteration] of each iterate."""

    wave: torch.Tensor
    misfit: torch.Tensor


def invert_contrast(
    holograms: torch.Tensor,
    fresnel_numbers: torch.Tensor | float,
    *,
    absorption_ratio: float = 0.0,
    strength: float = 1e-2,
) -> torch.Tensor:
    """Phases of weak objects by least squares with Tikhonov regularisation, all distances at once.

    ``phase = sum_d H_d (I_d - 1) / (sum_d H_d^2 + strength)`` in Fourier space; ``H = 2 sin(chi) + 2 ratio cos(chi)``
    for objects of one material, whose absorption is ``-ratio phase`` (Turner et al. 2004, doi:10.1364/OPEX.12.002960).

    Parameters
    ----------
    holograms
        [..., distance, row, column] over the empty beam.
    fresnel_numbers
        [distance], or one number.
    absorption_ratio
        beta / delta, 0 for a pure phase object, whose mean phase no hologram shows: it comes out as 0.
    strength
        Of the regularisation, against H^2 of at most 4 for each distance; the square of the noise over the phases.

    Returns
    -------
    torch.Tensor
        Phases in radians [..., row, column].

    Raises
    ------
    OpticsError
        Another number of holograms than of distances, holograms that are negative or not finite, a strength that is
        not above 0.
    """
    check_positive("strength", strength, remedy="0.01 is usual", error=OpticsError)
    shape = _checked(holograms, fresnel_numbers)
    phase, absorption = weak_contrast(fresnel_numbers, shape, dtype=holograms.dtype, device=holograms.device)
    transfer = phase - absorption_ratio * absorption
    spectrum = (transfer * torch.fft.fft2(holograms - 1)).sum(-3) / (transfer.square().sum(-3) + strength)
    return torch.fft.ifft2(spectrum).real


def retrieve(
    holograms: torch.Tensor,
    fresnel_numbers: torch.Tensor | float,
    known: KnownObject,
    *,
    n_iterations: int,
    start: torch.Tensor | None = None,
    mask: torch.Tensor | None = None,
    step: Step = alternate,
) -> Retrieved:
    """Waves behind the objects by iterated projections; those on several distances are averaged.

    Parameters
    ----------
    holograms, fresnel_numbers
        As in `invert_contrast`.
    known
        Of the objects: support, ranges of phase and absorption.
    n_iterations
        At least 1.
    start
        Waves [..., row, column] to start from; by default the empty beam.
    mask
        Boolean, broadcasts with the holograms: False where nothing was measured; what stands there is not looked at.
    step
        `alternate`, or `reflect` with a relaxation: ``functools.partial(reflect, beta=0.8)``.

    Returns
    -------
    Retrieved
        The last wave, which is what is known to be possible, and the relative misfit of the amplitudes
        ``(sum (|wave at the detector| - sqrt(I))^2 / sum I)^1/2`` of every iterate before it was corrected.

    Raises
    ------
    OpticsError
        Holograms as `invert_contrast` refuses them; under-sampled propagation.
    """
    if mask is not None:
        holograms = torch.where(mask, holograms, 0)
    _checked(holograms, fresnel_numbers)
    check_positive("n_iterations", n_iterations, remedy="100 is usual", error=OpticsError)
    propagator = Fresnel(torch.atleast_1d(torch.as_tensor(fresnel_numbers)))
    amplitude = holograms.sqrt()
    norm = holograms.sum((-3, -2, -1)).sqrt()
    misfits: list[torch.Tensor] = []

    def measured(wave: torch.Tensor) -> torch.Tensor:
        seen = propagator(wave[..., None, :, :])
        change = seen.abs() - amplitude if mask is None else (seen.abs() - amplitude) * mask
        misfits.append(change.square().sum((-3, -2, -1)).sqrt() / norm)
        return propagator.back(with_amplitude(seen, amplitude, mask)).mean(-3)

    wave = torch.polar(torch.ones_like(amplitude[..., 0, :, :]), torch.zeros_like(amplitude[..., 0, :, :]))
    wave = wave if start is None else start
    for _ in range(n_iterations):
        wave = step(wave, measured, known)
    return Retrieved(known(wave), torch.stack(misfits, dim=-1))


def _checked(holograms: torch.Tensor, fresnel_numbers: torch.Tensor | float) -> tuple[int, int]:
    """Rows and columns."""
    n = torch.as_tensor(fresnel_numbers).numel()
    if holograms.ndim < 3 or holograms.shape[-3] != n:
        raise OpticsError(
            f"holograms of shape {tuple(holograms.shape)} at {n} distances: expected [..., {n}, row, column]"
        )
    if not (torch.isfinite(holograms).all() and (holograms >= 0).all()):
        raise OpticsError("holograms are negative or not finite in places: expected intensities over the empty beam")
    return holograms.shape[-2], holograms.shape[-1]
