"""Evidence for systematic absences: how weak they are, given their σ and the background that leaks into them.

Multiple diffraction, λ/2 and the tails of neighbours put intensity into reflections that the group forbids. That
background is much the same everywhere, whereas a reflection that the group allows has the mean intensity of its
resolution. Each intensity is compared with both; a few strong outliers cost little.
"""

from typing import NamedTuple

import numpy as np

from rephase.crystal.reflections import Reflections
from rephase.crystal.reflections.statistics import unique_hkl
from rephase.crystal.shells import smooth_mean
from rephase.crystal.symmetry import Symmetry

_OUTLIERS = 0.02  # fraction of the absences that may be as strong as allowed reflections
_BACKGROUNDS = np.geomspace(1e-4, 0.12, 24)  # relative to the mean intensity
_LARGEST_EVIDENCE = 10.0  # of absences for a group, in units of the natural logarithm: heavy atoms imitate absences
_FEWEST_LEFT_OUT = 3
_LEFT_OUT_SHARE = 0.06  # of the forbidden reflections may be listed, relative to the others, if a list leaves them out


class ListedReflections(NamedTuple):
    """Reflections merged under the translations of their lattice, and what absences are compared with.

    Parameters
    ----------
    data
        The reflections.
    relative
        [n_refl], I over the mean of all I, not below zero.
    sigma
        [n_refl], σ on the same scale.
    expected
        [n_refl], mean of `relative` at the same resolution.
    possible
        [n_possible, 3], every index of the sphere, under the lattice.
    """

    data: Reflections
    relative: np.ndarray
    sigma: np.ndarray
    expected: np.ndarray
    possible: np.ndarray


def listed_reflections(data: Reflections) -> ListedReflections:
    """Prepare a list for `evidence_of_absences`."""
    mean = data.intensity.mean()
    relative = data.intensity / mean
    expected = np.maximum(smooth_mean(data.d_hkl, relative), 1e-6)
    possible = unique_hkl(data.cell, data.group, data.d_min)
    return ListedReflections(data, relative.clip(min=0), data.sigma / mean, expected, possible)


def evidence_of_absences(listed: ListedReflections, symmetry: Symmetry) -> float:
    """Return the logarithm of the likelihood ratio: absences of `symmetry` forbidden against allowed.

    An intensity has an exponential distribution, of mean b + σ if forbidden and Σ + σ if allowed. The background b is
    the most likely one, at most 12 % of the mean intensity. A list that holds none of many forbidden reflections, but
    most of the others, is evidence too.
    """
    absent = symmetry.is_absent(listed.data.hkl)
    forbidden = int(symmetry.is_absent(listed.possible).sum())
    if not forbidden:
        return 0.0
    complete = min(0.98, len(listed.data) / len(listed.possible))
    if absent.sum() < _LEFT_OUT_SHARE * forbidden * complete:
        left_out = forbidden - int(absent.sum())
        return min(_LARGEST_EVIDENCE, -left_out * np.log1p(-complete)) if left_out >= _FEWEST_LEFT_OUT else 0.0
    intensity, sigma, expected = listed.relative[absent], listed.sigma[absent], listed.expected[absent]
    allowed = _exponential(intensity, expected + sigma)
    forbidden_by = _exponential(intensity, np.add.outer(_BACKGROUNDS, sigma))
    ratio = np.log((1 - _OUTLIERS) * np.exp(forbidden_by - allowed) + _OUTLIERS).sum(1)
    return float(min(_LARGEST_EVIDENCE, ratio.max()))


def _exponential(intensity: np.ndarray, mean: np.ndarray) -> np.ndarray:
    """Logarithm of the exponential density."""
    return -intensity / mean - np.log(mean)
