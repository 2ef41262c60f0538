"""Random starts that obey a space group: point atoms at random places, with all their images."""

import math
from typing import NamedTuple

import torch

from rephase.crystal.symmetry import Symmetry
from rephase.solvers.learned.spheres import Spheres

_N_ATOMS, _LEAST_WEIGHT = 24, 0.2  # independent point atoms, and their smallest weight


class Operations(NamedTuple):
    """The operations of the groups of `n` crystals, in the axes of their primitive cells.

    ``rotations`` [n, n_operations, 3, 3] and ``translations`` [n, n_operations, 3] move x to R x + t; ``is_there``
    [n, n_operations] is False for padding.
    """

    rotations: torch.Tensor
    translations: torch.Tensor
    is_there: torch.Tensor

    def without_group(self, is_free: torch.Tensor) -> "Operations":
        """Return the operations without all but the identity, which comes first, where `is_free` [n] is True."""
        is_there = self.is_there.clone()
        is_there[is_free, 1:] = False
        return self._replace(is_there=is_there)


def operations_of(symmetry: Symmetry, n: int, like: torch.Tensor) -> Operations:
    """Return the operations of one group for `n` crystals."""
    rotations, translations = like.new_tensor(symmetry.rotations), like.new_tensor(symmetry.translations)
    there = torch.ones(n, len(rotations), dtype=torch.bool, device=like.device)
    return Operations(rotations.expand(n, -1, -1, -1), translations.expand(n, -1, -1), there)


def point_atoms(spheres: Spheres, xyz_frac: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Return coefficients [n, h, k, l] on half grids, ``sum w exp(-2 pi i h.x)``, inside the spheres.

    Parameters
    ----------
    spheres
        The spheres of `n` crystals.
    xyz_frac, weight
        Fractional coordinates [n, n_atoms, 3], and weights [n, n_atoms].
    """
    hkl = spheres.hkl.to(xyz_frac)
    indices = (hkl[:, 0, 0, 0], hkl[0, :, 0, 1], hkl[0, 0, :, 2])
    turns = [-2 * math.pi * xyz_frac[..., axis, None] * index for axis, index in enumerate(indices)]
    along_h, along_k, along_l = (torch.complex(turn.cos(), turn.sin()) for turn in turns)
    planes = (weight[..., None] * along_h)[..., :, None] * along_k[..., None, :]
    return torch.einsum("nahk,nal->nhkl", planes, along_l) * spheres.inside


def random_starts(spheres: Spheres, operations: Operations, generator: torch.Generator | None = None) -> torch.Tensor:
    """Draw symmetric coefficients [n, h, k, l] on half grids, on the CPU, so that devices agree.

    Parameters
    ----------
    spheres
        The spheres of `n` crystals, or one for all starts.
    operations
        Their groups, or the group of that one `n` times.
    generator
        Of the random numbers, on the CPU; torch's own by default.
    """
    n, like = len(operations.is_there), spheres.lattice
    drawn = torch.rand(n, 1, _N_ATOMS, 4, generator=generator, dtype=like.dtype).to(like)  # one start after the other
    xyz, uniform = drawn[..., :3], drawn[..., 3]
    weight = _LEAST_WEIGHT + math.sqrt(2) * torch.erfinv(uniform * (1 - 1e-6))  # of a normal distribution
    images = xyz @ operations.rotations.mT + operations.translations[:, :, None]
    weights = weight * operations.is_there[..., None]
    return point_atoms(spheres, images.flatten(1, 2), weights.flatten(1, 2))
