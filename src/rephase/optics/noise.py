"""Counts of patterns of any shape: expected counts, Poisson draws, likelihoods, masks and a reversible normalisation.

`rephase.optics.detector` computes the exposure of single shots on its detectors; here a pattern is [sample, ...], a
curve or an image, and expected counts keep their gradient.
"""

from typing import NamedTuple

import torch

from rephase.errors import OpticsError


class Exposure(NamedTuple):
    """Conversion of intensity to counts: ``photons I + background`` where `mask` is True.

    Attributes
    ----------
    photons
        Counts per unit of intensity, an array that broadcasts with the patterns: e.g. exposure times [sample, 1], or
        the number of pixels averaged in each point of a curve, [n_q].
    background
        Expected background counts, an array that broadcasts with the patterns.
    mask
        Boolean, with the shape of one pattern: True = measured; False e.g. behind the beam stop. None for all True.
    """

    photons: torch.Tensor | float = 1.0
    background: torch.Tensor | float = 0.0
    mask: torch.Tensor | None = None


class Normalised(NamedTuple):
    """Patterns divided by their mean measured count, ``scale`` [sample]: ``pattern`` [sample, ...], 0 where masked."""

    pattern: torch.Tensor
    scale: torch.Tensor


def expected_counts(intensity: torch.Tensor, exposure: Exposure) -> torch.Tensor:
    """Return the mean counts [sample, ...] of patterns [sample, ...], 0 where masked.

    Raises
    ------
    OpticsError
        Photons, background or intensities are negative or not finite, or the mask has another shape or hides
        everything.
    """
    for name, values in (("intensity", intensity), ("photons", exposure.photons), ("background", exposure.background)):
        values = torch.as_tensor(values)
        if not (torch.isfinite(values).all() and (values >= 0).all()):
            raise OpticsError(f"{name} has values that are negative or not finite: expected 0 or more")
    counts = exposure.photons * intensity + exposure.background
    if exposure.mask is None:
        return counts
    check_mask(exposure.mask, intensity)
    return torch.where(exposure.mask, counts, 0.0)


def draw_counts(intensity: torch.Tensor, exposure: Exposure, *, generator: torch.Generator) -> torch.Tensor:
    """Draw counts with photon noise, in the dtype of `intensity`; parameters and errors as in `expected_counts`."""
    expected = expected_counts(intensity.detach(), exposure).double()
    return count(expected, generator=generator).to(intensity)


def count(expected: torch.Tensor, *, generator: torch.Generator) -> torch.Tensor:
    """Draw Poisson counts for expected photons of any shape, in their dtype; `OpticsError` if any is impossible."""
    if not (torch.isfinite(expected).all() and (expected >= 0).all()):
        raise OpticsError("expected photons are negative or not finite in places: expected numbers of 0 or more")
    return torch.poisson(expected, generator=generator)


def poisson_log_likelihood(expected: torch.Tensor, counts: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Compute the log likelihood of counts, ``sum (n ln m - m - ln n!)`` over the measured pixels, [..., sample].

    The sum is in double precision, which counts of 10^6 require, and is returned in the dtype of `expected`.

    Parameters
    ----------
    expected
        Mean counts m [..., sample, *pattern] for any number of draws; has a gradient wherever it is above 0.
    counts
        Counts n [sample, *pattern]; effective counts, ``I^2 / sigma^2`` of measured intensities, need not be whole.
    mask
        Boolean, broadcasts with `counts`: True = measured.
    """
    mean, n = _in_double(expected, counts, mask)
    each = torch.xlogy(n, mean) - mean - torch.lgamma(n + 1)
    return _over_pattern(each, counts, mask).to(expected.dtype)


def poisson_deviance(expected: torch.Tensor, counts: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Compute the deviance of counts, ``2 sum (n ln (n/m) - n + m)`` over the measured pixels, [..., sample].

    It is 0 if both agree, and for many counts approximately chi squared, with the number of pixels as its mean. It is
    -2 times the log likelihood relative to that of perfect agreement. Parameters are as in `poisson_log_likelihood`.
    """
    mean, n = _in_double(expected, counts, mask)
    each = torch.xlogy(n, n) - torch.xlogy(n, mean) - n + mean
    return 2 * _over_pattern(each, counts, mask).to(expected.dtype)


def _in_double(expected: torch.Tensor, counts: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Convert both to double precision; the mean is > 0, and 1 where not measured, so that gradients are finite."""
    return expected.double().where(mask, 1.0).clamp_min(torch.finfo(torch.double).tiny), counts.double()


def _over_pattern(each: torch.Tensor, counts: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Sum terms [..., sample, *pattern] over the measured pixels: [..., sample]."""
    return each.where(mask, 0.0).flatten(1 - counts.ndim).sum(-1)


def normalise(counts: torch.Tensor, mask: torch.Tensor | None = None) -> Normalised:
    """Divide patterns [sample, ...] by their mean measured count; `to_counts` is the inverse.

    Raises
    ------
    OpticsError
        The mask has another shape or hides everything, or a pattern has no count.
    """
    flat = counts.flatten(1)
    if mask is None:
        mask = torch.ones_like(counts[0], dtype=torch.bool)
    check_mask(mask, counts)
    scale = flat[:, mask.flatten()].mean(1)
    if not (scale > 0).all():
        raise OpticsError(f"pattern {int((scale <= 0).int().argmax())} has no counts: expected some; expose it longer")
    each = scale.reshape(-1, *[1] * (counts.ndim - 1))
    return Normalised(torch.where(mask, counts / each, 0.0), scale)


def to_counts(normalised: Normalised) -> torch.Tensor:
    """Return the counts [sample, ...] of normalised patterns, 0 where masked."""
    pattern, scale = normalised
    return pattern * scale.reshape(-1, *[1] * (pattern.ndim - 1))


def check_mask(mask: torch.Tensor, patterns: torch.Tensor) -> None:
    """Raise `OpticsError` unless `mask` is boolean, has the shape of one pattern, and is True somewhere."""
    if mask.dtype != torch.bool or mask.shape != patterns.shape[1:]:
        raise OpticsError(
            f"mask has shape {tuple(mask.shape)}, {mask.dtype}: expected {tuple(patterns.shape[1:])}, bool"
        )
    if not mask.any():
        raise OpticsError("the mask hides everything: nothing was measured; True means measured")
