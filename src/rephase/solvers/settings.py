"""The standard setting of a space group: its axes and origin in International Tables, and the way there."""

import warnings
from dataclasses import replace
from functools import cache, partial
from itertools import product
from typing import NamedTuple

import gemmi
import numpy as np

from rephase.crystal.cell import Cell
from rephase.crystal.reflections import Reflections
from rephase.crystal.symmetry import Symmetry, cell_of, find_symmetry
from rephase.errors import SymmetryError

_LARGEST_TURN = 2  # multiple of an old axis in a new one
_REVERSE = np.array([-1, -1, 1])  # indices in the reverse setting of a rhombohedral lattice, in those in the obverse
_ALLOWED, _FEW = 0.95, 0.5  # share of the strong reflections that the right setting, and that a wrong one allows
_SHIFTS = ("x,y,z", "x+1/4,y+1/4,z")  # of the origin: centred groups have two kinds of centres or planes


class Setting(NamedTuple):
    """New axes: the columns of ``basis`` [3, 3] in terms of the old ones; ``origin`` [3], fractional, old axes."""

    symmetry: Symmetry
    basis: np.ndarray
    origin: np.ndarray


def standard_setting(symmetry: Symmetry, cell: Cell | None = None) -> Setting:
    """Return the standard setting of a group, with the inversion centre at the origin and hexagonal axes.

    With the cell, a and c of a monoclinic group are those whose β is obtuse and nearest to 90°.

    Raises
    ------
    SymmetryError
        The group is in no table.

    Examples
    --------
    >>> standard_setting(find_symmetry("P 21/n")).symmetry.symbol
    'P 1 21/c 1'
    """
    entry = symmetry.table_entry
    if entry is None:
        raise SymmetryError(f"{symmetry.symbol}: the standard setting is unknown; leave standard (--standard) out")
    to_old = entry.basisop
    if cell is not None and entry.crystal_system_str() == "monoclinic":
        to_old = min((to_old * axes for axes in _equal_axes(entry.number)), key=partial(_obliqueness, cell))
    return Setting(find_symmetry(entry.number), _matrix(to_old), np.array(to_old.tran) / gemmi.Op.DEN)


def in_obverse_setting(data: Reflections) -> Reflections:
    """Turn indices of the reverse setting of a rhombohedral lattice, h - k + l = 3n, to the obverse: -h + k + l = 3n.

    The reflections stay as they are unless the strong ones, those above the mean intensity, clearly ask for it. The
    operations of a group in hexagonal axes are those of the obverse setting (International Tables A).

    Warns
    -----
    UserWarning
        The indices were turned.
    """
    if data.group.group_ops.find_centering() != "R":
        return data
    strong = data.hkl[data.intensity > data.intensity.mean()]
    stated, turned = (1 - data.group.is_absent(hkl).mean() for hkl in (strong, strong * _REVERSE))
    if turned < _ALLOWED or stated > _FEW:
        return data
    warnings.warn(
        f"{data.name}: the indices are those of the reverse setting of a rhombohedral lattice (h - k + l = 3n in "
        f"{turned:.0%} of the strong reflections, -h + k + l = 3n in {stated:.0%}); h k l become -h -k l of the "
        f"obverse setting, in which {data.group.symbol} is defined, and the results have these indices",
        stacklevel=4,
    )
    return replace(data, hkl=data.hkl * _REVERSE)


@cache
def _equal_axes(number: int) -> list[gemmi.Op]:
    """List changes of axes, none first, after which a standard monoclinic group has the same operations."""
    standard = gemmi.find_spacegroup_by_number(number)
    turns = sorted(product(range(-_LARGEST_TURN, _LARGEST_TURN + 1), repeat=4), key=_distance_from_identity)
    changes = [_change(turn, shift) for turn in turns if abs(_determinant(turn)) == 1 for shift in _SHIFTS]
    return [change for change in changes if _changed(standard, change) == standard.operations()]


def _changed(group: gemmi.SpaceGroup, to_old: gemmi.Op) -> gemmi.GroupOps:
    """Return the operations of a group after a change of axes."""
    operations = group.operations()
    operations.change_basis_backward(to_old)
    return operations


def _change(turn: tuple[int, ...], shift: str) -> gemmi.Op:
    """Return the change to a' = p a + r c, c' = q a + s c; b' keeps the hand."""
    p, q, r, s = turn
    change = gemmi.Op(shift)
    change.rot = (gemmi.Op.DEN * np.array([[p, 0, q], [0, _determinant(turn), 0], [r, 0, s]])).tolist()
    return change


def _determinant(turn: tuple[int, ...]) -> int:
    p, q, r, s = turn
    return p * s - q * r


def _distance_from_identity(turn: tuple[int, ...]) -> int:
    return sum(abs(one - other) for one, other in zip(turn, (1, 0, 0, 1)))


def _obliqueness(cell: Cell, to_old: gemmi.Op) -> tuple[float, bool]:
    """How far the new β is from 90°, then whether it is acute."""
    a, _, c = (cell.orthogonalisation @ _matrix(to_old)).T
    cosine = round(float(a @ c / np.linalg.norm(a) / np.linalg.norm(c)), 6)
    return abs(cosine), cosine > 0


def _matrix(operation: gemmi.Op) -> np.ndarray:
    """Return the matrix [3, 3] of an operation or a change of axes."""
    return np.array(operation.rot) / gemmi.Op.DEN


def in_setting(data: Reflections, setting: Setting) -> Reflections:
    """Transform cell, indices and phases of reflections, and give them the group of the setting.

    Absences of a centring that the new axes do not have get no whole indices there, and are left out.
    """
    hkl = data.hkl @ setting.basis
    data = data.take(np.isclose(hkl, np.rint(hkl), atol=1e-3).all(1))
    phi = None if data.phi is None else data.phi - 2 * np.pi * data.hkl @ setting.origin
    hkl = np.rint(data.hkl @ setting.basis).astype(int)
    cell = cell_of(data.cell.orthogonalisation @ setting.basis)
    return replace(data, hkl=hkl, cell=cell, phi=phi, symmetry=setting.symmetry)
