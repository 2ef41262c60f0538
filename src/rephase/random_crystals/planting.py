"""What growth begins with: a first molecule at the centre of each row, and further ones beside it."""

import torch

from rephase.random_crystals.contacts import Surroundings, is_clear, others, tested
from rephase.random_crystals.cores import Seeds
from rephase.random_crystals.growth import (
    SLACK,
    Molecules,
    frames,
    is_clear_of_copies,
    is_clear_of_own_images,
    nearby,
    own_atoms,
    pick,
)

_ATTEMPTS = 8  # random places that are tried for each further molecule


def planted(
    around: Surroundings,
    room: torch.Tensor,
    first: tuple[Seeds, torch.Tensor],
    later: Seeds,
    n_molecules: torch.Tensor,
    generator: torch.Generator,
) -> Molecules:
    """Place the first molecule of each row at the centre, in a random orientation, and the others at random.

    Parameters
    ----------
    around
        Surroundings of n rows.
    room
        Number of non-hydrogen atoms that are wanted in each row, [n].
    first
        Seeds of the first molecule, and the row [n] of their weights; on special positions they have the symmetry.
    later
        Seeds of the other molecules.
    n_molecules
        Number of molecules in the asymmetric unit, [n]. A row in which not all of them find a place gets count 0.
    """
    n, most_molecules = len(room), int(n_molecules.max())
    seeds, of = first
    widths = [seeds.numbers.shape[1], *[later.numbers.shape[1]] * (most_molecules - 1)]
    most = max(3 * int(room.max()) // around.n_copies, widths[0] - 1) + 1 + sum(widths)
    molecules = _nobody(around, most, widths[0], most_molecules)
    left = room - (n_molecules - 1) * around.n_copies  # at least one atom for each of the others
    chosen = pick(seeds.weights[of] * (seeds.sizes <= left[:, None]), generator)
    up = torch.randn(n, 3, generator=generator, device=room.device, dtype=around.lattice.dtype)
    turn = frames(_axes(around.site, up), generator)
    rows = torch.arange(n, device=room.device)
    molecules.count[:] = seeds.sizes[chosen]
    _put(molecules, rows, 0, 0, seeds, chosen, seeds.xyz[chosen] @ turn.mT)
    slots = slice(widths[0])
    clear = is_clear_of_own_images(around, molecules.xyz[:, slots], molecules.radii[:, slots])
    molecules.is_open &= clear[:, None]
    for number in range(1, most_molecules):
        start = sum(widths[:number])
        molecules.used[:] = start + widths[number]
        left = room - (n_molecules - 1 - number) * around.n_copies
        wanting = ((n_molecules > number) & (molecules.count > 0)).nonzero()[:, 0]
        _add_molecule(molecules, around, wanting, number, start, left, later, generator)
    return molecules


def _nobody(around: Surroundings, most: int, used: int, most_molecules: int) -> Molecules:
    """Return rows without atoms."""
    n, device = len(around.lattice), around.lattice.device
    nothing = torch.zeros(n, most, dtype=torch.long, device=device)
    is_numbered = most_molecules > 1 or around.n_copies > 1
    return Molecules(
        nothing,
        around.lattice.new_zeros(n, most, 3),
        around.lattice.new_full((n, most), -1.0),
        nothing - 1,
        nothing > 0,
        torch.zeros_like(nothing) if is_numbered else nothing[:, :0],
        torch.full((n,), used, device=device),
        torch.zeros(n, dtype=torch.long, device=device),
    )


def _axes(site: torch.Tensor, directions: torch.Tensor) -> torch.Tensor:
    """Return unit vectors along `directions` [n, 3], or along the twofold axes and normals of mirrors of sites."""
    for turn in site.unbind(1):
        kept = turn * torch.linalg.det(turn)[:, None, None] + torch.eye(3).to(turn)
        directions = (kept @ directions[..., None])[..., 0]  # zero across the axis, or across the normal
    return directions / directions.norm(dim=-1, keepdim=True)


def _put(
    molecules: Molecules,
    rows: torch.Tensor,
    number: int,
    start: int,
    seeds: Seeds,
    chosen: torch.Tensor,
    xyz: torch.Tensor,
) -> None:
    """Write chosen seeds, at `xyz` [k, atoms, 3], into the columns from `start` of rows [k]."""
    slots = slice(start, start + xyz.shape[1])
    carriers = torch.where(seeds.carriers[chosen] >= 0, seeds.carriers[chosen] + start, -1)
    molecules.numbers[rows, slots], molecules.xyz[rows, slots] = seeds.numbers[chosen], xyz
    molecules.radii[rows, slots], molecules.carriers[rows, slots] = seeds.radii[chosen], carriers
    molecules.is_open[rows, slots] = carriers >= 0
    if molecules.are_numbered:
        molecules.molecule[rows, slots] = number


def _add_molecule(
    molecules: Molecules,
    around: Surroundings,
    rows: torch.Tensor,
    number: int,
    start: int,
    room: torch.Tensor,
    seeds: Seeds,
    generator: torch.Generator,
) -> None:
    """Place one more molecule in the sphere of each of `rows`; rows in which it finds no place get count 0."""
    for _ in range(_ATTEMPTS):
        if not len(rows):
            return
        here, place = molecules.take(rows), around.take(rows)
        largest = (room[rows] - here.count)[:, None] // around.n_copies
        chosen = pick(seeds.weights[0] * (seeds.sizes <= largest), generator)
        normal = torch.randn(2, len(rows), 3, generator=generator, device=rows.device, dtype=around.lattice.dtype)
        lot = torch.rand(len(rows), 1, generator=generator, device=rows.device, dtype=around.lattice.dtype)
        up, away = normal / normal.norm(dim=-1, keepdim=True)
        point = place.radius[:, None] * lot ** (1 / 3) * away
        xyz, radii = seeds.xyz[chosen] @ frames(up, generator).mT + point[:, None], seeds.radii[chosen]
        clear = _is_clear_of_all(here, place, point, xyz, radii) & is_clear_of_own_images(place, xyz, radii)
        if around.n_copies > 1:
            clear &= is_clear_of_copies(place, xyz, radii, torch.full_like(rows, number), xyz[:, 0])
        _put(molecules, rows[clear], number, start, seeds, chosen[clear], xyz[clear])
        molecules.count[rows[clear]] += around.n_copies * seeds.sizes[chosen[clear]]
        rows = rows[~clear]
    molecules.count[rows] = 0


def _is_clear_of_all(
    molecules: Molecules, around: Surroundings, point: torch.Tensor, xyz: torch.Tensor, radii: torch.Tensor
) -> torch.Tensor:
    """Return whether atoms [n, p, 3] about a point [n, 3] are clear of all molecules and their images: [n]."""
    reach = float(torch.where(radii < 0, 0.0, (xyz - point[:, None]).norm(dim=-1) + radii).max())
    own, own_radii, _ = own_atoms(molecules, around.site)
    rows = torch.arange(len(point), device=point.device)
    before = torch.cat([others(own.mT, own_radii - SLACK), nearby(molecules, around, rows, point, reach).mT], 2)
    return is_clear(tested(xyz.mT, radii), before).all(1)
