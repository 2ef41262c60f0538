"""Small-angle scattering in XML, as of the CanSAS 1D format: ``SASentry / SASdata / Idata / Q, I, Idev, Qdev``.

Format: canSAS working group, cansas1d 1.1 (2013), https://www.cansas.org/formats/canSAS1d/1.1/doc/.
"""

from pathlib import Path
from xml.etree import ElementTree

import numpy as np

from rephase.errors import CurveError

Columns = tuple[np.ndarray, np.ndarray, np.ndarray | None, np.ndarray | None]
"""q, I, σ and dq [n] of a curve, None where a file lacks them."""


def read_cansas_xml(path: Path, entry: str | None = None) -> tuple[Columns, tuple[str, str]]:
    """Read one curve: its columns, and the units of q and I as they stand in the file.

    Parameters
    ----------
    path
        Of the file.
    entry
        Name of a SASentry or its title, where the file has several.

    Raises
    ------
    CurveError
        No XML, no curve or several and no such `entry`, values that are missing or no numbers.
    """
    try:
        root = ElementTree.parse(path).getroot()
    except (OSError, ElementTree.ParseError, UnicodeDecodeError, ValueError, LookupError) as error:
        raise CurveError(f"{path}: truncated, or no XML ({error}); copy it again") from error
    data = _only(path.name, _curves(root, entry), [_name(e) for e in _all(root, "SASentry")], entry)
    points = _all(data, "Idata")
    if not points:
        raise CurveError(f"{path.name}: a SASdata without Idata: expected Q and I of each point")
    q, intensity = (_column(path.name, points, key) for key in ("Q", "I"))
    if q is None or intensity is None:
        raise CurveError(f"{path.name}: no {'Q' if q is None else 'I'} in the Idata: expected Q and I of each point")
    columns = (q, intensity, _column(path.name, points, "Idev"), _column(path.name, points, "Qdev"))
    return columns, (_unit(points[0], "Q"), _unit(points[0], "I"))


def _local(element: ElementTree.Element) -> str:
    """Tag without its namespace, which differs between versions of the format."""
    return element.tag.rpartition("}")[2] if isinstance(element.tag, str) else ""


def _all(parent: ElementTree.Element, tag: str) -> list[ElementTree.Element]:
    return [element for element in parent.iter() if _local(element) == tag]


def _name(entry: ElementTree.Element) -> str:
    return entry.get("name") or next((title.text or "" for title in _all(entry, "Title")), "")


def _curves(root: ElementTree.Element, entry: str | None) -> list[ElementTree.Element]:
    entries = [e for e in _all(root, "SASentry") if entry is None or _name(e) == entry]
    return [data for e in entries for data in _all(e, "SASdata")]


def _only(name: str, curves: list[ElementTree.Element], entries: list[str], entry: str | None) -> ElementTree.Element:
    if len(curves) != 1:
        asked = "" if entry is None else f" in entry = {entry!r}"
        known = ", ".join(map(repr, entries)) or "none"
        raise CurveError(f"{name}: {len(curves)} curves{asked}: expected one; entries: {known}; give entry=NAME")
    return curves[0]


def _unit(point: ElementTree.Element, key: str) -> str:
    return next((element.get("unit", "") for element in _all(point, key)), "")


def _column(name: str, points: list[ElementTree.Element], key: str) -> np.ndarray | None:
    """Values of one key in every point; None where no point has it."""
    found = [[e.text or "" for e in _all(point, key)] for point in points]
    if not any(found):
        return None
    for number, texts in enumerate(found, 1):
        if len(texts) != 1:
            raise CurveError(f"{name}: point {number} has {len(texts)} values of {key}: expected one; delete the point")
    try:
        return np.array([float(texts[0]) for texts in found])
    except ValueError as error:
        raise CurveError(f"{name}: {key}: {error}; expected numbers") from error
