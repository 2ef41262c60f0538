"""Random cells: lattices of a group and a given volume, and points in them that are far from their images."""

import torch

from rephase.random_crystals.sites import SAME_PLACE, Sites

_NARROWEST = 4.5  # Å, smallest spacing of (100), (010), (001)
_POINTS = 16  # random points from which the freest is chosen


def draw_lattices(
    volume: torch.Tensor,
    rotations: torch.Tensor,
    is_there: torch.Tensor,
    longest: tuple[float, float, float],
    generator: torch.Generator,
) -> torch.Tensor:
    """Draw lattices [n, 3, 3] of given volumes in Å^3, upper triangular, with axes and angles as in real crystals.

    The metric of a random lattice is averaged over the rotations, so that the group keeps it. Of several trial
    lattices, the first is taken whose planes (100), (010) and (001) are not too close and whose axes a, b and c are at
    most `longest` in Å; if there is none, the one with the widest spacing.

    Parameters
    ----------
    volume
        [n].
    rotations, is_there
        Rotations of the operations [n, most, 3, 3], and which of them are not padding [n, most].
    """
    tries, n = 8, len(volume)
    normal = torch.randn(n, tries, 6, generator=generator, device=volume.device, dtype=volume.dtype)
    oblique = (90 + 12 * normal[..., 3:]).clamp(66, 117)
    obtuse = 90 + (12 * normal[..., 4:5]).abs().clamp(max=35)  # by convention, if a single angle is oblique
    is_triclinic = (rotations.diagonal(dim1=-2, dim2=-1).sum(-1).abs() == 3).logical_or(~is_there).all(1)
    angles = torch.where(is_triclinic[:, None, None], oblique, obtuse)
    lattice = _kept_by(rotations, _lattices(torch.exp(0.3 * normal[..., :3]), *angles.deg2rad().cos().unbind(-1)))
    lattice = lattice * (volume[:, None] / torch.linalg.det(lattice)).pow(1 / 3)[..., None, None]
    spacing = 1 / torch.linalg.inv(lattice).norm(dim=-1).amax(-1)
    is_good = (spacing > _NARROWEST) & (lattice.norm(dim=-2) < lattice.new_tensor(longest)).all(-1)
    first = torch.where(is_good.any(1), is_good.long().argmax(1), spacing.argmax(1))
    return lattice[torch.arange(n, device=volume.device), first]


def _kept_by(rotations: torch.Tensor, lattice: torch.Tensor) -> torch.Tensor:
    """Average the metrics of lattices [n, tries, 3, 3] over rotations [n, most, 3, 3], zero where there is none."""
    metric = torch.einsum("noij,ntik,nokl->ntjl", rotations, lattice.mT @ lattice, rotations)
    return torch.linalg.cholesky(metric).mT


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
    sites: Sites | None = None,
) -> torch.Tensor:
    """Draw several points in each cell and return the farthest from its own images, [n, 3], fractional.

    With `sites`, one for each cell, the points are on these.
    """
    shape = (len(lattice), _POINTS, 1, 3)
    points = torch.rand(shape, generator=generator, device=lattice.device, dtype=lattice.dtype)
    if sites is not None:
        points = sites.nearest(points)
    apart = (rotations[:, None] @ points[..., None])[..., 0] + translations[:, None] - points
    distance = ((apart - apart.round()) @ lattice.mT[:, None]).norm(dim=-1)
    distance.masked_fill_(~is_there[:, None], torch.inf)
    if sites is not None:
        distance.masked_fill_(sites.are_own(rotations)[:, None] & (distance < SAME_PLACE), torch.inf)
    best = distance[..., 1:].amin(2).argmax(1) if distance.shape[2] > 1 else distance.argmax(1)[:, 0]
    return points[torch.arange(len(points), device=points.device), best, 0]
