"""Structure factors: a batched, separable kernel for hkl grids, and an exact sum for lists of reflections.

``exp(2 pi i h.x)`` is a product of three one-dimensional tables, so the sum over atoms on a whole grid is one matrix
product per species (element and displacement) instead of one exponential per atom and reflection.
"""

from collections.abc import Iterable
from functools import cached_property

import numpy as np
import torch

from rephase.crystal.cell import limiting_d_min
from rephase.crystal.scatterers import Scatterers, WeightTable
from rephase.crystal.structures import Crystal
from rephase.devices import at_once
from rephase.errors import GridError

_TABLE_MARGIN = 1.25  # s at the end of the table, relative to the largest s in the crystal's own lattice


def grid_hkl(h_max: tuple[int, ...]) -> np.ndarray:
    """Miller indices [2h+1, 2k+1, 2l+1, 3] of the grid -h_max ... h_max, in FFT order.

    >>> grid_hkl((1, 0, 0))[:, 0, 0, 0].tolist()
    [0, 1, -1]
    """
    axes = [np.fft.ifftshift(np.arange(-m, m + 1)) for m in h_max]
    return np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1)


def sphere_mask(lattice: torch.Tensor, h_max: tuple[int, ...], d_min: float) -> torch.Tensor:
    """True where d(hkl) >= d_min on the grid of `grid_hkl`, for lattices [n, 3, 3] with columns in Å: [n, h, k, l]."""
    grid = grid_hkl(h_max)
    hkl = torch.as_tensor(grid.reshape(-1, 3), dtype=lattice.dtype, device=lattice.device)
    inside = _inverse_d_squared(lattice, _index_products(hkl)) * d_min**2 <= 1
    return inside.reshape(-1, *grid.shape[:3])


def _index_products(hkl: torch.Tensor) -> torch.Tensor:
    """hh, kk, ll, 2hk, 2hl, 2kl of reflections [n_refl, 3], factors of a metric tensor's elements, [6, n_refl]."""
    h, k, l = hkl.T
    return torch.stack([h * h, k * k, l * l, 2 * h * k, 2 * h * l, 2 * k * l])


def _inverse_d_squared(lattice: torch.Tensor, products: torch.Tensor) -> torch.Tensor:
    """1/d^2 in Å^-2, [n, n_refl], for lattices [n, 3, 3] with columns in Å, in the dtype of the index products."""
    lattice = lattice.to(torch.float64)
    metric = torch.linalg.inv(lattice.mT @ lattice).to(products)
    rows, columns = [0, 1, 2, 0, 0, 1], [0, 1, 2, 1, 2, 2]
    return metric[:, rows, columns] @ products


class GridKernel:
    """F(hkl) on a grid for many variants of one crystal at once.

    ``F(h) = sum_species f(s) DW(s) sum_atoms occ exp(+2 pi i h.x)``; only h >= 0 is summed. S(-h) = S(h)* gives the
    other half before the complex f is applied, so Friedel pairs differ through f''.

    Parameters
    ----------
    crystal
        Crystal with the elements, occupancies and displacements; its cell is the default lattice.
    h_max
        Largest |h|, |k|, |l|; the grid has 2 h_max + 1 points along each axis.
    energy_kev
        Photon energy in keV.
    dtype
        ``torch.float32`` (agrees with float64 to about 3e-7) or ``torch.float64``.
    device
        Device of the computation.

    Raises
    ------
    GridError
        An h_max is below zero, or the energy is impossible or outside the tables.
    """

    def __init__(
        self,
        crystal: Crystal,
        h_max: tuple[int, ...],
        *,
        energy_kev: float = 10.0,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ):
        if min(h_max) < 0:
            raise GridError(f"h_max = {tuple(h_max)}: expected three numbers >= 0; 6, 6, 6 gives a 13×13×13 grid")
        self.crystal, self.h_max, self.dtype, self.device = crystal, tuple(h_max), dtype, torch.device(device)
        self.scatterers = Scatterers(crystal.atoms, energy_kev, dtype, device)
        half = grid_hkl(self.h_max)[: h_max[0] + 1].reshape(-1, 3)
        self._products = _index_products(torch.as_tensor(half, dtype=dtype, device=device))
        own_lattice = torch.as_tensor(crystal.cell.orthogonalisation)[None]
        s_squared = self._s_squared(own_lattice)
        self.species_weights = self.scatterers.weights(s_squared)[0]
        self._energy_kev, self._s_max = energy_kev, float(s_squared.max().sqrt())

    @cached_property
    def _table(self) -> WeightTable:
        exact = Scatterers(self.crystal.atoms, self._energy_kev, torch.float64, self.device)
        return WeightTable(exact, _TABLE_MARGIN * self._s_max, self.dtype)

    def __call__(self, xyz_frac: torch.Tensor, lattice: torch.Tensor | None = None) -> torch.Tensor:
        """Sum the structure factors.

        Parameters
        ----------
        xyz_frac
            [batch, n_atoms, 3] fractional coordinates, atoms in the order of ``crystal.atoms``.
        lattice
            [batch, 3, 3] with the cell vectors as columns in Å, or None for the crystal's own cell.

        Returns
        -------
        torch.Tensor
            F in electrons, complex [batch, h, k, l] in FFT order.
        """
        nh, nk, nl = shape = tuple(2 * m + 1 for m in self.h_max)
        out = torch.empty((len(xyz_frac), *shape), dtype=self.dtype.to_complex(), device=self.device)
        step = max(1, at_once("grid kernel", self.device) // (nh * nk * nl))
        for first in range(0, len(xyz_frac), step):
            part = slice(first, first + step)
            weights = self.species_weights.unbind(0) if lattice is None else self._strained_weights(lattice[part])
            self._sum_into(out[part], xyz_frac[part].to(self.device), weights)
        return out

    def _strained_weights(self, lattice: torch.Tensor) -> Iterable[torch.Tensor]:
        """Scattering factors [batch, n_half] of each species on the half grid for lattices [batch, 3, 3].

        In float64, and for lattices much smaller than the crystal's own, they are computed without the table.
        """
        s_squared = self._s_squared(lattice)
        tabulated = self._table.weights(s_squared) if self.dtype == torch.float32 else None
        return self.scatterers.weights(s_squared).unbind(-2) if tabulated is None else tabulated

    def _s_squared(self, lattice: torch.Tensor) -> torch.Tensor:
        """(2d)^-2 on the half grid for each lattice: [batch, n_half]."""
        return _inverse_d_squared(lattice, self._products) / 4

    def _sum_into(self, out: torch.Tensor, xyz_frac: torch.Tensor, weights: Iterable[torch.Tensor]) -> None:
        n, half = len(xyz_frac), self.h_max[0] + 1
        along_h, along_k, along_l = self.scatterers.phase_tables(xyz_frac, self.h_max)
        tables = along_h, _both_signs(along_k), _both_signs(along_l)
        by_species = zip(*(table.split(self.scatterers.counts, dim=1) for table in tables))
        positive = out[:, :half].view(n, -1).zero_()  # a view: the sum over species accumulates in place
        negative = torch.zeros_like(positive)  # sum of the conjugate of F(-h)
        for f, (along_h, along_k, along_l) in zip(weights, by_species):
            plane = (along_h[..., None] * along_k[:, :, None]).flatten(2)
            unit_sum = (plane.mT @ along_l).flatten(1)
            positive.addcmul_(f, unit_sum)
            negative.addcmul_(f.conj(), unit_sum)
        # (-h, -k, -l) of the half just summed: every axis is reversed, and index 0 of k and l stays in place
        mirrored = negative.reshape(n, half, *out.shape[2:])[:, 1:].flip(1, 2, 3).roll((1, 1), (2, 3))
        out[:, half:] = mirrored.conj()


def _both_signs(table: torch.Tensor) -> torch.Tensor:
    """A phase table of 0 to m along the last axis, and of -m to -1 behind that: FFT order."""
    return torch.cat([table, table[..., 1:].flip(-1).conj()], dim=-1)


def structure_factors(crystal: Crystal, hkl: np.ndarray, *, energy_kev: float | None = 10.0) -> np.ndarray:
    """Structure factors of a crystal for a list of reflections, in float64.

    ``F(h) = sum_j occ_j (f0_j + f'_j + i f''_j) exp(-8 pi^2 U_j s^2) exp(+2 pi i h.x_j)``

    Parameters
    ----------
    crystal
        Any `Crystal`.
    hkl
        [n_refl, 3] integers.
    energy_kev
        Photon energy in keV; None: no dispersion and no limiting sphere, so that Friedel's law holds.

    Returns
    -------
    numpy.ndarray
        Complex [n_refl], in electrons per cell.

    Raises
    ------
    GridError
        The indices are not integers of shape [n_refl, 3], or a reflection lies outside the limiting sphere d >= λ/2.

    Notes
    -----
    Form factors: International Tables C, 6.1.1.4. Dispersion: Henke, Gullikson & Davis (1993).

    Examples
    --------
    >>> from rephase import read_crystal
    >>> F = structure_factors(read_crystal("Ni"), [[1, 1, 1], [1, 0, 0]])
    >>> [round(float(abs(f)), 2) for f in F]
    [78.64, 0.0]
    """
    hkl = np.atleast_2d(np.asarray(hkl))
    if hkl.ndim != 2 or hkl.shape[1] != 3 or not np.array_equal(hkl, np.rint(hkl)):
        raise GridError(f"hkl of shape {hkl.shape}: expected integers [n_refl, 3]")
    if len(hkl) == 0:
        return np.zeros(0, complex)
    hkl = hkl.astype(int)
    d_hkl = crystal.cell.d_spacing(hkl)
    if energy_kev is not None and d_hkl.min() < (d_min := limiting_d_min(energy_kev)):
        beyond = tuple(map(int, hkl[np.argmin(d_hkl)]))
        raise GridError(
            f"reflection {beyond} has d = {d_hkl.min():.4f} Å, outside the limiting sphere d >= λ/2 = {d_min:.4f} Å "
            f"at {energy_kev} keV; leave it out or raise energy_kev to {energy_kev * d_min / d_hkl.min():.2f}"
        )
    scatterers = Scatterers(crystal.atoms, energy_kev, torch.float64)
    h_max = int(np.abs(hkl).max())
    tables = scatterers.phase_rows(torch.as_tensor(crystal.atoms.xyz_frac), h_max)
    places, s_squared = torch.as_tensor(hkl + h_max), torch.as_tensor(1 / (4 * d_hkl**2))
    F = torch.zeros(len(hkl), dtype=torch.complex128)
    step = max(1, at_once("direct sum", torch.device("cpu")) // max(1, len(crystal.atoms)))
    for first in range(0, len(hkl), step):
        part = slice(first, first + step)
        along_h, along_k, along_l = (table[index] for table, index in zip(tables, places[part].unbind(1)))
        phases = along_h.mul_(along_k).mul_(along_l)
        weights = scatterers.weights(s_squared[part])
        F[part] = sum(w * p.sum(1) for w, p in zip(weights, phases.split(scatterers.counts, dim=1)))
    return F.numpy()
