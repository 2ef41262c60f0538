"""Bonds, angles, torsions and hydrogen bonds of a model with standard uncertainties, as CIF lists them.

The uncertainties follow from those of the coordinates and of the cell, without covariances between atoms; images of the
same atom move together. What a riding hydrogen atom takes part in is constrained and has none.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from rephase.crystal.cell import Cell
from rephase.refinement.atoms.restraints import Pairs
from rephase.refinement.bonds import find_bonds
from rephase.refinement.hydrogen_bonds import HydrogenBonds, find_hydrogen_bonds, symmetry_codes
from rephase.refinement.model import Model

_STEP = 1e-3  # of an uncertainty of the cell, for differences
_ROUNDING = 1e-6  # Å or degrees: a smaller uncertainty is that of a value that symmetry fixes
_LONGEST, _WIDEST = 1.9, 170.0  # Å and degrees in the chain of a torsion, as CONF of SHELXL


class Lengths(NamedTuple):
    """Distances of m pairs: ``atoms`` [m, 2], ``value`` and ``su`` [m] in Å, ``code`` [m] of the second atom."""

    atoms: np.ndarray
    value: np.ndarray
    su: np.ndarray
    code: tuple[str, ...]


class Angles(NamedTuple):
    """Angles of m triples: ``atoms`` [m, 3], the vertex in the middle, ``value`` and ``su`` [m] in degrees.

    ``codes`` are those of the first and of the third atom, m of each.
    """

    atoms: np.ndarray
    value: np.ndarray
    su: np.ndarray
    codes: tuple[tuple[str, ...], tuple[str, ...]]


class Torsions(NamedTuple):
    """Torsions of m chains: ``atoms`` [m, 4], ``value`` in (-180, 180] and ``su`` [m] in degrees.

    ``codes`` are those of the four atoms, m of each; the second atom is at its own place.
    """

    atoms: np.ndarray
    value: np.ndarray
    su: np.ndarray
    codes: tuple[tuple[str, ...], ...]


class _Ends(NamedTuple):
    """Atoms ``second`` [m] at ``rotation @ xyz + shift``, seen from the atoms ``first`` [m] at their own places."""

    first: np.ndarray
    second: np.ndarray
    rotation: np.ndarray
    shift: np.ndarray

    def steps(self, xyz_frac: np.ndarray) -> np.ndarray:
        """Return the vectors [m, 3] from first to second, in fractions."""
        place = np.einsum("mij,mj->mi", self.rotation, xyz_frac[self.second]) + self.shift
        return np.asarray(place - xyz_frac[self.first])


def bond_lengths(model: Model) -> Lengths:
    """List each bond once, and those to images of an atom by symmetry from the atom that comes first."""
    bonds = find_bonds(model.sites, model.cell, model.symmetry)
    code = np.array(symmetry_codes(bonds.rotation, bonds.shift, model.symmetry), dtype=object)
    order = np.lexsort((bonds.distance.round(6), bonds.second, bonds.first))
    rows = order[(bonds.first < bonds.second)[order] | (bonds.first == bonds.second)[order]]
    return _lengths(model, _ends(bonds.take(rows)), tuple(code[rows]))


def bond_angles(model: Model) -> Angles:
    """List the angles between all bonds of each atom, apart from those between different disorder parts."""
    bonds = find_bonds(model.sites, model.cell, model.symmetry)
    order = np.lexsort((bonds.distance.round(6), bonds.second, bonds.first))
    bonds = bonds.take(order)
    one, other = np.nonzero(np.triu(bonds.first[:, None] == bonds.first, 1))
    part, part_of_other = (model.sites.part[bonds.second[row]] for row in (one, other))
    fits = (part == part_of_other) | (part == 0) | (part_of_other == 0)
    one, other = one[fits], other[fits]
    code = np.array(symmetry_codes(bonds.rotation, bonds.shift, model.symmetry), dtype=object)
    atoms = np.column_stack([bonds.second[one], bonds.first[one], bonds.second[other]])
    value, su = _angles(model, _ends(bonds.take(one)), _ends(bonds.take(other)), atoms)
    return Angles(atoms, value, su, (tuple(code[one]), tuple(code[other])))


def bond_torsions(model: Model) -> Torsions:
    """List the torsions about each bond without hydrogen atoms, as CONF of SHELXL does.

    Bonds over 1.9 Å, angles over 170° and chains through different disorder parts are left out.
    """
    bonds = find_bonds(model.sites, model.cell, model.symmetry)
    heavy = ~(model.sites.is_hydrogen[bonds.first] | model.sites.is_hydrogen[bonds.second])
    bonds = bonds.take(heavy & (bonds.distance < _LONGEST))
    bonds = bonds.take(np.lexsort((bonds.distance.round(6), bonds.second, bonds.first)))
    atoms, rotation, shift = _chains(bonds)
    xyz = np.einsum("mkij,mkj->mki", rotation, model.sites.xyz_frac[atoms]) + shift
    fits = _has_torsion(model, atoms, xyz)
    atoms, rotation, shift, xyz = atoms[fits], rotation[fits], shift[fits], xyz[fits]

    def torsion(cell: Cell) -> np.ndarray:
        return _torsion(xyz @ cell.orthogonalisation.T)

    slopes = _torsion_slopes(xyz @ model.cell.orthogonalisation.T) @ model.cell.orthogonalisation
    su = _su(model, atoms, np.einsum("mki,mkij->mkj", slopes, rotation), torsion)
    codes = tuple(symmetry_codes(rotation[:, k], shift[:, k], model.symmetry) for k in range(4))
    return Torsions(atoms, torsion(model.cell), su, codes)


def _chains(bonds: Pairs) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the chains [m, 4] of atoms with their operations, [m, 4, 3, 3] and [m, 4, 3].

    Each bond is the middle once, from the atom that comes first, which is at its own place.
    """
    middle = np.flatnonzero(bonds.first <= bonds.second)
    row, one = np.nonzero(bonds.first[middle][:, None] == bonds.first)
    step, other = np.nonzero(bonds.second[middle[row]][:, None] == bonds.first)
    middle, one = middle[row[step]], one[step]
    own = np.broadcast_to(np.eye(3), (len(middle), 3, 3))
    turned = bonds.rotation[middle] @ bonds.rotation[other]
    moved = np.einsum("mij,mj->mi", bonds.rotation[middle], bonds.shift[other]) + bonds.shift[middle]
    return (
        np.column_stack([bonds.second[one], bonds.first[middle], bonds.second[middle], bonds.second[other]]),
        np.stack([bonds.rotation[one], own, bonds.rotation[middle], turned], axis=1),
        np.stack([bonds.shift[one], np.zeros((len(middle), 3)), bonds.shift[middle], moved], axis=1),
    )


def _has_torsion(model: Model, atoms: np.ndarray, xyz_frac: np.ndarray) -> np.ndarray:
    """Whether chains [m] at ``xyz_frac`` [m, 4, 3] do not turn back or close, are not straight, and have one part."""
    xyz = xyz_frac @ model.cell.orthogonalisation.T
    steps, span = np.diff(xyz, axis=1), np.linalg.norm(xyz[:, 3] - xyz[:, 0], axis=-1)
    unit = steps / np.linalg.norm(steps, axis=-1, keepdims=True)
    cosine = -(unit[:, :-1] * unit[:, 1:]).sum(-1)
    part = model.sites.part[atoms]
    named = np.take_along_axis(part, np.abs(part).argmax(1)[:, None], axis=1)
    turns = ((cosine < 1 - 1e-6) & (cosine > np.cos(np.radians(_WIDEST)))).all(1)
    return turns & (span > 1e-3) & ((part == 0) | (part == named)).all(1)


def _torsion(xyz: np.ndarray) -> np.ndarray:
    """Return the torsions [m] in degrees of chains [m, 4, 3] in Å; positive: clockwise, seen along the middle bond."""
    a, b, c = np.moveaxis(np.diff(xyz, axis=1), 1, 0)
    one, other = np.cross(a, b), np.cross(b, c)
    length = np.linalg.norm(b, axis=1)
    return np.degrees(np.arctan2(length * (a * other).sum(1), (one * other).sum(1)))


def _torsion_slopes(xyz: np.ndarray) -> np.ndarray:
    """Return the derivatives [m, 4, 3] of the torsions in degrees by the positions in Å."""
    a, b, c = np.moveaxis(np.diff(xyz, axis=1), 1, 0)
    one, other = np.cross(a, b), np.cross(b, c)
    length = np.linalg.norm(b, axis=1, keepdims=True)
    first = -length * one / (one**2).sum(1, keepdims=True)
    last = length * other / (other**2).sum(1, keepdims=True)
    before, after = ((side * b).sum(1, keepdims=True) / length**2 for side in (a, c))
    second = -(1 + before) * first + after * last
    return np.degrees(np.stack([first, second, -first - second - last, last], axis=1))


def hydrogen_bonds(model: Model) -> tuple[HydrogenBonds, np.ndarray]:
    """Return the hydrogen bonds, and the uncertainties [m] in Å of the distances from donor to acceptor."""
    found = find_hydrogen_bonds(model.sites, model.cell, model.symmetry)
    ends = _Ends(found.donor, found.acceptor, found.rotation, found.shift)
    return found, _lengths(model, ends, found.code).su


def _ends(bonds: Pairs) -> _Ends:
    return _Ends(bonds.first, bonds.second, bonds.rotation, bonds.shift)


def _lengths(model: Model, ends: _Ends, code: tuple[str, ...]) -> Lengths:
    steps = ends.steps(model.sites.xyz_frac)
    atoms = np.column_stack([ends.first, ends.second])

    def length(cell: Cell) -> np.ndarray:
        return np.linalg.norm(steps @ cell.orthogonalisation.T, axis=1)

    value = length(model.cell)
    outward = steps @ model.cell.orthogonalisation.T / value[:, None] @ model.cell.orthogonalisation
    slopes = np.stack([-outward, np.einsum("mi,mij->mj", outward, ends.rotation)], axis=1)
    return Lengths(atoms, value, _su(model, atoms, slopes, length), code)


def _angles(model: Model, one: _Ends, other: _Ends, atoms: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return angles [m] and their uncertainties [m] in degrees, from the arms of each."""
    steps = [ends.steps(model.sites.xyz_frac) for ends in (one, other)]

    def angle(cell: Cell) -> np.ndarray:
        a, b = (step @ cell.orthogonalisation.T for step in steps)
        return np.degrees(np.arctan2(np.linalg.norm(np.cross(a, b), axis=1), (a * b).sum(1)))

    arms = [step @ model.cell.orthogonalisation.T for step in steps]
    length = [np.linalg.norm(arm, axis=1, keepdims=True) for arm in arms]
    unit = [arm / n for arm, n in zip(arms, length)]
    cosine = (unit[0] * unit[1]).sum(1, keepdims=True)
    sine = np.sqrt(np.maximum(1 - cosine**2, 1e-12))
    by_ends = [
        np.degrees((cosine * unit[i] - unit[1 - i]) / (sine * length[i])) @ model.cell.orthogonalisation
        for i in range(2)
    ]
    turned = [np.einsum("mi,mij->mj", slope, ends.rotation) for slope, ends in zip(by_ends, (one, other))]
    slopes = np.stack([turned[0], -by_ends[0] - by_ends[1], turned[1]], axis=1)
    return angle(model.cell), _su(model, atoms, slopes, angle)


def _su(model: Model, atoms: np.ndarray, slopes: np.ndarray, value: Callable[[Cell], np.ndarray]) -> np.ndarray:
    """Propagate the uncertainties to m values.

    Parameters
    ----------
    atoms
        [m, k], the atoms that each value depends on.
    slopes
        [m, k, 3], its derivatives by their fractional coordinates.
    value
        The values [m] in a cell.
    """
    same = atoms[:, :, None] == atoms[:, None, :]
    variance = np.einsum("mpx,mqx,mpq,mpx->m", slopes, slopes, same, model.uncertainties.xyz_frac[atoms] ** 2)
    for changed in _changed_cells(model.cell):
        variance += ((value(changed) - value(model.cell)) / _STEP) ** 2
    rides = (model.sites.parent[atoms] >= 0).any(1)
    su = np.sqrt(np.maximum(variance, 0))
    return np.where(rides | (su < _ROUNDING), 0.0, su)


def _changed_cells(cell: Cell) -> list[Cell]:
    """Return cells with each independent parameter changed by a part of its uncertainty.

    Parameters with equal values and uncertainties are taken as one, because symmetry makes them equal.
    """
    values, su = np.array(cell.parameters), np.array(cell.su or (0.0,) * 6)
    kinds = {(value, error) for value, error in zip(values, su) if error > 0}
    return [
        Cell(*np.where((values == value) & (su == error), values + _STEP * error, values).tolist())
        for value, error in sorted(kinds)
    ]
