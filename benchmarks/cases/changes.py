"""Changes of random crystals that were made: other places of the atoms, no hydrogen, other volumes."""

from collections.abc import Callable
from dataclasses import replace

import torch

from rephase.crystal.symmetry import Symmetry
from rephase.random_crystals.crystals import RandomCrystals

Change = Callable[[RandomCrystals, torch.Generator], RandomCrystals]

APART = 1.2  # Å, smallest distance of atoms at random places
VOLUME = 18.7  # Å³ per non-hydrogen atom, the mean of the random crystals of 5 to 30 atoms
SPREAD = 0.15  # largest relative change of a volume


def unchanged(crystals: RandomCrystals, generator: torch.Generator) -> RandomCrystals:
    """Return the crystals as they were made."""
    return crystals


def without_hydrogen(crystals: RandomCrystals, generator: torch.Generator) -> RandomCrystals:
    """Remove the hydrogen atoms; the cells stay as they are."""
    numbers = torch.where(crystals.numbers == 1, 0, crystals.numbers)  # the lightest atoms are the last ones
    columns = {"xyz_frac": crystals.xyz_frac * (numbers > 0)[..., None], "u_iso": crystals.u_iso * (numbers > 0)}
    columns["occupancy"] = crystals.occupancy * (numbers > 0)
    return replace(crystals, numbers=numbers, **columns).take(torch.arange(len(crystals)))


def of_fixed_volume(crystals: RandomCrystals, generator: torch.Generator) -> RandomCrystals:
    """Scale the cells until all have `VOLUME` per non-hydrogen atom, with unchanged fractional coordinates."""
    return _scaled(crystals, VOLUME / volume_per_atom(crystals))


def of_varied_volume(crystals: RandomCrystals, generator: torch.Generator) -> RandomCrystals:
    """Scale the volumes by random factors of 1 - `SPREAD` to 1 + `SPREAD`, with unchanged fractional coordinates."""
    uniform = torch.rand(len(crystals), generator=generator)
    return _scaled(crystals, 1 + SPREAD * (2 * uniform - 1))


def volume_per_atom(crystals: RandomCrystals) -> torch.Tensor:
    """Return the volume of the cell for each of its non-hydrogen atoms, [n], in Å^3."""
    n_ops = torch.tensor([len(symmetry.triplets) for symmetry in crystals.symmetries])[crystals.group]
    n_atoms = n_ops * (crystals.occupancy * (crystals.numbers > 1)).sum(1)
    return torch.linalg.det(crystals.lattice) / n_atoms


def _scaled(crystals: RandomCrystals, factor: torch.Tensor) -> RandomCrystals:
    """Multiply the volumes of the cells by factors [n]."""
    return replace(crystals, lattice=crystals.lattice * factor.pow(1 / 3)[:, None, None])


def at_random_places(crystals: RandomCrystals, generator: torch.Generator) -> RandomCrystals:
    """Move every atom to a random general position, at least `APART` from all others and from its own images.

    There are no bonds then. Cells, elements, numbers of atoms and displacements are kept. The crystals must have no
    atom on a special position.
    """
    is_there = crystals.numbers > 0
    xyz = torch.rand(crystals.xyz_frac.shape, generator=generator) * is_there[..., None]
    for group in crystals.group.unique().tolist():
        symmetry, pending = crystals.symmetries[group], (crystals.group == group).nonzero()[:, 0]
        while len(pending):
            close = are_close(xyz[pending], is_there[pending], crystals.lattice[pending], symmetry)
            elsewhere = torch.rand(xyz[pending].shape, generator=generator)
            xyz[pending] = torch.where(close[..., None], elsewhere, xyz[pending])
            pending = pending[close.any(1)]
    return replace(crystals, xyz_frac=xyz)


def are_close(xyz: torch.Tensor, is_there: torch.Tensor, lattice: torch.Tensor, symmetry: Symmetry) -> torch.Tensor:
    """Return which atoms [n, atoms] are too close to an earlier one, to an image of one, or to an image of their own.

    Parameters
    ----------
    xyz, is_there
        Fractional coordinates [n, atoms, 3] of one position of each atom, and which of them are not padding.
    lattice
        [n, 3, 3], cell vectors as columns, Å. Lattice planes must be at least 2 `APART` from each other: the nearest
        of the images by lattice translations is then found by rounding if it is too close.
    symmetry
        The space group of all, the identity first.
    """
    rotations, translations = (torch.as_tensor(part).to(xyz) for part in (symmetry.rotations, symmetry.translations))
    images = torch.einsum("oij,naj->noai", rotations, xyz) + translations[:, None]
    apart = images[:, :, None] - xyz[:, None, :, None]  # [n, operation, atom, image of an atom, 3]
    vectors = (apart - apart.round()).flatten(1, 3) @ lattice.mT
    square = vectors.square().sum(-1).unflatten(1, apart.shape[1:4])
    square[:, 0].diagonal(dim1=1, dim2=2).fill_(torch.inf)  # each atom and itself
    square.masked_fill_(~is_there[:, None, None], torch.inf)
    is_earlier = torch.ones(square.shape[2:], dtype=torch.bool).tril()  # an atom's own images included
    return ((square.amin(1) < APART**2) & is_earlier).any(2) & is_there
