"""The standard setting of a space group: its axes and origin in International Tables, and the way there."""

from dataclasses import replace
from functools import cache
from typing import NamedTuple

import gemmi
import numpy as np

from rephase.crystal.reflections import Reflections
from rephase.crystal.symmetry import Symmetry, cell_of, find_symmetry
from rephase.errors import SymmetryError


class Setting(NamedTuple):
    """New axes: the columns of ``basis`` [3, 3] in terms of the old ones; ``origin`` [3], fractional, old axes."""

    symmetry: Symmetry
    basis: np.ndarray
    origin: np.ndarray


def standard_setting(symmetry: Symmetry) -> Setting:
    """Return the standard setting of a group, with the inversion centre at the origin and hexagonal axes.

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
    basis, origin = np.array(to_old.rot) / gemmi.Op.DEN, np.array(to_old.tran) / gemmi.Op.DEN
    return Setting(find_symmetry(_standard_symbols()[entry.number]), basis, origin)


@cache
def _standard_symbols() -> dict[int, str]:
    """Symbol of the reference setting of each number."""
    return {entry.number: entry.xhm() for entry in gemmi.spacegroup_table() if entry.is_reference_setting()}


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
