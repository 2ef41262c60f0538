"""Molecules grown inside their crystal: a hydrogen gives way to a fragment wherever nothing is in the way.

Two atoms are clear of each other when ``d^2 - (r_i + r_j)^2 >= 0``. That is a product of two vectors of six numbers,
one of each atom, so a matrix product tests all pairs.
"""

from dataclasses import dataclass, fields
from typing import NamedTuple

import torch

from rephase.crystal.fragments import MOST_HEAVY, MOST_HYDROGEN, POLAR_HYDROGEN_RADIUS, Library

INTRAMOLECULAR = 0.74  # share of the sum of the radii that atoms four and more bonds apart keep
PRODUCTS_AT_ONCE = 1 << 18  # keeps the working set near the cache of a CPU
_SLACK = 0.9  # Å by which atoms of two molecules may be closer than the sum of their radii, before they are relaxed
_TRIALS = 8  # hydrogens tried at once in a step
_BESIDE, _ITSELF = 2.0, 0.5  # Å from the parent atom: it and what is bonded to it; it alone
_REACH = 2 * 1.85  # Å, the largest sum of two radii
_FAR = 1e6
_GOING_ON = 0.1  # share of a batch below which the rest is given up: it would be slow for its size


class Surroundings(NamedTuple):
    """Where the images of molecules lie.

    ``lattice`` [n, 3, 3] and ``centre`` [n, 3], Å; ``rotations`` [n, 3, n_images, 3] and ``shifts`` [n, 3, n_images]:
    x, y and z of the motions, about the centre, to every image within reach; ``radius`` [n]: of the sphere that the
    molecule keeps to.
    """

    lattice: torch.Tensor
    centre: torch.Tensor
    rotations: torch.Tensor
    shifts: torch.Tensor
    radius: torch.Tensor

    def take(self, rows: torch.Tensor) -> "Surroundings":
        """Those at `rows`."""
        return Surroundings(*(column[rows] for column in self))

    def images(self, xyz: torch.Tensor) -> torch.Tensor:
        """All images [n, 3, n_images, p] of positions [n, p, 3]."""
        n, _, motions, _ = self.rotations.shape
        turned = self.rotations.reshape(n, 3 * motions, 3) @ xyz.mT
        return turned.view(n, 3, motions, -1) + self.shifts[..., None]


@dataclass
class Molecules:
    """Molecules that grow, positions in Å about the centre; the last column of each table takes what is dropped.

    ``numbers``, ``fragment`` [n, most + 1], ``xyz`` of the atoms but hydrogen, ``count`` [n] of them; ``carriers`` (-1:
    none), ``h_fragment``, ``hydrogens``, ``h_count`` of the hydrogens; ``images`` [n, 6, n_points], ``i_count`` of the
    atoms of other molecules; ``failures`` [n]: steps without success. Of the ``f_count`` [n] fragments: ``axes``
    [n, most + 1, 2], the atoms that join one to its parent; ``ancestors`` [n, most + 1, most + 1], itself included.
    """

    numbers: torch.Tensor
    fragment: torch.Tensor
    xyz: torch.Tensor
    count: torch.Tensor
    carriers: torch.Tensor
    h_fragment: torch.Tensor
    hydrogens: torch.Tensor
    h_count: torch.Tensor
    images: torch.Tensor
    i_count: torch.Tensor
    failures: torch.Tensor
    axes: torch.Tensor
    ancestors: torch.Tensor
    f_count: torch.Tensor

    def take(self, rows: torch.Tensor) -> "Molecules":
        """The molecules at `rows`."""
        return Molecules(*(getattr(self, field.name)[rows] for field in fields(self)))

    def put(self, rows: torch.Tensor, others: "Molecules") -> None:
        """Write others at `rows`, without their images."""
        for field in fields(self):
            if field.name != "images":
                getattr(self, field.name)[rows] = getattr(others, field.name)

    def atoms(self, library: Library) -> tuple[torch.Tensor, torch.Tensor]:
        """Positions [n, used, 3] and radii [n, used] of all atoms, hydrogens last; a negative radius: no atom."""
        used, h_used = int(self.count.max()), int(self.h_count.max())
        xyz = torch.cat([self.xyz[:, :used], self.hydrogens[:, :h_used]], 1)
        return xyz, radii_of(self.numbers[:, :used], self.carriers[:, :h_used], library)


def surroundings(
    lattice: torch.Tensor, rotations: torch.Tensor, translations: torch.Tensor, is_there: torch.Tensor,
    radius: torch.Tensor, centre_frac: torch.Tensor,
) -> Surroundings:  # fmt: skip
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
    offset = (rotations @ centre_frac[:, None, :, None])[..., 0] + translations - centre_frac[:, None]
    reach = 2 * radius + _REACH
    most = (reach[:, None] * inverse.norm(dim=2) + 0.5).floor().amax(0).int().tolist()
    steps = torch.cartesian_prod(*(torch.arange(-m, m + 1, device=lattice.device) for m in most)).to(lattice)
    shifts = (((offset - offset.round())[:, :, None] + steps) @ lattice.mT[:, None]).flatten(1, 2)
    distance = shifts.norm(dim=-1)
    is_itself = (steps == 0).all(1).nonzero()[0]  # among the images of the identity, which are the first
    distance[:, is_itself] = torch.inf
    distance = torch.where(is_there[:, :, None].expand(-1, -1, len(steps)).flatten(1), distance, torch.inf)
    closest, chosen = distance.topk(int((distance < reach[:, None]).sum(1).max()), dim=1, largest=False)
    rows = torch.arange(len(lattice), device=lattice.device)[:, None]
    shifts = torch.where((closest < reach[:, None])[..., None], shifts[rows, chosen], _FAR**0.5)
    cartesian = (lattice[:, None] @ rotations @ inverse[:, None])[rows, chosen // len(steps)]
    centre = (lattice @ centre_frac[..., None])[..., 0]
    return Surroundings(lattice, centre, cartesian.transpose(1, 2).contiguous(), shifts.mT.contiguous(), radius)


def grow(
    around: Surroundings, room: torch.Tensor, library: Library, generator: torch.Generator, *, patience: int
) -> Molecules:
    """Grow a molecule in each cell until it has `room` [n] atoms, or nothing has fitted for `patience` steps."""
    active = torch.arange(len(room), device=room.device)
    growing, place, wanted = _planted(around, room, library, generator), around, room
    done = growing.take(active)
    while len(active) > _GOING_ON * len(room):
        _grow_once(growing, place, wanted, library, generator)
        going = (growing.count < wanted) & (growing.failures < patience)
        if int(going.sum()) < 0.8 * len(active):
            done.put(active, growing)
            active, wanted = active[going], wanted[going]
            growing, place = growing.take(going), place.take(going)
    return done


def _empty(n: int, most: int, around: Surroundings) -> Molecules:
    like = around.lattice
    n_points = int(0.75 * float((around.radius.max() + _REACH) ** 3)) + 100
    zeros = lambda *shape: torch.zeros(shape, dtype=torch.long, device=like.device)  # noqa: E731
    images = like.new_zeros(n, 6, n_points)
    images[:, 4] = _FAR
    return Molecules(
        zeros(n, most + 1), zeros(n, most + 1), like.new_zeros(n, most + 1, 3), zeros(n),
        zeros(n, 2 * most + 5) - 1, zeros(n, 2 * most + 5), like.new_zeros(n, 2 * most + 5, 3), zeros(n),
        images, zeros(n), zeros(n), zeros(n, most + 1, 2), like.new_zeros(n, most + 1, most + 1), zeros(n) + 1,
    )  # fmt: skip


def pick(weights: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Index [...] drawn from weights [..., n]."""
    total = weights.cumsum(-1)
    drawn = torch.rand(total.shape[:-1], generator=generator, device=total.device, dtype=total.dtype)
    return (total <= (drawn * total[..., -1])[..., None]).sum(-1).clamp(max=weights.shape[-1] - 1)


def _frame(directions: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Rotations [n, 3, 3] that turn z to unit `directions` [n, 3], by a random angle about them."""
    any_way = torch.randn(directions.shape, generator=generator, device=directions.device, dtype=directions.dtype)
    across = torch.linalg.cross(any_way, directions)
    across = across / across.norm(dim=-1, keepdim=True)
    return torch.stack([across, torch.linalg.cross(directions, across), directions], -1)


def radii_of(numbers: torch.Tensor, carriers: torch.Tensor, library: Library) -> torch.Tensor:
    """Radii of atoms [..., i] and of hydrogens on them [..., j]; negative where there is none: [..., i + j]."""
    on = numbers.gather(-1, carriers.clamp(min=0))
    of_hydrogen = torch.where((on == 7) | (on == 8), POLAR_HYDROGEN_RADIUS, library.radii[1])
    heavy = torch.where(numbers > 0, library.radii[numbers], -1.0)
    return torch.cat([heavy, torch.where(carriers >= 0, of_hydrogen, -1.0)], -1)


def left(xyz: torch.Tensor, radii: torch.Tensor) -> torch.Tensor:
    """The six numbers [..., p, 6] of atoms that are tested: times those of `right` they give d^2 - (r_i + r_j)^2."""
    six = xyz.new_empty(*xyz.shape[:-1], 6)
    six[..., :3], six[..., 4], six[..., 5] = xyz, 1.0, radii.clamp(min=0)
    six[..., 3] = torch.where(radii < 0, _FAR, xyz.square().sum(-1) - radii.square())
    return six


def right(xyz: torch.Tensor, radii: torch.Tensor) -> torch.Tensor:
    """The six numbers [n, 6, q] of atoms, coordinates [n, 3, q], that others are tested against."""
    six = xyz.new_empty(len(xyz), 6, xyz.shape[2])
    torch.mul(xyz, -2, out=six[:, :3])
    six[:, 3], six[:, 5] = 1.0, -2 * radii.clamp(min=0)
    six[:, 4] = torch.where(radii < 0, _FAR, xyz.square().sum(1) - radii.square())
    return six


def nearest(tested: torch.Tensor, others: torch.Tensor) -> torch.Tensor:
    """Smallest product of each tested atom [n, p, 6] with others [n, 6, q], a few molecules at a time: [n, p]."""
    step = max(1, PRODUCTS_AT_ONCE // (tested.shape[1] * others.shape[2]))
    return torch.cat([(a @ b).amin(2) for a, b in zip(tested.split(step), others.split(step))])


def _planted(around: Surroundings, room: torch.Tensor, library: Library, generator: torch.Generator) -> Molecules:
    """A first fragment, the hydrogen that others lose kept, in a random pose about the centre."""
    molecules = _empty(len(room), max(MOST_HEAVY, int(room.max())), around)
    is_seed = (library.sizes <= room[:, None]) & ((library.carriers >= 0).sum(1) > 1)
    chosen = pick(library.weights[0] * is_seed, generator)
    up = torch.randn(len(room), 3, generator=generator, device=room.device, dtype=around.lattice.dtype)
    turn = _frame(up / up.norm(dim=-1, keepdim=True), generator)
    numbers, carriers = library.numbers[chosen], library.carriers[chosen]
    xyz, hydrogens = library.xyz[chosen] @ turn.mT, library.hydrogens[chosen] @ turn.mT
    molecules.xyz[:, :MOST_HEAVY], molecules.numbers[:, :MOST_HEAVY] = xyz, numbers
    molecules.hydrogens[:, :MOST_HYDROGEN], molecules.carriers[:, :MOST_HYDROGEN] = hydrogens, carriers
    molecules.count, molecules.h_count = library.sizes[chosen].clone(), (carriers >= 0).sum(1)
    molecules.ancestors[:, 0, 0] = 1
    every = torch.ones_like(room, dtype=torch.bool)
    both = torch.cat([xyz, hydrogens], 1)
    clear = _add_images(molecules, around, both, radii_of(numbers, carriers, library), every)
    molecules.failures = torch.where(clear, 0, 1 << 20)
    return molecules


def _grow_once(
    molecules: Molecules, around: Surroundings, room: torch.Tensor, library: Library, generator: torch.Generator
) -> None:
    """Try random hydrogens of each molecule; where the first atom of a random fragment fits, try the whole of it."""
    rows = torch.arange(len(room), device=room.device)[:, None]
    is_there = molecules.carriers[:, : int(molecules.h_count.max())] >= 0
    lost = pick(is_there[:, None].expand(-1, _TRIALS, -1).to(around.lattice), generator)
    parent = molecules.carriers[rows, lost].clamp(min=0)
    parent_xyz, parent_number = molecules.xyz[rows, parent], molecules.numbers[rows, parent]
    allowed = library.weights[(parent_number != 6).long()] * (library.sizes <= (room - molecules.count)[:, None, None])
    chosen = pick(allowed, generator)
    direction = molecules.hydrogens[rows, lost] - parent_xyz
    direction = direction / direction.norm(dim=-1, keepdim=True).clamp(min=1e-6)
    length = library.bond_lengths[parent_number, library.numbers[chosen, 0]]
    origin = parent_xyz + length[..., None] * direction
    fits = (allowed.sum(-1) > 0) & is_there.any(1, keepdim=True) & (origin.norm(dim=-1) < around.radius[:, None])
    fits &= _is_clear_of_images(molecules, origin, library.radii[library.numbers[chosen, 0]])
    first = fits.long().argmax(1)
    take = lambda t: t[rows[:, 0], first]  # noqa: E731
    lost, parent, parent_xyz, chosen = take(lost), take(parent), take(parent_xyz), take(chosen)
    new = torch.cat([library.xyz[chosen], library.hydrogens[chosen][:, 1:]], 1)
    new = new @ _frame(take(direction), generator).mT + take(origin)[:, None]
    numbers, carriers = library.numbers[chosen], library.carriers[chosen][:, 1:]
    radii = radii_of(numbers, carriers, library)
    wanted = take(fits) & ((new.norm(dim=-1) < around.radius[:, None]) | (radii < 0)).all(1)
    wanted &= molecules.h_count + MOST_HYDROGEN < molecules.carriers.shape[1]
    wanted &= _is_clear_of_itself(molecules, library, new, radii, lost, parent_xyz)
    wanted &= _is_clear_of_images(molecules, new, radii).all(1)
    accepted = _add_images(molecules, around, new, radii, wanted)
    _add_atoms(molecules, accepted, parent, lost, numbers, carriers, new)
    molecules.failures = torch.where(accepted, 0, molecules.failures + 1)


def _is_clear_of_images(molecules: Molecules, xyz: torch.Tensor, radii: torch.Tensor) -> torch.Tensor:
    images = molecules.images[:, :, : max(1, int(molecules.i_count.max()))]
    return nearest(left(xyz, radii), images) >= 0


def _is_clear_of_itself(
    molecules: Molecules, library: Library, xyz: torch.Tensor, radii: torch.Tensor, lost: torch.Tensor,
    parent_xyz: torch.Tensor,
) -> torch.Tensor:  # fmt: skip
    """Whether fragments [n, new, 3] are clear of the molecules they join, bonded atoms left out: [n]."""
    own, own_radii = molecules.atoms(library)
    margin = left(xyz, INTRAMOLECULAR * radii) @ right(own.mT, INTRAMOLECULAR * own_radii)
    near = torch.full((xyz.shape[1], 1), _ITSELF, device=xyz.device, dtype=xyz.dtype)
    near[0] = _BESIDE
    is_bonded = (own - parent_xyz[:, None]).norm(dim=-1)[:, None] < near
    first_hydrogen = own.shape[1] - int(molecules.h_count.max())
    is_lost = torch.arange(own.shape[1], device=xyz.device) == (lost + first_hydrogen)[:, None]
    return ((margin >= 0) | is_bonded | is_lost[:, None]).flatten(1).all(1)


def _add_images(
    molecules: Molecules, around: Surroundings, xyz: torch.Tensor, radii: torch.Tensor, wanted: torch.Tensor
) -> torch.Tensor:
    """Add the images of new atoms [n, new, 3] where `wanted` and where they are clear of the new atoms themselves."""
    rows = wanted.nonzero()[:, 0]
    accepted = torch.zeros_like(wanted)
    if not len(rows):
        return accepted
    place, xyz, radii = around.take(rows), xyz[rows], radii[rows]
    images = place.images(xyz).flatten(2)
    there = (radii >= 0)[:, None].expand(-1, place.shifts.shape[2], -1).flatten(1)
    image_radii = torch.where(radii < 0, -1.0, radii - _SLACK)[:, None].expand(-1, place.shifts.shape[2], -1).flatten(1)
    points = right(images, image_radii)
    clear = (nearest(left(xyz, radii), points) >= 0).all(1)
    kept = there & clear[:, None] & (images.square().sum(1) < (place.radius[:, None] + _REACH).square())
    row, source = kept.nonzero().unbind(1)
    last = molecules.images.shape[2] - 1
    slots = (molecules.i_count[rows][row] + (kept.cumsum(1) - 1)[row, source]).clamp(max=last)
    molecules.images[rows[row], :, slots] = points[row, :, source]
    molecules.i_count[rows] = (molecules.i_count[rows] + kept.sum(1)).clamp(max=last)
    accepted[rows] = clear & (molecules.i_count[rows] < last)
    return accepted


def _add_atoms(
    molecules: Molecules, accepted: torch.Tensor, parent: torch.Tensor, lost: torch.Tensor, numbers: torch.Tensor,
    carriers: torch.Tensor, xyz: torch.Tensor,
) -> None:  # fmt: skip
    """Write a fragment per molecule where it is accepted; the rest goes to the last column."""
    every = torch.arange(len(lost), device=lost.device)
    rows, dropped = every[:, None], molecules.carriers.shape[1] - 1
    fragment = torch.where(accepted, molecules.f_count, molecules.axes.shape[1] - 1)
    molecules.ancestors[every, fragment] = molecules.ancestors[every, molecules.fragment[every, parent]]
    molecules.ancestors[every, fragment, fragment] = 1
    molecules.axes[every, fragment] = torch.stack([parent, molecules.count], -1)
    there = accepted[:, None] & (numbers > 0)
    slots = molecules.count[:, None] + torch.arange(MOST_HEAVY, device=lost.device)
    slots = torch.where(there, slots, molecules.numbers.shape[1] - 1)
    molecules.numbers[rows, slots], molecules.fragment[rows, slots] = numbers * there, fragment[:, None]
    molecules.xyz[rows, slots] = xyz[:, :MOST_HEAVY]
    extra = torch.arange(MOST_HYDROGEN - 1, device=lost.device) - 1
    there = accepted[:, None] & ((carriers >= 0) | (extra < 0))  # the first takes the place of the lost one
    slots = torch.where(extra < 0, lost[:, None], molecules.h_count[:, None] + extra)
    slots = torch.where(there, slots, dropped)
    molecules.carriers[rows, slots] = torch.where(carriers >= 0, carriers + molecules.count[:, None], -1)
    molecules.carriers[:, dropped] = -1
    molecules.hydrogens[rows, slots], molecules.h_fragment[rows, slots] = xyz[:, MOST_HEAVY:], fragment[:, None]
    molecules.f_count = molecules.f_count + accepted
    molecules.count = molecules.count + accepted * (numbers > 0).sum(1)
    molecules.h_count = molecules.h_count + accepted * ((carriers >= 0).sum(1) - 1).clamp(min=0)
