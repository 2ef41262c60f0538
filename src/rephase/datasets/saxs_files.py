"""Measured small-angle scattering in files: q, I, σ in columns of text, or CanSAS data in XML or HDF5 (NXcanSAS)."""

import re
import warnings
from pathlib import Path
from typing import NamedTuple

import h5py
import numpy as np

from rephase.datasets.cansas_xml import Columns, read_cansas_xml
from rephase.errors import CurveError

Q_UNITS = {"1/nm": 1.0, "1/A": 10.0}
"""Units of q that an argument may name, in nm^-1."""
FEWEST = 5  # points

_UNIT = re.compile(
    r"(?:\b1\s*/\s*|\bper\s+)(nm|nanomet(?:er|re)|[\u00c5\u212b]|A|angstr[oö]ms?)(?![A-Za-z])"
    r"|(?<![A-Za-z])(nm|[\u00c5\u212b]|A|angstr[oö]ms?)\s*(?:\^|\*\*)?\s*[({]?\s*(?:[-−]\s*1(?!\d)|⁻¹)",
    re.IGNORECASE,
)
_PER_LENGTH = re.compile(r"(?:1/([cm]?m)|([cm]?m)-1)(?:/?sr(?:-1)?)?")
_PER_CM = {"m": 0.01, "cm": 1.0, "mm": 10.0}
_DECIMAL_COMMA = re.compile(r"(?=.*[;\t ])(?!.*[.])(?!.*,\s).*\d,\d")
_COMMENT = "#;%!\"'"
_SUFFIXES = (".h5", ".hdf5", ".hdf", ".nxs")


class SaxsCurve(NamedTuple):
    """A measured curve, float64 [n] each.

    Attributes
    ----------
    q
        nm^-1, ascending, above 0.
    intensity
        In 1/cm where the file names a unit that is known, else in the unit of the file. Values below 0 are left where a
        background was taken off.
    sigma
        Standard deviation of the intensity, above 0.
    dq
        Standard deviation of q in nm^-1 by the resolution of the instrument, 0 or more; None where the file has none.
    notes
        What was done to the columns, and what the file leaves open, in sentences.
    """

    q: np.ndarray
    intensity: np.ndarray
    sigma: np.ndarray
    dq: np.ndarray | None = None
    notes: tuple[str, ...] = ()


class _Content(NamedTuple):
    """What a file has: columns, the units of q that it names, and what is to be said of it."""

    columns: Columns
    q_units: set[str]
    notes: tuple[str, ...] = ()


def read_saxs(
    path: str | Path, *, q_unit: str | None = None, relative_sigma: float | None = None, entry: str | None = None
) -> SaxsCurve:
    """Read one curve.

    Text (.dat, .txt, .csv …) has the columns q, I, σ, and dq as a fourth if there are more than three, with any
    separator; lines of words before the numbers are its header. HDF5 has one group of the class SASdata with ``Q``,
    ``I``, its uncertainties (``Idev``), and perhaps ``Qdev`` or ``dQ``, and ``Mask``: points where it is not 0 are left
    out. XML (.xml) is that of CanSAS 1D. Text has no unit of I that is looked for.

    Parameters
    ----------
    path
        Of the file.
    q_unit
        One of `Q_UNITS`, where the file does not name it; a file that names another is refused.
    relative_sigma
        σ/|I| to be taken where the file has no σ, above 0.
    entry
        Group of an HDF5 file that has several curves, e.g. ``/sasentry01/sasdata02``; name of an entry in XML.

    Raises
    ------
    CurveError
        No such file or none that can be read; a unit of q that is not told, not known or contradicted; fewer than five
        points; values that are not finite; q not ascending or not above 0; σ missing or not above 0; no intensity
        above 0.

    Warns
    -----
    UserWarning
        Intensities below 0.
    """
    path = Path(path)
    if q_unit is not None and q_unit not in Q_UNITS:
        raise CurveError(f"q_unit = {q_unit!r}: expected one of {', '.join(Q_UNITS)}")
    if not path.is_file():
        raise CurveError(f"{path}: no such file")
    if path.suffix.lower() in _SUFFIXES or h5py.is_hdf5(path):
        content = _from_hdf5(path, entry)
    elif path.suffix.lower() == ".xml":
        content = _with_units(path.name, *read_cansas_xml(path, entry))
    else:
        content = _from_text(path)
    factor = _factor(path.name, content.q_units, q_unit)
    q, intensity, sigma, dq = content.columns
    if sigma is None:
        sigma = _assumed(path.name, intensity, relative_sigma)
    curve = SaxsCurve(factor * q, intensity, sigma, None if dq is None else factor * dq, content.notes)
    _check(path.name, curve)
    return curve


def _factor(name: str, named: set[str], q_unit: str | None) -> float:
    """The unit of q in nm^-1, from what the file names and what the caller tells."""
    if q_unit is not None and named and named != {q_unit}:
        raise CurveError(
            f"{name}: q_unit = {q_unit!r}, but the file names {', '.join(sorted(named))}; tell which is right"
        )
    if q_unit is None and len(named) != 1:
        told = f"names {' and '.join(sorted(named))}" if named else "does not name it"
        raise CurveError(f"{name}: the unit of q: the file {told}; give q_unit={' or '.join(map(repr, Q_UNITS))}")
    return Q_UNITS[q_unit or named.pop()]


def _units_named(name: str, unit: str) -> set[str]:
    """The unit that a file gives to q, where it gives one."""
    named = _units_in(unit)
    if unit and not named:
        raise CurveError(f"{name}: Q has the unit {unit!r}: expected 1/nm or 1/angstrom")
    return named


def _with_units(name: str, columns: Columns, units: tuple[str, str]) -> _Content:
    """Columns with the intensity in 1/cm, of a file that gives `units` to q and I."""
    of_q, of_i = units
    named = _units_named(name, of_q)
    found = _PER_LENGTH.fullmatch(re.sub(r"[\s^*·(){}]", "", of_i.lower()).replace("⁻¹", "-1").replace("−", "-"))
    if found is None:
        told = f"the unit of I is {of_i!r}" if of_i else "the file does not name the unit of I"
        note = f"{told}: taken as 1/cm; where it is another, forward intensity and background are in that unit"
        return _Content(columns, named, (note,))
    factor = _PER_CM[found[1] or found[2]]
    if factor == 1:
        return _Content(columns, named)
    q, intensity, sigma, dq = columns
    scaled = (q, factor * intensity, None if sigma is None else factor * sigma, dq)
    return _Content(scaled, named, (f"I in {of_i} times {factor:g}: in 1/cm",))


def _units_in(text: str) -> set[str]:
    """Names of the units of q in a text, as in `Q_UNITS`."""
    found = (one or other for one, other in _UNIT.findall(text))
    return {"1/nm" if unit.lower().startswith("n") else "1/A" for unit in found}


def _from_text(path: Path) -> _Content:
    try:
        lines = path.read_text(encoding="utf-8-sig", errors="replace").splitlines()
    except OSError as error:
        raise CurveError(f"{path}: cannot be read ({error})") from error
    rows: list[list[float]] = []
    header: list[str] = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        values = None if line.lstrip()[0] in _COMMENT else _numbers(line)
        if values is not None and len(values) > 1:
            rows.append(values)
        elif not rows or line.lstrip()[0] in _COMMENT:
            header.append(line)
        else:
            raise CurveError(f"{path.name}: line {number}: {line.strip()[:60]!r}: expected numbers; delete it")
    if len({len(row) for row in rows}) != 1:
        counts = ", ".join(map(str, sorted({len(row) for row in rows}))) or "no"
        raise CurveError(f"{path.name}: {counts} columns of numbers: expected q, I, σ in every row")
    q, intensity, *rest = np.array(rows).T
    sigma, dq = [*rest, None, None][:2]
    return _Content((q, intensity, sigma, dq), _units_in("\n".join(header)))


def _numbers(line: str) -> list[float] | None:
    """The fields of a line; None where one is no number."""
    if _DECIMAL_COMMA.match(line.strip()):
        line = line.replace(",", ".")
    try:
        return [float(field) for field in re.split(r"\s*[,;]\s*|\s+", line.strip(" \t,;"))]
    except ValueError:
        return None


def _from_hdf5(path: Path, entry: str | None) -> _Content:
    try:
        with h5py.File(path, "r") as file:
            group = _sas_data(path.name, file, entry)
            q, intensity = _values(path.name, group, "Q"), _values(path.name, group, "I")
            sigma = _optional(path.name, group, group["I"].attrs.get("uncertainties"), "Idev")
            dq = _optional(path.name, group, group["Q"].attrs.get("resolutions"), "Qdev", "dQ", "dQw")
            is_hidden = _optional(path.name, group, group.attrs.get("mask"), "Mask")
            of_q, of_i = (_text(group[key].attrs.get("units", "")) for key in ("Q", "I"))
    except (OSError, RuntimeError, KeyError) as error:  # h5py raises each of them where bytes are wrong
        raise CurveError(f"{path}: truncated, or no HDF5 file ({error}); copy it again") from error
    content = _with_units(path.name, (q, intensity, sigma, dq), (of_q, of_i))
    return content if is_hidden is None else _unhidden(path.name, content, is_hidden != 0)


def _unhidden(name: str, content: _Content, is_hidden: np.ndarray) -> _Content:
    """Without the points that the mask of a file hides."""
    if any(column is not None and column.shape != is_hidden.shape for column in content.columns):
        raise CurveError(f"{name}: {len(is_hidden)} values of Mask: expected as many as of every column")
    if is_hidden.all():
        raise CurveError(
            f"{name}: Mask is 1 everywhere: expected 1 where a point is to be left out; invert or delete it"
        )
    (q, intensity, *rest), is_seen = content.columns, ~is_hidden
    sigma, dq = (None if column is None else column[is_seen] for column in rest)
    note = f"{int(is_hidden.sum())} points at which the Mask of the file is 1: left out"
    return content._replace(columns=(q[is_seen], intensity[is_seen], sigma, dq), notes=(*content.notes, note))


def _sas_data(name: str, file: h5py.File, entry: str | None) -> h5py.Group:
    """The group with the curve."""
    if entry is not None:
        found = file.get(entry)
        if not isinstance(found, h5py.Group) or "Q" not in found or "I" not in found:
            raise CurveError(f"{name}: entry = {entry!r}: expected a group with Q and I")
        return found
    groups: list[h5py.Group] = []
    file.visititems(lambda _, item: groups.append(item) if _is_sas_data(item) else None)
    if len(groups) != 1:
        names = ", ".join(str(group.name) for group in groups) or "none"
        raise CurveError(f"{name}: expected one group with Q and I, there are: {names}; give entry=NAME")
    return groups[0]


def _is_sas_data(item: h5py.HLObject) -> bool:
    return isinstance(item, h5py.Group) and all(isinstance(item.get(key), h5py.Dataset) for key in ("Q", "I"))


def _values(name: str, group: h5py.Group, key: str) -> np.ndarray:
    item = group[key]
    values = np.squeeze(item[()]) if isinstance(item, h5py.Dataset) else np.empty((0, 0))
    if values.ndim != 1 or values.dtype.kind not in "biuf":
        raise CurveError(f"{name}: {group.name}/{key} has shape {values.shape}: expected one curve of numbers, [n]")
    return values.astype(np.float64)


def _optional(name: str, group: h5py.Group, told: object, *usual: str) -> np.ndarray | None:
    """The dataset that an attribute names, or one of the usual names; None where there is none."""
    key = next((key for key in (_text(told), *usual) if key and key in group), None)
    return None if key is None else _values(name, group, key)


def _text(value: object) -> str:
    if isinstance(value, np.ndarray):
        value = value.flat[0] if value.size else ""
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value or "")


def _assumed(name: str, intensity: np.ndarray, relative_sigma: float | None) -> np.ndarray:
    if relative_sigma is None:
        raise CurveError(f"{name}: no column of σ; give relative_sigma, e.g. 0.03, if an assumed one will do")
    if not 0 < relative_sigma < np.inf:
        raise CurveError(f"relative_sigma = {relative_sigma}: expected a number above 0")
    return relative_sigma * np.abs(intensity)


def _check(name: str, curve: SaxsCurve) -> None:
    """Raise `CurveError` where a column has values that cannot be."""
    q, intensity, sigma, dq, _ = curve
    for column, values in (("q", q), ("intensity", intensity), ("sigma", sigma), ("dq", dq)):
        if values is None:
            continue
        if values.shape != q.shape:
            raise CurveError(f"{name}: {len(values)} values of {column} and {len(q)} of q: expected as many")
        if n := int((~np.isfinite(values)).sum()):
            raise CurveError(f"{name}: {n} values of {column} are NaN or infinite; delete those rows")
    if len(q) < FEWEST:
        raise CurveError(f"{name}: {len(q)} points: expected at least {FEWEST}")
    if q[0] <= 0:
        raise CurveError(f"{name}: the first q is {q[0]:.6g}: expected above 0; delete the rows at and below 0")
    if (np.diff(q) <= 0).any():
        row = int((np.diff(q) <= 0).argmax()) + 1
        raise CurveError(
            f"{name}: q = {q[row]:.6g} /nm follows {q[row - 1]:.6g}: expected ascending; sort or merge the rows"
        )
    if (sigma <= 0).any():
        row = int((sigma <= 0).argmax())
        raise CurveError(f"{name}: σ = {sigma[row]:.6g} at q = {q[row]:.6g} /nm: expected above 0; delete such rows")
    if dq is not None and (dq < 0).any():
        raise CurveError(f"{name}: dq has values below 0: expected standard deviations of q as the fourth column")
    if not (intensity > 0).any():
        raise CurveError(f"{name}: no intensity is above 0; was a wrong background taken off?")
    if n := int((intensity < 0).sum()):
        warnings.warn(
            f"{name}: {n} of {len(q)} intensities are below 0 and are kept: noise, where a background was taken off",
            stacklevel=3,
        )
