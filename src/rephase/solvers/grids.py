"""Between hemisphere lists of reflections and the half-complex grid of a real FFT."""

import torch


class HalfGrid:
    """Where a hemisphere list lies in the half-complex grid of a real FFT.

    ``rfftn`` has the minus sign, so the grid holds F* in our convention; both copies in the plane l = 0 are written.
    """

    def __init__(self, hkl: torch.Tensor, shape: tuple[int, int, int]):
        self.shape = shape
        upper = torch.where((hkl[:, 2] < 0)[:, None], -hkl, hkl)
        self._is_mate = hkl[:, 2] < 0
        self._cells = self._flat(upper)
        in_plane = (hkl[:, 2] == 0).nonzero()[:, 0]
        self._in_plane, self._mates = in_plane, self._flat(-upper[in_plane])

    def _flat(self, hkl: torch.Tensor) -> torch.Tensor:
        nx, ny, nz = self.shape
        return ((hkl[:, 0] % nx) * ny + hkl[:, 1] % ny) * (nz // 2 + 1) + hkl[:, 2]

    def put(self, values: torch.Tensor, fill: float = 0.0) -> torch.Tensor:
        """Grid [..., nx, ny, nz // 2 + 1] of lists [..., n_refl] that may end early; `fill` elsewhere."""
        n = values.shape[-1]
        nx, ny, nz = self.shape
        size = nx * ny * (nz // 2 + 1)
        grid = torch.full((*values.shape[:-1], size), fill, dtype=values.dtype, device=values.device)
        stored = torch.where(self._is_mate[:n], values, values.conj()) if values.is_complex() else values
        grid[..., self._cells[:n]] = stored
        listed = self._in_plane < n
        mates = stored[..., self._in_plane[listed]]
        grid[..., self._mates[listed]] = mates.conj() if mates.is_complex() else mates
        return grid.unflatten(-1, (nx, ny, nz // 2 + 1))

    def get(self, grid: torch.Tensor) -> torch.Tensor:
        """Lists [..., n_refl] of grids."""
        values = grid.flatten(-3)[..., self._cells]
        return torch.where(self._is_mate, values, values.conj())

    def to_map(self, values: torch.Tensor) -> torch.Tensor:
        """Real maps [..., nx, ny, nz] of lists."""
        return torch.fft.irfftn(self.put(values), s=self.shape, dim=(-3, -2, -1))

    def from_map(self, maps: torch.Tensor) -> torch.Tensor:
        """Lists [..., n_refl] of real maps."""
        return self.get(torch.fft.rfftn(maps, dim=(-3, -2, -1)))


def fast_size(n: int) -> int:
    """The next even size whose only prime factors are 2, 3 and 5."""
    size = n + n % 2
    while _largest_factor_removed(size) != 1:
        size += 2
    return size


def _largest_factor_removed(n: int) -> int:
    for prime in (2, 3, 5):
        while n % prime == 0:
            n //= prime
    return n
