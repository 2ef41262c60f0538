"""Contacts between atoms: every close pair of a crystal, with images by symmetry and whole cells."""

import numpy as np

from rephase.crystal.cell import Cell
from rephase.crystal.peaks import distances
from rephase.crystal.symmetry import Symmetry
from rephase.refinement.atoms.factors import SAME_SITE
from rephase.refinement.atoms.restraints import Pairs


def find_contacts(xyz_frac: np.ndarray, cell: Cell, symmetry: Symmetry, reach: float) -> Pairs:
    """Find the neighbours of every atom closer than `reach`, each once and listed from both sides.

    An atom is a neighbour of its own images too. Images that coincide on a special position count once.

    Parameters
    ----------
    xyz_frac
        [n, 3], fractional.
    reach
        Largest distance in Å.

    Returns
    -------
    Pairs
        Atom ``first`` at its own position, and atom ``second`` at ``rotation @ xyz + shift``.
    """
    xyz_frac = np.asarray(xyz_frac, float).reshape(-1, 3)
    images = np.einsum("oij,nj->oni", symmetry.rotations, xyz_frac) + symmetry.translations[:, None]
    operation, second = np.nonzero(_is_new(images, cell))
    steps = xyz_frac[:, None] - images[operation, second]  # [first, image, 3]
    whole = np.rint(steps)[:, :, None] + _lattice_steps(cell, reach)
    distance = np.linalg.norm((steps[:, :, None] - whole) @ cell.orthogonalisation.T, axis=-1)
    first, image, step = np.nonzero((distance < reach) & (distance > SAME_SITE))
    chosen = operation[image]
    shift = symmetry.translations[chosen] + whole[first, image, step]
    return Pairs(first, second[image], symmetry.rotations[chosen], shift, distance[first, image, step])


def _is_new(images: np.ndarray, cell: Cell) -> np.ndarray:
    """Return whether each image [n_operations, n, 3] differs, modulo whole cells, from those of earlier operations."""
    same = distances(images[:, None] - images[None], cell) < SAME_SITE
    return same.argmax(1) == np.arange(len(images))[:, None]


def _lattice_steps(cell: Cell, reach: float) -> np.ndarray:
    """Return the whole cells [k, 3] by which an image within half a cell may move and stay within reach."""
    spacing = 1 / np.linalg.norm(np.linalg.inv(cell.orthogonalisation), axis=1)
    most = np.floor(reach / spacing + 0.5).astype(int)
    return np.stack(np.meshgrid(*(np.arange(-m, m + 1) for m in most), indexing="ij"), axis=-1).reshape(-1, 3)
