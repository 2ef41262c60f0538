"""The raw content of a reflection file as a `Listing`, and the selection of its measured rows."""

import warnings
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from rephase.crystal.cell import Cell
from rephase.crystal.symmetry import SpaceGroup

SATELLITES = "satellites of a modulated crystal; the rest describes its average structure"
EXCLUDED = "status x: excluded by the authors"
_MISFITS = "σ below 0: misfits rejected in data processing"
_PLACEHOLDERS = "placeholders for missing measurements, such as I = σ = -1"
_NINES = (99, 999, 9999, 99999, 999999, 99.99, 999.99, 9999.99, 99999.99)
_SIGMA_NINES = (999, 9999, 99999, 999999, 999.99, 9999.99, 99999.99)
_FEWEST_ALIKE = 3  # rows with the same flag and the same σ; a single one may be a measurement


class Listing(NamedTuple):
    """The columns of a file: ``hkl [n, 3]``, ``value`` and ``sigma [n]`` as written, ``phi_deg [n]`` in degrees.

    ``fom [n]`` are figures of merit of the phases. NaN marks missing values; ``marked`` gives, for each reason, the
    rows [n] that the file excludes. ``formula`` is that of one formula unit, "" if unknown; ``radiation`` is
    ``neutron`` or ``electron``, "" if the file states X-rays or nothing; ``temperature`` in K, None if unknown.
    """

    hkl: np.ndarray
    value: np.ndarray
    sigma: np.ndarray | None = None
    phi_deg: np.ndarray | None = None
    is_amplitude: bool = False
    cell: Cell | None = None
    space_group: SpaceGroup | None = None
    wavelength: float | None = None
    fom: np.ndarray | None = None
    marked: Mapping[str, np.ndarray] = {}
    formula: str = ""
    radiation: str = ""
    temperature: float | None = None


def listing_of(columns: Mapping[str, np.ndarray], **stated: Any) -> Listing:
    """Make a listing from columns [n] by role, see `column_roles`; `stated` has further fields of the listing.

    Satellites, with an index m other than 0, are marked.
    """
    value = columns.get("I", columns.get("F"))
    hkl = np.column_stack([columns[axis] for axis in "hkl"])
    marked = {SATELLITES: np.nan_to_num(columns["m"]) != 0} if "m" in columns else {}
    return Listing(
        hkl,
        np.full(len(hkl), np.nan) if value is None else value,
        columns.get("sigma"),
        columns.get("phi"),
        "I" not in columns and "F" in columns,
        fom=columns.get("fom"),
        marked=marked,
        **stated,
    )


def measured_rows(listing: Listing, *, name: str) -> np.ndarray:
    """Select the rows [n] that are measurements: with a value, not (0, 0, 0), not marked, not placeholders.

    A negative σ marks a row as rejected, unless no σ is above zero: then the file has no σ.

    Warns
    -----
    UserWarning
        Rows were left out; the message counts them by reason, except (0, 0, 0) and rows without a value.
    """
    kept = np.isfinite(listing.value) & ~(listing.hkl == 0).all(1)
    reasons = dict(listing.marked)
    if listing.sigma is not None:
        reasons[_PLACEHOLDERS] = _are_placeholders(listing.value, listing.sigma)
        reasons[_MISFITS] = (listing.sigma < 0) & (listing.sigma[kept & ~reasons[_PLACEHOLDERS]] > 0).any()
    counts = []
    for reason, rows in reasons.items():
        if n := int((kept & rows).sum()):
            counts.append(f"{n} ({reason})")
        kept = kept & ~rows
    if counts:
        warnings.warn(f"{name}: left out of {len(kept)} rows: {', '.join(counts)}", stacklevel=3)
    return kept


def _are_placeholders(value: np.ndarray, sigma: np.ndarray) -> np.ndarray:
    """Find the rows [n] whose value and σ are numbers that programs write for missing measurements.

    The value is -1, 0 or consists of nines, and σ is the same negative number, 0 or consists of nines.
    """
    is_flag = np.isin(value, (-1, *_NINES, *np.negative(_NINES)))
    is_unknown = (sigma <= 0) | np.isin(sigma, _SIGMA_NINES)
    has_sigma = ((sigma > 0) & ~is_unknown).any()
    found = is_unknown & (is_flag | ((value == sigma) & (value < 0)) | ((value == 0) & has_sigma))
    rest = np.flatnonzero(is_flag & (value < -1) & ~found)
    pairs = np.column_stack([value[rest], np.nan_to_num(sigma[rest])])
    _, of_row, counts = np.unique(pairs, axis=0, return_inverse=True, return_counts=True)
    found[rest] = counts[of_row.ravel()] >= _FEWEST_ALIKE
    return found
