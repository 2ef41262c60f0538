"""The smallest FFT grid that every operation of a space group maps onto itself, and the axes that allow it."""

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from rephase.crystal.cell import Cell
from rephase.crystal.symmetry import Symmetry, cell_of
from rephase.solvers.grids import fast_size

_DENOMINATOR = 24  # every translation of a group is a multiple of 1/24
_MOST_ADDED = 8  # largest multiple of a shorter axis that is added to a longer one
_GIVEN_AXES = np.eye(3, dtype=int)


class SymmetricGrid(NamedTuple):
    """Points along the axes of a cell, and the group in these axes.

    The columns of ``basis`` [3, 3] are the axes in terms of those that were given.
    """

    shape: tuple[int, int, int]
    cell: Cell
    symmetry: Symmetry
    basis: np.ndarray


def symmetric_grid(cell: Cell, symmetry: Symmetry, points_needed: Callable[[np.ndarray], np.ndarray]) -> SymmetricGrid:
    """Return the smallest grid that every operation maps onto itself, in the given axes or in similar ones.

    In the reduced cell of a centred lattice, the image of a long axis may contain a short one, which then needs as many
    points as the long one. If multiples of the short one are added to the long one, the image may contain k times the
    short one, which then needs only the k-th part of the points.

    Parameters
    ----------
    cell, symmetry
        A reduced cell, its axes from short to long, and the group in these axes.
    points_needed
        Function from lengths of axes [..., 3] in Å to the fewest points [..., 3] along them.
    """
    shape, basis = symmetric_shape(points_needed(np.array(cell.parameters[:3])), symmetry), _GIVEN_AXES
    bases = _sheared_bases()
    needed = points_needed(np.linalg.norm(cell.orthogonalisation @ bases, axis=1))
    sizes = np.array(list(_fast_sizes(2, 2 * int(needed.max()))))
    fewest = sizes[np.searchsorted(sizes, needed)].prod(1)  # voxels without regard to the group
    for i in np.argsort(fewest, kind="stable"):
        if fewest[i] >= math.prod(shape):
            break
        found = symmetric_shape(needed[i], symmetry, bases[i])
        if math.prod(found) < math.prod(shape):
            shape, basis = found, bases[i]
    return SymmetricGrid(shape, cell_of(cell.orthogonalisation @ basis), symmetry.in_basis(basis), basis)


def symmetric_shape(
    needed: np.ndarray | Sequence[int], symmetry: Symmetry, basis: np.ndarray = _GIVEN_AXES
) -> tuple[int, int, int]:
    """Return the smallest grid with up to twice the points needed along each axis, or as many as along the others.

    An operation (R, t) maps a grid of n points onto itself if all ``R_ij n_i / n_j`` and ``t_i n_i`` are integers;
    `needed` are counted along the columns of `basis`.
    """
    inverse = np.linalg.inv(basis)
    rotations = np.rint(inverse @ symmetry.rotations @ basis).astype(int)
    steps = np.rint(symmetry.translations @ inverse.T * _DENOMINATOR).astype(int)
    factors = np.gcd.reduce(rotations, axis=0)
    multiples = _DENOMINATOR // np.gcd(_DENOMINATOR, np.gcd.reduce(steps, axis=0))
    equal = next(n for n in _fast_sizes(max(needed)) if not (n % multiples).any())
    sizes = [[equal, *(n for n in _fast_sizes(low, 2 * low) if n % step == 0)] for low, step in zip(needed, multiples)]
    shapes = np.array(list(itertools.product(*sizes)))
    fits = (shapes[:, :, None] * factors % shapes[:, None, :] == 0).all((1, 2))
    a, b, c = map(int, min(shapes[fits], key=math.prod))
    return a, b, c


def _sheared_bases() -> np.ndarray:
    """Return bases [n, 3, 3] with multiples of shorter axes added to longer ones."""
    a_in_b, a_in_c, b_in_c = np.indices([2 * _MOST_ADDED + 1] * 3).reshape(3, -1) - _MOST_ADDED
    bases = np.tile(np.eye(3, dtype=int), (len(a_in_b), 1, 1))
    bases[:, 0, 1], bases[:, 0, 2], bases[:, 1, 2] = a_in_b, a_in_c, b_in_c
    return bases


def _fast_sizes(low: float, high: float = math.inf) -> Iterator[int]:
    n = fast_size(math.ceil(low))
    while n <= high:
        yield n
        n = fast_size(n + 1)
