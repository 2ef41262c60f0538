"""Reflections of crystals that share one FFT grid: which are inside the sphere of the data, and their normalised E."""

import itertools
import math
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import torch

_N_SHELLS = 8  # of equal volume, between whose mean |F|^2 is interpolated
_OVERSAMPLED = 1.45  # points of a grid along each axis, relative to the indices that its sphere needs
_LARGER = 1 + 1e-6  # includes a reflection on the surface of a sphere in spite of rounding


@dataclass(frozen=True)
class Spheres:
    """The half grids [n, h, k, l] of `n` crystals, l from 0 as in a real FFT, each with its cell and resolution limit.

    As ``rfftn`` has the minus sign, a half grid of coefficients holds F* in the convention of rephase.

    Parameters
    ----------
    shape
        Points of the maps along a, b, c; a sphere must end before half of them.
    lattice
        Vectors of primitive cells as columns, [n, 3, 3], Å.
    d_min
        Resolution limits [n], Å.
    """

    shape: tuple[int, int, int]
    lattice: torch.Tensor
    d_min: torch.Tensor

    @cached_property
    def hkl(self) -> torch.Tensor:
        """Indices [h, k, l, 3], as integers."""
        n_h, n_k, n_l = self.shape
        axes = [_in_fft_order(n_h), _in_fft_order(n_k), torch.arange(n_l // 2 + 1)]
        return torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1).to(self.lattice.device)

    @cached_property
    def s(self) -> torch.Tensor:
        """Lengths 1/d of the reciprocal vectors [n, h, k, l], Å^-1.

        On a grid of n points, h and h + n are the same; the shorter one counts. The lengths thus have the symmetry of
        the lattice in the corners of the grid too.
        """
        products = torch.einsum("nxhkl,anx->anhkl", self._vectors, self._aliases)
        squares = self._aliases.square().sum(2)[:, :, None, None, None]
        shorter = (2 * products + squares).amin(0)
        return (self._own_square + shorter).clamp(min=0).sqrt().to(self.lattice)

    @cached_property
    def s_vector(self) -> torch.Tensor:
        """Reciprocal vectors [n, 3, h, k, l], Cartesian, Å^-1, in the largest sphere without aliases; zero outside."""
        square_of_radius = self._aliases[1:].square().sum(2).amin(0)[:, None, None, None] / 4 * (1 - 1e-9)
        found = torch.zeros_like(self._vectors)
        for alias in self._aliases[:, :, :, None, None, None]:
            vectors = self._vectors + alias
            found += vectors * (vectors.square().sum(1) < square_of_radius)[:, None]
        return found.to(self.lattice)

    @cached_property
    def inside(self) -> torch.Tensor:
        """True for the reflections of the sphere d >= d_min, without F(000), [n, h, k, l]."""
        limit = (_LARGER / self.d_min.double()[:, None, None, None]).square()
        return (self._own_square <= limit) & self.hkl.any(-1) & self._has_mate

    @cached_property
    def weight(self) -> torch.Tensor:
        """How many reflections of the full sphere each one stands for, [n, h, k, l]: 0 outside, 1 if l = 0, else 2."""
        return self.inside * torch.where(self.hkl[..., 2] == 0, 1.0, 2.0).to(self.lattice)

    @property
    def n_voxels(self) -> int:
        """Number of points of a map."""
        return math.prod(self.shape)

    def to_maps(self, coefficients: torch.Tensor) -> torch.Tensor:
        """Transform half grids [n, h, k, l] to maps [n, x, y, z]; those of |E| = 1 have a standard deviation of 1."""
        return torch.fft.irfftn(coefficients * self._scale, s=self.shape, dim=(1, 2, 3))

    def from_maps(self, maps: torch.Tensor) -> torch.Tensor:
        """Transform maps [n, x, y, z] to half grids: the inverse of `to_maps`, zero outside the spheres."""
        return torch.fft.rfftn(maps, dim=(1, 2, 3)) * self.inside / self._scale

    @cached_property
    def _vectors(self) -> torch.Tensor:
        """Reciprocal vectors [n, 3, h, k, l] in float64."""
        return torch.einsum("hkli,nix->nxhkl", self.hkl.double(), self._reciprocal)

    @cached_property
    def _own_square(self) -> torch.Tensor:
        return self._vectors.square().sum(1)

    @cached_property
    def _aliases(self) -> torch.Tensor:
        """Reciprocal vectors of the indices that are zero on the grid, [27, n, 3], the zero vector first."""
        steps = sorted(itertools.product((-1, 0, 1), repeat=3), key=any)
        periods = self._reciprocal.new_tensor(steps) * self._reciprocal.new_tensor(self.shape)
        return torch.einsum("ai,nix->anx", periods, self._reciprocal)

    @cached_property
    def _reciprocal(self) -> torch.Tensor:
        return torch.linalg.inv(self.lattice.double())  # rows a*, b*, c*

    @cached_property
    def _has_mate(self) -> torch.Tensor:
        """False at index -n/2 of an even axis, whose mate +n/2 is the same point, [h, k, l]."""
        return (2 * self.hkl.abs() < self.hkl.new_tensor(self.shape)).all(-1)

    @cached_property
    def _scale(self) -> torch.Tensor:
        return (self.n_voxels / self.weight.sum((1, 2, 3)).sqrt())[:, None, None, None]


def _in_fft_order(n: int) -> torch.Tensor:
    index = torch.arange(n)
    return torch.where(index < (n + 1) // 2, index, index - n)


def points_needed(lengths: torch.Tensor, d_min: torch.Tensor) -> torch.Tensor:
    """Return the fewest points [..., 3] of grids for lengths of axes [..., 3] and resolution limits [...], in Å."""
    largest = (lengths / d_min[..., None] + 1e-6).floor()
    return (_OVERSAMPLED * (2 * largest + 1)).ceil().long()


class Measured(NamedTuple):
    """What is known of the reflections of some crystals, half grids [n, h, k, l].

    ``E`` and ``amplitude`` have a mean square of 1 over the measured part of each sphere; an unmeasured reflection
    inside has the values that are expected at its resolution. ``scale`` [n, 1, 1, 1] is the factor from ``amplitude``
    to the scale of the data. ``is_measured`` is True for measured reflections. One crystal serves any number of starts.
    """

    spheres: Spheres
    E: torch.Tensor
    amplitude: torch.Tensor
    scale: torch.Tensor
    is_measured: torch.Tensor

    def weight(self, share_of_E: float) -> torch.Tensor:
        """Return weights that sum to 1 over each sphere: a mixture of E^2 and |F|^2, with Friedel mates counted."""
        square = share_of_E * self.E.square() + (1 - share_of_E) * self.amplitude.square()
        weight = square * self.spheres.weight
        return weight / weight.sum((1, 2, 3), keepdim=True)

    def confidence(self, phasors: torch.Tensor) -> torch.Tensor:
        """Return ``sum w |x|^2 / sum w`` [n] of phasors x, over measured reflections with weights w = |F|^2."""
        weight = self.amplitude.square() * self.spheres.weight * self.is_measured
        return (weight * phasors.abs().square()).sum((1, 2, 3)) / weight.sum((1, 2, 3))


def measured(spheres: Spheres, amplitude: torch.Tensor, is_measured: torch.Tensor) -> Measured:
    """Normalise amplitudes [n, h, k, l] on any scale; `is_measured` is True where there is one.

    The mean of |F|^2 comes from resolution shells of equal volume, each mixed with two reflections of the overall mean
    and interpolated in its logarithm.
    """
    is_measured = is_measured & spheres.inside
    weight, square = spheres.weight * is_measured, torch.where(is_measured, amplitude, 0).square()
    shell = (spheres.s * spheres.d_min[:, None, None, None]) ** 3 * _N_SHELLS - 0.5
    centres = torch.arange(_N_SHELLS, device=shell.device)
    near = (1 - (shell.clamp(0, _N_SHELLS - 1)[..., None] - centres).abs()).clamp(min=0)  # [n, h, k, l, shell]
    sums, counts = (torch.einsum("nhkls,nhkl->ns", near, each) for each in (weight * square, weight))
    overall = sums.sum(1, keepdim=True) / counts.sum(1, keepdim=True)
    mean = (near @ ((sums + 2 * overall) / (counts + 2)).log()[:, None, None, :, None])[..., 0].exp()
    expected = mean.sqrt()
    E = torch.where(is_measured, amplitude / expected, 1) * spheres.inside
    F = torch.where(is_measured, amplitude, expected) * spheres.inside
    scale_of_E, scale = (_root_mean_square(each, weight) for each in (E, F))
    return Measured(spheres, E / scale_of_E, F / scale, scale, is_measured)


def _root_mean_square(values: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    axes = (1, 2, 3)
    return ((weight * values.square()).sum(axes, keepdim=True) / weight.sum(axes, keepdim=True)).sqrt()
