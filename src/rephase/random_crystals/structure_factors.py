"""Structure factors of many different crystals at once, each with its own cell, space group and atoms.

The sum runs over the asymmetric unit only: an operation (R, t) moves x to R x + t, so ``h.(R x + t) = (h R).x + h.t``.
The images of an atom on a special position coincide, and each counts as the occupancy.
"""

import math
from collections.abc import Iterator
from typing import NamedTuple

import gemmi
import numpy as np
import torch

from rephase.crystal.cell import limiting_d_min
from rephase.crystal.scattering import dispersion, form_factor_coefficients
from rephase.crystal.symmetry import Symmetry
from rephase.devices import at_once
from rephase.errors import GridError
from rephase.random_crystals.crystals import RandomCrystals


class ReflectionLists(NamedTuple):
    """``hkl`` [n, most, 3] integers and ``mask`` [n, most], True for a reflection; the padding is (0, 0, 0)."""

    hkl: torch.Tensor
    mask: torch.Tensor


def unique_reflections(crystals: RandomCrystals, d_min: float) -> ReflectionLists:
    """List one reflection of each Laue class with d >= d_min in Å, without (0, 0, 0) and lattice absences.

    Raises
    ------
    GridError
        The d_min is not positive.
    """
    if not (math.isfinite(d_min) and d_min > 0):
        raise GridError(f"d_min = {d_min}: expected a number above 0; give it in Å, e.g. 1.5")
    volume = torch.linalg.det(crystals.lattice)
    slices = _slices(crystals, volume, at_once("lists of many crystals", volume.device))
    parts = [(rows, _unique(crystals, rows, d_min)) for rows in slices]
    most = max(mask.sum(1).max() for _, (_, mask) in parts)
    hkl = crystals.group.new_zeros(len(crystals), int(most), 3)
    mask = torch.zeros(hkl.shape[:2], dtype=torch.bool, device=hkl.device)
    for rows, (index, inside) in parts:
        row, column = inside.nonzero().unbind(1)
        rank = (inside.cumsum(1) - 1)[row, column]
        hkl[rows[row], rank], mask[rows[row], rank] = index[column], True
    return ReflectionLists(hkl, mask)


def _unique(crystals: RandomCrystals, rows: torch.Tensor, d_min: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Return a box of indices [n_box, 3], and which of them each crystal of one group has, [n, n_box]."""
    symmetry, lattice = crystals.symmetries[int(crystals.group[rows[0]])], crystals.lattice[rows]
    reach = (lattice.norm(dim=1) / d_min).amax(0).int().tolist()
    is_halved = _halved(symmetry)
    axes = [torch.arange(0 if half else -m, m + 1, device=lattice.device) for m, half in zip(reach, is_halved)]
    hkl = torch.cartesian_prod(*axes)
    h, k, l = hkl.unbind(1)
    kept = (l > 0) | ((l == 0) & ((h > 0) | ((h == 0) & (k > 0))))  # half of the plane l = 0 is enough
    centring = _centring(symmetry).to(lattice)
    turns = hkl.to(lattice) @ centring.T
    kept &= ((turns - turns.round()).abs() < 0.1).all(1)
    hkl = hkl[kept]
    inside = _s_squared(lattice, hkl.to(lattice).expand(len(rows), -1, -1)) * (4 * d_min**2) <= 1
    return hkl, inside


def _halved(symmetry: Symmetry) -> tuple[bool, bool, bool]:
    """Return along which axes only indices >= 0 are needed: l (triclinic), k and l (monoclinic), all (orthorhombic)."""
    diagonals = np.diagonal(symmetry.rotations, axis1=1, axis2=2)
    n_laue = len(np.unique(diagonals * diagonals[:, :1], axis=0))  # a rotation and its negative count once
    return {1: (False, False, True), 2: (False, True, True)}.get(n_laue, (True, True, True))


def _centring(symmetry: Symmetry) -> torch.Tensor:
    is_pure = (symmetry.rotations == np.eye(3, dtype=int)).all((1, 2))
    return torch.as_tensor(symmetry.translations[is_pure])


def _s_squared(lattice: torch.Tensor, hkl: torch.Tensor) -> torch.Tensor:
    """Return (2d)^-2 in Å^-2 for indices [n, n_refl, 3]."""
    reciprocal = torch.linalg.inv(lattice.to(torch.float64)).to(lattice)
    return (hkl @ reciprocal).square().sum(-1) / 4


def _slices(crystals: RandomCrystals, numbers: torch.Tensor, most: int) -> Iterator[torch.Tensor]:
    """Yield rows of one space group and similar size, whose `numbers` [n] add up to about `most`."""
    for group in crystals.group.unique().tolist():
        rows = (crystals.group == group).nonzero()[:, 0]
        rows = rows[numbers[rows].argsort(stable=True)]
        part = numbers[rows].cumsum(0) // most
        yield from rows.split(part.unique_consecutive(return_counts=True)[1].tolist())


def many_structure_factors(
    crystals: RandomCrystals, hkl: torch.Tensor, *, energy_kev: float | None = 10.0
) -> torch.Tensor:
    """Compute the structure factors of many crystals, with the dtype and device of their coordinates.

    Parameters
    ----------
    crystals
        n random crystals.
    hkl
        [n, n_refl, 3] integers, e.g. from `unique_reflections`.
    energy_kev
        Photon energy in keV; None for no dispersion and no limiting sphere.

    Returns
    -------
    torch.Tensor
        Complex [n, n_refl], in electrons per cell: the same as `structure_factors` of each crystal.

    Raises
    ------
    GridError
        The hkl have another shape, or a reflection is outside the limiting sphere d >= λ/2.
    """
    if hkl.ndim != 3 or hkl.shape[0] != len(crystals) or hkl.shape[2] != 3:
        raise GridError(f"hkl of shape {tuple(hkl.shape)}: expected [{len(crystals)}, n_refl, 3], a list per crystal")
    s_squared = _s_squared(crystals.lattice, hkl.to(crystals.lattice))
    if energy_kev is not None and s_squared.numel() and s_squared.max() * 4 * limiting_d_min(energy_kev) ** 2 > 1:
        d_hkl = float(s_squared.max()) ** -0.5 / 2
        raise GridError(
            f"a reflection has d = {d_hkl:.4f} Å, outside the limiting sphere d >= λ/2 = "
            f"{limiting_d_min(energy_kev):.4f} Å at {energy_kev} keV; leave it out or raise energy_kev"
        )
    table = _Table(crystals.numbers, energy_kev, s_squared)
    F = torch.zeros(s_squared.shape, dtype=s_squared.dtype.to_complex(), device=s_squared.device)
    # (0, 0, 0) is the padding of the lists: one is enough
    used = (hkl.any(2) * torch.arange(2, hkl.shape[1] + 2, device=hkl.device)).amax(1).clamp(1, hkl.shape[1])
    n_terms, most_terms = used * (crystals.numbers > 0).sum(1), at_once("direct sums of many crystals", hkl.device)
    for rows in _slices(crystals, n_terms, most_terms):
        most = int(used[rows].max())
        summed = _sum(crystals.take(rows), hkl[rows, :most], s_squared[rows, :most], table)
        F[rows, :most], F[rows, most:] = summed, summed[:, -1:]
    return F


class _Table:
    """Form factors of the elements present: Gaussians, constant with f', and f''."""

    def __init__(self, numbers: torch.Tensor, energy_kev: float | None, like: torch.Tensor):
        present = [int(number) for number in numbers.unique() if number]
        elements = [gemmi.Element(number).name for number in present]
        coefficients, corrections = form_factor_coefficients(elements), dispersion(elements, energy_kev)
        self.heights = torch.block_diag(*like.new_tensor(coefficients[:, 0:8:2])[..., None])
        self.widths = like.new_tensor(coefficients[:, 1:8:2]).flatten()
        self.constant = like.new_tensor(coefficients[:, 8] + corrections.real)
        self.f_double_prime = like.new_tensor(corrections.imag)
        self.column = torch.zeros(120, dtype=torch.long, device=like.device)
        self.column[present] = torch.arange(len(present), device=like.device)

    def f0(self, s_squared: torch.Tensor) -> torch.Tensor:
        """Return f0 + f' [..., n_elements] for s^2 [...]."""
        return torch.exp(-self.widths * s_squared[..., None]) @ self.heights + self.constant


def _sum(crystals: RandomCrystals, hkl: torch.Tensor, s_squared: torch.Tensor, table: _Table) -> torch.Tensor:
    """Return F of crystals that share a space group, [n, n_refl]."""
    symmetry = crystals.symmetries[int(crystals.group[0])]
    real, imaginary = _unit_sums(crystals.xyz_frac, hkl.to(s_squared), symmetry)
    damped = torch.exp(s_squared[..., None] * (-8 * math.pi**2 * crystals.u_iso[:, None]))
    of_element = torch.nn.functional.one_hot(table.column[crystals.numbers], len(table.constant)).to(s_squared)
    of_element = of_element * crystals.occupancy[..., None]
    sums = [part.mul_(damped) @ of_element for part in (real, imaginary) if part is not None]  # for each element
    f0 = table.f0(s_squared)
    turned, shifted = [(f0 * part).sum(-1) for part in sums], [part @ table.f_double_prime for part in sums]
    if imaginary is None:
        return torch.complex(turned[0], shifted[0])
    return torch.complex(turned[0] - shifted[1], turned[1] + shifted[0])


def _unit_sums(
    xyz_frac: torch.Tensor, hkl: torch.Tensor, symmetry: Symmetry
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Return real and imaginary parts of the sum of exp(2 pi i h.x) over each atom's images, [n, n_refl, n_atoms].

    With an inversion centre at the origin, half of the operations give half of a real sum: the imaginary part is None.
    """
    operations, is_centric = _operations(symmetry)
    turns = hkl @ _centring(symmetry).to(hkl).T
    multiplicity = torch.cos(2 * math.pi * turns).sum(-1, keepdim=True) * (2 if is_centric else 1)
    positions = 2 * math.pi * torch.cat([xyz_frac, torch.ones_like(xyz_frac[..., :1])], -1).mT
    real = hkl.new_zeros(*hkl.shape[:2], xyz_frac.shape[1])
    imaginary = None if is_centric else torch.zeros_like(real)
    for rotation, translation in operations:
        angle = torch.cat([hkl @ rotation.to(hkl), (hkl @ translation.to(hkl))[..., None]], -1) @ positions
        real += angle.cos()
        if imaginary is not None:
            imaginary += angle.sin()
    return real * multiplicity, None if imaginary is None else imaginary * multiplicity


def _operations(symmetry: Symmetry) -> tuple[list[tuple[torch.Tensor, torch.Tensor]], bool]:
    """Return one operation per rotation; with an inversion at the origin, one of each pair x, -x."""
    chosen = symmetry.point_group
    rotations, translations = symmetry.rotations[chosen], symmetry.translations[chosen]
    inverts = (rotations == -np.eye(3, dtype=int)).all((1, 2))
    is_centric = bool(inverts.any()) and not translations[inverts].any()
    if is_centric:
        kept = np.linalg.det(rotations) > 0
        rotations, translations = rotations[kept], translations[kept]
    return [(torch.as_tensor(R), torch.as_tensor(t)) for R, t in zip(rotations, translations)], is_centric
