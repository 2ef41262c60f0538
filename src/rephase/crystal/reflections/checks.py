"""Checks of a list of reflections; each raises `ReflectionError` with the row and the remedy."""

import numpy as np

from rephase.crystal.cell import Cell
from rephase.crystal.symmetry import Symmetry
from rephase.errors import ReflectionError

FEWEST = 30  # fewest reflections for meaningful statistics
_HIGHEST_INDEX = 1000
_LARGEST = 1e30  # of an intensity, so that no square overflows
_LOWEST_D = 0.1  # Å; no reflection is measured below it
_CELL_RANGE = 1.0, 10000.0  # Å


def check_shapes(hkl: np.ndarray, columns: dict[str, np.ndarray | None], *, name: str) -> None:
    """Raise unless hkl is [n, 3] and each column [n]."""
    if hkl.ndim != 2 or hkl.shape[1] != 3:
        raise ReflectionError(f"{name}: hkl has the shape {hkl.shape}: expected [n, 3], one row for each reflection")
    for column, values in columns.items():
        if values is not None and values.shape != (len(hkl),):
            raise ReflectionError(f"{name}: {column} has the shape {values.shape}: expected ({len(hkl)},), one per hkl")


def check_cell(cell: Cell, symmetry: Symmetry | None, *, name: str) -> None:
    """Raise unless every operation of the group keeps the cell's lengths and angles."""
    low, high = _CELL_RANGE
    if not all(low <= length <= high for length in cell.parameters[:3]):
        raise ReflectionError(f"{name}: cell lengths {cell.parameters[:3]}: expected {low:g} to {high:g} Å each")
    if symmetry is not None and (triplet := symmetry.misfit(cell)):
        raise ReflectionError(
            f"{name}: the cell {', '.join(f'{x:g}' for x in cell.parameters)} and the space group "
            f"{symmetry.symbol} disagree: {triplet} does not keep the lengths and angles; "
            "give the right cell= (--cell) or space_group= (--space-group), in the same setting"
        )


def checked_indices(hkl: np.ndarray, cell: Cell, *, name: str) -> np.ndarray:
    """Return hkl as integers; raise for fractions, for (0, 0, 0), and for indices out of range."""
    wrong = ~(np.abs(hkl) <= _HIGHEST_INDEX).all(1) | (hkl != np.rint(hkl)).any(1) | (hkl == 0).all(1)
    if wrong.any():
        row = int(wrong.argmax())
        raise ReflectionError(
            f"{name}: hkl = {tuple(hkl[row].tolist())} in row {row + 1}: expected three integers from "
            f"-{_HIGHEST_INDEX} to {_HIGHEST_INDEX}, not all zero; correct the row or leave it out"
        )
    hkl = hkl.astype(np.int32)
    d_hkl = cell.d_spacing(hkl)
    if len(hkl) and d_hkl.min() < _LOWEST_D:
        row = int(d_hkl.argmin())
        raise ReflectionError(
            f"{name}: hkl = {tuple(hkl[row].tolist())} in row {row + 1} has d = {d_hkl[row]:.3g} Å: expected at least "
            f"{_LOWEST_D} Å; the index is out of range, or the cell belongs to another crystal"
        )
    return hkl


def check_values(intensity: np.ndarray, sigma: np.ndarray, *, name: str) -> None:
    """Raise unless all values are finite, each σ is above zero, and at least one intensity is."""
    for column, values, smallest in (("intensity", intensity, -_LARGEST), ("sigma", sigma, 1 / _LARGEST)):
        wrong = ~((values >= smallest) & (values <= _LARGEST))
        if wrong.any():
            row = int(wrong.argmax())
            raise ReflectionError(
                f"{name}: {column} = {values[row]} in row {row + 1}: expected a finite number"
                f"{' above 0' if column == 'sigma' else ''}; correct the row or leave it out"
            )
    if len(intensity) and not (intensity > 0).any():
        raise ReflectionError(
            f"{name}: no intensity is above 0 (the largest is {intensity.max() + 0.0:g}): expected mostly positive "
            "ones; check which column was read"
        )


def check_enough(count: int, *, name: str) -> None:
    """Raise for too few reflections."""
    if count < FEWEST:
        raise ReflectionError(
            f"{name}: {count} reflections: expected at least {FEWEST}; give more data, or choose a smaller d_min"
        )
