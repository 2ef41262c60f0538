"""Counts of patterns of any shape: what is expected, what is drawn, what is masked, and a scale that can be undone.

`rephase.optics.detector` has the exposure of single shots on its detectors; here a pattern is [sample, ...], a curve or
an image, and the count that is expected keeps its gradient.
"""

from typing import NamedTuple

import torch

from rephase.errors import OpticsError


class Exposure(NamedTuple):
    """How an intensity becomes counts: ``photons I + background`` where `mask` is True.

    Attributes
    ----------
    photons
        Counts for one unit of intensity: what broadcasts with the patterns, e.g. [sample, 1] of exposure times, or
        [n_q] of the pixels that a point of a curve is the mean of.
    background
        Expected counts besides: what broadcasts with the patterns.
    mask
        Boolean, of the shape of one pattern: True = measured; False e.g. behind the beam stop. None: all.
    """

    photons: torch.Tensor | float = 1.0
    background: torch.Tensor | float = 0.0
    mask: torch.Tensor | None = None


class Normalised(NamedTuple):
    """Patterns over their mean measured count: ``pattern [sample, ...]``, 0 where masked, and ``scale [sample]``."""

    pattern: torch.Tensor
    scale: torch.Tensor


def expected_counts(intensity: torch.Tensor, exposure: Exposure) -> torch.Tensor:
    """Mean counts [sample, ...] of patterns [sample, ...], 0 where masked.

    Raises
    ------
    OpticsError
        Photons, background or intensities that are negative or not finite, or a mask of another shape or that hides
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
    """Counts with the noise of photons, of the dtype of `intensity`; parameters and errors as `expected_counts`."""
    expected = expected_counts(intensity.detach(), exposure).double()
    return count(expected, generator=generator).to(intensity)


def count(expected: torch.Tensor, *, generator: torch.Generator) -> torch.Tensor:
    """Poisson counts of expected photons of any shape, in their dtype; `OpticsError` where some cannot be expected."""
    if not (torch.isfinite(expected).all() and (expected >= 0).all()):
        raise OpticsError("expected photons are negative or not finite in places: expected numbers of 0 or above")
    return torch.poisson(expected, generator=generator)


def poisson_log_likelihood(expected: torch.Tensor, counts: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Log of the probability of counts, ``sum (n ln m - m - ln n!)`` over what was measured, [..., sample].

    Worked out in double precision, as counts of 10^6 demand, and given back in the dtype of `expected`.

    Parameters
    ----------
    expected
        Mean counts m [..., sample, *pattern], in any number of draws; has a gradient wherever it is above 0.
    counts
        Counts n [sample, *pattern]; effective counts, ``I^2 / sigma^2`` of measured intensities, need not be whole.
    mask
        Boolean, broadcasts with `counts`: True = measured.
    """
    mean, n = _in_double(expected, counts, mask)
    each = torch.xlogy(n, mean) - mean - torch.lgamma(n + 1)
    return _over_pattern(each, counts, mask).to(expected.dtype)


def poisson_deviance(expected: torch.Tensor, counts: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """How far counts are from what is expected, ``2 sum (n ln (n/m) - n + m)`` over what was measured, [..., sample].

    It is 0 where both agree, and for many counts about chi squared: the number of pixels in the mean. Parameters as
    `poisson_log_likelihood`, from which it differs by a factor of -2 and the likelihood of counts that agree.
    """
    mean, n = _in_double(expected, counts, mask)
    each = torch.xlogy(n, n) - torch.xlogy(n, mean) - n + mean
    return 2 * _over_pattern(each, counts, mask).to(expected.dtype)


def _in_double(expected: torch.Tensor, counts: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Both in double precision; the mean above 0, and 1 where nothing was measured, so that gradients are finite."""
    return expected.double().where(mask, 1.0).clamp_min(torch.finfo(torch.double).tiny), counts.double()


def _over_pattern(each: torch.Tensor, counts: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Sums [..., sample] of terms [..., sample, *pattern] over what was measured."""
    return each.where(mask, 0.0).flatten(1 - counts.ndim).sum(-1)


def normalise(counts: torch.Tensor, mask: torch.Tensor | None = None) -> Normalised:
    """Patterns [sample, ...] over their mean measured count; `to_counts` undoes it.

    Raises
    ------
    OpticsError
        A mask of another shape or that hides everything, or a pattern without any count.
    """
    flat = counts.flatten(1)
    if mask is None:
        mask = torch.ones_like(counts[0], dtype=torch.bool)
    check_mask(mask, counts)
    scale = flat[:, mask.flatten()].mean(1)
    if not (scale > 0).all():
        raise OpticsError(f"pattern {int((scale <= 0).int().argmax())} has no count: expected some; expose it longer")
    each = scale.reshape(-1, *[1] * (counts.ndim - 1))
    return Normalised(torch.where(mask, counts / each, 0.0), scale)


def to_counts(normalised: Normalised) -> torch.Tensor:
    """Counts [sample, ...] of normalised patterns; 0 where they were masked."""
    pattern, scale = normalised
    return pattern * scale.reshape(-1, *[1] * (pattern.ndim - 1))


def check_mask(mask: torch.Tensor, patterns: torch.Tensor) -> None:
    """Raise `OpticsError` unless `mask` is boolean, of the shape of one pattern, and True somewhere."""
    if mask.dtype != torch.bool or mask.shape != patterns.shape[1:]:
        raise OpticsError(
            f"mask has shape {tuple(mask.shape)}, {mask.dtype}: expected {tuple(patterns.shape[1:])}, bool"
        )
    if not mask.any():
        raise OpticsError("the mask hides everything: nothing was measured; True means measured")
