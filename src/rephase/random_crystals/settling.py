"""Packing: rigid molecules rotate and shift to make room for each other; cells are scaled until nothing overlaps."""

from typing import NamedTuple

import torch

from rephase.random_crystals.contacts import Surroundings, others, overlaps, side_by_side, tested

_N_STEPS = 12
_MARGIN = 0.5  # Å beyond contact, within which a pair is monitored
_RATE, _MOMENTUM = 1.0, 0.6
_LIKE = 64  # molecules whose contacts are searched together
_LARGEST = 0.15  # Å or radians in one step


class _Pairs(NamedTuple):
    """Atoms to keep apart: `first` and `second` [n_pairs] number all atoms of all molecules, `row` the molecules.

    ``turn`` [n_pairs, 3, 3] and ``shift`` [n_pairs, 3] move the second to its image; ``rest`` [n_pairs] in Å.
    """

    row: torch.Tensor
    first: torch.Tensor
    second: torch.Tensor
    turn: torch.Tensor
    shift: torch.Tensor
    rest: torch.Tensor


def settle(xyz: torch.Tensor, radii: torch.Tensor, around: Surroundings) -> tuple[torch.Tensor, torch.Tensor]:
    """Move molecules until their atoms hardly overlap with those of others, by the sum of their radii.

    Parameters
    ----------
    xyz
        [n, atoms, 3], Å from the centre.
    radii
        [n, atoms], Å; negative for no atom.

    Returns
    -------
    tuple
        The positions, and the factor [n] by which each cell must grow, with unchanged molecules, to avoid overlaps.
    """
    there = (radii >= 0).to(xyz)[..., None]
    pairs = _watched_pairs(xyz, radii, around)
    speed = xyz.new_zeros(len(xyz), 6)
    for _ in range(_N_STEPS):
        middle = (xyz * there).sum(1, keepdim=True) / there.sum(1)[:, None]
        speed = _MOMENTUM * speed + _RATE * _push(xyz, middle, pairs)
        step = speed.clamp(-_LARGEST, _LARGEST)
        xyz = ((xyz - middle) @ rotation(step[:, 3:]).mT + middle + step[:, None, :3]) * there
    return xyz, _scale(xyz, pairs)


def _push(xyz: torch.Tensor, middle: torch.Tensor, pairs: _Pairs) -> torch.Tensor:
    """Return the mean shift and rotation [n, 6] that reduce the overlaps of each molecule."""
    flat = xyz.flatten(0, 1)
    apart = flat[pairs.first] - (pairs.turn * flat[pairs.second][:, None]).sum(2) - pairs.shift
    distance = apart.norm(dim=1)
    overlap = (pairs.rest - distance).clamp(min=0)
    push = (overlap / distance.clamp(min=0.1))[:, None] * apart
    arm = flat[pairs.first] - middle[pairs.row, 0]
    is_on = (overlap > 0).to(xyz)
    each = torch.cat([push, torch.linalg.cross(arm, push), is_on[:, None], (is_on * arm.square().sum(1))[:, None]], 1)
    total = xyz.new_zeros(len(xyz), 8).index_add_(0, pairs.row, each)
    return torch.cat([total[:, :3] / total[:, 6:7].clamp(min=1), 1.5 * total[:, 3:6] / total[:, 7:].clamp(min=1)], 1)


def _scale(xyz: torch.Tensor, pairs: _Pairs) -> torch.Tensor:
    """Return the larger root of ``|u - scale shift|^2 = rest^2``, maximised over the pairs of each molecule: [n]."""
    flat = xyz.flatten(0, 1)
    u = flat[pairs.first] - (pairs.turn * flat[pairs.second][:, None]).sum(2)
    square, along = pairs.shift.square().sum(1), (u * pairs.shift).sum(1)
    root = (along.square() - square * (u.square().sum(1) - pairs.rest.square())).clamp(min=0).sqrt()
    needed = (along + root) / square.clamp(min=1e-3)
    return xyz.new_zeros(len(xyz)).scatter_reduce_(0, pairs.row, needed, "amax")


def is_free(xyz: torch.Tensor, radii: torch.Tensor, around: Surroundings) -> torch.Tensor:
    """Return whether no atom is closer to an image than the sum of the radii, [n]."""
    clear = torch.ones_like(xyz[:, 0, 0], dtype=torch.bool)
    clear[_close(xyz, radii, around, 0.0)[0]] = False
    return clear


def _watched_pairs(xyz: torch.Tensor, radii: torch.Tensor, around: Surroundings) -> _Pairs:
    """Find all pairs of atoms and images that are closer than the sum of their radii and a margin."""
    parts = torch.where(radii >= 0, 1, 0).sum(1).argsort().split(_LIKE)
    found = []
    for rows in parts:  # of similar size
        used = int((radii[rows] >= 0).nonzero()[:, 1].max()) + 1
        row, *pair = _close(xyz[rows, :used], radii[rows, :used], around.take(rows), _MARGIN)
        found.append((rows[row], *pair))
    row, motion, first, second = (torch.cat(column) for column in zip(*found))
    rest, atoms = radii[row, first] + radii[row, second], row * xyz.shape[1]
    turn, shift = around.rotations[row, :, motion], around.shifts[row, :, motion]
    return _Pairs(row, atoms + first, atoms + second, turn, shift, rest)


def _close(xyz: torch.Tensor, radii: torch.Tensor, around: Surroundings, margin: float) -> tuple[torch.Tensor, ...]:
    """Return row, motion, atom and moved atom of all pairs closer than the sum of their radii and `margin`."""
    there = radii >= 0
    middle = (xyz * there[..., None]).sum(1) / there.sum(1)[:, None]
    extent = torch.where(there, (xyz - middle[:, None]).norm(dim=-1), 0.0).amax(1, keepdim=True)
    reach = torch.where(there, extent + radii + float(radii.max()) + margin, 0.0)
    row, motion, second, images = around.near(xyz, middle, reach)
    images, _ = side_by_side(row, len(xyz), images)
    wider, _ = side_by_side(row, len(xyz), radii[row, second] + margin, -1.0)
    motion, _ = side_by_side(row, len(xyz), motion, 0)
    second, _ = side_by_side(row, len(xyz), second, 0)
    row, image, first = overlaps(tested(images.mT, wider), others(xyz.mT, radii))
    return row, motion[row, image], first, second[row, image]


def rotation(vectors: torch.Tensor) -> torch.Tensor:
    """Return rotation matrices [..., 3, 3] about vectors [..., 3] by their lengths in radians (Rodrigues)."""
    angle = vectors.norm(dim=-1, keepdim=True).clamp(min=1e-6)
    x, y, z = (vectors / angle).unbind(-1)
    zero = torch.zeros_like(x)
    cross = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], -1).unflatten(-1, (3, 3))
    identity = torch.eye(3, dtype=vectors.dtype, device=vectors.device)
    angle = angle[..., None]
    return identity + angle.sin() * cross + (1 - angle.cos()) * (cross @ cross)
