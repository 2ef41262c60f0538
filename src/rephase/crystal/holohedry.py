"""The symmetry of the axes of a cell: the highest that its reflections can have."""

import gemmi

from rephase.crystal.cell import Cell
from rephase.crystal.symmetry import Symmetry

_OBLIQUITY = 0.1  # degrees


def symmetry_of_axes(cell: Cell) -> Symmetry:
    """Return the rotations that leave the axes of a cell as they are within 0.1 degrees, with the inversion.

    Examples
    --------
    >>> len(symmetry_of_axes(Cell(5.0, 5.0, 8.0, 90.0, 90.0, 90.0)).triplets)
    16
    """
    rotations = gemmi.find_lattice_symmetry(gemmi.UnitCell(*cell.parameters), "P", _OBLIQUITY).sym_ops
    inverted = [gemmi.Op("-x,-y,-z") * operation for operation in rotations]
    return Symmetry("holohedry", tuple(operation.triplet() for operation in [*rotations, *inverted]))
