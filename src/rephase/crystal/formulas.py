"""Chemical formulas that files state, and whether a formula fits its cell."""

import re
import warnings
from collections.abc import Mapping

import gemmi

from rephase.crystal.cell import Cell
from rephase.crystal.peaks import parse_formula, units_in_cell
from rephase.crystal.symmetry import Symmetry
from rephase.errors import CifError

_POSSIBLE = 5.0, 120.0  # Å^3 per atom other than hydrogen: below diamond, above caesium
_USUAL = 10.0, 40.0  # Å^3, of molecules, salts and most minerals
_POSSIBLE_DENSITY = 0.05, 25.0  # g/cm^3: aerogels, above osmium
_FEWEST_ALIKE = 3  # elements with the same count: a placeholder
DALTON_PER_A3 = 0.602214076  # of 1 g/cm^3
HYDROGEN = ("H", "D")


def stated_formula(text: str, *, name: str = "the file") -> str:
    """Return a formula that a file states, in the form of `parse_formula`; "" if it is none.

    Warns
    -----
    UserWarning
        The formula has an unknown element.

    >>> stated_formula("C12 H10 N2 O1")
    'C12 H10 N2 O'
    >>> stated_formula("?")
    ''
    """
    try:
        return written(parse_formula(text.strip()), n_decimals=6)
    except CifError:
        if unknown := _unknown_elements(text):
            warnings.warn(
                f"{name}: the formula {text.strip()!r} is ignored: unknown element {', '.join(unknown)}; correct it, "
                "or give formula= (--formula)",
                stacklevel=2,
            )
        return ""


def _unknown_elements(text: str) -> list[str]:
    """Unknown symbols of a text that consists of symbols and counts."""
    if not all(re.fullmatch(r"(?:[A-Z][a-z]?[\d.]*)+|[\d.]+", word) for word in text.split()):
        return []
    symbols = dict.fromkeys(re.findall("[A-Z][a-z]?", text))
    return [symbol for symbol in symbols if gemmi.Element(symbol).atomic_number == 0]


def formula_of_contents(contents: dict[str, float], n_units: float, cell: Cell | None) -> str:
    """Return the formula of one of `n_units` units from the atoms in the cell; "" for an obvious placeholder.

    A placeholder has the same count for three or more elements, or an impossible volume per atom.
    """
    contents = {element: count for element, count in contents.items() if count > 0}
    known = all(gemmi.Element(element).atomic_number > 0 for element in contents)
    if not contents or not known or n_units <= 0 or cell is None:
        return ""
    is_alike = len(contents) >= _FEWEST_ALIKE and len(set(contents.values())) == 1
    low, high = _USUAL
    if is_alike or not low <= cell.volume / n_heavy(contents) <= high:
        return ""
    return written({element: count / n_units for element, count in contents.items()}, n_decimals=6)


def check_formula(formula: str, cell: Cell, symmetry: Symmetry) -> None:
    """Check that the cell has room for a formula, with the likeliest number Z of formula units.

    Raises
    ------
    CifError
        The formula cannot be parsed, or the volume per atom or the density is impossible.

    Warns
    -----
    UserWarning
        The volume per atom other than hydrogen is outside 10 to 40 Å^3.
    """
    counts = parse_formula(formula)
    z = units_in_cell(counts, symmetry, cell)
    volume = cell.volume / (z * n_heavy(counts))
    g_per_cm3 = z * density(counts, cell)
    said = (
        f"formula {formula!r} in a cell of {cell.volume:.0f} Å^3: the likeliest Z = {z} gives {volume:.1f} Å^3 per "
        f"atom other than hydrogen and {g_per_cm3:.2f} g/cm^3; expected {_USUAL[0]:g} to {_USUAL[1]:g} Å^3"
    )
    if not (_is_within(volume, _POSSIBLE) and _is_within(g_per_cm3, _POSSIBLE_DENSITY)):
        raise CifError(f"{said}; the formula does not fit: check it and the cell")
    if not _is_within(volume, _USUAL):
        warnings.warn(f"{said}; check the formula and the cell", stacklevel=2)


def _is_within(value: float, limits: tuple[float, float]) -> bool:
    return limits[0] <= value <= limits[1]


def n_heavy(counts: Mapping[str, float]) -> float:
    """Atoms other than hydrogen; all of them if there are no others."""
    return sum(n for element, n in counts.items() if element not in HYDROGEN) or sum(counts.values())


def mass(counts: Mapping[str, float]) -> float:
    """Return the mass of atoms in daltons."""
    return float(sum(n * gemmi.Element(element).weight for element, n in counts.items()))


def density(contents: Mapping[str, float], cell: Cell) -> float:
    """Return the density in g/cm^3 of the atoms in the cell."""
    return mass(contents) / cell.volume / DALTON_PER_A3


def written(counts: Mapping[str, float], *, n_decimals: int = 2) -> str:
    """Write counts as CIF writes a formula.

    >>> written({"C": 10.0, "H": 9.5, "N": 1.0})
    'C10 H9.5 N'
    """
    shown = {element: "" if abs(n - 1) < 1e-3 else f"{round(n, n_decimals):.10g}" for element, n in counts.items()}
    return " ".join(f"{element}{count}" for element, count in shown.items() if count != "0")
