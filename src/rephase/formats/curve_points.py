"""Unusable points of a curve: removal from every column, with counts and reasons."""

import numpy as np

from rephase.errors import CurveError
from rephase.formats.curve_units import Columns


def usable_points(name: str, columns: Columns) -> tuple[Columns, tuple[str, ...]]:
    """Keep the points with q above 0, an intensity, and σ above 0; a note counts each kind of the other points.

    Raises
    ------
    CurveError
        The columns have different lengths, or no point is left; the message counts the reasons.
    """
    q, intensity, sigma, _ = columns
    given = [column for column in columns if column is not None]
    for what, column in zip(("q", "intensity", "sigma", "dq"), columns):
        if column is not None and column.shape != q.shape:
            raise CurveError(f"{name}: {len(column)} values of {what} and {len(q)} of q: expected equal numbers")
    is_left = np.ones(q.shape, dtype=bool)
    kinds = {
        "with a number that is NaN, infinite or missing": ~np.isfinite(given).all(0),
        "with q = 0 or below": q <= 0,
    }
    if sigma is not None:
        kinds["with I = σ = 0, as behind a beam stop"] = (intensity == 0) & (sigma == 0)
        kinds["with σ = 0 or below: expected above 0"] = sigma <= 0
    notes = []
    for kind, is_kind in kinds.items():
        if n := int((is_left & is_kind).sum()):
            notes.append(f"{n} of {len(q)} points {kind}: left out")
        is_left &= ~is_kind
    if len(q) and not is_left.any():
        raise CurveError(f"{name}: no point can be used; {'; '.join(notes)}; check the order of the columns")
    sigma, dq = (None if column is None else column[is_left] for column in columns[2:])
    return (q[is_left], intensity[is_left], sigma, dq), tuple(notes)
