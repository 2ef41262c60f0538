"""Properties of random crystals that are drawn before they are made: group, size, density, molecules, positions."""

from typing import NamedTuple

import torch

from rephase.crystal.symmetry import Symmetry
from rephase.random_crystals.growth import pick
from rephase.random_crystals.sites import Sites, sites_of

_VOLUME, _VOLUME_SD, _VOLUME_RANGE = 16.5, 1.4, (14.0, 19.0)  # Å^3 per non-hydrogen atom of the planned molecule
_CEILING, _CEILING_SD, _CEILING_RANGE = 18.4, 1.7, (16.0, 23.0)  # Å^3, largest volume per atom of the grown molecule
_FEWEST_EACH = 3  # non-hydrogen atoms for each molecule, on average


class Draws(NamedTuple):
    """Random properties chosen before a crystal is made, [n] each.

    ``size`` of the planned asymmetric unit and the ``least`` number of atoms; its ``volume`` in Å^3, and the
    ``ceiling`` of the volume per atom of the grown molecule. ``n_molecules``, and the place in ``sites`` of the special
    ``site``, -1 for a general position.
    """

    symmetries: tuple[Symmetry, ...]
    group: torch.Tensor
    order: torch.Tensor
    size: torch.Tensor
    least: int
    ceiling: torch.Tensor
    volume: torch.Tensor
    n_molecules: torch.Tensor
    sites: Sites
    site: torch.Tensor


def drawn(
    n: int,
    symmetries: tuple[Symmetry, ...],
    shares: torch.Tensor,
    generator: torch.Generator,
    *,
    n_atoms: tuple[int, int],
    n_molecules: int,
    on_special: float,
) -> Draws:
    """Draw the properties of `n` crystals whose groups have the weights `shares` [n_groups]; see the options."""
    device, dtype = shares.device, shares.dtype
    group = pick(shares.expand(n, -1), generator)
    uniform = torch.rand(n, generator=generator, device=device, dtype=dtype)
    low, high = n_atoms
    size = (low + (high + 1 - low) * uniform**1.7).long().clamp(max=high)  # small molecules are commoner
    order = torch.tensor([len(s.triplets) for s in symmetries], device=device)[group]
    volume, ceiling = packing(size, generator, dtype)
    molecules = _n_molecules(size, n_molecules, generator)
    sites, site = _special_sites(symmetries, group, on_special, generator, dtype)
    return Draws(symmetries, group, order, size, low, ceiling, volume, molecules, sites, site)


def _n_molecules(size: torch.Tensor, most: int, generator: torch.Generator) -> torch.Tensor:
    """Draw the numbers of molecules in asymmetric units of `size` [n] atoms."""
    if most == 1:
        return torch.ones_like(size)
    weights = 0.5 ** torch.arange(most, device=size.device)
    return (pick(weights.expand(len(size), -1), generator) + 1).minimum(size // _FEWEST_EACH)


def _special_sites(
    symmetries: tuple[Symmetry, ...],
    group: torch.Tensor,
    share: float,
    generator: torch.Generator,
    dtype: torch.dtype,
) -> tuple[Sites, torch.Tensor]:
    """List the special positions of the groups, and draw those of crystals of groups [n]; -1 for a general position."""
    sites, weights = sites_of(symmetries if share else ())
    sites = Sites(*(t.to(group.device, dtype if t.is_floating_point() else None) for t in sites))
    if not len(sites.kind):
        return sites, torch.full_like(group, -1)
    weights = weights.to(group.device, dtype)[group]
    is_special = torch.rand(len(group), generator=generator, device=group.device) < share
    return sites, torch.where(is_special & weights.any(1), pick(weights, generator), -1)


def packing(size: torch.Tensor, generator: torch.Generator, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    """Draw volumes of molecules of `size` [n] atoms, and the largest volume per atom of the grown molecule; Å^3."""
    normal = torch.randn(2, len(size), generator=generator, device=size.device, dtype=dtype)
    per_atom = (_VOLUME + _VOLUME_SD * normal[0]).clamp(*_VOLUME_RANGE)
    ceiling = (_CEILING + _CEILING_SD * normal[1]).clamp(*_CEILING_RANGE)
    return per_atom * size, torch.maximum(ceiling, 1.1 * per_atom)
