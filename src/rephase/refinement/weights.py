"""Weights of the refinement on F^2: those of SHELXL, and the choice of their two parameters."""

import numpy as np

from rephase.crystal.reflections import Reflections

_A = np.r_[0.0, np.geomspace(0.002, 0.2, 24)]
_B = np.r_[0.0, np.geomspace(0.01, 300.0, 24)]  # on the scale of |F_calc|^2 in electrons, as in SHELXL
_N_BINS = 10
_OUTLYING = 10.0  # σ²


def weighing_sigma(data: Reflections) -> np.ndarray:
    """Return the σ [n_refl] that weighs merged intensities: one for all where none was measured."""
    return data.sigma if data.has_sigma else np.full(len(data), data.sigma.mean())


def weights(
    intensity: np.ndarray, sigma: np.ndarray, intensity_calc: np.ndarray, weighting: tuple[float, float]
) -> np.ndarray:
    """Return ``w = 1 / (σ² + (a P)² + b P)``, ``P = (max(Fo², 0) + 2 Fc²) / 3``, [n_refl].

    All columns are on the scale of |F_calc|^2, because b depends on it.
    """
    p = (np.maximum(intensity, 0) + 2 * intensity_calc) / 3
    a, b = weighting
    return 1 / (sigma**2 + (a * p) ** 2 + b * p)


def fitted_weighting(
    intensity: np.ndarray, sigma: np.ndarray, intensity_calc: np.ndarray, n_parameters: int
) -> tuple[float, float]:
    """Choose a and b so that the mean of w (Fo² - Fc²)² is 1 in ten groups of reflections of rising Fc².

    The spread is the sum of the squared logarithms of these means, which are corrected for the number of parameters.
    A term counts as 10 at most, so that a few outliers do not lower the weight of all the others.
    """
    order = np.array_split(np.argsort(intensity_calc), _N_BINS)
    freedom = max(len(intensity) - n_parameters, 1) / len(intensity)
    delta = (intensity - intensity_calc) ** 2 / freedom
    p = (np.maximum(intensity, 0) + 2 * intensity_calc) / 3
    spread = np.zeros((len(_A), len(_B)))
    for rows in order:
        variance = sigma[rows] ** 2 + (_A[:, None, None] * p[rows]) ** 2 + _B[:, None] * p[rows]
        spread += np.log(np.maximum(np.minimum(delta[rows] / variance, _OUTLYING).mean(-1), 1e-12)) ** 2
    best = np.unravel_index(spread.argmin(), spread.shape)
    return float(_A[best[0]]), float(_B[best[1]])
