"""Surroundings of atoms: the vectors to their bonded neighbours, for each part of the disorder."""

from typing import NamedTuple

import gemmi
import numpy as np

from rephase.crystal.cell import Cell
from rephase.crystal.symmetry import Symmetry
from rephase.refinement.atoms.restraints import Pairs
from rephase.refinement.bonds import covalent_radii, find_bonds
from rephase.refinement.sites import Sites

MOST = 6  # neighbours that are looked at
_S_BLOCK = frozenset((3, 4, 11, 12, 19, 20, 37, 38, 55, 56))
_METAL_CARBON = 0.2  # Å above the sum of radii; longer contacts are no bonds
_PAULING = 0.71  # Å; d(n) = d(1) - 0.71 log10(n): Pauling (1947), doi:10.1021/ja01195a024
_SP3 = 0.03  # Å from the radius of sp2 carbon, which gemmi has, to that of a single bond
_POLAR = 0.14  # Å by which single bonds of Si, P, S to N, O, F are shorter than the sum of radii


class Surroundings(NamedTuple):
    """Neighbours of m atoms, by ascending distance; an ordered atom next to disordered ones has a row for each part.

    ``atom`` [m] and ``part`` [m]; ``n_bonds`` [m], at most 6; ``neighbour`` [m, 6], their indices, -1 for
    none; ``vector`` [m, 6, 3] in Å along Cartesian axes, 0 for none; ``order`` [m, 6], bond orders by length, 0 for
    none and for metals; ``beyond`` [m, 3], the shortest other bond of the first neighbour in Å, 0 for none.
    """

    atom: np.ndarray
    part: np.ndarray
    n_bonds: np.ndarray
    neighbour: np.ndarray
    vector: np.ndarray
    order: np.ndarray
    beyond: np.ndarray

    def take(self, index: np.ndarray) -> "Surroundings":
        """Return the rows at `index`."""
        return Surroundings(*(column[index] for column in self))


def find_surroundings(sites: Sites, cell: Cell, symmetry: Symmetry) -> Surroundings:
    """Find the neighbours of every atom; a metal that binds several atoms of a ligand's face is left out."""
    bonds = _without_faces(find_bonds(sites, cell, symmetry), sites)
    vectors = _vectors(bonds, sites.xyz_frac, cell)
    atom, part = _rows(bonds, sites.part)
    belongs = (bonds.first == atom[:, None]) & _agree(sites.part[bonds.second], part[:, None])
    chosen, is_there = _nearest(np.where(belongs, bonds.distance, np.inf), MOST)
    neighbour = np.append(bonds.second, -1)[chosen]
    vector = np.append(vectors, np.zeros((1, 3)), axis=0)[chosen]
    order = np.append(bond_orders(bonds, sites.elements), 0.0)[chosen]
    beyond = _beyond(bonds, vectors, chosen[:, 0], is_there[:, 0], part, sites.part, cell)
    return Surroundings(atom, part, is_there.sum(1), neighbour, vector, order, beyond)


def bond_orders(bonds: Pairs, elements: tuple[str, ...]) -> np.ndarray:
    """Return the order [m] of each bond by Pauling's rule from its length; 0 for bonds to metals."""
    radii, metal = covalent_radii(elements), is_metal(elements)
    radii = radii + _SP3 * np.array([element == "C" for element in elements])
    third, polar = (np.array([e in group for e in elements], bool) for group in (("Si", "P", "S"), ("N", "O", "F")))
    a, b = bonds.first, bonds.second
    single = radii[a] + radii[b] - _POLAR * ((third[a] & polar[b]) | (third[b] & polar[a]))
    return np.where(metal[a] | metal[b], 0.0, 10 ** ((single - bonds.distance) / _PAULING))


def is_metal(elements: tuple[str, ...]) -> np.ndarray:
    """[n], whether each element is a metal."""
    return np.array([gemmi.Element(element).is_metal for element in elements], bool)


def _without_faces(bonds: Pairs, sites: Sites) -> Pairs:
    """Leave out contacts of carbon to s-block metals, long ones to others, and those of π ligands."""
    metal, carbon = is_metal(sites.elements), np.array([element == "C" for element in sites.elements], bool)
    radii = covalent_radii(sites.elements)
    soft = np.array([gemmi.Element(element).atomic_number in _S_BLOCK for element in sites.elements], bool)
    too_long = bonds.distance > radii[bonds.first] + radii[bonds.second] + _METAL_CARBON
    mixed = (carbon[bonds.first] & metal[bonds.second]) | (metal[bonds.first] & carbon[bonds.second])
    is_soft = soft[bonds.first] | soft[bonds.second]
    bonds = bonds.take(~(mixed & (too_long | is_soft)))
    bound = np.zeros(len(sites), bool)
    bound[bonds.first[carbon[bonds.first] & metal[bonds.second]]] = True
    beside = np.zeros(len(sites), bool)
    beside[bonds.first[bound[bonds.first] & bound[bonds.second]]] = True
    from_face, to_face = beside[bonds.first] & metal[bonds.second], metal[bonds.first] & beside[bonds.second]
    return bonds.take(~(from_face | to_face))


def _vectors(bonds: Pairs, xyz_frac: np.ndarray, cell: Cell) -> np.ndarray:
    """Return the vectors [m, 3] in Å from the first atom of each bond to the second."""
    images = np.einsum("mij,mj->mi", bonds.rotation, xyz_frac[bonds.second]) + bonds.shift
    return (images - xyz_frac[bonds.first]) @ cell.orthogonalisation.T


def _agree(part: np.ndarray, other: np.ndarray) -> np.ndarray:
    return (part == 0) | (other == 0) | (part == other)


def _rows(bonds: Pairs, part: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return atom and part of each row: one for every part that an ordered atom is bonded to."""
    n = len(part)
    split = (part[bonds.first] == 0) & (part[bonds.second] != 0)
    pairs = np.stack([bonds.first[split], part[bonds.second][split]], axis=1)
    whole = np.setdiff1d(np.arange(n), bonds.first[split])
    rows = np.unique(np.concatenate([pairs, np.stack([whole, part[whole]], axis=1)]), axis=0)
    return rows[:, 0], rows[:, 1]


def _nearest(distance: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the columns [m, n] of the smallest distances of each row, -1 for infinite ones, and which are finite."""
    padded = np.pad(distance, ((0, 0), (0, n)), constant_values=np.inf)
    chosen = np.argsort(padded, axis=1, kind="stable")[:, :n]
    is_there = np.isfinite(np.take_along_axis(padded, chosen, 1))
    return np.where(is_there, chosen, -1), is_there


def _beyond(
    bonds: Pairs,
    vectors: np.ndarray,
    bond: np.ndarray,
    is_there: np.ndarray,
    part: np.ndarray,
    parts: np.ndarray,
    cell: Cell,
) -> np.ndarray:
    """Return the shortest bond [m, 3] of the second atom of each `bond` that does not lead back to the first."""
    if len(bonds.first) == 0:
        return np.zeros((len(bond), 3))
    to_cartesian, inverse = cell.orthogonalisation, np.linalg.inv(cell.orthogonalisation)
    turn = np.einsum("ij,mjk,kl->mil", to_cartesian, bonds.rotation[bond], inverse)
    turned = np.einsum("mij,bj->mbi", turn, vectors)
    leads_back = np.linalg.norm(turned + vectors[bond][:, None], axis=-1) < 0.1
    fits = (bonds.first == bonds.second[bond][:, None]) & _agree(parts[bonds.second], part[:, None]) & ~leads_back
    chosen, found = _nearest(np.where(fits, bonds.distance, np.inf), 1)
    return np.where((found[:, 0] & is_there)[:, None], turned[np.arange(len(bond)), chosen[:, 0]], 0.0)
