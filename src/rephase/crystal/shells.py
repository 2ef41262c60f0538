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
    x = np.asarray(d_hkl, float) ** -2
    n_shells = int(np.clip(len(x) // _PER_SHELL, 1, _MOST_SHELLS))
    order = np.argsort(x, kind="stable")
    places, shells = (np.array_split(column[order], n_shells) for column in (x, np.asarray(values)))
    centres = np.array([place.mean() for place in places])
    errors = np.array([np.sqrt((shell**2).sum()) / len(shell) for shell in shells])
    floor = np.maximum(errors, 1e-12 * errors.max() + np.finfo(float).tiny)
    logarithms = np.log(np.maximum([shell.mean() for shell in shells], floor))
    for _ in range(10):
        smooth = [np.exp(np.interp(place, centres, logarithms)) for place in places]
        ratios = np.array([(shell / mean).mean() for shell, mean in zip(shells, smooth)])
        logarithms = np.maximum(logarithms + np.log(np.clip(ratios, 0.5, 2.0)), np.log(floor))
    return np.exp(np.interp(x, centres, logarithms))
