"""Bonds between atoms, molecules in one piece inside the cell, and the order in which atoms are listed."""

from dataclasses import replace
from typing import NamedTuple

import gemmi
import numpy as np
import scipy

from rephase.crystal.cell import Cell
from rephase.crystal.peaks import UNASSIGNED
from rephase.crystal.symmetry import Symmetry
from rephase.refinement.atoms.restraints import Pairs
from rephase.refinement.contacts import find_contacts
from rephase.refinement.sites import Sites, rotated_u

_TOLERANCE = 0.4  # Å above the sum of covalent radii (Cordero et al. 2008, doi:10.1039/b801115j)
_LIGHTEST_HEAVY = 10  # atomic number above which an atom is listed before the chain


def covalent_radii(elements: tuple[str, ...]) -> np.ndarray:
    """Return the covalent radii [n] in Å; a peak without an element counts as carbon."""
    return np.array([gemmi.Element("C" if element == UNASSIGNED else element).covalent_r for element in elements])


def find_bonds(sites: Sites, cell: Cell, symmetry: Symmetry) -> Pairs:
    """Find the bonds of every atom, each listed from both sides, to images by symmetry too.

    Atoms are bonded if they are closer than the sum of their covalent radii and 0.4 Å. Atoms of different disorder
    parts are not bonded; a hydrogen atom is bonded to its closest neighbour only.
    """
    radii = covalent_radii(sites.elements)
    pairs = find_contacts(sites.xyz_frac, cell, symmetry, 2 * float(radii.max(initial=0)) + _TOLERANCE)
    part_1, part_2 = sites.part[pairs.first], sites.part[pairs.second]
    is_near = pairs.distance < radii[pairs.first] + radii[pairs.second] + _TOLERANCE
    both_hydrogen = sites.is_hydrogen[pairs.first] & sites.is_hydrogen[pairs.second]
    pairs = pairs.take(is_near & ~both_hydrogen & ((part_1 == part_2) | (part_1 == 0) | (part_2 == 0)))
    return pairs.take(_is_only_bond(pairs, sites.is_hydrogen))


def _is_only_bond(pairs: Pairs, is_hydrogen: np.ndarray) -> np.ndarray:
    """Return which pairs [m] are the shortest of each hydrogen atom in them."""
    shortest = np.full(len(is_hydrogen), np.inf)
    np.minimum.at(shortest, pairs.first, pairs.distance)
    limit = np.where(is_hydrogen, shortest + 1e-6, np.inf)
    return pairs.distance <= np.minimum(limit[pairs.first], limit[pairs.second])


def molecule_of(bonds: Pairs, n: int) -> np.ndarray:
    """Return the number [n] of the molecule to which each atom belongs."""
    return scipy.sparse.csgraph.connected_components(_graph(bonds, n), directed=False)[1]


def _graph(bonds: Pairs, n: int) -> "scipy.sparse.csr_array":
    """Return the shortest bond between each two atoms as a sparse matrix [n, n]; an atom's own images are left out."""
    order = np.argsort(bonds.distance, kind="stable")
    first, second = bonds.first[order], bonds.second[order]
    _, kept = np.unique(first * n + second, return_index=True)
    kept = kept[first[kept] != second[kept]]
    return scipy.sparse.csr_array((bonds.distance[order][kept], (first[kept], second[kept])), shape=(n, n))


class Placement(NamedTuple):
    """Operations that move atoms: ``x' = rotation x + shift``, [n, 3, 3] and [n, 3]."""

    rotation: np.ndarray
    shift: np.ndarray

    def moved(self, xyz_frac: np.ndarray) -> np.ndarray:
        """Return the positions [n, 3] after the operations."""
        return np.einsum("nij,nj->ni", self.rotation, xyz_frac) + self.shift


def connect(sites: Sites, cell: Cell, symmetry: Symmetry) -> Sites:
    """Move atoms by symmetry so that each molecule is in one piece, its centre lies in the cell, and all are close.

    The shortest bonds are followed first; a network is connected as far as its atoms reach without repeating one. The
    largest molecule moves by whole cells only; then each other one takes the place in the cell that is closest to
    those already placed.
    """
    if len(sites) == 0:
        return sites
    bonds = find_bonds(sites, cell, symmetry)
    molecule = molecule_of(bonds, len(sites))
    placed = in_one_piece(len(sites), bonds)
    largest_first = np.argsort(-np.bincount(molecule), kind="stable")
    for number, target in enumerate(largest_first):
        members, others = molecule == target, np.isin(molecule, largest_first[:number])
        rotation, shift = _best_image(sites, placed, members, others, cell, symmetry)
        moved = np.einsum("ij,njk->nik", rotation, placed.rotation), placed.shift @ rotation.T + shift
        placed = Placement(
            np.where(members[:, None, None], moved[0], placed.rotation),
            np.where(members[:, None], moved[1], placed.shift),
        )
    return _moved_sites(sites, placed, cell)


def in_one_piece(n: int, bonds: Pairs) -> Placement:
    """Return the operations that join each atom to its neighbour along the shortest bonds of its molecule."""
    placed = Placement(np.tile(np.eye(3), (n, 1, 1)), np.zeros((n, 3)))
    previous = _previous(scipy.sparse.csgraph.minimum_spanning_tree(_graph(bonds, n)), n)
    bond_of = _shortest_bond(bonds, previous)
    is_placed = previous < 0
    while not is_placed.all():
        ready = np.flatnonzero(~is_placed & is_placed[previous])
        before, bond = previous[ready], bond_of[ready]
        placed.shift[ready] = np.einsum("nij,nj->ni", placed.rotation[before], bonds.shift[bond]) + placed.shift[before]
        placed.rotation[ready] = placed.rotation[before] @ bonds.rotation[bond]
        is_placed[ready] = True
    return placed


def _previous(tree: "scipy.sparse.csr_array", n: int) -> np.ndarray:
    """Return the atom [n] from which each atom of a forest is reached; -1 for the first atom of each molecule."""
    previous = np.full(n, -1)
    molecule = scipy.sparse.csgraph.connected_components(tree, directed=False)[1]
    for start in np.unique(molecule, return_index=True)[1]:
        order, before = scipy.sparse.csgraph.breadth_first_order(tree, start, directed=False)
        previous[order[1:]] = before[order[1:]]
    return previous


def _shortest_bond(bonds: Pairs, previous: np.ndarray) -> np.ndarray:
    """Return the row [n] of the shortest bond from ``previous`` to each atom."""
    row = np.zeros(len(previous), int)
    longest_first = np.argsort(-bonds.distance, kind="stable")
    used = longest_first[previous[bonds.second[longest_first]] == bonds.first[longest_first]]
    row[bonds.second[used]] = used  # the last one written is the shortest
    return row


def _best_image(
    sites: Sites, placed: Placement, members: np.ndarray, others: np.ndarray, cell: Cell, symmetry: Symmetry
) -> tuple[np.ndarray, np.ndarray]:
    """Return the operation that puts the centre of a molecule into the cell, closest to `others`, [3, 3] and [3]."""
    xyz = placed.moved(sites.xyz_frac)
    own, fixed = xyz[members & ~sites.is_hydrogen], xyz[others]
    own = own if len(own) else xyz[members]
    rotations, translations = symmetry.rotations, symmetry.translations
    if not len(fixed):
        rotations, translations = np.eye(3)[None], np.zeros((1, 3))
    centre = rotations @ own.mean(0) + translations
    translations = translations - np.floor(centre + 1e-6)
    if not len(fixed):
        return rotations[0], translations[0]
    images = np.einsum("oij,nj->oni", rotations, own) + translations[:, None]
    steps = (images[:, :, None] - fixed) @ cell.orthogonalisation.T
    best = np.linalg.norm(steps, axis=-1).min((1, 2)).round(3).argmin()
    return rotations[best], translations[best]


def _moved_sites(sites: Sites, placed: Placement, cell: Cell) -> Sites:
    """Return the sites after the operations, with rotated displacements."""
    return replace(sites, xyz_frac=placed.moved(sites.xyz_frac), U=rotated_u(sites.U, placed.rotation, cell))


def order_atoms(sites: Sites, cell: Cell, symmetry: Symmetry) -> Sites:
    """Return the atoms in the order of a list: by molecule, heavy atoms first, then along the chain.

    The largest molecule comes first. Its atoms heavier than neon lead by atomic number; the others follow the bonds
    from an end of the chain. Hydrogen atoms follow their parent, or the atom to which they are bonded.
    """
    n, bonds = len(sites), find_bonds(sites, cell, symmetry)
    molecule, hydrogen = molecule_of(bonds, n), sites.is_hydrogen
    number = np.array([gemmi.Element(element).atomic_number for element in sites.elements])
    size = np.bincount(molecule, weights=np.where(hydrogen, 1e-3, 1.0))
    chain = _place_in_chain(bonds.take(~hydrogen[bonds.first] & ~hydrogen[bonds.second]), n)
    owner = sites.parent.copy()
    free = hydrogen[bonds.first] & (owner[bonds.first] < 0)
    owner[bonds.first[free]] = bonds.second[free]
    owner = np.where(hydrogen & (owner >= 0), owner, np.arange(n))
    rank = np.where(number > _LIGHTEST_HEAVY, number, 0)
    keys = hydrogen, chain[owner], -rank[owner], molecule[owner], -size[molecule[owner]]
    return sites.take(np.lexsort(keys))


def _place_in_chain(bonds: Pairs, n: int) -> np.ndarray:
    """Return the position [n] of each atom in a walk along the bonds that starts at an atom with fewest of them."""
    graph = _graph(bonds, n)
    molecule = scipy.sparse.csgraph.connected_components(graph, directed=False)[1]
    by_ends = np.lexsort((np.arange(n), np.bincount(bonds.first, minlength=n)))
    place = np.zeros(n, int)
    for start in by_ends[np.unique(molecule[by_ends], return_index=True)[1]]:
        walk = scipy.sparse.csgraph.depth_first_order(graph, start, directed=False, return_predecessors=False)
        place[walk] = np.arange(len(walk))
    return place
