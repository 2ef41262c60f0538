"""Merged intensities in resolution shells, and the resolution limit that they support."""

from typing import NamedTuple

import numpy as np
import pandas as pd

from rephase.crystal.reflections import Merged
from rephase.crystal.reflections.statistics import unique_hkl
from rephase.crystal.shells import shell_index, shell_limits, smooth_mean


class Support(NamedTuple):
    """The resolution limit in Å that data support, and the reason why it is not finer."""

    d_min: float
    reason: str


def shell_table(merged: Merged, n_shells: int = 10) -> pd.DataFrame:
    """Statistics in shells of equal volume in reciprocal space, starting at the lowest possible angle.

    Columns: ``d_max``, ``d_min`` (Å), ``n`` unique reflections, ``n_possible``, ``completeness`` (0–1),
    ``redundancy``, ``i_over_sigma``, ``r_int`` and ``e2_minus_1``, the mean |E^2 - 1| (0.968 centric, 0.736 acentric).
    A shell without data has NaN.
    """
    data = merged.reflections
    d_possible = data.cell.d_spacing(unique_hkl(data.cell, data.group, data.d_min))
    limits = shell_limits(float(d_possible.max()), data.d_min, n_shells)
    index = shell_index(data.d_hkl, limits)
    n_possible = np.bincount(shell_index(d_possible, limits), minlength=n_shells)
    epsilon = data.group.epsilon(data.hkl)
    e_squared = data.intensity / epsilon / smooth_mean(data.d_hkl, data.intensity / epsilon)
    several = merged.n_each > 1
    columns = {
        "n": 1.0,
        "measured": merged.n_each,
        "i_over_sigma": data.intensity / data.sigma,
        "spread": np.where(several, merged.spread, 0.0),
        "intensity": np.where(several, merged.n_each * data.intensity, 0.0),
        "e2_minus_1": np.abs(e_squared - 1),
    }
    sums = {name: np.bincount(index, np.broadcast_to(column, len(index)), n_shells) for name, column in columns.items()}
    with np.errstate(divide="ignore", invalid="ignore"):
        return pd.DataFrame(
            {
                "d_max": limits[:-1],
                "d_min": limits[1:],
                "n": sums["n"].astype(int),
                "n_possible": n_possible,
                "completeness": np.minimum(sums["n"] / n_possible, 1.0),
                "redundancy": sums["measured"] / sums["n"],
                "i_over_sigma": sums["i_over_sigma"] / sums["n"],
                "r_int": np.where(sums["intensity"] > 0, sums["spread"] / sums["intensity"], np.nan),
                "e2_minus_1": sums["e2_minus_1"] / sums["n"],
            }
        )


def d_min_supported(
    merged: Merged, *, i_over_sigma: float = 2.0, completeness: float = 0.5, n_shells: int = 20
) -> Support:
    """Find the resolution limit that the data support: the outermost shell that is strong and complete enough.

    Parameters
    ----------
    i_over_sigma
        Lowest mean I/σ of the outermost shell.
    completeness
        Lowest completeness (0–1) of the outermost shell.
    """
    table = shell_table(merged, n_shells)
    weak, empty = table["i_over_sigma"].fillna(0) < i_over_sigma, table["completeness"].fillna(0) < completeness
    if (weak | empty).all():
        return Support(float(table["d_min"].iloc[0]), f"no shell has <I/σ> >= {i_over_sigma:g} and is complete enough")
    last = int(np.flatnonzero(~(weak | empty))[-1])
    d_min = float(table["d_min"].iloc[last])
    if last == n_shells - 1:
        return Support(merged.reflections.d_min, "the data are strong and complete to their limit")
    beyond = table.iloc[last + 1]
    why = (
        f"<I/σ> = {beyond.i_over_sigma:.1f} < {i_over_sigma:g}"
        if weak.iloc[last + 1]
        else f"completeness {beyond.completeness:.0%} < {completeness:.0%}"
    )
    return Support(d_min, f"from {beyond.d_max:.2f} to {beyond.d_min:.2f} Å {why}")
