"""Amplitudes from intensities, including weak and negative ones, by Bayes' theorem with Wilson's prior."""

from typing import NamedTuple

import numpy as np

_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(64)
_AT_ONCE = 1 << 15  # reflections; this keeps the table of nodes small
_DEPTH = 80.0  # twice the exponent at which the integrand is negligible, exp(-40)
_CERTAIN = 1e6  # I/σ above which the prior has no effect in double precision


class Amplitudes(NamedTuple):
    """|F| [n] and its standard uncertainty [n]."""

    amplitude: np.ndarray
    sigma: np.ndarray


def french_wilson(intensity: np.ndarray, sigma: np.ndarray, expected: np.ndarray, centric: np.ndarray) -> Amplitudes:
    """Posterior mean and standard deviation of |F|, given a measured intensity and Wilson's distribution.

    ``p(J) ~ exp(-J/Σ)`` for acentric and ``J^-1/2 exp(-J/2Σ)`` for centric reflections, J = |F|^2; the measurement is
    Gaussian. Both posteriors are ``x^a exp(-(x - h)^2/2)`` with x = J/σ, integrated over t = x^1/2.

    Parameters
    ----------
    intensity, sigma
        Measured intensity, [n], of any sign, and its σ, [n], above zero.
    expected
        Mean Σ of J at this resolution, ε included, [n], above zero.
    centric
        Whether each reflection is centric, boolean [n].

    Returns
    -------
    Amplitudes
        Mean and standard deviation of |F|, above zero; far above the noise they are ``I^1/2`` and ``σ/(2 I^1/2)``.

    References
    ----------
    French & Wilson (1978), doi:10.1107/S0567739478001114.
    """
    h = intensity / sigma - sigma / expected * np.where(centric, 0.5, 1.0)
    moments = [_moments(h[i : i + _AT_ONCE], centric[i : i + _AT_ONCE]) for i in range(0, len(h), _AT_ONCE)]
    mean, deviation = np.concatenate(moments, axis=1)
    return Amplitudes(mean * np.sqrt(sigma), deviation * np.sqrt(sigma))


def _moments(h: np.ndarray, centric: np.ndarray) -> np.ndarray:
    """Mean and standard deviation [2, n] of t with density ``t^(2a+1) exp(-(t^2 - h)^2/2)``, t > 0."""
    reach = np.sqrt(np.minimum(h, 0) ** 2 + _DEPTH)
    top = np.where(h > 0, h + reach, _DEPTH / (reach + np.abs(h)))  # the second form avoids cancellation
    low, high = np.sqrt(np.maximum(h - reach, 0)), np.sqrt(top)
    t = (low + high)[:, None] / 2 + (high - low)[:, None] / 2 * _NODES
    peak = np.maximum(h, 0)[:, None]
    density = np.exp(-((t**2 - peak) ** 2) / 2 + t**2 * np.minimum(h, 0)[:, None]) * _WEIGHTS
    density *= np.where(centric[:, None], 1.0, t)
    density /= density.sum(1, keepdims=True)
    mean = (density * t).sum(1)
    deviation = np.sqrt((density * (t - mean[:, None]) ** 2).sum(1))
    certain = h > _CERTAIN
    root = np.sqrt(np.where(certain, h, 1.0))
    return np.where(certain, [root, 1 / (2 * root)], [mean, deviation])
