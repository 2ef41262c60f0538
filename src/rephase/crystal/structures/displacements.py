"""Mean-square displacements U in Å^2 from the values in files: U, B = 8π²U or β, isotropic or anisotropic.

References
----------
Trueblood et al. (1996), doi:10.1107/S0108767396005697.
"""

import numpy as np

from rephase.crystal.cell import Cell

PER_U = 8 * np.pi**2  # B / U
AT_REST = 0.05  # Å^2, SHELXL's default if a file gives none
SLIGHTLY_NEGATIVE = -0.005  # Å^2; refinements of atoms nearly at rest reach such values


def equivalent_u(tensor: np.ndarray, cell: Cell) -> float:
    """U_eq: a third of the trace of U^ij [3, 3] (Å^2), transformed to Cartesian axes (ITC 8.1.3)."""
    to_cartesian = cell.orthogonalisation * _reciprocal_lengths(cell)
    return float(np.trace(to_cartesian @ tensor @ to_cartesian.T) / 3)


def tensor_of_u(kind: str, values: np.ndarray, cell: Cell) -> np.ndarray:
    """U^ij [3, 3] in Å^2 from the components 11, 22, 33, 12, 13, 23 of U, of B = 8π²U, or of β = 2π² a*_i a*_j U."""
    xx, yy, zz, xy, xz, yz = values
    tensor = np.array([[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]])
    if kind == "B":
        return tensor / PER_U
    if kind == "beta":
        lengths = _reciprocal_lengths(cell)
        return tensor / (2 * np.pi**2 * np.outer(lengths, lengths))
    return tensor


def _reciprocal_lengths(cell: Cell) -> np.ndarray:
    """a*, b*, c* in Å^-1."""
    return np.sqrt(np.diag(cell.reciprocal_metric))
