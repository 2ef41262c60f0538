"""Molecules that turn, shift and twist about their bonds until no two atoms overlap; bonds and angles stay."""

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
_RATE, _MOMENTUM = 0.5, 0.7
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


def relax(packed: Packed, around: Surroundings, slack: float) -> torch.Tensor:
    """Move the atoms of `packed` until those of two molecules are no closer than the sum of their radii less `slack`.

    Returns
    -------
    torch.Tensor
        True for the molecules that are free of overlap in the end, [n].
    """
    pairs = _watched_pairs(packed, around, slack - _AMBITION)
    speed = None
    xyz = packed.xyz
    for _ in range(_N_STEPS):
        push = _push(xyz, pairs)
        step = _generalised(xyz, push, packed)
        speed = step if speed is None else _MOMENTUM * speed + step
        xyz = _moved(xyz, (_RATE * speed).clamp(-_LARGEST, _LARGEST), packed)
    start, packed.xyz = packed.xyz, xyz
    return _is_free(packed, around, slack) & _is_unfolded(packed, start)


def _watched_pairs(packed: Packed, around: Surroundings, slack: float) -> dict[str, torch.Tensor]:
    n, atoms, _ = packed.xyz.shape
    row, i, image = _close(packed, around, _MARGIN - slack)
    q, j = image // atoms, image % atoms
    rest = packed.radii[row, i] + packed.radii[row, j] - slack
    own = torch.cdist(packed.xyz, packed.xyz) < INTRAMOLECULAR * (packed.radii[:, :, None] + packed.radii[:, None]) + _MARGIN
    own &= (packed.fragment[:, :, None] != packed.fragment[:, None]) & (packed.radii >= 0)[:, :, None] & (packed.radii >= 0)[:, None]
    o_row, o_i, o_j = own.nonzero().unbind(1)
    o_rest = INTRAMOLECULAR * (packed.radii[o_row, o_i] + packed.radii[o_row, o_j])
    turn = torch.cat([around.rotations[row, q], torch.eye(3).to(rest).expand(len(o_row), 3, 3)])
    shift = torch.cat([around.shifts[row, q], rest.new_zeros(len(o_row), 3)])
    return {"first": torch.cat([row * atoms + i, o_row * atoms + o_i]),
            "second": torch.cat([row * atoms + j, o_row * atoms + o_j]),
            "turn": turn, "shift": shift, "rest": torch.cat([rest, o_rest])}  # fmt: skip


def _push(xyz: torch.Tensor, pairs: dict[str, torch.Tensor]) -> torch.Tensor:
    """Sum over the overlaps of each atom, along the way out: [n, atoms, 3]."""
    flat = xyz.flatten(0, 1)
    image = _turned(pairs["turn"], flat[pairs["second"]]) + pairs["shift"]
    apart = flat[pairs["first"]] - image
    distance = apart.norm(dim=1).clamp(min=0.1)
    overlap = (pairs["rest"] - distance).clamp(min=0) / distance
    return torch.zeros_like(flat).index_add_(0, pairs["first"], overlap[:, None] * apart).view_as(xyz)


def _generalised(xyz, push, packed) -> torch.Tensor:
    """Translation, rotation and twists that follow the push, each over its inertia: [n, 6 + twists]."""
    there = (packed.radii >= 0).to(xyz)[..., None]
    count = there.sum(1)
    centre = (xyz * there).sum(1) / count
    about = (xyz - centre[:, None]) * there
    shift = push.sum(1) / count
    turn = torch.linalg.cross(about, push).sum(1) / (about.square().sum((1, 2))[:, None] * 2 / 3)
    rows = torch.arange(len(xyz), device=xyz.device)[:, None]
    foot = xyz[rows, packed.axes[..., 0]]
    axis = torch.nn.functional.normalize(xyz[rows, packed.axes[..., 1]] - foot, dim=-1)
    # torque of what lies beyond the bond, and its inertia about the axis
    moment = packed.moves @ torch.linalg.cross(xyz, push) - torch.linalg.cross(foot, packed.moves @ push)
    square = packed.moves @ (xyz.square().sum(-1, keepdim=True))
    first = packed.moves @ xyz
    along = packed.moves @ (xyz[..., :, None] * xyz[..., None, :]).flatten(2)
    n_moved = packed.moves.sum(2)
    to_foot = square[..., 0] - 2 * (first * foot).sum(-1) + n_moved * foot.square().sum(-1)
    second = (along.unflatten(2, (3, 3)) @ axis[..., None])[..., 0]
    footed = (foot * axis).sum(-1)
    on_axis = (axis * second).sum(-1) - 2 * footed * (first * axis).sum(-1) + n_moved * footed.square()
    inertia = (to_foot - on_axis).clamp(min=1.0)
    return torch.cat([shift * 3, turn * 3, (moment * axis).sum(-1) / inertia * 3], 1)


def _moved(xyz: torch.Tensor, step: torch.Tensor, packed: Packed) -> torch.Tensor:
    """Atoms after a translation, a rotation about the centre and twists; every fragment stays rigid: [n, atoms, 3]."""
    there = (packed.radii >= 0).to(xyz)[..., None]
    centre = (xyz * there).sum(1, keepdim=True) / there.sum(1, keepdim=True)
    rows = torch.arange(len(xyz), device=xyz.device)[:, None]
    foot, anchor = xyz[rows, packed.axes[..., 0]], xyz[rows, packed.axes[..., 1]]
    axis = torch.nn.functional.normalize(anchor - foot, dim=-1)
    turn = rotation(packed.lineage[:, :, 1:] @ (step[:, 6:, None] * axis) + step[:, None, 3:6])
    root = centre + step[:, None, :3] + _turned(turn[:, :1], xyz[:, :1] - centre)
    anchors = torch.cat([xyz[:, :1], anchor], 1)
    bonds = _turned(turn[rows, packed.parent], anchor - anchors[rows, packed.parent])
    moved = root + packed.lineage[:, :, 1:] @ bonds
    own = packed.fragment
    return (moved[rows, own] + _turned(turn[rows, own], xyz - anchors[rows, own])) * there


def rotation(vectors: torch.Tensor) -> torch.Tensor:
    """Rotation matrices [..., 3, 3] about vectors [..., 3] by their lengths in radians (Rodrigues)."""
    angle = vectors.norm(dim=-1, keepdim=True).clamp(min=1e-6)
    x, y, z = (vectors / angle).unbind(-1)
    zero = torch.zeros_like(x)
    cross = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], -1).unflatten(-1, (3, 3))
    angle = angle[..., None]
    return torch.eye(3).to(vectors) + angle.sin() * cross + (1 - angle.cos()) * (cross @ cross)


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
    """All images of all atoms, radii enlarged by `margin`, to be tested against: [n, n_images * atoms, 6]."""
    images = (packed.xyz[:, None] @ around.rotations.mT + around.shifts[:, :, None]).flatten(1, 2)
    radii = torch.where(packed.radii < 0, -1.0, packed.radii + margin)
    return right(images, radii[:, None].expand(-1, around.shifts.shape[1], -1).flatten(1))


def _close(packed: Packed, around: Surroundings, margin: float) -> tuple[torch.Tensor, ...]:
    """Row, atom and image of all pairs closer than the sum of their radii and `margin`."""
    tested, others = left(packed.xyz, packed.radii), _image_points(packed, around, margin)
    step = max(1, PRODUCTS_AT_ONCE // (tested.shape[1] * others.shape[1]))
    parts = [(a @ b.mT < 0).nonzero() for a, b in zip(tested.split(step), others.split(step))]
    rows = [part[:, 0] + step * i for i, part in enumerate(parts)]
    return torch.cat(rows), *torch.cat(parts)[:, 1:].unbind(1)
