"""Point atoms of a map, found in the asymmetric unit, and their structure factors with the symmetry of the group."""

import math

import numpy as np
import torch

from rephase.crystal.cell import Cell
from rephase.crystal.symmetry import Symmetry
from rephase.solvers.maxima import highest_around

_CLOSEST = 1.0  # Å between an atom in a general position and its image


def asymmetric_unit(shape: tuple[int, int, int], symmetry: Symmetry, cell: Cell) -> np.ndarray:
    """Return [x, y, z], True at one point of each set of equivalents in general positions on a `symmetric_shape`.

    Points within 1 Å of an image are left out. In groups without screw axes and glide planes, the highest peaks of a
    wrong map lie there, and the phases that these give are a false solution that reproduces itself.
    """
    n = np.array(shape)
    points = np.indices(shape).reshape(3, -1).T
    is_first = np.ones(len(points), bool)
    for rotation, translation in zip(symmetry.rotations, symmetry.translations):
        turned = np.round(rotation * (n[:, None] / n)).astype(int)
        image = points @ turned.T + np.round(translation * n).astype(int)
        is_first &= np.arange(len(points)) <= np.ravel_multi_index(tuple((image % n).T), shape)
        if not (rotation == np.eye(3)).all():
            step = (image - points) / n
            is_first &= np.linalg.norm((step - np.round(step)) @ cell.orthogonalisation.T, axis=1) >= _CLOSEST
    return is_first.reshape(shape)


def find_atoms(maps: torch.Tensor, unit: torch.Tensor, n: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Find the `n` highest maxima of each map in an asymmetric unit, none within two points of a higher one.

    A parabola along each axis gives the position between the points.

    Parameters
    ----------
    maps
        [batch, x, y, z].
    unit
        [x, y, z], True in the asymmetric unit.
    n
        Number of maxima of each map.

    Returns
    -------
    xyz_frac, height
        [batch, n, 3] and [batch, n]; the height is 0 where a map has fewer positive maxima.
    """
    shape = torch.tensor(maps.shape[1:], device=maps.device)
    heights = torch.where((maps == highest_around(highest_around(maps))) & unit, maps, 0.0).flatten(1)
    height, place = heights.topk(n, dim=1)
    points = torch.stack(torch.unravel_index(place, maps.shape[1:]), dim=-1)
    flat, strides = maps.flatten(1), torch.tensor([maps.stride(axis) for axis in (1, 2, 3)], device=maps.device)
    steps = torch.eye(3, dtype=points.dtype, device=maps.device)
    before, after = (
        flat.gather(1, ((points[:, :, None] + sign * steps) % shape * strides).sum(-1).flatten(1)).view(*place.shape, 3)
        for sign in (-1, 1)
    )
    bend = before + after - 2 * height[..., None]
    shift = torch.where(bend < 0, (before - after) / (2 * bend), 0.0)
    return (points + shift.clamp(-0.5, 0.5)) / shape, height


class PointAtoms:
    """Structure factors of point atoms for reflections [n_refl, 3], with the symmetry of the group."""

    def __init__(self, hkl: np.ndarray, symmetry: Symmetry, device: torch.device):
        images, shifts = symmetry.equivalents(hkl)
        self._images = torch.as_tensor(2 * math.pi * images.reshape(-1, 3).T, dtype=torch.float32, device=device)
        self._turn = torch.as_tensor(np.exp(-1j * shifts).astype(np.complex64), device=device)

    @property
    def n_images(self) -> int:
        """Number of waves of an atom: one for each reflection and operation of the group."""
        return self._images.shape[1]

    def __call__(self, xyz_frac: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        """Return F [batch, n_refl] of atoms [batch, n, 3] of `weight` [batch, n]."""
        angle = xyz_frac @ self._images
        parts = (torch.einsum("bn,bnr->br", weight, wave) for wave in (angle.cos(), angle.sin()))
        return (torch.complex(*parts).view(-1, *self._turn.shape) * self._turn).sum(1)
