"""Contents of a cell compared with its formula, and the choice of the origin or axes that agree with it."""

import warnings
from collections.abc import Sequence

import numpy as np

from rephase.crystal.atoms import Atoms, whole_cell
from rephase.crystal.cell import Cell
from rephase.crystal.peaks import distances
from rephase.crystal.symmetry import Symmetry

_HYDROGENS = ("H", "D")
_TOLERANCE = 0.05  # relative, of the atoms of an element
_TOLERANCE_OF_ALL = 0.02  # relative, of all atoms, if larger: occupancies and formulas are rounded
_MOST_PAIRS = 2000  # largest number of atoms whose distances are compared


def expected_contents(formula: dict[str, float], z: float | None, found: dict[str, float]) -> dict[str, float]:
    """Non-hydrogen atoms of one cell from formula and Z; without Z, the number of atoms found determines it."""
    heavy = {element: count for element, count in formula.items() if element not in _HYDROGENS}
    if z is None:
        atoms = sum(count for element, count in found.items() if element not in _HYDROGENS)
        z = atoms / max(sum(heavy.values()), 1e-9)
    return {element: count * z for element, count in heavy.items()}


def agrees(found: dict[str, float], expected: dict[str, float]) -> bool:
    """Whether a cell contains the expected atoms, except hydrogen, which many lists leave out."""
    few = _TOLERANCE_OF_ALL * sum(expected.values())
    return all(
        abs(found.get(element, 0) - expected.get(element, 0)) <= max(few, _TOLERANCE * expected.get(element, 0))
        for element in {*found, *expected} - set(_HYDROGENS)
    )


def choose_setting(
    possible: Sequence[Symmetry], sites: Atoms, cell: Cell, formula: dict[str, float], z: float | None, *, name: str
) -> Symmetry:
    """Choose among possible origins or axes: fit to the cell, then the formula, then the longest shortest distance.

    Warns
    -----
    UserWarning
        Several fit the cell; the message gives the choice and its reason.
    """
    fitting = [symmetry for symmetry in possible if symmetry.misfit(cell) is None] or list(possible)
    if len(fitting) == 1:
        return fitting[0]
    cells = [whole_cell(sites, symmetry, cell) for symmetry in fitting]
    right = [agrees(atoms.counts, expected_contents(formula, z, atoms.counts)) for atoms in cells]
    if formula and sum(right) == 1:
        best, reason = right.index(True), "which gives the stated formula"
    else:
        closest = [shortest_distance(atoms, cell) for atoms in cells]
        best = int(np.argmax(np.round(closest, 3)))
        others = ", ".join(f"{length:.2f}" for n, length in enumerate(closest) if n != best)
        reason = f"where the shortest distance is {closest[best]:.2f} Å (otherwise {others} Å)"
    warnings.warn(
        f"{name}: {fitting[0].symbol.split(':')[0]} does not say which origin is meant: {fitting[best].symbol} "
        f"is used, {reason}; state the symbol with its setting or the operations",
        stacklevel=4,
    )
    return fitting[best]


def shortest_distance(atoms: Atoms, cell: Cell) -> float:
    """Shortest distance in Å between atoms of occupancy above 0.5, images in other cells included."""
    kept = atoms.xyz_frac[atoms.occupancy > 0.5][:_MOST_PAIRS]
    shortest = float(min(cell.a, cell.b, cell.c))
    for n, xyz in enumerate(kept[:-1]):
        shortest = min(shortest, float(distances(kept[n + 1 :] - xyz, cell).min()))
    return shortest


def warn_of_contents(found: dict[str, float], formula: dict[str, float], z: float, *, name: str) -> None:
    """Warn if a cell does not contain its formula Z times, hydrogen excepted."""
    expected = expected_contents(formula, z, found)
    if agrees(found, expected):
        return
    warnings.warn(
        f"{name}: the atoms give a cell of {_written(found)}, but the formula times Z = {z:g} is {_written(expected)} "
        "(hydrogen aside): atoms may be missing, or the space group, its origin, the formula or Z is wrong",
        stacklevel=4,
    )


def _written(counts: dict[str, float]) -> str:
    return " ".join(f"{element}{count:.4g}" for element, count in counts.items() if element not in _HYDROGENS)
