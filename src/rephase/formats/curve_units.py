"""Units of scattering curves: recognition of the unit of q in a text, and conversion of intensity to 1/cm."""

import re
from collections.abc import Iterable

import numpy as np

from rephase.errors import CurveError

Q_UNITS = {"1/nm": 1.0, "1/A": 10.0}
"""Units of q that an argument may name, with their values in nm^-1."""
COMMENT = "#;%!"
"""Characters that begin a comment line."""
Columns = tuple[np.ndarray, np.ndarray, np.ndarray | None, np.ndarray | None]
"""q, I, σ and dq [n] of a curve, None if a file lacks them."""

_LENGTH = r"(nanomet(?:er|re)s?|nm|[\u00c5\u212b]|angstr(?:[oö]|oe)ms?|ang\.?|AA?|[uµμ]m|pm|mm|cm|m)(?![A-Za-z])"
_CLEAR = "|".join(
    (  # never the name of a sample
        rf"(?<![\w.])1\s*/\s*{_LENGTH}",
        rf"\bper\s+{_LENGTH}",
        rf"(?<![A-Za-z])(?:inv(?:erse|\.)?|reciprocal)[\s_]*{_LENGTH}",
        rf"(?<![A-Za-z]){_LENGTH}\s*(?:(?:\^|\*\*)\s*\(?\s*[-−]\s*1(?!\d)|⁻¹)",
        r"([\u00c5\u212b])\s*[-−]\s*1(?!\d)",
    )
)
_ANY = rf"{_CLEAR}|(?<![A-Za-z]){_LENGTH}\s*\(?\s*[-−]\s*1(?!\d)"  # A-1, nm-1
_IS_Q = (
    r"(?<![\w'’])(?:(?:q(?:[ _-]?(?:vector|vec|values?|axis|range|units?))?|scattering[ _-]vector|momentum[ _-]transfer"
    r"|x[ _-]?(?:units?|axis))(?![A-Za-z0-9])(?:[\s\[(/_,:;=|<>\"'-]|\b(?:in|of|is|units?|[qsh])\b)*"
    r"|[sh](?![A-Za-z0-9])\s*(?:[\[(/_,:=|]|\bin\b)\s*)"
)
_UNIT, _CLEAR_UNIT, _SAID_OF_Q, _MENTIONS_Q, _ROW_OF_UNITS = (
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        _ANY,
        _CLEAR,
        f"{_IS_Q}(?:{_ANY})",
        _IS_Q,
        rf"\W*?(?:units?(?:\s+of\s+q)?\s*[:=]?\s*)?(?:(?:{_CLEAR})(?:\W.*)?|(?:{_ANY})\W+(?:1\s*/\s*)?cm.*)",
    )
)
_PER_LENGTH = re.compile(r"(?:1/([cm]?m)|([cm]?m)-1)(?:/?sr(?:-1)?)?")
_PER_CM = {"m": 0.01, "cm": 1.0, "mm": 10.0}


def plain(text: str) -> str:
    """Remove TeX markup from a text."""
    return re.sub(r"mathrm|[${}\\]", "", text)


def without_units(text: str) -> str:
    """Remove brackets, their content, and units from a plain text."""
    return _UNIT.sub(" ", re.sub(r"\[[^\]]*\]|\([^)]*\)", " ", text))


def units_of_q(name: str, unit: str) -> set[str]:
    """The unit in a field that contains nothing else; empty set if the field is empty.

    Raises
    ------
    CurveError
        The unit is not in `Q_UNITS`.
    """
    found = {_name(match) for match in _UNIT.finditer(plain(unit))}
    if (unit.strip() and not found) or found - Q_UNITS.keys():
        raise CurveError(f"{name}: Q has the unit {unit!r}: expected 1/nm or 1/angstrom")
    return found


def units_said_of_q(lines: Iterable[str]) -> set[str]:
    """Find the units that lines of text give to q.

    A unit counts beside the name of q, at the beginning of a line of units, or later in a line that names q, if it
    cannot be the name of a sample (1/nm and nm^-1, but not A-1).
    """
    found = set()
    for line in map(plain, lines):
        found |= {_name(match) for match in _SAID_OF_Q.finditer(line)}
        if mentioned := _MENTIONS_Q.search(line):
            found |= {_name(match) for match in _CLEAR_UNIT.finditer(line, mentioned.end())} & Q_UNITS.keys()
        elif of_line := _ROW_OF_UNITS.fullmatch(line.strip()):
            found |= {_name(of_line)} & Q_UNITS.keys()
    return found


def _name(match: re.Match[str]) -> str:
    length = next(filter(None, match.groups())).lower()
    if length.startswith("n"):
        return "1/nm"
    return "1/A" if length[0] in "a\u00e5\u212b" else f"1/{length}"


def in_per_cm(columns: Columns, unit: str) -> tuple[Columns, tuple[str, ...]]:
    """Convert the intensity to 1/cm; return the columns, and notes as sentences."""
    found = _PER_LENGTH.fullmatch(re.sub(r"[\s^*·(){}]", "", unit.lower()).replace("⁻¹", "-1").replace("−", "-"))
    if found is None:
        told = f"the unit of I is {unit!r}" if unit else "the file does not name the unit of I"
        return columns, (f"{told}: taken as 1/cm; if it differs, forward intensity and background are in that unit",)
    factor = _PER_CM[found[1] or found[2]]
    if factor == 1:
        return columns, ()
    q, intensity, sigma, dq = columns
    scaled = (q, factor * intensity, None if sigma is None else factor * sigma, dq)
    return scaled, (f"I in {unit} times {factor:g}: in 1/cm",)
