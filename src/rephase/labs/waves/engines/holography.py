"""Phase retrieval from near-field holograms: linear inversion of the contrast transfer, and iterated projections."""

from typing import NamedTuple

import torch

from rephase.errors import OpticsError, check_positive
from rephase.labs.waves.engines.projections import KnownObject, Step, alternate, with_amplitude
from rephase.optics.holography import weak_contrast
from rephase.optics.propagation import Fresnel


class Retrieved(NamedTuple):
    """Exit waves of the objects [..., row, column], and the misfit [..., iteration] of each iterate."""

    wave: torch.Tensor
    misfit: torch.Tensor


def invert_contrast(
    holograms: torch.Tensor,
    fresnel_numbers: torch.Tensor | float,
    *,
    absorption_ratio: float = 0.0,
    strength: float = 1e-2,
) -> torch.Tensor:
    """Retrieve phases of weak objects by least squares with Tikhonov regularisation, from all distances at once.

    ``phase = sum_d H_d (I_d - 1) / (sum_d H_d^2 + strength)`` in Fourier space; ``H = 2 sin(chi) + 2 ratio cos(chi)``
    for objects of one material, whose absorption is ``-ratio phase`` (Turner et al. 2004, doi:10.1364/OPEX.12.002960).

    Parameters
    ----------
    holograms
        Holograms over the empty beam, [..., distance, row, column].
    fresnel_numbers
        Fresnel numbers of a pixel, [distance], or one number.
    absorption_ratio
        beta / delta; 0 for a pure phase object, whose mean phase is not measured and is returned as 0.
    strength
        Strength of the regularisation, compared with H^2 of at most 4 per distance: the squared ratio of noise to
        phases.

    Returns
    -------
    torch.Tensor
        Phases in radians [..., row, column].

    Raises
    ------
    OpticsError
        The numbers of holograms and distances differ, holograms are negative or not finite, or the strength is not
        above 0.
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
    """Retrieve exit waves by iterated projections; the projections on several distances are averaged.

    Parameters
    ----------
    holograms, fresnel_numbers
        As in `invert_contrast`.
    known
        Prior knowledge of the objects: support, ranges of phase and absorption.
    n_iterations
        Number of iterations, at least 1.
    start
        Waves [..., row, column] to start from; by default the empty beam.
    mask
        Boolean, broadcasts with the holograms; False where nothing was measured. Values there are ignored.
    step
        `alternate`, or `reflect` with a relaxation: ``functools.partial(reflect, beta=0.8)``.

    Returns
    -------
    Retrieved
        The last wave, which fulfils `known`, and the relative misfit of the amplitudes
        ``(sum (|wave at the detector| - sqrt(I))^2 / sum I)^1/2`` of every iterate before its correction.

    Raises
    ------
    OpticsError
        Holograms are invalid as for `invert_contrast`, or the propagation is under-sampled.
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
    """Check the holograms and return their rows and columns."""
    n = torch.as_tensor(fresnel_numbers).numel()
    if holograms.ndim < 3 or holograms.shape[-3] != n:
        raise OpticsError(
            f"holograms of shape {tuple(holograms.shape)} at {n} distances: expected [..., {n}, row, column]"
        )
    if not (torch.isfinite(holograms).all() and (holograms >= 0).all()):
        raise OpticsError("holograms are negative or not finite in places: expected intensities over the empty beam")
    return holograms.shape[-2], holograms.shape[-1]
