"""The atoms of a crystal by species, with their scattering factors: exact, or interpolated in a table of s."""

from collections.abc import Iterator
from functools import partial

import numpy as np
import torch

from rephase.crystal.scattering import dispersion, form_factor_coefficients
from rephase.crystal.structures import Atoms

_LOWEST_EXPONENT = -80.0  # below it, exp gives float32 denormals: ten times slower, and negligible beside one electron
_INTERPOLATION_ERROR = 6e-8  # largest error of tabulated scattering factors, relative to f(0): the precision of float32
_MOST_NODES = 1 << 22  # of all species, 64 MB; reflections beyond the end of the table are computed without it


class Scatterers:
    """The atoms of a crystal sorted by species, with the scattering factors and occupancies that the sum needs.

    A species is an element with one value of U. Its scattering factor is a sum of five Gaussians in s^2: four of the
    form factor, and the constant with f' + i f'', each broadened by the Debye-Waller factor exp(-8 pi^2 U s^2).

    Parameters
    ----------
    atoms
        All atoms of the cell.
    energy_kev
        Photon energy of the dispersion corrections in keV; None: no corrections.
    dtype, device
        Real dtype of the arithmetic, and its device.
    """

    def __init__(self, atoms: Atoms, energy_kev: float | None, dtype: torch.dtype, device: torch.device | str = "cpu"):
        of_atoms = list(zip(atoms.elements, atoms.u_iso.tolist()))
        species = sorted(set(of_atoms))
        place = {key: number for number, key in enumerate(species)}
        index = np.array([place[key] for key in of_atoms], int)
        self.order = torch.as_tensor(np.argsort(index, kind="stable"), device=device)
        self.counts = np.bincount(index, minlength=len(species)).tolist()
        elements = [element for element, _ in species]
        coefficients = form_factor_coefficients(elements)
        b_iso = 8 * np.pi**2 * np.array([[u] for _, u in species])
        widths = np.concatenate([coefficients[:, 1:8:2], np.zeros((len(species), 1))], axis=1) + b_iso
        corrections = dispersion(elements, energy_kev)
        constant = coefficients[:, 8] + corrections
        as_real = partial(torch.as_tensor, dtype=dtype, device=device)
        real = np.concatenate([coefficients[:, 0:8:2], constant.real[:, None]], axis=1)
        imaginary = np.concatenate([np.zeros((len(species), 4)), constant.imag[:, None]], axis=1)
        self.heights = as_real(np.stack([real, imaginary], axis=1))
        self.widths = as_real(widths)
        self.occupancy = as_real(atoms.occupancy)[self.order]

    def weights(self, s_squared: torch.Tensor) -> torch.Tensor:
        """f(s) times the Debye-Waller factor: complex [..., n_species, n_refl] for s^2 [..., n_refl] in Å^-2."""
        exponents = -self.widths[:, :, None] * s_squared[..., None, None, :]
        gaussians = exponents.clamp_(min=_LOWEST_EXPONENT).exp_()
        return torch.complex(*(self.heights @ gaussians).unbind(-2))

    @property
    def mean_width(self) -> float:
        """Largest mean width in Å^2 of a species' Gaussians, weighted with their heights."""
        heights = torch.linalg.vector_norm(self.heights, dim=1)
        return float(((heights * self.widths).sum(1) / heights.sum(1)).max())

    def phase_tables(self, xyz_frac: torch.Tensor, h_max: tuple[int, ...]) -> list[torch.Tensor]:
        """exp(2 pi i h x) for h = 0 ... h_max along each axis: three tables [batch, n_atoms, h_max + 1].

        Atoms are in the order of the species; the first table contains the occupancy.
        """
        turns = xyz_frac.to(torch.float64)[:, self.order]
        steps = torch.arange(max(h_max) + 1, dtype=torch.float64, device=turns.device)
        tables = [self._phases(turns[:, :, axis, None] * steps[: m + 1]) for axis, m in enumerate(h_max)]
        tables[0] = tables[0] * self.occupancy[:, None]
        return tables

    def phase_rows(self, xyz_frac: torch.Tensor, h_max: int) -> torch.Tensor:
        """exp(2 pi i h x) of one structure [n_atoms, 3] for h = -h_max ... h_max: [3, 2 h_max + 1, n_atoms].

        Atoms are in the order of the species; the first axis contains the occupancy.
        """
        steps = torch.arange(-h_max, h_max + 1, dtype=torch.float64)
        rows = self._phases(xyz_frac[self.order].T[:, None] * steps[:, None])
        rows[0] *= self.occupancy
        return rows

    def _phases(self, turns: torch.Tensor) -> torch.Tensor:
        """Phase factors of angles in turns, which are reduced in float64: float32 loses the phase at high indices."""
        angle = 2 * torch.pi * turns.frac()
        return torch.complex(angle.cos(), angle.sin()).to(self.occupancy.dtype.to_complex())


class WeightTable:
    """The scattering factors of all species at equal steps of s, for linear interpolation.

    The second derivative of a Gaussian ``a exp(-b s^2)`` is at most 2 a b, which gives the step for a chosen error.

    Parameters
    ----------
    scatterers
        The species, in float64.
    s_max
        End of the table in Å^-1; it ends earlier if it would have too many nodes.
    dtype
        Real dtype of the interpolation.
    """

    def __init__(self, scatterers: Scatterers, s_max: float, dtype: torch.dtype):
        self.step = (4 * _INTERPOLATION_ERROR / max(scatterers.mean_width, 1.0)) ** 0.5
        self.n_steps = min(int(s_max / self.step) + 1, _MOST_NODES // len(scatterers.counts))
        s = self.step * torch.arange(self.n_steps + 1, dtype=torch.float64, device=scatterers.widths.device)
        nodes = scatterers.weights(s.square())
        self.values, self.slopes = nodes[:, :-1].to(dtype.to_complex()), nodes.diff().to(dtype.to_complex())

    def weights(self, s_squared: torch.Tensor) -> Iterator[torch.Tensor] | None:
        """f(s) times the Debye-Waller factor for each species, as s^2 [batch, n_refl]; None: s is beyond the table."""
        steps = (s_squared.flatten() / self.step**2).sqrt_()
        if not steps.max() < self.n_steps:
            return None
        index = steps.int()
        fraction = steps.sub_(index).to(self.values.dtype)
        by_species = zip(self.values, self.slopes)
        found = (torch.addcmul(v.index_select(0, index), d.index_select(0, index), fraction) for v, d in by_species)
        return (weights.view(s_squared.shape) for weights in found)
