"""What a picture of a structure shows: whole molecules around the asymmetric unit, or all of the cell, with bonds."""

from dataclasses import dataclass, replace

import numpy as np

from rephase.crystal.cell import Cell
from rephase.crystal.symmetry import Symmetry
from rephase.refinement.bonds import in_one_piece, molecule_of
from rephase.refinement.moieties import are_networks, bonds_in_cell
from rephase.refinement.sites import Sites, cartesian_u, rotated_u


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

    The bonds are those of `find_bonds`. The centre of each molecule of the second packing lies in the cell. A network
    of bonds without end fills the cell, and is cut where it ends.
    """
    symmetry = replace(symmetry, triplets=tuple(sorted(symmetry.triplets, key="x,y,z".__ne__)))  # the identity first
    site, operation, bonds = bonds_in_cell(sites, cell, symmetry)
    n, molecule = len(site), molecule_of(bonds, len(site))
    rotation = symmetry.rotations[operation]
    frac = np.einsum("nij,nj->ni", rotation, sites.xyz_frac[site]) + symmetry.translations[operation]
    is_network = are_networks(bonds, n)[molecule]
    whole = np.where(is_network[:, None], -np.floor(frac), in_one_piece(n, bonds).shift)
    U = cartesian_u(rotated_u(sites.U[site], rotation, cell), cell)

    def packed(chosen: np.ndarray, cells: np.ndarray) -> Packing:
        """Draw the chosen atoms [n], moved by whole cells [n, 3], and the bonds between them."""
        xyz = (frac + cells)[chosen] @ cell.orthogonalisation.T
        is_drawn = chosen[bonds.first] & chosen[bonds.second] & (bonds.first < bonds.second)
        is_drawn &= (np.rint(cells[bonds.first] + bonds.shift - cells[bonds.second]) == 0).all(1)
        ends = np.column_stack([bonds.first, bonds.second])[is_drawn]
        return Packing(site[chosen], (operation == 0)[chosen], xyz, U[chosen], (np.cumsum(chosen) - 1)[ends])

    in_place = np.full(n, -1)  # an atom of the asymmetric unit in each molecule
    in_place[molecule[operation == 0]] = np.flatnonzero(operation == 0)
    in_place = in_place[molecule]
    centre = np.column_stack([np.bincount(molecule, axis) for axis in (frac + whole).T])[molecule]
    centre /= np.bincount(molecule)[molecule][:, None]
    return (
        packed(in_place >= 0, np.where(is_network[:, None], whole, whole - whole[in_place])),
        packed(np.ones(n, bool), whole - np.floor(centre + 1e-6)),
    )
