"""`PhaseProblem`: amplitudes on the grid of the reduced primitive cell, the input of every solver."""

import math
from functools import cached_property, partial

import gemmi
import numpy as np
import torch

from rephase.crystal.cell import Cell
from rephase.crystal.peaks import VOLUME_PER_ATOM
from rephase.crystal.phases import align_list, wrap
from rephase.crystal.reflections import Reflections
from rephase.crystal.shells import smooth_mean
from rephase.crystal.symmetry import Origins, Symmetry, reduced_cell, rows_of
from rephase.solvers.direct_methods.dual_space import DirectMethods
from rephase.solvers.grids import HalfGrid, fast_size
from rephase.solvers.group import GroupTables

_REACH = [1.0, 1.2, 1.5], [1.1, 1.2, 1.3]  # d_min in Å, and relative radius of the working sphere
LARGEST_E = 3.5  # of an unmeasured reflection; by Wilson statistics a fraction of 5e-6 is larger (acentric)


class PhaseProblem:
    """Measured amplitudes expanded to P1 on a grid of the reduced primitive cell.

    The grid extends to finer reflections than the data. Those outside the sphere of the data are free, and unmeasured
    ones inside are free within the limits of Wilson statistics. Otherwise series truncation makes even the true density
    negative in places, which would violate the constraints.

    Reflection lists ``[..., n_refl]`` hold one hemisphere: first the `n_known` measured reflections and absences, then
    the free ones inside the working sphere.

    Parameters
    ----------
    hkl
        [n, 3], one reflection of each class of equivalents, in the axes of `cell`.
    amplitude
        [n], |F| on any scale.
    cell, symmetry
        Cell and space group of the data.
    reach
        Radius of the working sphere relative to that of the data.
    device
        Device of the computation, in float32.
    known
        ``weight exp(i phi)`` [n] of known phases to start from, 0 where the phase is unknown.
    """

    def __init__(
        self,
        hkl: np.ndarray,
        amplitude: np.ndarray,
        cell: Cell,
        symmetry: Symmetry,
        *,
        reach: float = 1.3,
        device: torch.device | str = "cpu",
        known: np.ndarray | None = None,
    ):
        self.device = torch.device(device)
        self._with_reach = partial(PhaseProblem, hkl, amplitude, cell, symmetry, device=device, known=known)
        self.reduced = reduced_cell(cell, symmetry)
        self.symmetry = symmetry.in_basis(self.reduced.basis)
        everything, values = symmetry.expand(hkl, amplitude)
        half = _is_upper_half(indices := self.reduced.hkl(everything))
        indices, values = indices[half], values[half]
        self.d_min = float(cell.d_spacing(everything[half]).min())
        self.hkl_numpy, measured = self._ordered(indices, values, reach)
        self.n_known = len(measured)
        d_hkl = self.reduced.cell.d_spacing(self.hkl_numpy)
        expected = _expected_square(d_hkl, measured[: len(values)] ** 2)
        self.hkl = torch.as_tensor(self.hkl_numpy, device=self.device)
        self.amplitude = self._tensor(measured)
        self.E = self._tensor(measured / np.sqrt(expected[: self.n_known]))
        self.limit = self._tensor(self._limit(d_hkl, expected)[self.n_known :])
        self.grid = HalfGrid(self.hkl, self._shape())
        self.known: torch.Tensor | None = None
        if known is not None:
            phasors = np.zeros(self.n_known, complex)
            phasors[rows_of(indices, self.hkl_numpy)] = symmetry.expand(hkl, known)[1][half]
            self.known = torch.as_tensor(phasors, dtype=torch.complex64, device=self.device)

    @cached_property
    def within_data(self) -> "PhaseProblem":
        """The same data on the smaller grid of their own sphere, without finer reflections."""
        return self._with_reach(reach=1.0)

    def from_within_data(self, F: torch.Tensor) -> torch.Tensor:
        """Convert lists [..., n_refl] of `within_data` to this problem, with zeros outside the sphere of the data."""
        return F.new_zeros((*F.shape[:-1], len(self.hkl))).index_copy(-1, self._rows_within_data, F)

    def to_within_data(self, F: torch.Tensor) -> torch.Tensor:
        """Convert lists [..., n_refl] of this problem to `within_data`, without the finer reflections."""
        return F[..., self._rows_within_data]

    @cached_property
    def _rows_within_data(self) -> torch.Tensor:
        """Rows of the reflections of `within_data` in the lists of this problem."""
        return torch.as_tensor(rows_of(self.within_data.hkl_numpy, self.hkl_numpy), device=self.device)

    @cached_property
    def group(self) -> GroupTables:
        """Tables that apply the space group to lists."""
        return GroupTables(self.hkl_numpy, self.symmetry, self.device)

    @cached_property
    def direct_methods(self) -> DirectMethods:
        """Tables of direct methods in the group, for the measured reflections."""
        hkl, E = self.hkl_numpy[: self.n_known], self.E
        return DirectMethods(hkl, E, self.reduced.cell, self.symmetry, self.n_atoms)

    @property
    def origins(self) -> Origins:
        """Allowed shifts in the axes of the reduced cell."""
        return self.symmetry.origins

    @property
    def n_voxels(self) -> int:
        """Number of points of the map."""
        return math.prod(self.grid.shape)

    @property
    def missing(self) -> float:
        """Share of the reflections of the working sphere that were not measured."""
        return 1 - self.n_known / len(self.hkl)

    @property
    def n_atoms(self) -> int:
        """Number of non-hydrogen atoms expected in the cell from its volume."""
        return math.ceil(self.reduced.cell.volume / VOLUME_PER_ATOM)

    def phases_for(self, F: torch.Tensor, hkl: np.ndarray) -> np.ndarray:
        """Return the phases [k, n] in radians of lists [k, n_refl] for indices [n, 3] in the axes of the data."""
        phi = wrap(F.angle()[:, : self.n_known]).cpu().numpy()
        return np.concatenate([phi, -phi], axis=1)[:, self.rows_for(hkl)]

    def rows_for(self, hkl: np.ndarray) -> np.ndarray:
        """Find the rows of indices, in the axes of the data, in the known list followed by its Friedel mates."""
        listed = self.hkl_numpy[: self.n_known]
        return rows_of(self.reduced.hkl(hkl), np.concatenate([listed, -listed]))

    def sharpened(self, power: float) -> torch.Tensor:
        """Interpolate between |F| (power 0) and E on the scale of |F| (power 1): E^p |F|^(1-p), [n_known]."""
        amplitude = self.E**power * self.amplitude ** (1 - power)
        return amplitude * self.amplitude.norm() / amplitude.norm()

    def sigma(self, amplitude: torch.Tensor) -> torch.Tensor:
        """Return the root mean square of a map with these amplitudes and any phases, by Parseval's theorem."""
        return (2 * amplitude**2).sum().sqrt() / self.n_voxels

    def at_known_origin(self, F: torch.Tensor) -> torch.Tensor:
        """Move a list [n_refl] to the allowed origin and hand that best fit the known phases, if there are any."""
        if self.known is None:
            return F
        n, origins = self.n_known, self.origins
        weight = self.known.abs() * self.amplitude**2
        both_hands = origins.other_hand is not None  # otherwise the other hand has another group
        shift = align_list(F[None, :n], self.known, self.hkl[:n], origins, weight, both_hands=both_hands)
        F = F.conj() if shift.is_other_hand[0] else F
        angle = 2 * math.pi * self.hkl.to(shift.shift_frac) @ shift.shift_frac[0]
        return F * torch.polar(torch.ones_like(angle), angle)

    def _ordered(self, indices: np.ndarray, values: np.ndarray, reach: float) -> tuple[np.ndarray, np.ndarray]:
        """Return the hemisphere [n_refl, 3], in the order measured, absent, free, and the amplitudes [n_known]."""
        sphere = self._sphere(self.d_min / max(1.0, reach))
        absent = self.symmetry.is_absent(sphere)
        listed = np.where(absent, 0.0, np.nan)
        listed[rows_of(indices, sphere)] = values
        order = np.argsort(np.isnan(listed) * 2 + absent, kind="stable")
        return sphere[order], listed[order][: len(values) + int(absent.sum())]

    def _limit(self, d_hkl: np.ndarray, expected: np.ndarray) -> np.ndarray:
        """Return the upper limit of each |F| [n_refl]: from Wilson statistics inside the sphere of the data."""
        is_inside = d_hkl**-2 <= self.d_min**-2 * (1 + 1e-6)
        return np.where(is_inside, LARGEST_E * np.sqrt(expected), np.inf)

    def _tensor(self, values: np.ndarray) -> torch.Tensor:
        return torch.as_tensor(values, dtype=torch.float32, device=self.device)

    def _sphere(self, d_min: float) -> np.ndarray:
        """List every reflection of one hemisphere with d >= d_min, without F(000)."""
        unit_cell = gemmi.UnitCell(*self.reduced.cell.parameters)
        hkl = gemmi.make_miller_array(unit_cell, gemmi.SpaceGroup("P 1"), d_min * (1 - 1e-6), 0.0, False)
        hkl = np.asarray(hkl, dtype=int)
        return hkl[_is_upper_half(hkl)]

    def _shape(self) -> tuple[int, int, int]:
        largest = np.abs(self.hkl_numpy).max(axis=0)
        a, b, c = (fast_size(2 * int(m) + 2) for m in largest)
        return a, b, c


def working_problem(
    merged: Reflections, amplitude: np.ndarray, *, device: torch.device | str = "cpu", known: np.ndarray | None = None
) -> PhaseProblem:
    """Return the phase problem of merged reflections and their |F| [n]; its working sphere grows with d_min."""
    reach = working_reach(merged.d_min)
    return PhaseProblem(merged.hkl, amplitude, merged.cell, merged.group, reach=reach, device=device, known=known)


def working_reach(d_min: float) -> float:
    """Return the radius of the working sphere relative to that of data to `d_min` in Å."""
    return float(np.interp(d_min, *_REACH))


def _is_upper_half(hkl: np.ndarray) -> np.ndarray:
    h, k, l = hkl.T
    return (l > 0) | ((l == 0) & ((k > 0) | ((k == 0) & (h > 0))))


def _expected_square(d_hkl: np.ndarray, square: np.ndarray) -> np.ndarray:
    """Return the mean |F|^2 at each d (Å) of `d_hkl` [n_refl], of which the first n have the measured `square`."""
    measured, others = np.split(d_hkl, [len(square)])
    mean_square = smooth_mean(measured, square)
    return np.concatenate([mean_square, np.interp(others**-2, *_increasing(measured**-2, mean_square))])


def _increasing(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    order = np.argsort(x)
    return x[order], y[order]
