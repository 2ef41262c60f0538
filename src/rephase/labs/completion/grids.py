"""The unique reflections of monoclinic crystals (b unique) on one grid: every h, and k, l >= 0."""

import math
from functools import cached_property

import numpy as np
import torch

from rephase.crystal.cell import Cell
from rephase.crystal.symmetry import Symmetry
from rephase.errors import GridError

_MOST_POINTS = 10_000_000


class MonoclinicGrid:
    """An array ``[h, k, l]`` of reflections: h in FFT order, k and l from 0.

    Because of Friedel's law and the twofold axis, it contains one reflection of each class of equivalents, and two if
    l = 0: (h, k, 0) and (-h, k, 0).

    Parameters
    ----------
    shape
        Number of points along h, k, l; (26, 18, 23) contains h -13…12, k 0…17, l 0…22.

    Examples
    --------
    >>> MonoclinicGrid((26, 18, 23)).largest
    (12, 17, 22)
    """

    def __init__(self, shape: tuple[int, int, int]):
        if len(shape) != 3 or min(shape) < 3:
            raise GridError(f"shape = {shape}: expected three lengths of at least 3, e.g. (26, 18, 23)")
        if math.prod(shape) > _MOST_POINTS:
            raise GridError(f"shape = {shape}: {math.prod(shape):,} points, expected at most {_MOST_POINTS:,}")
        self.shape = tuple(map(int, shape))

    @classmethod
    def of(cls, values: torch.Tensor) -> "MonoclinicGrid":
        """Make the grid of values [..., h, k, l]."""
        n_h, n_k, n_l = values.shape[-3:]
        return cls((n_h, n_k, n_l))

    @cached_property
    def hkl(self) -> np.ndarray:
        """Miller indices [h, k, l, 3]."""
        n_h, n_k, n_l = self.shape
        h = np.arange(n_h)
        axes = (np.where(h < (n_h + 1) // 2, h, h - n_h), np.arange(n_k), np.arange(n_l))
        return np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1)

    @property
    def largest(self) -> tuple[int, int, int]:
        """Largest |h|, k and l such that the grid contains both h and -h."""
        n_h, n_k, n_l = self.shape
        return (n_h - 1) // 2, n_k - 1, n_l - 1

    def holds(self, lattice: torch.Tensor, d_min: float) -> torch.Tensor:
        """Test if every reflection with d >= d_min (Å) is on the grid, for lattices [n, 3, 3] with columns in Å."""
        return (self._needed(lattice, d_min) <= lattice.new_tensor(self.largest)).all(1)

    def longest_axes(self, d_min: float) -> tuple[float, float, float]:
        """Axes a, b, c in Å below which every reflection with d >= d_min is on the grid."""
        a, b, c = ((index + 1) * d_min for index in self.largest)
        return a, b, c

    def check(self, cell: Cell, d_min: float) -> None:
        """Raise `GridError` unless the whole sphere d >= d_min (Å) of a monoclinic cell is on the grid.

        The message gives a grid that is large enough.
        """
        if abs(cell.alpha - 90) > 1e-3 or abs(cell.gamma - 90) > 1e-3:
            raise GridError(f"α = {cell.alpha}°, γ = {cell.gamma}°: expected a monoclinic cell with b unique, both 90°")
        lattice = torch.as_tensor(cell.orthogonalisation)[None]
        if not self.holds(lattice, d_min):
            needed = self._needed(lattice, d_min)[0].long().tolist()
            raise GridError(
                f"cell a, b, c = {cell.a:.2f}, {cell.b:.2f}, {cell.c:.2f} Å: reflections to {d_min} Å reach "
                f"h, k, l = {', '.join(map(str, needed))}, the grid {self.shape} ends at {self.largest}; "
                f"a grid {self.shape_for(lattice, d_min)} would do"
            )

    @classmethod
    def shape_for(cls, lattice: torch.Tensor, d_min: float) -> tuple[int, int, int]:
        """Find the smallest grid that contains every reflection with d >= d_min (Å) of lattices [n, 3, 3]."""
        h, k, l = cls._needed(lattice, d_min).amax(0).long().tolist()
        return 2 * h + 1, k + 1, l + 1

    def s_squared(self, lattice: torch.Tensor) -> torch.Tensor:
        """Compute (2d)^-2 in Å^-2, [n, h, k, l], for lattices [n, 3, 3] with columns in Å."""
        reciprocal = torch.linalg.inv(lattice.to(torch.float64))
        hkl = torch.as_tensor(self.hkl.reshape(-1, 3), dtype=torch.float64, device=lattice.device)
        return ((hkl @ reciprocal).square().sum(-1) / 4).to(lattice).reshape(-1, *self.shape)

    def is_present(self, symmetry: Symmetry) -> np.ndarray:
        """Mark existing reflections, [h, k, l]: no systematic absences, no F(000), no plane h without its mate -h."""
        hkl = self.hkl.reshape(-1, 3)
        kept = ~symmetry.is_absent(hkl) & hkl.any(1) & (np.abs(hkl[:, 0]) <= self.largest[0])
        return kept.reshape(self.shape)

    def from_list(self, hkl: np.ndarray, F: np.ndarray, symmetry: Symmetry) -> tuple[np.ndarray, np.ndarray]:
        """Place unique reflections, complex F or amplitudes [n_refl], on the grid together with their equivalents.

        Returns
        -------
        values, mask
            The values, zero where none was given, and True where one was, [h, k, l]; others are off the grid.
        """
        everything, values = symmetry.expand(hkl, F)
        kept = ((everything[:, 1:] >= 0) & (everything <= self.largest)[:, 1:]).all(1)
        kept &= np.abs(everything[:, 0]) <= self.largest[0]
        grid, mask = np.zeros(self.shape, values.dtype), np.zeros(self.shape, bool)
        place = tuple(everything[kept].T)  # h < 0 counts from the end: that is FFT order
        grid[place], mask[place] = values[kept], True
        return grid, mask

    def partner(self, values: torch.Tensor) -> torch.Tensor:
        """Values [..., h, k, l] at the other member of each class: from (-h, k, 0) if l = 0, otherwise unchanged."""
        plane = values[..., 0].flip(-2).roll(1, -2)  # the unpaired -n/2 of an even grid returns to its own place
        return torch.cat([plane[..., None], values[..., 1:]], dim=-1)

    @staticmethod
    def _needed(lattice: torch.Tensor, d_min: float) -> torch.Tensor:
        """Largest indices [n, 3] in the sphere: |a| / d_min etc."""
        return (lattice.norm(dim=1) / d_min + 1e-9).floor()
