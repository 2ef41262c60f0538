"""Random cells: crystal systems, lattices of a given volume, and points in them that are far from their images."""

import numpy as np
import torch

from rephase.crystal.symmetry import Symmetry
from rephase.errors import ConfigError

_NARROWEST = 4.5  # Å, smallest spacing of (100), (010), (001)
_POINTS = 16  # random points from which the freest is chosen


def crystal_system(symmetry: Symmetry) -> int:
    """Return the crystal system as a number: 0 triclinic, 1 monoclinic with b unique, 2 orthorhombic."""
    rotations = symmetry.rotations
    if (rotations * np.eye(3, dtype=int) != rotations).any():
        raise ConfigError(f"space group {symmetry.symbol!r}: expected triclinic, monoclinic (b unique) or orthorhombic")
    signs = np.diagonal(rotations, axis1=1, axis2=2)
    mixed = [bool((signs[:, i] != signs[:, j]).any()) for i, j in ((0, 2), (0, 1), (1, 2))]
    if mixed[0]:
        if not (mixed[1] and mixed[2]):
            raise ConfigError(f"space group {symmetry.symbol!r}: expected the unique axis b, e.g. 'P 1 21/c 1'")
        return 2
    return 1 if mixed[1] else 0


def draw_lattices(
    volume: torch.Tensor, system: torch.Tensor, longest: tuple[float, float, float], generator: torch.Generator
) -> torch.Tensor:
    """Draw lattices [n, 3, 3] of given volumes in Å^3, upper triangular, with axes and angles as in real crystals.

    Of several trial lattices, the first is taken whose planes (100), (010) and (001) are not too close and whose axes
    a, b and c are at most `longest` in Å; if there is none, the one with the widest spacing.
    """
    tries, n = 8, len(volume)
    normal = torch.randn(n, tries, 6, generator=generator, device=volume.device, dtype=volume.dtype)
    beta = 90 + (12 * normal[..., 4]).abs().clamp(max=35)
    oblique = (90 + 12 * normal[..., 3:]).clamp(66, 117)
    is_free = torch.stack([system == 0, system <= 1, system == 0], -1)[:, None]
    oblique = torch.where((system == 1)[:, None, None], beta[..., None], oblique)
    cosines = torch.where(is_free, torch.cos(torch.deg2rad(oblique)), 0.0)
    lattice = _lattices(torch.exp(0.3 * normal[..., :3]), *cosines.unbind(-1))
    lattice = lattice * (volume[:, None] / torch.linalg.det(lattice)).pow(1 / 3)[..., None, None]
    spacing = 1 / torch.linalg.inv(lattice).norm(dim=-1).amax(-1)
    is_good = (spacing > _NARROWEST) & (lattice.norm(dim=-2) < lattice.new_tensor(longest)).all(-1)
    first = torch.where(is_good.any(1), is_good.long().argmax(1), spacing.argmax(1))
    return lattice[torch.arange(n, device=volume.device), first]


def _lattices(lengths: torch.Tensor, cos_a: torch.Tensor, cos_b: torch.Tensor, cos_g: torch.Tensor) -> torch.Tensor:
    sin_g = (1 - cos_g**2).sqrt()
    c_y = (cos_a - cos_b * cos_g) / sin_g
    c_z = (1 - cos_b**2 - c_y**2).clamp(min=0.1).sqrt()
    zero = torch.zeros_like(c_z)
    rows = [torch.ones_like(c_z), cos_g, cos_b, zero, sin_g, c_y, zero, zero, c_z]
    return torch.stack(rows, -1).unflatten(-1, (3, 3)) * lengths[..., None, :]


def free_points(
    lattice: torch.Tensor,
    rotations: torch.Tensor,
    translations: torch.Tensor,
    is_there: torch.Tensor,
    generator: torch.Generator,
) -> torch.Tensor:
    """Draw several points in each cell and return the farthest from its own images, [n, 3], fractional."""
    shape = (len(lattice), _POINTS, 1, 3)
    points = torch.rand(shape, generator=generator, device=lattice.device, dtype=lattice.dtype)
    apart = (rotations[:, None] @ points[..., None])[..., 0] + translations[:, None] - points
    distance = ((apart - apart.round()) @ lattice.mT[:, None]).norm(dim=-1)
    distance.masked_fill_(~is_there[:, None], torch.inf)
    best = distance[..., 1:].amin(2).argmax(1) if distance.shape[2] > 1 else distance.argmax(1)[:, 0]
    return points[torch.arange(len(points), device=points.device), best, 0]
