"""Molecules grown inside their crystal: a hydrogen gives way to a fragment wherever nothing is in the way.

Two atoms are clear of each other when ``d^2 - (r_i + r_j)^2 >= 0``. That is a product of two vectors of six numbers, one
of each atom, so a matrix product tests all pairs.
"""

from dataclasses import dataclass, fields
from typing import NamedTuple

import torch

from rephase.crystal.fragments import MOST_HEAVY, MOST_HYDROGEN, POLAR_HYDROGEN_RADIUS, Library

_SLACK = 0.9  # Å by which atoms of two molecules may be closer than the sum of their radii, before they are relaxed
_TRIALS = 6  # poses tried at once in a step
INTRAMOLECULAR = 0.74  # share of the sum of the radii that atoms four and more bonds apart keep
_BESIDE, _ITSELF = 2.0, 0.5  # Å from the parent atom: it and what is bonded to it; it alone
_REACH = 2 * 1.85  # Å, the largest sum of two radii
_FAR = 1e6
_GOING_ON = 0.1  # share of a batch below which the rest is given up: it would be slow for its size
PRODUCTS_AT_ONCE = 1 << 18  # keeps the working set near the cache of a CPU


class Surroundings(NamedTuple):
    """Where the images of a molecule lie.

    ``lattice`` [n, 3, 3] and ``centre`` [n, 3], Å; ``rotations`` [n, n_images, 3, 3] and ``shifts`` [n, n_images, 3]:
    the motions, about the centre, to every image within reach; ``radius`` [n]: of the sphere that the molecule keeps to.
    """

    lattice: torch.Tensor
    centre: torch.Tensor
    rotations: torch.Tensor
    shifts: torch.Tensor
    radius: torch.Tensor

    def take(self, rows: torch.Tensor) -> "Surroundings":
        """Those at `rows`."""
        return Surroundings(*(column[rows] for column in self))


@dataclass
class Molecules:
    """Molecules that grow, positions in Å about the centre; the last column of each table takes what is dropped.

    ``numbers`` [n, most + 1] and ``xyz`` of the atoms but hydrogen, ``count`` [n] of them; ``carriers`` (-1: none),
    ``hydrogens`` and ``h_count`` of the hydrogens; ``images`` [n, n_points, 6] and ``i_count`` of the atoms of other
    molecules; ``failures`` [n]: steps without success.
    """

    numbers: torch.Tensor
    xyz: torch.Tensor
    carriers: torch.Tensor
    hydrogens: torch.Tensor
    images: torch.Tensor
    count: torch.Tensor
    h_count: torch.Tensor
    i_count: torch.Tensor
    failures: torch.Tensor
    fragment: torch.Tensor
    h_fragment: torch.Tensor
    ancestors: torch.Tensor
    axes: torch.Tensor
    f_count: torch.Tensor

    def take(self, rows: torch.Tensor) -> "Molecules":
        """The molecules at `rows`."""
        return Molecules(*(getattr(self, field.name)[rows] for field in fields(self)))


def surroundings(lattice, rotations, translations, is_there, radius, centre_frac) -> Surroundings:
    """Find the images that come within reach of a molecule in a sphere.

    Parameters
    ----------
    lattice
        [n, 3, 3], cell vectors as columns, Å.
    rotations, translations
        [n, n_ops, 3, 3] and [n, n_ops, 3], the identity first.
    is_there
        [n, n_ops], False for those that only fill the table.
    radius
        [n], Å.
    centre_frac
        [n, 3].
    """
    inverse = torch.linalg.inv(lattice)
    moved = rotations @ centre_frac[:, None, :, None]
    offset = moved[..., 0] + translations - centre_frac[:, None]
    offset = offset - offset.round()
    reach = 2 * radius + _REACH
    most = (reach[:, None] * inverse.norm(dim=2) + 0.5).floor().amax(0).int().tolist()
    steps = torch.cartesian_prod(*(torch.arange(-m, m + 1, device=lattice.device) for m in most)).to(lattice)
    shifts = ((offset[:, :, None] + steps) @ lattice.mT[:, None]).flatten(1, 2)
    distance = shifts.norm(dim=-1)
    distance[:, (steps == 0).all(1).nonzero()[0]] = torch.inf  # the molecule itself: the identity is first
    distance = torch.where(is_there[:, :, None].expand(-1, -1, len(steps)).flatten(1), distance, torch.inf)
    kept = int((distance < reach[:, None]).sum(1).max())
    nearest, chosen = distance.topk(kept, dim=1, largest=False)
    rows = torch.arange(len(lattice), device=lattice.device)[:, None]
    shifts = torch.where((nearest < reach[:, None])[..., None], shifts[rows, chosen], _FAR**0.5)
    cartesian = lattice[:, None] @ rotations @ inverse[:, None]
    centre = (lattice @ centre_frac[..., None])[..., 0]
    return Surroundings(lattice, centre, cartesian[rows, chosen // len(steps)], shifts, radius)


def grow(around: Surroundings, room: torch.Tensor, library: Library, generator: torch.Generator, *, patience: int):
    """Grow a molecule in each cell until it has `room` [n] atoms, or nothing has fitted for `patience` steps."""
    n, most = len(room), max(MOST_HEAVY, int(room.max()))
    active = torch.arange(n, device=room.device)
    growing, place, wanted = _planted(_empty(n, most, around), around, room, library, generator), around, room
    done = growing.take(active)
    while len(active) > _GOING_ON * n:
        _grow_once(growing, place, wanted, library, generator)
        going = (growing.count < wanted) & (growing.failures < patience)
        if going.sum() < 0.7 * len(active) or not going.any():
            for field in fields(done):
                getattr(done, field.name)[active] = getattr(growing, field.name)
            active, wanted = active[going], wanted[going]
            growing, place = growing.take(going), place.take(going)
    return done


def _empty(n: int, most: int, around: Surroundings) -> Molecules:
    like = around.lattice
    ints = {"dtype": torch.long, "device": like.device}
    n_points = int(0.75 * float((around.radius.max() + _REACH) ** 3)) + 100
    images = like.new_zeros(n, n_points, 6)
    images[..., 4] = _FAR
    return Molecules(
        torch.zeros(n, most + 1, **ints), like.new_zeros(n, most + 1, 3), torch.full((n, 2 * most + 5), -1, **ints),
        like.new_zeros(n, 2 * most + 5, 3), images, *(torch.zeros(n, **ints) for _ in range(4)),
        torch.zeros(n, most + 1, **ints), torch.zeros(n, 2 * most + 5, **ints), like.new_zeros(n, most + 1, most + 1),
        torch.zeros(n, most + 1, 2, **ints), torch.ones(n, **ints),
    )  # fmt: skip


def pick(weights: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Index [...] drawn from weights [..., n]."""
    total = weights.cumsum(-1)
    drawn = torch.rand(total.shape[:-1], generator=generator, device=total.device, dtype=total.dtype)
    return (total <= (drawn * total[..., -1])[..., None]).sum(-1).clamp(max=weights.shape[-1] - 1)


def _normal(shape: torch.Size, generator: torch.Generator, like: torch.Tensor) -> torch.Tensor:
    return torch.randn(shape, generator=generator, device=like.device, dtype=like.dtype)


def _frame(directions: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Rotations [..., 3, 3] that turn z to unit `directions` [..., 3], by a random angle about them."""
    across = torch.linalg.cross(_normal(directions.shape, generator, directions), directions)
    across = across / across.norm(dim=-1, keepdim=True)
    return torch.stack([across, torch.linalg.cross(directions, across), directions], -1)


def radii_of(numbers, carriers, library: Library) -> torch.Tensor:
    """Radii of atoms [..., i] and of hydrogens on them [..., j]; negative where there is none: [..., i + j]."""
    on = numbers.gather(-1, carriers.clamp(min=0))
    of_hydrogen = torch.where((on == 7) | (on == 8), POLAR_HYDROGEN_RADIUS, library.radii[1])
    return torch.cat([
        torch.where(numbers > 0, library.radii[numbers], -1.0), torch.where(carriers >= 0, of_hydrogen, -1.0)
    ], -1)  # fmt: skip


def left(xyz: torch.Tensor, radii: torch.Tensor) -> torch.Tensor:
    """The six numbers of an atom that is tested: its product with `right` is d^2 - (r_i + r_j)^2."""
    lifted = (xyz * xyz).sum(-1) - radii * radii
    lifted = torch.where(radii < 0, _FAR, lifted)
    return torch.cat([xyz, torch.stack([lifted, torch.ones_like(radii), radii.clamp(min=0)], -1)], -1)


def right(xyz: torch.Tensor, radii: torch.Tensor) -> torch.Tensor:
    """The six numbers of an atom that others are tested against."""
    lifted = (xyz * xyz).sum(-1) - radii * radii
    lifted = torch.where(radii < 0, _FAR, lifted)
    return torch.cat([-2 * xyz, torch.stack([torch.ones_like(radii), lifted, -2 * radii.clamp(min=0)], -1)], -1)


def nearest(tested: torch.Tensor, others: torch.Tensor) -> torch.Tensor:
    """Smallest product of each tested atom [n, p, 6] with others [n, q, 6], a few molecules at a time: [n, p]."""
    step = max(1, PRODUCTS_AT_ONCE // (tested.shape[1] * others.shape[1]))
    return torch.cat([(a @ b.mT).amin(2) for a, b in zip(tested.split(step), others.split(step))])


def _planted(molecules, around, room, library, generator) -> Molecules:
    """A first fragment, the hydrogen that others lose kept, in a random pose about the centre."""
    rows = torch.arange(len(room), device=room.device)
    is_seed = (library.sizes <= room[:, None]) & ((library.carriers >= 0).sum(1) > 1)
    chosen = pick(library.weights[0] * is_seed, generator)
    up = _normal((len(room), 3), generator, around.lattice)
    turn = _frame(up / up.norm(dim=-1, keepdim=True), generator)
    numbers, carriers = library.numbers[chosen], library.carriers[chosen]
    xyz, hydrogens = library.xyz[chosen] @ turn.mT, library.hydrogens[chosen] @ turn.mT
    molecules.xyz[:, :MOST_HEAVY], molecules.numbers[:, :MOST_HEAVY] = xyz, numbers
    molecules.hydrogens[:, :MOST_HYDROGEN], molecules.carriers[:, :MOST_HYDROGEN] = hydrogens, carriers
    molecules.count, molecules.h_count = library.sizes[chosen].clone(), (carriers >= 0).sum(1)
    molecules.ancestors[:, 0, 0] = 1
    clear = _add_images(molecules, around, torch.cat([xyz, hydrogens], 1), radii_of(numbers, carriers, library),
                        torch.ones_like(rows, dtype=torch.bool))  # fmt: skip
    molecules.failures = torch.where(clear, 0, 1 << 20)
    return molecules


def _grow_once(molecules: Molecules, around: Surroundings, room, library: Library, generator) -> None:
    """Try random fragments at random hydrogens of each molecule, and add the first that fits."""
    rows = torch.arange(len(room), device=room.device)[:, None]
    is_there = molecules.carriers[:, : int(molecules.h_count.max())] >= 0
    lost = pick(is_there[:, None].expand(-1, _TRIALS, -1).to(around.lattice.dtype), generator)
    parent = molecules.carriers[rows, lost].clamp(min=0)
    parent_xyz, parent_number = molecules.xyz[rows, parent], molecules.numbers[rows, parent]
    allowed = library.weights[(parent_number != 6).long()] * (library.sizes <= (room - molecules.count)[:, None, None])
    chosen = pick(allowed, generator)
    direction = molecules.hydrogens[rows, lost] - parent_xyz
    direction = direction / direction.norm(dim=-1, keepdim=True).clamp(min=1e-6)
    length = library.bond_lengths[parent_number, library.numbers[chosen, 0]]
    turn, origin = _frame(direction, generator), (parent_xyz + length[..., None] * direction)[:, :, None]
    xyz = torch.cat([library.xyz[chosen], library.hydrogens[chosen][:, :, 1:]], 2) @ turn.mT + origin
    numbers, carriers = library.numbers[chosen], library.carriers[chosen][:, :, 1:]
    radii = radii_of(numbers, carriers, library)
    fits = (allowed.sum(-1) > 0) & is_there.any(1, keepdim=True)
    fits &= molecules.h_count[:, None] + MOST_HYDROGEN < molecules.carriers.shape[1]
    fits &= ((xyz.norm(dim=-1) < around.radius[:, None, None]) | (radii < 0)).all(2)
    fits &= _is_clear(molecules, library, xyz, radii, lost, parent_xyz)
    first = fits.long().argmax(1)
    take = lambda t: t[rows[:, 0], first]  # noqa: E731
    accepted = _add_images(molecules, around, take(xyz), take(radii), take(fits))
    _add_atoms(molecules, accepted, take(parent), take(lost), take(numbers), take(carriers), take(xyz))
    molecules.failures = torch.where(accepted, 0, molecules.failures + 1)


def _is_clear(molecules: Molecules, library: Library, xyz, radii, lost, parent_xyz) -> torch.Tensor:
    """Whether trial fragments [n, trials, new, 3] are clear of the molecule and of its images: [n, trials]."""
    n, trials, new, _ = xyz.shape
    flat, flat_radii = xyz.flatten(1, 2), radii.flatten(1)
    images = molecules.images[:, : max(1, int(molecules.i_count.max()))]
    clear = nearest(left(flat, flat_radii), images).view(n, trials, new) >= 0
    used, h_used = int(molecules.count.max()), int(molecules.h_count.max())
    own = torch.cat([molecules.xyz[:, :used], molecules.hydrogens[:, :h_used]], 1)
    own_radii = INTRAMOLECULAR * radii_of(molecules.numbers[:, :used], molecules.carriers[:, :h_used], library)
    margin = left(flat, INTRAMOLECULAR * flat_radii) @ right(own, own_radii).mT
    bonded = torch.full((new, 1), _ITSELF, device=xyz.device, dtype=xyz.dtype)
    bonded[0] = _BESIDE
    is_bonded = torch.cdist(parent_xyz, own)[:, :, None] < bonded
    is_lost = torch.arange(-used, h_used, device=xyz.device) == lost[..., None]
    clear_of_own = (margin.view(n, trials, new, -1) >= 0) | is_bonded | is_lost[:, :, None]
    return clear.all(2) & clear_of_own.flatten(2).all(2)


def _add_images(molecules: Molecules, around: Surroundings, xyz, radii, wanted) -> torch.Tensor:
    """Add the images of new atoms [n, new, 3] where `wanted` and where they are clear of the new atoms themselves."""
    rows = wanted.nonzero()[:, 0]
    if not len(rows):
        return wanted
    xyz, motions = xyz[rows], around.shifts.shape[1]
    images = (xyz[:, None] @ around.rotations[rows].mT + around.shifts[rows][:, :, None]).flatten(1, 2)
    there = radii[rows] >= 0
    image_radii = torch.where(there, radii[rows] - _SLACK, -1.0)[:, None].expand(-1, motions, -1).flatten(1)
    points = right(images, image_radii)
    clear = (nearest(left(xyz, radii[rows]), points) >= 0).all(1)
    kept = images.square().sum(-1) < (around.radius[rows, None] + _REACH).square()
    kept &= there[:, None].expand(-1, motions, -1).flatten(1) & clear[:, None]
    row, source = kept.nonzero().unbind(1)
    slots = molecules.i_count[rows][row] + (kept.cumsum(1) - 1)[row, source]
    last = molecules.images.shape[1] - 1
    molecules.images[rows[row], slots.clamp(max=last)] = points[row, source]
    molecules.i_count[rows] = (molecules.i_count[rows] + kept.sum(1)).clamp(max=last)
    accepted = torch.zeros_like(wanted)
    accepted[rows] = clear & (molecules.i_count[rows] < last)
    return accepted


def _add_atoms(molecules: Molecules, accepted, parent, lost, numbers, carriers, xyz) -> None:
    """Write a fragment per molecule where it is accepted; the rest goes to the last column."""
    rows = torch.arange(len(lost), device=lost.device)[:, None]
    every, spare = rows[:, 0], molecules.axes.shape[1] - 1
    fragment = torch.where(accepted, molecules.f_count, spare)
    lineage = molecules.ancestors[every, molecules.fragment[every, parent]]
    molecules.ancestors[every, fragment] = lineage
    molecules.ancestors[every, fragment, fragment] = 1
    molecules.axes[every, fragment] = torch.stack([parent, molecules.count], -1)
    molecules.f_count = molecules.f_count + accepted
    there = accepted[:, None] & (numbers > 0)
    slots = molecules.count[:, None] + torch.arange(MOST_HEAVY, device=lost.device)
    slots = torch.where(there, slots, molecules.numbers.shape[1] - 1)
    molecules.numbers[rows, slots] = torch.where(there, numbers, 0)
    molecules.xyz[rows, slots] = xyz[:, :MOST_HEAVY]
    molecules.fragment[rows, slots] = fragment[:, None]
    dropped = molecules.carriers.shape[1] - 1
    extra = torch.arange(MOST_HYDROGEN - 1, device=lost.device) - 1
    slots = torch.where(extra < 0, lost[:, None], molecules.h_count[:, None] + extra)
    there = accepted[:, None] & ((carriers >= 0) | (extra < 0))  # the first takes the place of the lost one
    slots = torch.where(there, slots, dropped)
    molecules.carriers[rows, slots] = torch.where(carriers >= 0, carriers + molecules.count[:, None], -1)
    molecules.carriers[:, dropped] = -1
    molecules.hydrogens[rows, slots] = xyz[:, MOST_HEAVY:]
    molecules.h_fragment[rows, slots] = fragment[:, None]
    molecules.count = molecules.count + accepted * (numbers > 0).sum(1)
    molecules.h_count = molecules.h_count + accepted * ((carriers >= 0).sum(1) - 1).clamp(min=0)
