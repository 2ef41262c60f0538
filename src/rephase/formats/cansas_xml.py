"""Small-angle scattering in XML (CanSAS 1D): ``SASentry / SASdata / Idata / Q, I, Idev, Qdev``.

Format: canSAS working group, cansas1d 1.1 (2013), https://www.cansas.org/formats/canSAS1d/1.1/doc/.
"""

import re
from collections import Counter
from xml.etree import ElementTree

import numpy as np

from rephase.errors import CurveError
from rephase.formats.curve_units import Columns


def read_cansas_xml(name: str, text: str, entry: str | None = None) -> tuple[Columns, tuple[str, str]]:
    """Read one curve: its columns, and the units of q and I as written in the file.

    Parameters
    ----------
    name
        Name of the file, for messages.
    text
        The XML.
    entry
        If the file has several curves: name or title of a SASentry, name of a SASdata, or both as ENTRY/DATA. A SASdata
        without a name is called by its number.

    Raises
    ------
    CurveError
        The text is not XML, or defines entities; there is no curve, or several and no such `entry`; values are missing
        or not numbers.
    """
    if re.search(r"<!(?:DOCTYPE|ENTITY)", text, re.IGNORECASE):
        raise CurveError(f"{name}: XML with a DOCTYPE, whose entities are not read: expected canSAS 1D; delete it")
    try:
        root = ElementTree.fromstring(text)
    except (ElementTree.ParseError, ValueError, LookupError) as error:
        raise CurveError(f"{name}: truncated, or not XML ({error}); copy it again") from error
    data = _chosen(name, root, entry)
    points = [_fields(point) for point in _all(data, "Idata")]
    if not points:
        raise CurveError(f"{name}: a SASdata without Idata: expected Q and I of each point")
    q, intensity = (_column(name, points, key) for key in ("Q", "I"))
    if q is None or intensity is None:
        raise CurveError(f"{name}: no {'Q' if q is None else 'I'} in the Idata: expected Q and I of each point")
    columns = (q, intensity, _column(name, points, "Idev"), _column(name, points, "Qdev"))
    return columns, (_unit(name, points, "Q"), _unit(name, points, "I"))


_Point = dict[str, list[ElementTree.Element]]


def _local(element: ElementTree.Element) -> str:
    """The tag without its namespace, which differs between versions of the format."""
    return element.tag.rpartition("}")[2] if isinstance(element.tag, str) else ""


def _all(parent: ElementTree.Element, tag: str) -> list[ElementTree.Element]:
    return [element for element in parent.iter() if _local(element) == tag]


def _fields(point: ElementTree.Element) -> _Point:
    fields: _Point = {}
    for element in point.iter():
        fields.setdefault(_local(element), []).append(element)
    return fields


def _name(entry: ElementTree.Element) -> str:
    title = next((title.text or "" for title in _all(entry, "Title")), "")
    return (entry.get("name") or title).strip()


def _chosen(name: str, root: ElementTree.Element, entry: str | None) -> ElementTree.Element:
    """Find the only SASdata, or the one called `entry`."""
    curves: list[tuple[str, str, ElementTree.Element]] = []
    for of_entry in _all(root, "SASentry"):
        called = _name(of_entry)
        for number, data in enumerate(_all(of_entry, "SASdata"), 1):
            curves.append((called, data.get("name") or str(number), data))
    n_curves = Counter(of_entry for of_entry, _, _ in curves)
    labels = [f"{e}/{d}" if n_curves[e] > 1 else e for e, d, _ in curves]
    found = [data for label, (e, d, data) in zip(labels, curves) if entry is None or entry in (label, e, d, f"{e}/{d}")]
    if len(found) != 1:
        asked = "" if entry is None else f" in entry = {entry!r}"
        known = ", ".join(map(repr, labels)) or "none"
        raise CurveError(f"{name}: {len(found)} curves{asked}: expected one; entries: {known}; give entry=NAME of one")
    return found[0]


def _unit(name: str, points: list[_Point], key: str) -> str:
    """The common unit of the values of a key that have a unit."""
    units = sorted({unit for point in points for e in point.get(key, ()) if (unit := e.get("unit", "").strip())})
    if len(units) > 1:
        raise CurveError(f"{name}: {key} has the units {', '.join(units)}: expected one for all points; convert them")
    return units[0] if units else ""


def _column(name: str, points: list[_Point], key: str) -> np.ndarray | None:
    """Values of one key in every point; None if no point has the key."""
    found = [[element.text or "" for element in point.get(key, ())] for point in points]
    if not any(found):
        return None
    for number, texts in enumerate(found, 1):
        if len(texts) != 1:
            raise CurveError(f"{name}: point {number} has {len(texts)} values of {key}: expected one; delete the point")
    try:
        return np.array([float(texts[0]) for texts in found])
    except ValueError as error:
        raise CurveError(f"{name}: {key}: {error}; expected numbers") from error
