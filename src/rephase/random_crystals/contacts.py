"""Contacts in many crystals at once: positions of a molecule's images, and tests whether atoms are clear of each other.

Two atoms are clear of each other if ``d^2 - (r_i + r_j)^2 >= 0``. The left side is a product of two vectors of six
numbers, one for each atom, so a matrix product tests all pairs.
"""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch.nn.functional import pad

from rephase.devices import at_once
from rephase.random_crystals.sites import SAME_PLACE, Sites

CONTACT_SLACK = 0.37  # Å: atoms of different molecules are no closer than the sum of their radii minus this
REACH = 2 * 1.85  # Å, the largest sum of two radii
_FAR = 1e3  # Å, position of the padding of a table


class Surroundings(NamedTuple):
    """Positions of the images of molecules, or of several molecules together.

    ``lattice`` [n, 3, 3] and ``centre`` [n, 3], Å; ``rotations`` [n, 3, n_images, 3] and ``shifts`` [n, 3, n_images]:
    x, y and z of the motions, about the centre, to every image within reach; ``backs`` [n, 3, n_images], the shifts
    turned back by the rotations, and ``squares`` [n, n_images] of their lengths; ``radius`` [n] of the sphere that
    contains the molecule. ``site`` [n, 0 or 1, 3, 3] is the rotation about the centre that belongs to a special
    position; what it moves is a part of the same molecule, and not among the images.
    """

    lattice: torch.Tensor
    centre: torch.Tensor
    rotations: torch.Tensor
    shifts: torch.Tensor
    backs: torch.Tensor
    squares: torch.Tensor
    radius: torch.Tensor
    site: torch.Tensor

    @property
    def n_copies(self) -> int:
        """Number of equivalent parts of a molecule: 2 on special positions, else 1."""
        return 1 + self.site.shape[1]

    def take(self, rows: torch.Tensor) -> "Surroundings":
        """Return the surroundings of the molecules at `rows`."""
        return Surroundings(*(column[rows] for column in self))

    def scaled(self, scale: torch.Tensor) -> "Surroundings":
        """Return the surroundings in cells scaled by factors [n], with unchanged molecules."""
        by = scale[:, None]
        return self._replace(
            lattice=self.lattice * by[..., None],
            centre=self.centre * by,
            shifts=self.shifts * by[..., None],
            backs=self.backs * by[..., None],
            squares=self.squares * by.square(),
        )

    def with_own(self) -> "Surroundings":
        """Append the identity and the rotation of the special position to the motions."""
        own = torch.cat([torch.eye(3).to(self.site).expand(len(self.site), 1, 3, 3), self.site], 1)
        nowhere = self.shifts.new_zeros(*self.shifts.shape[:2], own.shape[1])
        return self._replace(
            rotations=torch.cat([self.rotations, own.transpose(1, 2)], 2),
            shifts=torch.cat([self.shifts, nowhere], 2),
            backs=torch.cat([self.backs, nowhere], 2),
            squares=torch.cat([self.squares, nowhere[:, 0]], 1),
        )

    def images(self, xyz: torch.Tensor) -> torch.Tensor:
        """Return all images [n, 3, n_images * p] of positions [n, p, 3], those of one motion together."""
        n, _, motions, _ = self.rotations.shape
        turned = self.rotations.reshape(n, 3 * motions, 3) @ xyz.mT
        return (turned.view(n, 3, motions, xyz.shape[1]) + self.shifts[..., None]).flatten(2)

    def near(self, xyz: torch.Tensor, about: torch.Tensor, reach: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Find the images of positions [n, p, 3] within `reach` [n, p] Å of a point [n, 3].

        Returns the row, motion and position [n_near] of each image, sorted by rows, and its coordinates [n_near, 3].
        """
        images = self.images(xyz)
        apart = (images - about[..., None]).square_().sum(1).unflatten(1, (-1, xyz.shape[1]))
        row, motion, point = (apart < reach.square()[:, None]).nonzero().unbind(1)
        return row, motion, point, images[row, :, motion * xyz.shape[1] + point]

    def near_centre(self, rows: torch.Tensor, xyz: torch.Tensor, reach: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Find the images of positions [k, p, 3] in molecules `rows` [k] within `reach` [k] Å of the centre.

        Returns the same as `near`, with rows of `xyz`.
        """
        # |R x + s|^2 = |x|^2 + |s|^2 + 2 x.(R^-1 s): a matrix product instead of the images of all positions
        square = torch.baddbmm(self.squares[rows, None], xyz, self.backs[rows], alpha=2)
        limit = reach.square()[:, None, None] - xyz.square().sum(2, keepdim=True)
        row, point, motion = (square < limit).nonzero().unbind(1)
        turned = (self.rotations[rows[row], :, motion] * xyz[row, point][:, None]).sum(2)
        return row, motion, point, turned + self.shifts[rows[row], :, motion]

    def moved_back(self, row: torch.Tensor, motion: torch.Tensor, xyz: torch.Tensor) -> torch.Tensor:
        """Move positions [k, 3] by the inverses of motions [k] of molecules [k]."""
        back = xyz - self.shifts[row, :, motion]
        return (back[:, :, None] * self.rotations[row, :, motion]).sum(1)


def surroundings(
    lattice: torch.Tensor,
    rotations: torch.Tensor,
    translations: torch.Tensor,
    is_there: torch.Tensor,
    radius: torch.Tensor,
    centre_frac: torch.Tensor,
    sites: Sites | None = None,
) -> Surroundings:
    """Find the images that come within reach of a molecule inside a sphere.

    Parameters
    ----------
    lattice
        [n, 3, 3], cell vectors as columns, Å.
    rotations, translations
        [n, n_ops, 3, 3] and [n, n_ops, 3], the identity first.
    is_there
        [n, n_ops], False for padding of the table.
    radius
        [n], Å.
    centre_frac
        [n, 3].
    sites
        Special position of each centre; None: the centres are in general positions.
    """
    reach, pieces = 2 * radius + REACH, []
    for rows in torch.arange(len(lattice), device=lattice.device).split(64):  # the longest axis of each sets its cost
        n_ops = int(is_there[rows].sum(1).max())
        operations = (rotations[rows, :n_ops], translations[rows, :n_ops], is_there[rows, :n_ops])
        own = sites.take(rows).are_own(operations[0]) if sites else None
        pieces.append(_motions(lattice[rows], *operations, reach[rows], centre_frac[rows], own))
    most = max(shifts.shape[1] for _, shifts in pieces)
    turned = torch.cat([pad(rotations, (0, 0, 0, 0, 0, most - rotations.shape[1])) for rotations, _ in pieces])
    shifts = torch.cat([pad(shifts, (0, 0, 0, most - shifts.shape[1]), value=_FAR) for _, shifts in pieces])
    centre = (lattice @ centre_frac[..., None])[..., 0]
    backs = (turned * shifts[..., None]).sum(2).mT.contiguous()
    turned, shifts = turned.transpose(1, 2).contiguous(), shifts.mT.contiguous()
    site = turned.new_zeros(len(lattice), 0, 3, 3)
    if sites is not None:
        site = (lattice @ sites.rotations @ torch.linalg.inv(lattice))[:, None]
    return Surroundings(lattice, centre, turned, shifts, backs, shifts.square().sum(1), radius, site)


def _motions(
    lattice: torch.Tensor,
    rotations: torch.Tensor,
    translations: torch.Tensor,
    is_there: torch.Tensor,
    reach: torch.Tensor,
    centre_frac: torch.Tensor,
    is_own: torch.Tensor | None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Find Cartesian rotations [n, n_images, 3, 3], shifts [n, n_images, 3] that move the centre by < `reach`.

    The identity is not among them, nor are those that leave it where it is among the operations `is_own` [n, n_ops].
    """
    inverse = torch.linalg.inv(lattice)
    offset = (rotations @ centre_frac[:, None, :, None])[..., 0] + translations - centre_frac[:, None]
    most = (reach[:, None] * inverse.norm(dim=2) + 0.5).floor().amax(0).int().tolist()
    steps = torch.cartesian_prod(*(torch.arange(-m, m + 1, device=lattice.device) for m in most)).to(lattice)
    near = (offset - offset.round()) @ lattice.mT
    shifts = (near[:, :, None] + (steps @ lattice.mT)[:, None]).flatten(1, 2)
    distance = torch.linalg.vector_norm(shifts, dim=-1)
    is_itself = (steps == 0).all(1).nonzero()[0]  # among the images by the identity, which come first
    distance[:, is_itself] = torch.inf
    if is_own is not None:
        distance.masked_fill_(is_own.repeat_interleave(len(steps), 1) & (distance < SAME_PLACE), torch.inf)
    distance.masked_fill_(~is_there.repeat_interleave(len(steps), 1), torch.inf)
    closest, chosen = distance.topk(int((distance < reach[:, None]).sum(1).max()), dim=1, largest=False)
    rows = torch.arange(len(lattice), device=lattice.device)[:, None]
    shifts = torch.where((closest < reach[:, None])[..., None], shifts[rows, chosen], _FAR)
    return (lattice[:, None] @ rotations @ inverse[:, None])[rows, chosen // len(steps)], shifts


def tested(xyz: torch.Tensor, radii: torch.Tensor) -> torch.Tensor:
    """Compute seven numbers [n, p, 7] of atoms at [n, 3, p]; a negative radius means no atom, clear of everything."""
    seven = xyz.new_empty(len(xyz), 7, xyz.shape[2])
    seven[:, :3], seven[:, 4] = xyz, 1.0
    seven[:, 3] = torch.where(radii < 0, _FAR**2, xyz.square().sum(1))
    seven[:, 5] = radii.clamp(min=0)
    seven[:, 6] = seven[:, 5].square()
    return seven.mT


def others(xyz: torch.Tensor, radii: torch.Tensor, share: float | torch.Tensor = 1.0) -> torch.Tensor:
    """Compute seven numbers [n, 7, q] of atoms at [n, 3, q], to be multiplied with those of `tested`.

    Atoms are clear of each other beyond the sum of these radii and `share`, one for all or [n, q], times those of the
    tested atoms.
    """
    seven = xyz.new_empty(len(xyz), 7, xyz.shape[2])
    torch.mul(xyz, -2, out=seven[:, :3])
    seven[:, 3], seven[:, 6] = 1.0, -(share**2)
    seven[:, 5] = -2 * share * radii.clamp(min=0)
    seven[:, 4] = torch.where(radii < 0, _FAR**2, xyz.square().sum(1) - radii.square())
    return seven


def _in_parts(tested: torch.Tensor, others: torch.Tensor) -> Iterator[torch.Tensor]:
    """Yield products [some, p, q] of [n, p, 6] and [n, 6, q], a few molecules at a time."""
    step = max(1, at_once("contacts", tested.device) // (tested.shape[1] * others.shape[2]))
    return (a @ b for a, b in zip(tested.split(step), others.split(step)))


def is_clear(tested: torch.Tensor, others: torch.Tensor) -> torch.Tensor:
    """Return whether each tested atom [n, p, 6] is clear of all others [n, 6, q]: [n, p]."""
    return torch.cat([part.amin(2) for part in _in_parts(tested, others)]) >= 0


def overlaps(tested: torch.Tensor, others: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Return row, tested atom and other atom of all pairs that are not clear, each [n_pairs], sorted by rows."""
    found, start = [], 0
    for part in _in_parts(tested, others):
        row, first, second = (part < 0).nonzero().unbind(1)
        found.append((row + start, first, second))
        start += len(part)
    return tuple(torch.cat(column) for column in zip(*found))


def side_by_side(
    row: torch.Tensor, n: int, values: torch.Tensor, fill: float = _FAR
) -> tuple[torch.Tensor, torch.Tensor]:
    """Arrange values [k, ...], sorted by rows, in a padded table [n, most, ...]; return it and each value's column."""
    each = row.bincount(minlength=n)
    column = torch.arange(len(row), device=row.device) - (each.cumsum(0) - each)[row]
    table = values.new_full((n, int(each.max()) + 1, *values.shape[1:]), fill)
    table[row, column] = values
    return table, column
