"""What a picture of a structure shows: whole molecules around the asymmetric unit, or all of the cell, with bonds."""

from collections.abc import Sequence
from dataclasses import dataclass

import gemmi
import numpy as np
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from rephase.crystal.cell import Cell
from rephase.crystal.peaks import UNASSIGNED, distances
from rephase.crystal.symmetry import Symmetry
from rephase.refinement.sites import Sites, cartesian_u

_SLACK = 0.3  # Å that a bond may exceed the sum of the covalent radii
_SAME = 0.05  # Å between two images of an atom on a special position
_STEPS = np.indices((3, 3, 3)).reshape(3, -1).T - 1  # to the cell and its 26 neighbours


@dataclass(frozen=True, eq=False)
class Packing:
    """Atoms to draw, with bonds.

    Parameters
    ----------
    site
        [n], row of each atom in the asymmetric unit.
    is_own
        [n], whether it is the atom of the asymmetric unit itself, not an image.
    xyz
        [n, 3], Cartesian positions in Å.
    U
        [n, 3, 3], Cartesian displacement tensors in Å^2.
    bonds
        [n_bonds, 2], rows of bonded atoms.
    """

    site: np.ndarray
    is_own: np.ndarray
    xyz: np.ndarray
    U: np.ndarray
    bonds: np.ndarray

    def __len__(self) -> int:
        return len(self.site)


def pack(sites: Sites, cell: Cell, symmetry: Symmetry) -> tuple[Packing, Packing]:
    """Return the molecules that contain the asymmetric unit, completed by symmetry, and all those of one cell.

    The centre of each molecule of the second packing lies in the cell. A network of bonds without end fills the
    cell, and is cut where it ends.
    """
    site, operation, frac = _images(sites, cell, symmetry)
    elements, part = np.array(sites.elements)[site], sites.part[site]
    i, j, shift = _periodic_bonds(frac, elements, part, cell)
    links = coo_matrix((np.ones(len(i)), (i, j)), shape=(len(frac), len(frac)))
    n_molecules, molecule = connected_components(links, directed=False)
    frac, is_network = _in_one_piece(frac, molecule, i, j, shift)
    turn = cell.orthogonalisation @ symmetry.rotations[operation] @ np.linalg.inv(cell.orthogonalisation)
    U = turn @ cartesian_u(sites.U, cell)[site] @ np.swapaxes(turn, 1, 2)
    is_own = operation == _identity(symmetry)

    size = np.bincount(molecule, minlength=n_molecules)
    centre = np.column_stack([np.bincount(molecule, axis, n_molecules) for axis in frac.T]) / size[:, None]
    named, first = np.unique(molecule[is_own], return_index=True)
    home = np.where(is_network[is_own, None], 0, np.rint(sites.xyz_frac[site[is_own]] - frac[is_own]))[first]

    def packed(rows: np.ndarray, places: np.ndarray) -> Packing:
        xyz = places @ cell.orthogonalisation.T
        return Packing(site[rows], is_own[rows], xyz, U[rows], bonds_of(xyz, elements[rows], part[rows]))

    around = np.flatnonzero(np.isin(molecule, named))
    at_home = frac[around] + home[np.searchsorted(named, molecule[around])]
    return packed(around, at_home), packed(np.arange(len(frac)), frac - np.floor(centre + 1e-6)[molecule])


def bonds_of(xyz: np.ndarray, elements: Sequence[str] | np.ndarray, part: np.ndarray) -> np.ndarray:
    """Find bonds [n_bonds, 2] between atoms [n, 3] in Å: distances up to 0.3 Å above the sum of the covalent radii.

    A hydrogen atom is bonded to its nearest neighbour only. Atoms of different disorder parts are not bonded.
    """
    radius = _covalent_radii(elements)
    pairs = cKDTree(xyz).query_pairs(2 * radius.max(initial=0) + _SLACK, output_type="ndarray")
    distance = np.linalg.norm(xyz[pairs[:, 0]] - xyz[pairs[:, 1]], axis=1)
    return pairs[_is_bond(pairs, distance, radius, np.asarray(elements), part)]


def _covalent_radii(elements: Sequence[str] | np.ndarray) -> np.ndarray:
    """Covalent radii [n] in Å; a peak without an element counts as carbon."""
    radii = {element: gemmi.Element("C" if element == UNASSIGNED else element).covalent_r for element in set(elements)}
    return np.array([radii[element] for element in elements])


def _is_bond(
    pairs: np.ndarray, distance: np.ndarray, radius: np.ndarray, elements: np.ndarray, part: np.ndarray
) -> np.ndarray:
    """Whether each of the pairs [n, 2] of atoms, at a distance [n] in Å, is bonded."""
    i, j = pairs.T
    is_hydrogen = elements == "H"
    near = (distance < radius[i] + radius[j] + _SLACK) & ~(is_hydrogen[i] & is_hydrogen[j])
    near &= (part[i] == part[j]) | (part[i] == 0) | (part[j] == 0)
    nearest = np.full(len(elements), np.inf)
    for end in (i, j):
        np.minimum.at(nearest, end[near], distance[near])
    for end in (i, j):
        near &= ~is_hydrogen[end] | (distance <= nearest[end] + 1e-6)
    return near


def _identity(symmetry: Symmetry) -> int:
    """Row of the identity among the operations."""
    is_identity = (symmetry.rotations == np.eye(3, dtype=int)).all((1, 2)) & ~symmetry.translations.any(1)
    return int(is_identity.argmax())


def _images(sites: Sites, cell: Cell, symmetry: Symmetry) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """List the distinct images of the sites in the cell: rows of sites [n], of operations [n], and [n, 3] in [0, 1)."""
    order = np.argsort(np.arange(len(symmetry.triplets)) != _identity(symmetry), kind="stable")  # the identity first
    frac = np.einsum("oij,nj->noi", symmetry.rotations[order], sites.xyz_frac) + symmetry.translations[order]
    is_near = distances(frac[:, :, None] - frac[:, None], cell) < _SAME
    is_new = ~np.tril(is_near, -1).any(2)
    site, place = np.nonzero(is_new)
    return site, order[place], frac[is_new] % 1.0


def _periodic_bonds(
    frac: np.ndarray, elements: np.ndarray, part: np.ndarray, cell: Cell
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Bonds of a periodic crystal: rows i and j [m], and the whole cells [m, 3] by which j is displaced from its place.

    Each bond is listed in both directions.
    """
    radius, n = _covalent_radii(elements), len(frac)
    tree = cKDTree(frac @ cell.orthogonalisation.T)
    everywhere = (frac + _STEPS[:, None]).reshape(-1, 3) @ cell.orthogonalisation.T
    found = tree.sparse_distance_matrix(
        cKDTree(everywhere), 2 * radius.max(initial=0) + _SLACK, output_type="coo_matrix"
    )
    keep = found.data > _SAME
    i, image, distance = found.row[keep], found.col[keep], found.data[keep]
    bonded = _is_bond(np.column_stack([i, image % n]), distance, radius, elements, part)
    return i[bonded], image[bonded] % n, _STEPS[image[bonded] // n]


def _in_one_piece(
    frac: np.ndarray, molecule: np.ndarray, i: np.ndarray, j: np.ndarray, shift: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Move atoms [n, 3] by whole cells until each molecule is in one piece, one generation of bonds at a time.

    A network is left where it was: following its bonds leads to another cell. Also returns which atoms [n] are in one.
    """
    cells, done = np.zeros(frac.shape), np.zeros(len(frac), bool)
    done[np.unique(molecule, return_index=True)[1]] = True
    while (grown := done[i] & ~done[j]).any():
        cells[j[grown]] = (cells[i] + shift)[grown]
        done[j[grown]] = True
    is_open = (cells[i] + shift != cells[j]).any(1)
    is_network = np.isin(molecule, molecule[i[is_open]])
    return np.where(is_network[:, None], frac, frac + cells), is_network
