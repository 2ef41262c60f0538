"""Tabulated space groups by the names that people and programs use: Hermann-Mauguin and Hall symbols, numbers."""

import re
import unicodedata
from functools import cache, partial

import gemmi

_LONGEST = 100  # letters of a symbol
_SIGNS = str.maketrans({**dict.fromkeys("\u2010\u2011\u2012\u2013\u2014\u2212", "-"), "\u2044": "/"})
# Spellings of the same symbol: screw axes in brackets, subscript marks, an overbar, the group number beside it, ...
_SPELLINGS = (
    (r"(?<=\d)\((\d)\)", r"\1"),
    (r"</?\w+>|[_~${}^]", ""),
    (r"\\(?:bar|overline)\s*(\d)", r"-\1"),
    (r"(\d)[\u0304\u0305]", r"-\1"),
    (r"[\s,(\[]*origin\s*(?:choice|at)?\s*([12])[)\]]*", r":\1"),
    (r"[\s,(\[]*hex[a-z]*(?:\s*axes)?[)\]]*$", ":H"),
    (r"[\s,(\[]*rhomb[a-z]*(?:\s*axes)?[)\]]*$", ":R"),
    (r"[\s,(\[]*(?:no\.?\s*|#\s*)\d+[)\]]*$|\s+\(\d+\)$", ""),
    (r"\s*([/:])\s*", r"\1"),
)
_SETTINGS = {"S": ":1", "Z": ":2", "H": ":H", "R": ":R"}  # letters of SHELX and the ICSD, at the end of a symbol
_FULL_AXES = ((r"21?/(?=[a-z])", ""), (r"4[1-3]?/(?=[a-z]-3)", ""))  # F 41/d -3 2/m is F d -3 m
_CENTRED = "2"  # origin choice where a symbol states none: the inversion centre, as SHELX needs it
_ONLY_HALL = re.compile(r"""-|.*(\d[abcdn]|[uvwxyz'"*=(])""", re.IGNORECASE)


def group_of_symbol(symbol: str) -> gemmi.SpaceGroup | None:
    """Return the group and setting of a Hermann-Mauguin symbol, short or full, or of an unambiguous Hall symbol.

    Without an origin it is that at the inversion centre, choice 2; without axes they are hexagonal.

    >>> [group_of_symbol(symbol).xhm() for symbol in ("P2_1/c", "P 21/n 21/m 21/a", "F d -3 m", "-P 2ybc")]
    ['P 1 21/c 1', 'P n m a', 'F d -3 m:2', 'P 1 21/c 1']
    """
    plain = plain_symbol(symbol) if len(symbol) <= _LONGEST else ""
    if not plain[:1].isalpha():  # gemmi accepts numbers too
        return group_of_hall(symbol) if symbol.strip().startswith("-") and len(symbol) <= _LONGEST else None
    letters, _, setting = plain.replace(" ", "").partition(":")
    for pattern, short in _FULL_AXES:
        letters = re.sub(pattern, short, letters)
    find = partial(gemmi.find_spacegroup_by_name, prefer=_CENTRED)
    found = find(plain) or find(f"{letters}:{setting}".strip(":"))
    if found is None and (only := find(letters)) and len(settings_of(only)) == 1:
        return only  # P b c a S: there is only one origin
    return found or (group_of_hall(symbol) if _ONLY_HALL.match(symbol.strip()) else None)


def group_of_hall(symbol: str) -> gemmi.SpaceGroup | None:
    """Return the group and setting of a Hall symbol; None if it is not one.

    >>> group_of_hall(" P 3 2").xhm()
    'P 3 1 2'
    """
    if not (symbol.isascii() and symbol.isprintable()):
        return None
    try:
        return gemmi.find_spacegroup_by_ops(gemmi.symops_from_hall(" ".join(symbol.replace("_", " ").split())))
    except (RuntimeError, ValueError):
        return None


def group_of_number(number: float) -> gemmi.SpaceGroup | None:
    """Return the standard setting of a number of International Tables; None if there is no such number."""
    if not (1 <= number <= 230 and number == int(number)):
        return None
    return gemmi.find_spacegroup_by_name(gemmi.find_spacegroup_by_number(int(number)).hm, prefer=_CENTRED)


def has_setting(symbol: str) -> bool:
    """Whether a symbol states its origin or axes, as ``F d -3 m:2`` and ``R -3 m H`` do."""
    return ":" in plain_symbol(symbol)


def settings_of(group: gemmi.SpaceGroup) -> list[gemmi.SpaceGroup]:
    """All origins and axes of a group that its symbol without a setting may mean."""
    return _settings()[group.hm]


@cache
def _settings() -> dict[str, list[gemmi.SpaceGroup]]:
    """Tabulated groups by symbol without setting; International Tables list each setting once."""
    found: dict[str, list[gemmi.SpaceGroup]] = {}
    for group in gemmi.spacegroup_table():
        if all(group.ext != other.ext for other in found.setdefault(group.hm, [])):
            found[group.hm].append(group)
    return found


def plain_symbol(symbol: str) -> str:
    """Normalise a symbol: `P2(1)/c` becomes `P21/c`, and `F d -3 m Z` becomes `F d -3 m:2`."""
    plain = in_ascii(symbol).strip(" \t'\"")
    for pattern, written in _SPELLINGS:
        plain = re.sub(pattern, written, plain, flags=re.IGNORECASE)
    plain = plain.strip()
    setting = _SETTINGS.get(plain[-1:].upper())
    return plain[:-1].rstrip(" :") + setting if setting else plain


def in_ascii(text: str) -> str:
    """Replace Unicode subscripts, fractions and dashes by plain ASCII, and half of a surrogate pair by ?."""
    whole = text.encode("utf-8", errors="replace").decode("utf-8")  # arguments in other encodings have such halves
    return unicodedata.normalize("NFKC", whole).translate(_SIGNS)
