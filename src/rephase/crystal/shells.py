"""Resolution shells: their limits, and mean values that vary smoothly between them."""

import numpy as np

_PER_SHELL = 60  # reflections per mean
_MOST_SHELLS = 30


def shell_index(d_hkl: np.ndarray, limits: np.ndarray) -> np.ndarray:
    """Index [n] of the shell of each d (Å); `limits` [n_shells + 1] in Å descend from low to high angle."""
    return np.clip(np.searchsorted(-limits[1:-1], -np.asarray(d_hkl)), 0, len(limits) - 2)


def shell_limits(d_max: float, d_min: float, n_shells: int) -> np.ndarray:
    """Limits in Å [n_shells + 1], descending, of shells of equal volume in reciprocal space."""
    return np.linspace(d_max**-3, d_min**-3, n_shells + 1) ** (-1 / 3)


def smooth_mean(d_hkl: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Mean of `values` [n] at each reflection's resolution, positive and continuous in d.

    The values are averaged in shells of equal counts; the logarithms of the means are interpolated in 1/d^2 and
    corrected until the mean of ``values / smooth_mean`` is 1 in every shell. A mean below its standard error is raised
    to it.

    Parameters
    ----------
    d_hkl
        Lattice-plane spacings in Å, [n].
    values
        Values [n], e.g. I/ε; negative values are kept.

    Returns
    -------
    np.ndarray
        Means [n], above zero.
    """
    x, values = np.asarray(d_hkl, float) ** -2, np.asarray(values)
    n_shells = int(np.clip(len(x) // _PER_SHELL, 1, _MOST_SHELLS))
    shell = np.empty(len(x), int)
    for number, places in enumerate(np.array_split(np.argsort(x, kind="stable"), n_shells)):
        shell[places] = number
    counts = np.bincount(shell)
    centres = np.bincount(shell, x) / counts
    errors = np.sqrt(np.bincount(shell, values**2)) / counts
    floor = np.maximum(errors, 1e-12 * errors.max() + np.finfo(float).tiny)
    logarithms = np.log(np.maximum(np.bincount(shell, values) / counts, floor))
    for _ in range(10):
        smooth = np.exp(np.interp(x, centres, logarithms))
        ratios = np.bincount(shell, values / smooth) / counts
        logarithms = np.maximum(logarithms + np.log(np.clip(ratios, 0.5, 2.0)), np.log(floor))
    return np.exp(np.interp(x, centres, logarithms))
