"""Molecules grown inside their crystal: fragments replace hydrogens wherever there is room."""

from dataclasses import dataclass, fields
from typing import NamedTuple

import torch
from torch.nn.functional import normalize

from rephase.random_crystals.contacts import REACH, Surroundings, is_clear, others, overlaps, side_by_side, tested
from rephase.random_crystals.fragments import Library
from rephase.random_crystals.sites import SAME_PLACE

SLACK = 0.5  # Å by which atoms of two molecules may be closer than the sum of their radii, before they are settled
_INTRAMOLECULAR = 0.74  # smallest distance of atoms four or more bonds apart, relative to the sum of their radii
_TRIALS = 16  # fragments, in random orientations, tried on one hydrogen in a step
_PREFERRED = (4, _TRIALS - 4)  # trials whose atoms beyond the first are tested together
_PROBED = 3  # open hydrogens of a molecule examined in a step
_PROBE, _PROBE_RADIUS = 1.45, 1.5  # Å, slightly less than the first atom of any fragment needs
_BESIDE = 2.0  # Å, atoms closer than this are bonded
_SMALL = 5  # size in atoms of the fragments that must fit on a hydrogen for it to stay open
_EVEN = 2.0  # weight of chance, in atoms, in the choice among the fragments that fit, of which large ones are preferred
_EARLY, _SELDOM = 2, 4  # larger fragments are tried in the first steps, then in every fourth
_GOING_ON = 0.1  # fraction of a batch below which the rest is abandoned, because small batches are slow


@dataclass
class Molecules:
    """Growing molecules, positions in Å relative to the centre; the last column of each table takes discarded values.

    For the atoms, [n, most]: ``numbers`` (0: no atom), ``xyz``, ``radii`` (negative: no atom), ``carriers`` of
    hydrogens (-1 for other atoms), ``is_open`` for hydrogens that may still be replaced. For the molecules, [n]:
    number of ``used`` columns, ``count`` of non-hydrogen atoms.

    Several molecules may share a row: ``molecule`` [n, most] numbers them for each atom, from 0; it has no columns if
    each row has one molecule in a general position. On special positions only one of each two equivalent atoms is
    listed, ``count`` is for both, and the molecule 0 is the one on the symmetry element.
    """

    numbers: torch.Tensor
    xyz: torch.Tensor
    radii: torch.Tensor
    carriers: torch.Tensor
    is_open: torch.Tensor
    molecule: torch.Tensor
    used: torch.Tensor
    count: torch.Tensor

    @property
    def are_numbered(self) -> bool:
        """Whether atoms of the same row, or their equivalents, may belong to different molecules."""
        return self.molecule.shape[1] > 0

    def take(self, rows: torch.Tensor) -> "Molecules":
        """Return the molecules at `rows`."""
        return Molecules(*(getattr(self, field.name)[rows] for field in fields(self)))

    def put(self, rows: torch.Tensor, others: "Molecules") -> None:
        """Write other molecules at `rows`."""
        for field in fields(self):
            getattr(self, field.name)[rows] = getattr(others, field.name)


def grow(
    molecules: Molecules, around: Surroundings, room: torch.Tensor, library: Library, generator: torch.Generator
) -> None:
    """Grow molecules until they have `room` [n] non-hydrogen atoms, or nothing more fits."""
    is_small = (library.radii >= 0).sum(1) <= _SMALL
    large, small = library.part(~is_small), library.part(is_small)
    active = torch.arange(len(room), device=room.device)
    growing, place, wanted = molecules.take(active), around, room
    step = 0
    while len(active) > _GOING_ON * len(room):
        tries_large = step < _EARLY or step % _SELDOM == 0
        _grow_once(growing, place, wanted, [large, small] if tries_large else [small], generator)
        going = (growing.count + around.n_copies <= wanted) & growing.is_open.any(1)
        if int(going.sum()) < 0.85 * len(active):
            molecules.put(active, growing)
            active, wanted = active[going], wanted[going]
            growing, place = growing.take(going), place.take(going)
        step += 1
    molecules.put(active, growing)


def pick(weights: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Draw an index [...] from weights [..., n]."""
    total = weights.cumsum(-1)
    drawn = torch.rand(total.shape[:-1], generator=generator, device=total.device, dtype=total.dtype)
    return (total <= (drawn * total[..., -1])[..., None]).sum(-1).clamp(max=weights.shape[-1] - 1)


def frames(directions: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Return rotations [..., 3, 3] from z to unit `directions` [..., 3], with a random angle about these."""
    any_way = torch.randn(directions.shape, generator=generator, device=directions.device, dtype=directions.dtype)
    across = torch.linalg.cross(any_way, directions)
    across = across / across.norm(dim=-1, keepdim=True)
    return torch.stack([across, torch.linalg.cross(directions, across), directions], -1)


def _grow_once(
    molecules: Molecules, around: Surroundings, room: torch.Tensor, parts: list[Library], generator: torch.Generator
) -> None:
    """Try the fragments of each part in turn on one hydrogen of each molecule; it is closed if none fits."""
    rows, lost = _open_hydrogens(molecules, around, generator)
    wanting = (room >= molecules.count + around.n_copies)[rows]
    rows, lost = rows[wanting], lost[wanting]
    if not len(rows):
        return
    site = _sites(molecules, around, rows, lost, parts)
    for library in parts:
        found = _replace(molecules, around, room, site, library, generator)
        site = _Sites(*(column[~found] for column in site))
    molecules.is_open[site.row, site.lost] = False


def _replace(
    molecules: Molecules,
    around: Surroundings,
    room: torch.Tensor,
    site: "_Sites",
    library: Library,
    generator: torch.Generator,
) -> torch.Tensor:
    """Replace hydrogens by fragments, each in several random orientations; return where one fits, [n_sites]."""
    rows, foot, number = site.row, site.foot, molecules.numbers[site.row, site.parent]
    largest = (room - molecules.count)[rows, None] // around.n_copies
    allowed = library.weights[(number != 6).long()] * (library.sizes <= largest)
    chosen = pick(allowed[:, None].expand(-1, _TRIALS, -1), generator)
    length = library.bond_lengths[number[:, None], library.numbers[chosen, 0]][..., None]
    turn = frames(site.direction[:, None].expand(*chosen.shape, 3), generator)
    new = library.xyz[chosen] @ turn.mT + (foot[:, None] + length * site.direction[:, None])[:, :, None]
    radii = library.radii[chosen]
    fits = ((new.norm(dim=-1) < around.radius[rows, None, None]) | (radii < 0)).all(2)
    fits &= is_clear(tested(new[:, :, 0].mT, radii[:, :, 0]), site.before_first)
    fits &= allowed.any(1)[:, None]
    lot = torch.rand(fits.shape, generator=generator, device=fits.device, dtype=new.dtype)
    found, best = _best_trial(torch.where(fits, library.sizes[chosen] + _EVEN * lot, -1), new, radii, site.before_rest)
    new, chosen, radii, at = new[found, best], chosen[found, best], radii[found, best], rows[found]
    place = around.take(at)
    clear = is_clear_of_own_images(place, new, radii)
    if around.n_copies > 1:
        clear &= is_clear_of_copies(place, new, radii, molecules.molecule[at, site.lost[found]], foot[found])
    found = found[clear]
    _add(molecules, at[clear], site.lost[found], library, chosen[clear], new[clear], around.n_copies)
    return torch.zeros_like(rows, dtype=torch.bool).index_fill_(0, found, True)


def _best_trial(
    preference: torch.Tensor, xyz: torch.Tensor, radii: torch.Tensor, before_rest: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Find the preferred fragment among those whose other atoms touch nothing either; preference < 0: it does not fit.

    Returns the sites that have one, and its trial, [n_found]. The few most preferred are tried first.
    """
    preference, order = preference.sort(dim=1, descending=True)
    best = torch.full_like(order[:, 0], -1)
    pending = (preference[:, 0] >= 0).nonzero()[:, 0]
    for fits, trials in zip((preference >= 0).split(_PREFERRED, dim=1), order.split(_PREFERRED, dim=1)):
        pending = pending[fits[pending].any(1)]
        trial, at = trials[pending], pending[:, None]
        rest = tested(xyz[at, trial, 1:].flatten(1, 2).mT, radii[at, trial, 1:].flatten(1))
        clear = fits[pending] & is_clear(rest, before_rest[pending]).view(*trial.shape, xyz.shape[2] - 1).all(2)
        hit = clear.any(1)
        best[pending[hit]] = trial[hit, clear[hit].long().argmax(1)]
        pending = pending[~hit]
    found = (best >= 0).nonzero()[:, 0]
    return found, best[found]


class _Sites(NamedTuple):
    """Hydrogens that may be replaced, [n_sites], and the atoms near them.

    ``row`` of the molecule, ``lost`` hydrogen and its ``parent`` in the molecule; ``foot``, the position of the parent,
    and the ``direction`` of the bond [n_sites, 3]. The atoms that the first atom of a fragment, and those that its
    other atoms, must not touch are tables of `others`.
    """

    row: torch.Tensor
    lost: torch.Tensor
    parent: torch.Tensor
    foot: torch.Tensor
    direction: torch.Tensor
    before_first: torch.Tensor
    before_rest: torch.Tensor


def _sites(
    molecules: Molecules, around: Surroundings, row: torch.Tensor, lost: torch.Tensor, parts: list[Library]
) -> _Sites:
    parent = molecules.carriers[row, lost]
    foot = molecules.xyz[row, parent]
    direction = normalize(molecules.xyz[row, lost] - foot, dim=-1)
    middle = max(library.middle for library in parts)
    reach = max(library.reach(middle) for library in parts)
    point = foot + (_PROBE + middle) * direction
    here = molecules.take(row)
    others_near = nearby(here, around, row, point, reach)
    own = _own_nearby(here, around.site[row], point, reach, lost, parent)
    first, rest = (torch.cat([table, others_near], 1).mT for table in own)
    return _Sites(row, lost, parent, foot, direction, first, rest)


def _open_hydrogens(
    molecules: Molecules, around: Surroundings, generator: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """Probe a few random open hydrogens of each molecule, and close those without room.

    Returns the molecules that have one with room, and the first such hydrogen of each, [n_found].
    """
    used = int(molecules.used.max())
    is_open, xyz = molecules.is_open[:, :used], molecules.xyz
    lot = torch.rand(is_open.shape, generator=generator, device=xyz.device, dtype=xyz.dtype)
    lot, lost = (lot * is_open).topk(min(_PROBED, used), dim=1)
    rows = torch.arange(len(lost), device=lost.device)[:, None]
    foot = xyz[rows, molecules.carriers[rows, lost].clamp(min=0)]
    probe = foot + _PROBE * normalize(xyz[rows, lost] - foot, dim=-1)
    clear = (lot > 0) & _has_room(molecules, around, lost, foot, probe)
    molecules.is_open[rows, lost] = clear
    row = clear.any(1).nonzero()[:, 0]
    return row, lost[row, clear[row].long().argmax(1)]


def _has_room(
    molecules: Molecules, around: Surroundings, lost: torch.Tensor, foot: torch.Tensor, probe: torch.Tensor
) -> torch.Tensor:
    """Return whether a small atom at each probe [n, p, 3], bonded to an atom at `foot`, touches no other: [n, p].

    It takes the place of the hydrogens `lost` [n, p].
    """
    used = int(molecules.used.max())
    size = probe.new_full((1, 1), _PROBE_RADIUS)
    own, radii, molecule = own_atoms(molecules, around.site)
    apart = tested(probe.mT, size) @ others(own.mT, _INTRAMOLECULAR * radii, _INTRAMOLECULAR)
    free = (apart >= 0) | (torch.cdist(foot, own) < _BESIDE)
    if molecules.are_numbered:
        is_same = molecule[:, None] == molecules.molecule.gather(1, lost)[..., None]
        between = tested(probe.mT, size) @ others(own.mT, radii - SLACK)
        free = torch.where(is_same, free, between >= 0)
    clear = free.all(2)
    xyz, radii = molecules.xyz[:, :used], molecules.radii[:, :used]
    reach = (xyz.norm(dim=-1) + radii).amax(1) + _PROBE_RADIUS - SLACK
    rows = torch.arange(len(probe), device=probe.device)
    row, _, point, images = around.near_centre(rows, probe, reach)
    images, column = side_by_side(row, len(probe), images)
    is_blocked = ~is_clear(tested(images.mT, size), others(xyz.mT, radii - SLACK))[row, column]
    clear[row[is_blocked], point[is_blocked]] = False
    return clear


def nearby(
    molecules: Molecules, around: Surroundings, rows: torch.Tensor, point: torch.Tensor, reach: float
) -> torch.Tensor:
    """Find the atoms of other molecules that may touch atoms within `reach` Å of a point [n, 3], as `others`.

    The surroundings of the molecules [n] are at `rows` [n].
    An atom has an image near the point if the point has an image, by the inverse motion, near the atom.
    """
    used = int(molecules.used.max())
    xyz, radii = molecules.xyz[:, :used], molecules.radii[:, :used]
    beyond = (xyz.norm(dim=-1) + radii).amax(1) + reach
    row, motion, _, images = around.near_centre(rows, point[:, None], beyond)
    motion, _ = side_by_side(row, len(point), motion, 0)
    images, _ = side_by_side(row, len(point), images)
    seven = tested(images.mT, images.new_full((1, images.shape[1]), reach))
    row, image, atom = overlaps(seven, others(xyz.mT, radii))
    back = around.moved_back(rows[row], motion[row, image], xyz[row, atom])
    seven = others(back.T[None], (radii[row, atom] - SLACK)[None])[0].T
    return side_by_side(row, len(point), seven)[0]


def own_atoms(molecules: Molecules, site: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return positions [n, atoms, 3], radii and numbers of the molecules, with the equivalent atoms by a `site`.

    The radius of an atom that is its own equivalent is negative in the second place. The equivalents of the molecule 0
    belong to it, those of another molecule k to the molecule -k.
    """
    used = int(molecules.used.max())
    xyz, radii, molecule = molecules.xyz[:, :used], molecules.radii[:, :used], molecules.molecule[:, :used]
    for turn in site.unbind(1):
        copies = xyz @ turn.mT
        is_single = (copies - xyz).norm(dim=-1) < SAME_PLACE
        radii = torch.cat([radii, torch.where(is_single, -1.0, radii)], 1)
        xyz, molecule = torch.cat([xyz, copies], 1), torch.cat([molecule, -molecule], 1)
    return xyz, radii, molecule


def _own_nearby(
    molecules: Molecules,
    site: torch.Tensor,
    point: torch.Tensor,
    reach: float,
    lost: torch.Tensor,
    parent: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Find the atoms of each row near a point [n, 3], as two tables of `others`: not beside the parent, and all.

    Parent and lost hydrogen are in neither. An atom beside the parent is bonded to it, and so it is next to every other
    atom bonded to the parent.
    """
    rows = torch.arange(len(lost), device=lost.device)
    xyz, radii, molecule = own_atoms(molecules, site)
    share: float | torch.Tensor = _INTRAMOLECULAR
    if molecules.are_numbered:
        is_same = molecule == molecules.molecule[rows, parent][:, None]
        radii = torch.where(is_same, _INTRAMOLECULAR * radii, radii - SLACK)
    else:
        radii = _INTRAMOLECULAR * radii
    is_near = ((xyz - point[:, None]).norm(dim=-1) < reach + radii) & (radii >= 0)
    is_near[rows, lost] = is_near[rows, parent] = False
    row, atom = is_near.nonzero().unbind(1)
    near, radii = xyz[row, atom], radii[row, atom]
    is_beside = (near - xyz[row, parent[row]]).norm(dim=-1) < _BESIDE
    if molecules.are_numbered:
        is_beside &= is_same[row, atom]
        share = torch.where(is_same[row, atom], _INTRAMOLECULAR, 1.0).to(near)
    seven = (others(near.T[None], r[None], share)[0].T for r in (torch.where(is_beside, -1.0, radii), radii))
    first, rest = (side_by_side(row, len(lost), columns)[0] for columns in seven)
    return first, rest


def is_clear_of_own_images(around: Surroundings, xyz: torch.Tensor, radii: torch.Tensor) -> torch.Tensor:
    """Return whether atoms [n, p, 3] are clear of their own images: [n]."""
    radii = radii - SLACK / 2
    extent = torch.where(radii < 0, 0.0, (xyz - xyz[:, :1]).norm(dim=-1)).amax(1, keepdim=True)
    row, motion, *_ = around.near(xyz[:, :1], xyz[:, 0], 2 * extent + REACH - SLACK)
    images = around.rotations[row, :, motion] @ xyz.mT[row] + around.shifts[row, :, motion][..., None]
    is_blocked = ~is_clear(tested(images, radii[row]), others(xyz.mT, radii)[row]).all(1)
    clear = torch.ones_like(xyz[:, 0, 0], dtype=torch.bool)
    clear[row[is_blocked]] = False
    return clear


def is_clear_of_copies(
    around: Surroundings, xyz: torch.Tensor, radii: torch.Tensor, molecule: torch.Tensor, foot: torch.Tensor
) -> torch.Tensor:
    """Return whether atoms [n, p, 3] are clear of the equivalent ones by the special position: [n].

    They belong to the molecules `molecule` [n]. The first is bonded to an atom at `foot` [n, 3]; if this is on the
    symmetry element, the first atom and its equivalent are bonded to the same atom.
    """
    turn = around.site[:, 0]
    is_same = (molecule == 0)[:, None]
    radii_then = torch.where(is_same, _INTRAMOLECULAR * radii, radii - SLACK)
    share = torch.where(is_same, _INTRAMOLECULAR, 1.0).to(radii).expand_as(radii)
    apart = tested(xyz.mT, radii) @ others((xyz @ turn.mT).mT, radii_then, share)
    shares_foot = ((turn @ foot[..., None])[..., 0] - foot).norm(dim=-1) < SAME_PLACE
    apart[shares_foot, 0, 0] = 0.0
    return (apart >= 0).all(2).all(1)


def _add(
    molecules: Molecules,
    rows: torch.Tensor,
    lost: torch.Tensor,
    library: Library,
    chosen: torch.Tensor,
    xyz: torch.Tensor,
    n_copies: int,
) -> None:
    """Add a fragment [k, new, 3] to each of the molecules at `rows` [k]; its padding goes to the last column."""
    last = molecules.numbers.shape[1] - 1
    numbers, carriers = library.numbers[chosen], library.carriers[chosen]
    later = molecules.used[rows, None] + torch.arange(-1, numbers.shape[1] - 1, device=lost.device)
    later[:, 0] = lost  # the first atom takes the place of the lost hydrogen
    slots = torch.where(numbers > 0, later, last)
    at = rows[:, None]
    molecules.numbers[at, slots], molecules.xyz[at, slots] = numbers, xyz
    molecules.radii[at, slots] = library.radii[chosen]
    on = torch.where(carriers >= 0, later.gather(1, carriers.clamp(min=0)), -1)
    molecules.carriers[at, slots], molecules.is_open[at, slots] = on, on >= 0
    molecules.numbers[:, last], molecules.radii[:, last], molecules.carriers[:, last] = 0, -1.0, -1
    molecules.is_open[:, last] = False
    if molecules.are_numbered:
        molecules.molecule[at, slots] = molecules.molecule[rows, lost][:, None]
    molecules.used[rows] += (numbers > 0).sum(1) - 1
    molecules.count[rows] += n_copies * library.sizes[chosen]
