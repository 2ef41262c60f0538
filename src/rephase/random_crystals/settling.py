"""Packing: rigid molecules rotate and shift to make room for each other; cells are scaled until nothing overlaps."""

from typing import NamedTuple

import torch

from rephase.random_crystals.contacts import Surroundings, others, overlaps, side_by_side, tested

_N_STEPS = 12
_MARGIN = 0.5  # Å beyond contact, within which a pair is monitored
_RATE, _MOMENTUM = 1.0, 0.6
_LIKE = 64  # molecules whose contacts are searched together
_LARGEST = 0.15  # Å or radians in one step
_ROUNDING = 1 + 1e-4  # factor by which a cell is larger than needed, so that rounding errors cannot cause an overlap


class _Pairs(NamedTuple):
    """Atoms to keep apart: `first` and `second` [n_pairs] number all atoms of all molecules, `row` the first molecules.

    ``turn`` [n_pairs, 3, 3] and ``shift`` [n_pairs, 3] move the second to its image; ``rest`` [n_pairs] in Å.
    """

    row: torch.Tensor
    first: torch.Tensor
    second: torch.Tensor
    turn: torch.Tensor
    shift: torch.Tensor
    rest: torch.Tensor


def settle(
    xyz: torch.Tensor, radii: torch.Tensor, molecule: torch.Tensor, around: Surroundings, *, least: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Move molecules until their atoms hardly overlap with those of others, by the sum of their radii.

    The molecule 0 keeps its special position, if it has one.

    Parameters
    ----------
    xyz
        [n, atoms, 3], Å from the centre.
    radii
        [n, atoms], Å; negative for no atom.
    molecule
        Number [n, atoms] of the molecule of each atom; [n, 0] if each row is one molecule.
    least
        Smallest scale of a cell.

    Returns
    -------
    tuple
        The positions in the scaled cell, and the factor [n] by which each cell must be scaled to avoid overlaps, with
        unchanged molecules.
    """
    pairs, n_molecules = _watched_pairs(xyz, radii, molecule, around)
    there = radii >= 0
    if n_molecules > 1:  # each molecule has a row of its own
        numbers = torch.arange(n_molecules, device=xyz.device)[:, None]
        there = (there[:, None] & (molecule[:, None] == numbers)).flatten(0, 1)
        xyz = xyz.repeat_interleave(n_molecules, 0)
    there = there.to(xyz)[..., None]
    speed = xyz.new_zeros(len(xyz), 6)
    for _ in range(_N_STEPS):
        middle = _middles(xyz, there, around, n_molecules)
        speed = _kept_by_site(_MOMENTUM * speed + _RATE * _push(xyz, middle, pairs), around, n_molecules)
        step = _kept_by_site(speed.clamp(-_LARGEST, _LARGEST), around, n_molecules)
        xyz = ((xyz - middle) @ rotation(step[:, 3:]).mT + middle + step[:, None, :3]) * there
    return _scaled(xyz, there, pairs, around, n_molecules, least)


def _middles(xyz: torch.Tensor, there: torch.Tensor, around: Surroundings, n_molecules: int) -> torch.Tensor:
    """Return the middles [n, 1, 3] of molecules, on their special positions if they have them."""
    middle = (xyz * there).sum(1, keepdim=True) / there.sum(1)[:, None].clamp(min=1)
    for turn in around.site.unbind(1):
        middle[::n_molecules] += (turn @ middle[::n_molecules].mT).mT
        middle[::n_molecules] /= 2
    return middle


def _kept_by_site(motions: torch.Tensor, around: Surroundings, n_molecules: int) -> torch.Tensor:
    """Return the part of shifts and rotations [n, 6] that keeps the molecules 0 on their special positions."""
    for turn in around.site.unbind(1):
        both = motions[::n_molecules].unflatten(1, (2, 3)).mT
        turned = turn @ both
        turned[..., 1] *= torch.linalg.det(turn)[:, None]  # a rotation is an axial vector
        motions[::n_molecules] = ((both + turned) / 2).mT.flatten(1)
    return motions


def _scaled(
    xyz: torch.Tensor, there: torch.Tensor, pairs: _Pairs, around: Surroundings, n_molecules: int, least: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Scale cells, at least by `least`, until nothing overlaps; all molecules but the first move with them."""
    if n_molecules == 1:
        return xyz, _scale(xyz, pairs).clamp(min=least) * _ROUNDING
    places = _middles(xyz, there, around, n_molecules)[:, 0]
    places[::n_molecules] = 0
    scale = _scale(xyz, pairs, places).view(-1, n_molecules).amax(1).clamp(min=least) * _ROUNDING
    shifts = (scale.repeat_interleave(n_molecules)[:, None] - 1) * places
    return ((xyz + shifts[:, None]) * there).unflatten(0, (-1, n_molecules)).sum(1), scale


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


def _scale(xyz: torch.Tensor, pairs: _Pairs, places: torch.Tensor | None = None) -> torch.Tensor:
    """Return the larger root of ``|u - scale shift|^2 = rest^2``, maximised over the pairs of each molecule: [n].

    Places [n, 3] of the molecules, by default the centre, are scaled with the cells.
    """
    flat, shift = xyz.flatten(0, 1), pairs.shift
    u = flat[pairs.first] - (pairs.turn * flat[pairs.second][:, None]).sum(2)
    if places is not None:
        apart = places[pairs.row] - (pairs.turn * places[pairs.second // xyz.shape[1]][:, None]).sum(2)
        u, shift = u - apart, shift - apart
    square, along = shift.square().sum(1), (u * shift).sum(1)
    root = (along.square() - square * (u.square().sum(1) - pairs.rest.square())).clamp(min=0).sqrt()
    needed = (along + root) / square.clamp(min=1e-3)
    return xyz.new_zeros(len(xyz)).scatter_reduce_(0, pairs.row, needed, "amax")


def is_free(xyz: torch.Tensor, radii: torch.Tensor, molecule: torch.Tensor, around: Surroundings) -> torch.Tensor:
    """Return whether no atom is closer to one of another molecule than the sum of the radii, [n]."""
    clear = torch.ones_like(xyz[:, 0, 0], dtype=torch.bool)
    clear[_close(xyz, radii, *_with_own(molecule, around), 0.0)[0]] = False
    return clear


def _with_own(molecule: torch.Tensor, around: Surroundings) -> tuple[torch.Tensor, Surroundings]:
    """Add the motions within a row if a row has several molecules; else drop their numbers, which are not needed."""
    return (molecule, around.with_own()) if molecule.any() else (molecule[:, :0], around)


def _watched_pairs(
    xyz: torch.Tensor, radii: torch.Tensor, molecule: torch.Tensor, around: Surroundings
) -> tuple[_Pairs, int]:
    """Find all pairs of atoms and images that are closer than the sum of their radii and a margin.

    Return also the largest number of molecules in a row; the pairs count each of them as a row.
    """
    parts = torch.where(radii >= 0, 1, 0).sum(1).argsort().split(_LIKE)
    molecule, around = _with_own(molecule, around)
    found = []
    for rows in parts:  # of similar size
        used = int((radii[rows] >= 0).nonzero()[:, 1].max()) + 1
        row, *pair = _close(xyz[rows, :used], radii[rows, :used], molecule[rows, :used], around.take(rows), _MARGIN)
        found.append((rows[row], *pair))
    row, motion, first, second = (torch.cat(column) for column in zip(*found))
    rest = radii[row, first] + radii[row, second]
    turn, shift = around.rotations[row, :, motion], around.shifts[row, :, motion]
    body, other, n_molecules = row, row, 1
    if molecule.numel():
        n_molecules = int(molecule.max()) + 1
        body, other = (row * n_molecules + molecule[row, atom] for atom in (first, second))
    atoms = xyz.shape[1]
    return _Pairs(body, body * atoms + first, other * atoms + second, turn, shift, rest), n_molecules


def _close(
    xyz: torch.Tensor, radii: torch.Tensor, molecule: torch.Tensor, around: Surroundings, margin: float
) -> tuple[torch.Tensor, ...]:
    """Return row, motion, atom and moved atom of all pairs closer than the sum of their radii and `margin`.

    With numbers of molecules, pairs within one, or its part on a special position, are left out.
    """
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
    motion, second = motion[row, image], second[row, image]
    if molecule.numel():
        number, own = molecule[row, first], motion - (around.shifts.shape[2] - around.n_copies)
        is_within = (number == molecule[row, second]) & ((own == 0) | ((own > 0) & (number == 0)))
        row, motion, first, second = (column[~is_within] for column in (row, motion, first, second))
    return row, motion, first, second


def rotation(vectors: torch.Tensor) -> torch.Tensor:
    """Return rotation matrices [..., 3, 3] about vectors [..., 3] by their lengths in radians (Rodrigues)."""
    angle = vectors.norm(dim=-1, keepdim=True).clamp(min=1e-6)
    x, y, z = (vectors / angle).unbind(-1)
    zero = torch.zeros_like(x)
    cross = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], -1).unflatten(-1, (3, 3))
    identity = torch.eye(3, dtype=vectors.dtype, device=vectors.device)
    angle = angle[..., None]
    return identity + angle.sin() * cross + (1 - angle.cos()) * (cross @ cross)
