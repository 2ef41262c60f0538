"""The atoms of SHELX files.

References
----------
Sheldrick (2015), doi:10.1107/S2053229614024218; the SHELXL manual.
"""

import re
from typing import NamedTuple

from rephase.crystal.shelx import instruction_lines, numbers
from rephase.errors import ReflectionError

_CARD = re.compile(
    r"(ABIN|ACTA|AFIX|ANIS|ANSC|ANSR|BASF|BEDE|LONE|BIND|BLOC|BOND|BUMP|CELL|CGLS|CHIV|CONF|CONN|DAMP|DANG|DEFS|DELU|DFIX|"
    r"DISP|EADP|END|EQIV|EXTI|EXYZ|FEND|FLAT|FMAP|FRAG|FREE|FVAR|GRID|HFIX|HKLF|HTAB|ISOR|LATT|LAUE|LIST|"
    r"L\.S\.|MERG|MOLE|MORE|MOVE|MPLA|NCSY|NEUT|OMIT|PART|PLAN|PRIG|REM|RENA|RESI|RIGU|RTAB|SADI|SAME|SFAC|"
    r"SHEL|SIMU|SIZE|SPEC|STIR|SUMP|SWAT|SYMM|TEMP|TITL|TWIN|TWST|UNIT|WGHT|WIGL|WPDB|XNPD|ZERR)",
    re.IGNORECASE,
)
_U_ISO = 0.05  # Å^2, where a file gives none: SHELXL's own default


class Site(NamedTuple):
    """An atom; ``occupation`` is its share of a general position.

    ``u`` in Å^2: U_iso, where below -0.5 as a multiple of U_eq of the last atom before that has its own; or U11, U22,
    U33, U23, U13, U12.
    """

    label: str
    element: str
    xyz_frac: tuple[float, ...]
    occupation: float
    u: tuple[float, ...]


def read_sites(text: str, *, name: str) -> list[Site]:
    """Read the atoms in the text of an `.ins` or `.res`, up to HKLF; free variables are put in.

    Raises
    ------
    ReflectionError
        An atom of a kind that SFAC does not list, or with words where numbers are expected.
    """
    elements: list[str] = []
    free: list[float] = []
    sites: list[Site] = []
    part_occupation, is_fragment = None, False
    for line in instruction_lines(text):
        card, *words = line.split() or [""]
        kind = card.upper().split("_")[0]
        if kind == "SFAC":
            elements += _elements(words)
        elif kind == "FVAR":
            free += numbers("FVAR ", " ".join(words), None, name)
        elif kind in ("FRAG", "FEND"):
            is_fragment = kind == "FRAG"  # what lies between is a model elsewhere
        elif kind == "PART":
            part_occupation = numbers("PART ", words[1], 1, name)[0] if len(words) > 1 else None
        elif not is_fragment and not _CARD.fullmatch(kind) and len(words) >= 4:
            sites.append(_site(card, words, elements, free, part_occupation, name))
    return sites


def _site(
    label: str, words: list[str], elements: list[str], free: list[float], part_occupation: float | None, name: str
) -> Site:
    kind, *values = numbers(f"{label} ", " ".join(words), None, name)
    if not 1 <= kind <= len(elements):
        raise ReflectionError(
            f"{name}: atom {label} is of kind {kind:g}, but SFAC lists {len(elements)} elements; expected its position "
            "in SFAC, from 1"
        )
    values += [1.0] * (len(values) == 3)
    if part_occupation is not None:
        values[3] = part_occupation
    x, y, z, occupation, *u = (_put_in(value, free, f"{name}: atom {label}") for value in values)
    u = u[:6] if len(u) >= 6 else (u or [_U_ISO])[:1]  # the height of a peak may follow
    return Site(label, elements[int(kind) - 1], (x, y, z), occupation, tuple(u))


def _elements(words: list[str]) -> list[str]:
    """Of a card SFAC: symbols, or one symbol and the numbers of its form factor."""
    symbols = [word.lstrip("$").capitalize() for word in words if re.fullmatch(r"\$?[A-Za-z]{1,2}", word)]
    return symbols[:1] if any(word[-1].isdigit() for word in words) else symbols


def _put_in(value: float, free: list[float], where: str) -> float:
    """A parameter p as it is, of 10 + p (fixed) the p, of 10 m + p the m-th free variable times p."""
    m = int((abs(value) + 5) // 10) * (1 if value > 0 else -1)
    p = value - 10 * m
    if abs(m) < 2:
        return p
    if abs(m) > len(free):
        raise ReflectionError(f"{where}: {value:g} asks for free variable {abs(m)}, but FVAR gives {len(free)}; add it")
    return p * free[m - 1] if m > 0 else p * (free[-m - 1] - 1)
