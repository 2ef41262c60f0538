"""Chemical formulas that files state, and whether a formula fits its cell."""

import warnings

import gemmi

from rephase.crystal.cell import Cell
from rephase.crystal.peaks import parse_formula, units_in_cell
from rephase.crystal.symmetry import Symmetry
from rephase.errors import CifError

_POSSIBLE = 5.0, 120.0  # Å^3 per atom other than hydrogen: below diamond, above caesium
_USUAL = 10.0, 40.0  # Å^3, of molecules, salts and most minerals
_POSSIBLE_DENSITY = 0.05, 25.0  # g/cm^3: aerogels, above osmium
_FEWEST_ALIKE = 3  # elements with the same count: a placeholder
_DALTON_PER_A3 = 1 / 0.602214076  # g/cm^3


def stated_formula(text: str) -> str:
    """Return a formula that a file states, in the form of `parse_formula`; "" if it is none.

    >>> stated_formula("C12 H10 N2 O1")
    'C12 H10 N2 O'
    >>> stated_formula("?")
    ''
    """
    try:
        return _written(parse_formula(text.strip()))
    except CifError:
        return ""


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
    if is_alike or not low <= cell.volume / _n_heavy(contents) <= high:
        return ""
    return _written({element: count / n_units for element, count in contents.items()})


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
    volume = cell.volume / (z * _n_heavy(counts))
    density = z * sum(n * gemmi.Element(element).weight for element, n in counts.items()) / cell.volume
    density *= _DALTON_PER_A3
    said = (
        f"formula {formula!r} in a cell of {cell.volume:.0f} Å^3: the likeliest Z = {z} gives {volume:.1f} Å^3 per "
        f"atom other than hydrogen and {density:.2f} g/cm^3; expected {_USUAL[0]:g} to {_USUAL[1]:g} Å^3"
    )
    if not (_is_within(volume, _POSSIBLE) and _is_within(density, _POSSIBLE_DENSITY)):
        raise CifError(f"{said}; the formula does not fit: check it and the cell")
    if not _is_within(volume, _USUAL):
        warnings.warn(f"{said}; check the formula and the cell", stacklevel=2)


def _is_within(value: float, limits: tuple[float, float]) -> bool:
    return limits[0] <= value <= limits[1]


def _n_heavy(counts: dict[str, float]) -> float:
    """Number of atoms other than hydrogen; all atoms if there are no others."""
    return sum(n for element, n in counts.items() if element not in ("H", "D")) or sum(counts.values())


def _written(counts: dict[str, float]) -> str:
    """Write counts as a formula such as ``C12 H10 N2 O``."""
    return " ".join(f"{element}{'' if n == 1 else f'{n:.6g}'}" for element, n in counts.items())
