"""Files of measured small-angle scattering: q, I, σ in columns of text, or CanSAS data in XML or HDF5 (NXcanSAS)."""

import os
import warnings
from pathlib import Path
from typing import NamedTuple

import numpy as np

from rephase.errors import CurveError
from rephase.files.foreign_documents import foreign_document
from rephase.files.reading import decoded, file_bytes
from rephase.formats.cansas_hdf5 import read_cansas_hdf5
from rephase.formats.cansas_xml import read_cansas_xml
from rephase.formats.curve_columns import is_as_large
from rephase.formats.curve_points import usable_points
from rephase.formats.curve_text import read_curve_text
from rephase.formats.curve_units import Q_UNITS, Columns, in_per_cm, units_of_q
from rephase.formats.hdf5 import is_hdf5

FEWEST = 5  # points

_SUFFIXES = (".h5", ".hdf5", ".hdf", ".nxs")


class SaxsCurve(NamedTuple):
    """A measured curve; every column is float64 [n].

    Attributes
    ----------
    q
        q in nm^-1, ascending, above 0.
    intensity
        Intensity in 1/cm if the file names a known unit, otherwise in the unit of the file. Values below 0 remain, as
        background subtraction produces them.
    sigma
        Standard deviation of the intensity, above 0.
    dq
        Standard deviation of q in nm^-1 from the instrument resolution, 0 or more; None if the file has none.
    notes
        Changes to the columns, and information that the file lacks, as sentences.
    """

    q: np.ndarray
    intensity: np.ndarray
    sigma: np.ndarray
    dq: np.ndarray | None = None
    notes: tuple[str, ...] = ()


class _Content(NamedTuple):
    """The content of a file: columns, the units of q that it names, and notes."""

    columns: Columns
    q_units: set[str]
    notes: tuple[str, ...] = ()


def read_saxs(
    path: str | Path, *, q_unit: str | None = None, relative_sigma: float | None = None, entry: str | None = None
) -> SaxsCurve:
    """Read one curve.

    Text (.dat, .txt, .csv, .fit, .pdh …) has columns with any separator, recognised by the names above them, or without
    names as q, I, σ, dq; lines of words are left out, and the unit of I is not read. HDF5 has one group of the class
    SASdata with ``Q``, ``I``, its uncertainties (``Idev``), and optionally ``Qdev`` or ``dQ``, and ``Mask``: points
    where it is not 0 are left out. XML has the format CanSAS 1D. Points without a number, or with q or σ not above 0,
    are left out and counted in the notes.

    Parameters
    ----------
    path
        Path of the file; text and XML may be gzipped.
    q_unit
        Unit of q, one of `Q_UNITS`, if the file does not name it; a file that names another unit is refused.
    relative_sigma
        σ/|I| to assume if the file has no σ, above 0.
    entry
        Name of a curve in a file with several: a group of HDF5, e.g. ``/sasentry01/sasdata02``; in XML a SASentry, a
        SASdata, or ENTRY/DATA.

    Raises
    ------
    CurveError
        The file does not exist or cannot be read; the unit of q is missing, unknown or contradictory; fewer than five
        points are usable; q is not ascending; σ is missing, or a fit stands in its place; no intensity is above 0.

    Warns
    -----
    UserWarning
        Intensities are below 0, or σ is as large as the intensity.
    """
    path = Path(path)
    if q_unit is not None and q_unit not in Q_UNITS:
        raise CurveError(f"q_unit = {q_unit!r}: expected one of {', '.join(Q_UNITS)}")
    if not os.path.exists(path):
        raise CurveError(f"{path}: no such file")
    content = _content(path, entry)
    factor = _factor(path.name, content.q_units, q_unit)
    columns, left_out = usable_points(path.name, content.columns)
    notes = (*content.notes, *left_out)
    q, intensity, sigma, dq = columns
    if sigma is None:
        sigma = _assumed(path.name, intensity, relative_sigma, notes)
    elif is_as_large(sigma, intensity):
        warnings.warn(f"{path.name}: σ is as large as the intensity: is the column a fit?", stacklevel=2)
    curve = SaxsCurve(factor * q, intensity, sigma, None if dq is None else factor * dq, notes)
    _check(path.name, curve)
    return curve


def _content(path: Path, entry: str | None) -> _Content:
    """Read a file in the format of its first bytes."""
    if is_hdf5(path) or path.suffix.lower() in _SUFFIXES:
        columns, units, notes = read_cansas_hdf5(path, entry)
        return _with_units(path.name, columns, units, notes)
    content = file_bytes(path, CurveError)
    if what := foreign_document(content):
        raise CurveError(f"{path.name}: this is {what}")
    text = decoded(content)
    if text.lstrip().startswith(("<?xml", "<SASroot")) or path.suffix.lower() == ".xml":
        return _with_units(path.name, *read_cansas_xml(path.name, text, entry))
    if entry is not None:
        raise CurveError(f"{path.name}: entry = {entry!r}: text has one curve; leave entry out")
    return _Content(*read_curve_text(path.name, text))


def _with_units(name: str, columns: Columns, units: tuple[str, str], notes: tuple[str, ...] = ()) -> _Content:
    """Convert the intensity to 1/cm, for a file that states `units` of q and I."""
    scaled, told = in_per_cm(columns, units[1])
    return _Content(scaled, units_of_q(name, units[0]), (*told, *notes))


def _factor(name: str, named: set[str], q_unit: str | None) -> float:
    """The unit of q in nm^-1, from the units that the file names and the caller's `q_unit`."""
    if unknown := sorted(named - Q_UNITS.keys()):
        raise CurveError(f"{name}: q is in {', '.join(unknown)}: expected {' or '.join(Q_UNITS)}; convert it")
    if q_unit is not None and named and named != {q_unit}:
        raise CurveError(
            f"{name}: q_unit = {q_unit!r}, but the file names {', '.join(sorted(named))}; give the right one"
        )
    if q_unit is None and len(named) != 1:
        told = f"names {' and '.join(sorted(named))}" if named else "does not name it"
        raise CurveError(f"{name}: the unit of q: the file {told}; give q_unit={' or '.join(map(repr, Q_UNITS))}")
    return Q_UNITS[q_unit or named.pop()]


def _assumed(name: str, intensity: np.ndarray, relative_sigma: float | None, notes: tuple[str, ...]) -> np.ndarray:
    if relative_sigma is None:
        told = f" ({'; '.join(notes)})" if notes else ""
        raise CurveError(f"{name}: no column of σ{told}; give relative_sigma, e.g. 0.03, if an assumed σ is acceptable")
    if not 0 < relative_sigma < np.inf:
        raise CurveError(f"relative_sigma = {relative_sigma}: expected a number above 0")
    return relative_sigma * np.abs(intensity)


def _check(name: str, curve: SaxsCurve) -> None:
    """Raise `CurveError` if a column has impossible values."""
    q, intensity, sigma, dq, notes = curve
    if len(q) < FEWEST:
        left_out = f" ({'; '.join(notes)})" if notes else ""
        raise CurveError(f"{name}: {len(q)} points: expected at least {FEWEST}{left_out}")
    if (np.diff(q) <= 0).any():
        row = int((np.diff(q) <= 0).argmax()) + 1
        raise CurveError(
            f"{name}: q = {q[row]:.6g} /nm follows {q[row - 1]:.6g}: expected ascending; sort or merge the rows, or "
            "split a file with several curves"
        )
    if dq is not None and (dq < 0).any():
        raise CurveError(f"{name}: dq has values below 0: expected standard deviations of q as the fourth column")
    if not (intensity > 0).any():
        raise CurveError(f"{name}: no intensity is above 0; was the wrong background subtracted?")
    if n := int((intensity < 0).sum()):
        warnings.warn(
            f"{name}: {n} of {len(q)} intensities are below 0 and are kept: noise around a subtracted background",
            stacklevel=3,
        )
