"""Special positions on inversion centres, twofold axes and mirrors: which ones a group has, and points on them."""

import itertools
from collections.abc import Iterator
from functools import cache
from typing import NamedTuple

import numpy as np
import torch

from rephase.crystal.symmetry import Symmetry

KINDS = {-3: "-1", -1: "2", 1: "m"}  # the site symmetry, by the trace of the operation
SAME_PLACE = 0.01  # Å, points closer than this are one
_ANYWHERE = np.array([0.1234, 0.3457, 0.6791])


class Sites(NamedTuple):
    """Special positions, each with the one operation besides the identity that fixes its points.

    ``kind`` [n] is the place of the site symmetry in `KINDS`; ``rotations`` [n, 3, 3] and ``translations`` [n, 3] are
    the operation x -> R x + t, lattice translation included.
    """

    kind: torch.Tensor
    rotations: torch.Tensor
    translations: torch.Tensor

    def take(self, rows: torch.Tensor) -> "Sites":
        """Return the sites at `rows`."""
        return Sites(*(column[rows] for column in self))

    def are_own(self, rotations: torch.Tensor) -> torch.Tensor:
        """Return which rotations [n, n_ops, 3, 3] are those of the sites, [n, n_ops]."""
        return (rotations == self.rotations[:, None]).flatten(2).all(2)

    def nearest(self, xyz_frac: torch.Tensor) -> torch.Tensor:
        """Return points of the sites, [n, ..., 3]: the means of fractional `xyz_frac` [n, ..., 3] and their images."""
        shape = (len(self.kind), *[1] * (xyz_frac.ndim - 2))
        images = (self.rotations.view(*shape, 3, 3) @ xyz_frac[..., None])[..., 0]
        return (xyz_frac + images + self.translations.view(*shape, 3)) / 2


@cache
def sites_of(symmetries: tuple[Symmetry, ...]) -> tuple[Sites, torch.Tensor]:
    """List the special positions of several groups, and the weights [n_groups, n_sites] to draw them by; float64.

    Those of each kind that a group has sum to 1, so that its kinds are equally probable. A group without these special
    positions has a row of zeros. Points with a larger site symmetry, such as 2/m or 3, are not among them.
    """
    found = [(group, *site) for group, symmetry in enumerate(symmetries) for site in _sites(symmetry)]
    kind = torch.tensor([list(KINDS).index(int(np.trace(R))) for _, R, _ in found], dtype=torch.long)
    rotations = np.array([R for _, R, _ in found], float).reshape(-1, 3, 3)
    translations = np.array([t for *_, t in found]).reshape(-1, 3)
    shares = torch.zeros(len(symmetries), len(found), dtype=torch.float64)
    for number, (group, *_) in enumerate(found):
        like = [other for other, (of, *_) in enumerate(found) if of == group and kind[other] == kind[number]]
        shares[group, number] = 1 / len(like)
    return Sites(kind, torch.as_tensor(rotations), torch.as_tensor(translations)), shares


def _sites(symmetry: Symmetry) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield the operations that fix points which no other operation fixes."""
    identity = np.eye(3, dtype=int)
    for R, t in zip(symmetry.rotations, symmetry.translations):
        if (R == identity).all() or (R @ R != identity).any():
            continue
        for step in itertools.product((-1, 0), repeat=3):
            moved = t + step
            point = (_ANYWHERE + R @ _ANYWHERE + moved) / 2
            has_no_glide = np.abs(R @ moved + moved).max() < 1e-9
            if has_no_glide and _n_fixing(symmetry, point) == 2:
                yield R, moved


def _n_fixing(symmetry: Symmetry, point: np.ndarray) -> int:
    """Count the operations, lattice translations included, that leave a point where it is."""
    apart = symmetry.rotations @ point + symmetry.translations - point
    return int((np.abs(apart - np.rint(apart)) < 1e-6).all(1).sum())
