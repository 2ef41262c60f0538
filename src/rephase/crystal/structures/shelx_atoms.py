"""The atoms of SHELX files.

References
----------
Sheldrick (2015), doi:10.1107/S2053229614024218; the SHELXL manual.
"""

import re
import warnings
from dataclasses import dataclass, field
from typing import NamedTuple

from rephase.crystal.shelx import instruction_lines, numbers
from rephase.crystal.structures.displacements import AT_REST
from rephase.crystal.structures.elements import is_element
from rephase.errors import ReflectionError

_CARD = re.compile(
    r"(ABIN|ACTA|AFIX|ANIS|ANSC|ANSR|BASF|BEDE|LONE|BIND|BLOC|BOND|BUMP|CELL|CGLS|CHIV|CONF|CONN|DAMP|DANG|DEFS|DELU|DFIX|"
    r"DISP|EADP|END|EQIV|EXTI|EXYZ|FEND|FLAT|FMAP|FRAG|FREE|FVAR|GRID|HFIX|HOPE|HKLF|HTAB|ISOR|LATT|LAUE|LIST|"
    r"L\.S\.|MERG|MOLE|MORE|MOVE|MPLA|NCSY|NEUT|OMIT|PART|PLAN|PRIG|REM|RENA|RESI|RIGU|RTAB|SADI|SAME|SFAC|"
    r"SHEL|SIMU|SIZE|SPEC|STIR|SUMP|SWAT|SYMM|TEMP|TITL|TWIN|TWST|UNIT|WGHT|WIGL|WPDB|XNPD|ZERR)",
    re.IGNORECASE,
)
_PEAK = re.compile(r"Q\d+")
_NUMBER = re.compile(r"[-+]?\.?\d")


class ListedSite(NamedTuple):
    """An atom; ``occupation`` is its fraction of a general position.

    ``u`` in Å^2: U_iso, which below -0.5 is a multiple of U_eq of the last preceding atom with its own; or U11, U22,
    U33, U23, U13, U12.
    """

    label: str
    element: str
    xyz_frac: tuple[float, ...]
    occupation: float
    u: tuple[float, ...]


@dataclass
class _State:
    """The state that the preceding cards define for an atom."""

    elements: list[str] = field(default_factory=list)
    free: list[float] = field(default_factory=list)
    part_occupation: float | None = None
    afix: tuple[float, ...] = ()  # occupation and U that AFIX gives to the following atoms
    moved: tuple[float, ...] = (0.0, 0.0, 0.0, 1.0)
    is_fragment: bool = False


def read_sites(text: str, *, name: str) -> list[ListedSite]:
    """Read the atoms in the text of an `.ins` or `.res`, up to HKLF, with free variables inserted.

    Raises
    ------
    ReflectionError
        An atom has a kind that SFAC does not list, or words instead of numbers, or a card includes another file.

    Warns
    -----
    UserWarning
        Peaks of a difference map (Q1, Q2, ...) were left out.
    """
    state = _State()
    sites: list[ListedSite] = []
    n_peaks = 0
    for line in instruction_lines(text):
        card, *words = line.split() or [""]
        kind = card.upper().split("_")[0]
        if kind.startswith("+"):
            raise ReflectionError(f"{name}: {card} includes another file, which is not read; insert its lines instead")
        if _CARD.fullmatch(kind):
            _follow(state, kind, words, name)
        elif state.is_fragment or len(words) < 4:
            continue
        elif _PEAK.fullmatch(kind):
            n_peaks += 1
        else:
            sites.append(_site(card, words, state, name))
    if n_peaks:
        warnings.warn(f"{name}: {n_peaks} peaks (Q1, ...) are not atoms and are left out", stacklevel=4)
    return sites


def _follow(state: _State, card: str, words: list[str], name: str) -> None:
    """Update the state with a card for the following atoms."""
    if card == "SFAC":
        state.elements += _elements(words, name)
    elif card == "FVAR":
        state.free += numbers("FVAR ", " ".join(words), None, name)
    elif card in ("FRAG", "FEND"):
        state.is_fragment = card == "FRAG"  # the atoms up to FEND are a model with its own cell
    elif card == "PART":
        state.part_occupation = numbers("PART ", words[1], 1, name)[0] if len(words) > 1 else None
    elif card == "AFIX":
        state.afix = tuple(numbers("AFIX ", " ".join(words[2:4]), None, name))
    elif card == "MOVE":
        given = numbers("MOVE ", " ".join(words), None, name)[:4]
        state.moved = (*given, *(0.0, 0.0, 0.0, 1.0)[len(given) :])


def _site(label: str, words: list[str], state: _State, name: str) -> ListedSite:
    kind, *values = numbers(f"{label} ", " ".join(words), None, name)
    if kind not in range(1, len(state.elements) + 1):
        raise ReflectionError(
            f"{name}: atom {label} is of kind {kind:g}, but SFAC lists {len(state.elements)} elements; expected its "
            "position in SFAC, from 1"
        )
    values[3:] = values[3:] or [1.0]
    for column, given in enumerate(state.afix):
        values[3 + column : 4 + column] = [given]
    if state.part_occupation is not None:
        values[3] = state.part_occupation
    x, y, z, occupation, *u = (_put_in(value, state.free, f"{name}: atom {label}") for value in values)
    u = u[:6] if len(u) >= 6 else (u or [AT_REST])[:1]  # a peak height may follow
    *shift, sign = state.moved
    xyz_frac = tuple(moved + sign * value for moved, value in zip(shift, (x, y, z)))
    return ListedSite(label, state.elements[int(kind) - 1], xyz_frac, occupation, tuple(u))


def _elements(words: list[str], name: str) -> list[str]:
    """Elements of an SFAC card: symbols, or one symbol and its form-factor coefficients; charges are ignored."""
    n_symbols = next((n for n, word in enumerate(words) if _NUMBER.match(word)), len(words))
    symbols = [re.sub(r"\d*[+-]\d*$|\d+$", "", word.lstrip("$")).capitalize() for word in words[:n_symbols]]
    if unknown := [symbol for symbol in symbols if not is_element(symbol)]:
        raise ReflectionError(
            f"{name}: SFAC lists the unknown element {unknown[0]!r}; expected symbols such as C or Ni"
        )
    return symbols


def _put_in(value: float, free: list[float], where: str) -> float:
    """Resolve a parameter: p itself, p of 10 + p (fixed), or for 10 m + p the m-th free variable times p."""
    m = int((abs(value) + 5) // 10) * (1 if value > 0 else -1)
    p = value - 10 * m
    if abs(m) < 2:
        return p
    if abs(m) > len(free):
        raise ReflectionError(
            f"{where}: {value:g} refers to free variable {abs(m)}, but FVAR gives {len(free)}; add it"
        )
    return p * free[m - 1] if m > 0 else p * (free[-m - 1] - 1)
