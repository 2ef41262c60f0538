"""Free parameters of sites: what site symmetry, riding hydrogen atoms and isotropic displacements leave free.

The derivatives by the ten slots of each atom (see `factors`) become those by the free parameters through one sparse
matrix, ``d(slots) = matrix^T d(parameters)``.
"""

from dataclasses import dataclass, replace

import numpy as np
import scipy

from rephase.crystal.cell import Cell
from rephase.crystal.symmetry import Symmetry
from rephase.refinement.atoms.factors import keeping
from rephase.refinement.factors import N_SLOTS
from rephase.refinement.hydrogen_geometry import ROTATING
from rephase.refinement.hydrogen_kinds import WATER
from rephase.refinement.sites import Sites, cartesian_u, isotropic_u

_PAIRS = np.array([[0, 0], [1, 1], [2, 2], [1, 2], [0, 2], [0, 1]])  # of U11, U22, U33, U23, U13, U12


@dataclass(frozen=True)
class Parameters:
    """The free parameters of sites.

    Parameters
    ----------
    matrix
        Sparse [n_parameters, 10 n_atoms]: the change of each slot of each atom with each parameter.
    steps
        [n_parameters], largest change of each parameter in one cycle.
    """

    matrix: "scipy.sparse.csr_array"
    steps: np.ndarray

    def __len__(self) -> int:
        return len(self.steps)

    def slot_changes(self, changes: np.ndarray) -> np.ndarray:
        """Return the changes [n_atoms, 10] of the slots, for changes [n_parameters] of the parameters."""
        return np.asarray(changes @ self.matrix).reshape(-1, N_SLOTS)

    def take(self, n: int) -> "Parameters":
        """Return the first `n` parameters."""
        return Parameters(self.matrix[:n], self.steps[:n])

    def slot_variances(self, covariance: np.ndarray) -> np.ndarray:
        """Return the variances [n_atoms, 10] of the slots, for a covariance [n_parameters, n_parameters]."""
        spread = covariance @ self.matrix
        return np.asarray(self.matrix.multiply(spread).sum(axis=0)).reshape(-1, N_SLOTS)

    def variances_of(self, row: np.ndarray, covariance: np.ndarray) -> np.ndarray:
        """Return the variance [n_atoms] of a linear function, coefficients [10], of the slots of each atom."""
        n_atoms = self.matrix.shape[1] // N_SLOTS
        by_atom = self.matrix @ scipy.sparse.kron(scipy.sparse.eye_array(n_atoms), row[:, None], format="csr")
        return np.asarray(by_atom.multiply(covariance @ by_atom).sum(axis=0)).ravel()


def free_parameters(sites: Sites, cell: Cell, symmetry: Symmetry, occupancies: np.ndarray) -> Parameters:
    """Return the free parameters.

    ``occupancies`` [n_atoms] holds the number of the variable that the occupancy of each atom is, from 1, or minus the
    number of the one that it complements to a constant; 0: it is not refined.
    """
    is_kept = keeping(sites.xyz_frac, cell, symmetry)
    positions, displacements = _site_projectors(is_kept, symmetry, cell)
    blocks: list[np.ndarray] = []
    steps: list[np.ndarray] = []
    free = np.flatnonzero(sites.parent < 0)
    in_angstrom = 0.15 / np.array(cell.parameters[:3])
    for atom in free:
        xyz = _basis(positions[atom])
        u = _basis(displacements[atom]) if sites.is_anisotropic[atom] else isotropic_u(np.ones(1), cell)
        block = np.zeros((len(xyz) + len(u), N_SLOTS))
        block[: len(xyz), :3], block[len(xyz) :, 3:9] = xyz, u
        blocks.append(block)
        steps.append(np.r_[np.full(len(xyz), in_angstrom.mean()), np.full(len(u), 0.05)])
    variables = _occupancy_rows(np.asarray(occupancies, int)[free])
    rows = scipy.sparse.vstack([scipy.sparse.block_diag(blocks), scipy.sparse.csr_array(variables)], format="csr")
    matrix = rows @ _riding(sites, cell, free)
    return Parameters(scipy.sparse.csr_array(matrix), np.concatenate([*steps, np.full(len(variables), 0.2)]))


def _occupancy_rows(occupancies: np.ndarray) -> np.ndarray:
    """Return the changes [n_variables, 10 n_free] of the slots with each variable of the occupancies [n_free]."""
    numbers = np.unique(np.abs(occupancies[occupancies != 0]))
    rows = np.zeros((len(numbers), len(occupancies), N_SLOTS))
    rows[:, :, 9] = np.where(np.abs(occupancies) == numbers[:, None], np.sign(occupancies), 0)
    return rows.reshape(len(numbers), len(occupancies) * N_SLOTS)


def applied(sites: Sites, changes: np.ndarray) -> Sites:
    """Return the sites with changed slots [n_atoms, 10]."""
    occupancy = np.clip(sites.occupancy + changes[:, 9], 0.01, 1.0)
    return replace(sites, xyz_frac=sites.xyz_frac + changes[:, :3], U=sites.U + changes[:, 3:9], occupancy=occupancy)


def riding_u(sites: Sites, cell: Cell) -> Sites:
    """Return the sites with U of riding atoms: 1.5 U_eq of the parents in CH3, NH3, OH and water, 1.2 otherwise."""
    rides = sites.parent >= 0
    u = sites.U.copy()
    u[rides] = isotropic_u(_factor(sites)[rides] * sites.u_equivalent(cell)[sites.parent[rides]], cell)
    return replace(sites, U=u)


def u_equivalent_row(cell: Cell) -> np.ndarray:
    """Return the derivative [6] of U_eq by the six components of U."""
    return np.einsum("nii->n", cartesian_u(np.eye(6), cell)) / 3


def on_special_positions(sites: Sites, cell: Cell, symmetry: Symmetry) -> Sites:
    """Return the sites moved exactly onto their special positions, with U that obeys the site symmetry."""
    is_kept = keeping(sites.xyz_frac, cell, symmetry)
    images = np.einsum("oij,nj->noi", symmetry.rotations, sites.xyz_frac) + symmetry.translations
    steps = images - sites.xyz_frac[:, None]
    steps -= np.rint(steps)
    move = np.einsum("no,noi->ni", is_kept, steps) / is_kept.sum(1)[:, None]
    _, displacements = _site_projectors(is_kept, symmetry, cell)
    u = np.einsum("nij,nj->ni", displacements, sites.U)
    u[~sites.is_anisotropic] = sites.U[~sites.is_anisotropic]
    return replace(sites, xyz_frac=sites.xyz_frac + move, U=u)


def _factor(sites: Sites) -> np.ndarray:
    on_oxygen = np.array([sites.elements[parent] == "O" for parent in sites.parent], bool)
    turns = np.isin(sites.afix, ROTATING) | ((sites.afix == WATER) & on_oxygen)
    return np.where(turns, 1.5, 1.2)


def _riding(sites: Sites, cell: Cell, free: np.ndarray) -> "scipy.sparse.csr_array":
    """Return the matrix [10 n_free, 10 n_atoms] that lets riding atoms follow the slots of their parents."""
    place = np.full(len(sites), -1)
    place[free] = np.arange(len(free))
    riding = np.flatnonzero(sites.parent >= 0)
    follow = np.zeros((len(riding), N_SLOTS, N_SLOTS))
    follow[:, :3, :3], follow[:, 9, 9] = np.eye(3), 1
    u = np.outer(u_equivalent_row(cell), isotropic_u(np.ones(1), cell)[0])
    follow[:, 3:9, 3:9] = _factor(sites)[riding, None, None] * u
    slot = np.arange(N_SLOTS)
    block = np.concatenate([np.broadcast_to(np.eye(N_SLOTS), (len(free), N_SLOTS, N_SLOTS)), follow])
    source = np.concatenate([place[free], place[sites.parent[riding]]])
    target = np.concatenate([free, riding])
    shape = block.shape
    rows = np.broadcast_to((source[:, None] * N_SLOTS + slot)[:, :, None], shape)
    columns = np.broadcast_to((target[:, None] * N_SLOTS + slot)[:, None, :], shape)
    size = (len(free) * N_SLOTS, len(sites) * N_SLOTS)
    return scipy.sparse.csr_array((block.ravel(), (rows.ravel(), columns.ravel())), shape=size)


def _site_projectors(is_kept: np.ndarray, symmetry: Symmetry, cell: Cell) -> tuple[np.ndarray, np.ndarray]:
    """Return projectors of positions [n, 3, 3] and of displacements [n, 6, 6] onto what the site symmetry allows."""
    n_kept = is_kept.sum(1)[:, None, None]
    positions = np.einsum("no,oij->nij", is_kept, symmetry.rotations) / n_kept
    return positions, np.einsum("no,oij->nij", is_kept, _turned_u(symmetry, cell)) / n_kept


def _turned_u(symmetry: Symmetry, cell: Cell) -> np.ndarray:
    """Return the matrices [n_operations, 6, 6] that turn U11 ... U12: ``N U' N = R N U N R^T``, N = diag(a*, ...)."""
    lengths = np.sqrt(np.diag(cell.reciprocal_metric))
    turn = symmetry.rotations * lengths / lengths[:, None]  # N^-1 R N
    (i, j), (k, l) = _PAIRS.T, _PAIRS.T
    out = turn[:, i[:, None], k] * turn[:, j[:, None], l]
    mixed = turn[:, i[:, None], l] * turn[:, j[:, None], k]
    return out + mixed * (k != l)


def _basis(projector: np.ndarray) -> np.ndarray:
    """Return orthonormal rows [rank, n] that span the range of a projector [n, n], along the axes if possible."""
    if np.allclose(projector, np.eye(len(projector))):
        return np.eye(len(projector))
    left, sizes, _ = np.linalg.svd(projector)
    return np.asarray(left[:, sizes > 1e-6].T)
