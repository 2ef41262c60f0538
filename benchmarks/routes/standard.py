"""The axes of P 1 21/c 1 for crystals that are given in reduced cells, and the indices of their reflections there."""

import math
from typing import NamedTuple

import torch

from rephase.labs.phasing.data import Part

SHAPE = (21, 11, 11)  # as PhAI's; a few crystals have reflections outside, with 1e-4 of the weight on average


def standard_axes(part: Part) -> torch.Tensor:
    """Return the axes of P 1 21/c 1 in terms of the reduced ones, as columns of integers [n, 3, 3] in float32.

    The origin is the same, an inversion centre; the angle β is not acute.
    """
    lattices, (rotations, translations, is_there) = part.data.spheres.lattice, part.operations
    is_screw = (rotations.diagonal(dim1=2, dim2=3).sum(2) == -1) & is_there
    chosen = is_screw.int().argmax(1)
    axes = []
    for i, lattice in enumerate(lattices):
        unique = rotations[i, chosen[i]].diagonal() > 0
        glide = (translations[i, chosen[i]] % 1 > 0.25) & ~unique  # half of each of these axes
        others = torch.eye(3)[~unique]
        if glide.sum() == 1:
            a, c = others if glide[~unique][1] else others.flip(0)
        else:
            diagonals = torch.stack([others[0] + others[1], others[0] - others[1]])
            a, c = others[0], diagonals[(diagonals @ lattice.T).norm(dim=1).argmin()]
        a = -a if (lattice @ a) @ (lattice @ c) > 0 else a
        axes.append(torch.stack([a, unique.float(), c], dim=1))
    return torch.stack(axes)


class Quadrant(NamedTuple):
    """Where the reflections of half grids [n, h, k, l] are on a grid of indices of P 1 21/c 1, one of each class.

    The grid [n, *SHAPE] has h from -10 to 10, k and l from 0 to 10. ``place`` is the place on it, flattened, or one
    after the last for a reflection that is not there; F is ``sign`` times that of the place.
    """

    place: torch.Tensor
    sign: torch.Tensor

    def fold(self, values: torch.Tensor) -> torch.Tensor:
        """Put real values of half grids on the grid, zero elsewhere; those of F need the sign before."""
        grid = values.new_zeros(len(values), math.prod(SHAPE) + 1)
        grid.scatter_(1, self.place.flatten(1), values.flatten(1))
        return grid[:, :-1].unflatten(1, SHAPE)

    def unfold(self, grid: torch.Tensor) -> torch.Tensor:
        """Return the values of half grids from those on the grid; those of F need the sign after."""
        found = torch.nn.functional.pad(grid.flatten(1), (0, 1)).gather(1, self.place.flatten(1))
        return found.view(self.place.shape)


def quadrant(part: Part) -> Quadrant:
    """Return the places of the reflections inside the spheres."""
    hkl = torch.einsum("hkli,nij->nhklj", part.data.spheres.hkl.float(), standard_axes(part)).round().long()
    place, sign = place_of(hkl)
    return Quadrant(torch.where(part.data.spheres.inside, place, math.prod(SHAPE)), sign)


def place_of(hkl: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return places and signs [...] of indices [..., 3]: ``F(-h) = F(h)``, ``F(h -k l) = (-1)^(k + l) F(h k l)``."""
    is_lower = (hkl[..., 2] < 0) | ((hkl[..., 2] == 0) & (hkl[..., 0] < 0))
    h, k, l = torch.where(is_lower[..., None], -hkl, hkl).unbind(-1)
    sign = torch.where((k < 0) & ((k + l) % 2 == 1), -1.0, 1.0)
    half, (_, n_k, n_l) = SHAPE[0] // 2, SHAPE
    is_there = (h.abs() <= half) & (k.abs() < n_k) & (l < n_l)
    return torch.where(is_there, ((h + half) * n_k + k.abs()) * n_l + l, math.prod(SHAPE)), sign
