"""Extinction: the empirical correction of SHELXL, ``Fc² / (1 + 0.001 x Fc² λ³ / sin 2θ)^½``, and its derivatives."""

from typing import NamedTuple

import numpy as np

_MOLYBDENUM = 0.71073  # Å; without a wavelength x is only a number that fits


class Extinguished(NamedTuple):
    """Corrected |F|^2, its derivative by |F|^2, and that by x, each [n_refl]."""

    intensity: np.ndarray
    by_intensity: np.ndarray
    by_x: np.ndarray


def extinction_path(d_hkl: np.ndarray, wavelength: float | None) -> np.ndarray:
    """Return ``0.001 λ³ / sin 2θ`` [n_refl] in Å^3."""
    wavelength = wavelength or _MOLYBDENUM
    sine = np.minimum(wavelength / (2 * d_hkl), 0.9999)
    return 0.001 * wavelength**3 / (2 * sine * np.sqrt(1 - sine**2))


def extinguished(intensity: np.ndarray, x: float, path: np.ndarray) -> Extinguished:
    """Apply extinction to |F|^2 [n_refl] in electrons squared."""
    y = x * path * intensity
    return Extinguished(
        intensity / np.sqrt(1 + y),
        (1 + y / 2) / (1 + y) ** 1.5,
        -0.5 * path * intensity**2 / (1 + y) ** 1.5,
    )
