"""Molecules that turn, shift and twist about their bonds until no two atoms overlap; bonds and angles stay."""

from typing import NamedTuple

import torch

from rephase.crystal.fragments import Library
from rephase.crystal.growth import (
    INTRAMOLECULAR,
    PRODUCTS_AT_ONCE,
    Molecules,
    Surroundings,
    left,
    nearest,
    radii_of,
    right,
)

_EXACT = "donot_use_mm_for_euclid_dist"
_N_STEPS = 30
_MARGIN = 1.0  # Å beyond contact within which a pair is watched
_RATE, _MOMENTUM = 0.75, 0.7
_AMBITION = 0.15  # Å by which the contacts that are striven for are longer than those that are allowed
_LARGEST = 0.08  # Å or radians in one step


class Packed:
    """Atoms of molecules, hydrogens last: xyz [n, atoms, 3], radii (negative: no atom), fragment of each."""

    def __init__(self, molecules: Molecules, library: Library):
        used, h_used = int(molecules.count.max()), int(molecules.h_count.max())
        numbers, carriers = molecules.numbers[:, :used], molecules.carriers[:, :h_used]
        self.xyz = torch.cat([molecules.xyz[:, :used], molecules.hydrogens[:, :h_used]], 1)
        self.radii = radii_of(numbers, carriers, library)
        self.numbers = torch.cat([numbers, (carriers >= 0).long()], 1)
        self.fragment = torch.cat([molecules.fragment[:, :used], molecules.h_fragment[:, :h_used]], 1)
        rows = torch.arange(len(numbers), device=numbers.device)[:, None]
        f_used = int(molecules.f_count.max())
        self.moves = molecules.ancestors[rows, self.fragment][:, :, 1:f_used].mT * (self.radii >= 0)[:, None]
        self.axes = molecules.axes[:, 1:f_used]
        self.lineage = molecules.ancestors[:, :f_used, :f_used]
        self.parent = self.fragment[rows, self.axes[..., 0]]


class Pairs(NamedTuple):
    """Atoms to keep apart: ``first``, ``second`` [n_pairs] count all atoms of all molecules.

    ``turn`` [n_pairs, 3, 3] and ``shift`` [n_pairs, 3] move the second to its image; ``rest`` [n_pairs] in Å.
    """

    first: torch.Tensor
    second: torch.Tensor
    turn: torch.Tensor
    shift: torch.Tensor
    rest: torch.Tensor


def relax(packed: Packed, around: Surroundings, slack: float) -> torch.Tensor:
    """Move the atoms of `packed` until those of two molecules are no closer than the sum of their radii less `slack`.

    Returns
    -------
    torch.Tensor
        True for the molecules that are free of overlap in the end, [n].
    """
    pairs = _watched_pairs(packed, around, slack - _AMBITION)
    start, xyz = packed.xyz, packed.xyz
    speed = xyz.new_zeros(())
    for _ in range(_N_STEPS):
        speed = _MOMENTUM * speed + _generalised(xyz, _push(xyz, pairs), packed)
        xyz = _moved(xyz, (_RATE * speed).clamp(-_LARGEST, _LARGEST), packed)
    packed.xyz = xyz
    return _is_free(packed, around, slack) & _is_unfolded(packed, start)


def _watched_pairs(packed: Packed, around: Surroundings, slack: float) -> Pairs:
    """Pairs that are or may come too close: of atoms and images, and of atoms of different fragments."""
    atoms, radii = packed.xyz.shape[1], packed.radii
    row, i, image = _close(packed, around, _MARGIN - slack)
    q, j = image // atoms, image % atoms
    sums = INTRAMOLECULAR * (radii[:, :, None] + radii[:, None])
    is_apart = packed.fragment[:, :, None] != packed.fragment[:, None]
    is_apart &= (radii >= 0)[:, :, None] & (radii >= 0)[:, None]
    own_row, own_i, own_j = (is_apart & (torch.cdist(packed.xyz, packed.xyz) < sums + _MARGIN)).nonzero().unbind(1)
    unmoved = torch.eye(3, dtype=radii.dtype, device=radii.device).expand(len(own_row), 3, 3)
    return Pairs(
        torch.cat([row * atoms + i, own_row * atoms + own_i]),
        torch.cat([row * atoms + j, own_row * atoms + own_j]),
        torch.cat([around.rotations[row, :, q], unmoved]),
        torch.cat([around.shifts[row, :, q], radii.new_zeros(len(own_row), 3)]),
        torch.cat([radii[row, i] + radii[row, j] - slack, sums[own_row, own_i, own_j]]),
    )


def _push(xyz: torch.Tensor, pairs: Pairs) -> torch.Tensor:
    """Sum over the overlaps of each atom, along the way out: [n, atoms, 3]."""
    flat = xyz.flatten(0, 1)
    image = _turned(pairs.turn, flat[pairs.second]) + pairs.shift
    apart = flat[pairs.first] - image
    distance = apart.norm(dim=1).clamp(min=0.1)
    overlap = (pairs.rest - distance).clamp(min=0) / distance
    return torch.zeros_like(flat).index_add_(0, pairs.first, overlap[:, None] * apart).view_as(xyz)


def _generalised(xyz: torch.Tensor, push: torch.Tensor, packed: Packed) -> torch.Tensor:
    """Translation, rotation and twists that follow the push, each over its inertia: [n, 6 + twists]."""
    there, centre, foot, axis = _geometry(xyz, packed)
    about = (xyz - centre) * there
    shift = push.sum(1) / there.sum(1)
    turn = torch.linalg.cross(about, push).sum(1) / (about.square().sum((1, 2))[:, None] * 2 / 3)
    torque = packed.moves @ torch.linalg.cross(xyz, push) - torch.linalg.cross(foot, packed.moves @ push)
    twist = (torque * axis).sum(-1) / _inertia(xyz, foot, axis, packed.moves)
    return torch.cat([shift, turn, twist], 1)


def _inertia(xyz: torch.Tensor, foot: torch.Tensor, axis: torch.Tensor, moves: torch.Tensor) -> torch.Tensor:
    """Sum of squared distances in Å^2 of what a twist moves from its axis, at least 1: [n, twists].

    Of ``r = x - foot`` it is ``sum r.r - sum (r.axis)^2``, written with the moments ``sum x`` and ``sum x x^T``.
    """
    first, n_moved = moves @ xyz, moves.sum(2)
    second = (moves @ (xyz[..., :, None] * xyz[..., None, :]).flatten(2)).unflatten(2, (3, 3))
    square = second.diagonal(dim1=-2, dim2=-1).sum(-1) - 2 * (first * foot).sum(-1) + n_moved * foot.square().sum(-1)
    along, height = (axis * _turned(second, axis)).sum(-1), (foot * axis).sum(-1)
    along = along - 2 * height * (first * axis).sum(-1) + n_moved * height.square()
    return (square - along).clamp(min=1.0)


def _geometry(xyz: torch.Tensor, packed: Packed) -> tuple[torch.Tensor, ...]:
    """Which atoms there are [n, atoms, 1], their centre [n, 1, 3], and a foot and a direction of each twist's axis."""
    there = (packed.radii >= 0).to(xyz)[..., None]
    rows = torch.arange(len(xyz), device=xyz.device)[:, None]
    foot, anchor = xyz[rows, packed.axes[..., 0]], xyz[rows, packed.axes[..., 1]]
    axis = torch.nn.functional.normalize(anchor - foot, dim=-1)
    return there, (xyz * there).sum(1, keepdim=True) / there.sum(1, keepdim=True), foot, axis


def _moved(xyz: torch.Tensor, step: torch.Tensor, packed: Packed) -> torch.Tensor:
    """Atoms after a translation, a rotation about the centre and twists: [n, atoms, 3].

    Every fragment is turned as a rigid body; the bonds between them, summed along the ancestors, give their places.
    """
    there, centre, _, axis = _geometry(xyz, packed)
    rows = torch.arange(len(xyz), device=xyz.device)[:, None]
    turn = rotation(packed.lineage[:, :, 1:] @ (step[:, 6:, None] * axis) + step[:, None, 3:6])
    anchors = torch.cat([xyz[:, :1], xyz[rows, packed.axes[..., 1]]], 1)
    bonds = _turned(turn[rows, packed.parent], anchors[:, 1:] - anchors[rows, packed.parent])
    root = centre + step[:, None, :3] + _turned(turn[:, :1], xyz[:, :1] - centre)
    places = root + packed.lineage[:, :, 1:] @ bonds
    own = packed.fragment
    return (places[rows, own] + _turned(turn[rows, own], xyz - anchors[rows, own])) * there


def rotation(vectors: torch.Tensor) -> torch.Tensor:
    """Rotation matrices [..., 3, 3] about vectors [..., 3] by their lengths in radians (Rodrigues)."""
    angle = vectors.norm(dim=-1, keepdim=True).clamp(min=1e-6)
    x, y, z = (vectors / angle).unbind(-1)
    zero = torch.zeros_like(x)
    cross = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], -1).unflatten(-1, (3, 3))
    angle = angle[..., None]
    return (
        torch.eye(3, dtype=vectors.dtype, device=vectors.device)
        + angle.sin() * cross
        + (1 - angle.cos()) * (cross @ cross)
    )


def _turned(turn: torch.Tensor, vectors: torch.Tensor) -> torch.Tensor:
    return (turn * vectors[..., None, :]).sum(-1)


def _is_free(packed: Packed, around: Surroundings, slack: float) -> torch.Tensor:
    """Whether no atom is closer to an image than the sum of the radii less `slack`, [n]."""
    return (nearest(left(packed.xyz, packed.radii), _image_points(packed, around, -slack)) >= 0).all(1)


def _is_unfolded(packed: Packed, start: torch.Tensor) -> torch.Tensor:
    """Whether the molecule has not run into itself: what is too close was so at the `start`, being bonded, [n]."""
    required = INTRAMOLECULAR * (packed.radii[:, :, None] + packed.radii[:, None])
    allowed = torch.minimum(required, torch.cdist(start, start, compute_mode=_EXACT)) - 0.1
    there = (packed.radii >= 0)[:, :, None] & (packed.radii >= 0)[:, None]
    return ((torch.cdist(packed.xyz, packed.xyz, compute_mode=_EXACT) > allowed) | ~there).flatten(1).all(1)


def _image_points(packed: Packed, around: Surroundings, margin: float) -> torch.Tensor:
    """All images of all atoms, radii enlarged by `margin`, to be tested against: [n, 6, n_images * atoms]."""
    radii = torch.where(packed.radii < 0, -1.0, packed.radii + margin)
    motions = around.shifts.shape[2]
    return right(around.images(packed.xyz).flatten(2), radii[:, None].expand(-1, motions, -1).flatten(1))


def _close(packed: Packed, around: Surroundings, margin: float) -> tuple[torch.Tensor, ...]:
    """Row, atom and image of all pairs closer than the sum of their radii and `margin`."""
    tested, others = left(packed.xyz, packed.radii), _image_points(packed, around, margin)
    step = max(1, PRODUCTS_AT_ONCE // (tested.shape[1] * others.shape[2]))
    parts = [(a @ b < 0).nonzero() for a, b in zip(tested.split(step), others.split(step))]
    rows = [part[:, 0] + step * i for i, part in enumerate(parts)]
    return torch.cat(rows), *torch.cat(parts)[:, 1:].unbind(1)
