"""Conversion between hemisphere lists and the half-complex grid of a real FFT; sizes of grids, and their memory."""

from bisect import bisect_left

import torch

from rephase.crystal.cell import Cell

_BYTES_PER_VOXEL = 800  # measured for 44 Å in P 1: maps of four trials, and comparison of the best ones
_BYTES_OF_OPERATION, _OPERATIONS_INCLUDED = 25, 4  # per voxel: tables of each further operation of the group


class HalfGrid:
    """Positions of a hemisphere list in the half-complex grid of a real FFT.

    ``rfftn`` has the minus sign, so the grid holds F* in our convention; both Friedel mates in the plane l = 0 are set.
    """

    def __init__(self, hkl: torch.Tensor, shape: tuple[int, int, int]):
        self.shape = shape
        upper = torch.where((hkl[:, 2] < 0)[:, None], -hkl, hkl)
        self._is_mate = hkl[:, 2] < 0
        self._cells = self._flat(upper)
        in_plane = (hkl[:, 2] == 0).nonzero()[:, 0]
        self._in_plane, self._mates = in_plane, self._flat(-upper[in_plane])
        self._rows_in_plane = in_plane.tolist()  # rising; on the CPU, so that `put` need not wait for a GPU

    def _flat(self, hkl: torch.Tensor) -> torch.Tensor:
        nx, ny, nz = self.shape
        return ((hkl[:, 0] % nx) * ny + hkl[:, 1] % ny) * (nz // 2 + 1) + hkl[:, 2]

    def put(self, values: torch.Tensor, fill: float = 0.0) -> torch.Tensor:
        """Put lists [..., n_refl], which may be shorter, on grids [..., nx, ny, nz // 2 + 1]; `fill` elsewhere."""
        n = values.shape[-1]
        nx, ny, nz = self.shape
        size = nx * ny * (nz // 2 + 1)
        grid = torch.full((*values.shape[:-1], size), fill, dtype=values.dtype, device=values.device)
        stored = torch.where(self._is_mate[:n], values, values.conj()) if values.is_complex() else values
        grid[..., self._cells[:n]] = stored
        n_mates = bisect_left(self._rows_in_plane, n)
        mates = stored[..., self._in_plane[:n_mates]]
        grid[..., self._mates[:n_mates]] = mates.conj() if mates.is_complex() else mates
        return grid.unflatten(-1, (nx, ny, nz // 2 + 1))

    def get(self, grid: torch.Tensor) -> torch.Tensor:
        """Get lists [..., n_refl] from grids."""
        values = grid.flatten(-3)[..., self._cells]
        return torch.where(self._is_mate, values, values.conj())

    def to_map(self, values: torch.Tensor) -> torch.Tensor:
        """Transform lists to real maps [..., nx, ny, nz]."""
        return torch.fft.irfftn(self.put(values), s=self.shape, dim=(-3, -2, -1))

    def from_map(self, maps: torch.Tensor) -> torch.Tensor:
        """Transform real maps to lists [..., n_refl]."""
        return self.get(torch.fft.rfftn(maps, dim=(-3, -2, -1)))


def shape_for(cell: Cell, d_min: float) -> tuple[int, int, int]:
    """Return the smallest grid of a cell that holds every reflection with d >= `d_min` (Å)."""
    a, b, c = (fast_size(2 * int(length / d_min) + 2) for length in cell.parameters[:3])
    return a, b, c


def memory_needed(n_voxels: int, n_operations: int) -> int:
    """Estimate the memory in bytes that solving with classical searches needs, to within a factor of two."""
    return n_voxels * (_BYTES_PER_VOXEL + _BYTES_OF_OPERATION * max(0, n_operations - _OPERATIONS_INCLUDED))


def fast_size(n: int) -> int:
    """Return the next even size whose only prime factors are 2, 3 and 5."""
    size = n + n % 2
    while _largest_factor_removed(size) != 1:
        size += 2
    return size


def _largest_factor_removed(n: int) -> int:
    for prime in (2, 3, 5):
        while n % prime == 0:
            n //= prime
    return n
