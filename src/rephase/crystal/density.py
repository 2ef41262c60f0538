"""From structure factors to maps and back: the only place that fixes the Fourier convention of densities.

``density(x) = 1/V sum_h F(h) exp(-2 pi i h.x)``. torch's ``fftn`` has the minus sign, so density = fftn(F)/V and
F = V ifftn(density).
"""

import math

import numpy as np
import torch

from rephase.crystal.cell import Cell
from rephase.crystal.symmetry import Symmetry


def density_from_F(F: torch.Tensor, volume: float | torch.Tensor, shape: tuple[int, ...]) -> torch.Tensor:
    """Charge density on a grid that may be finer than the grid of F.

    Parameters
    ----------
    F
        Complex [..., h, k, l] in FFT order, odd sizes, in electrons.
    volume
        Volume of the cell in Å^3, a number or a tensor that broadcasts with the maps.
    shape
        Points of the map along a, b, c; at least the size of F along each axis.

    Returns
    -------
    torch.Tensor
        Real [..., x, y, z] in e/Å^3. The part of F that breaks Friedel's law (f'') has no real density and is left out.
    """
    return torch.fft.fftn(_resize(F, shape), dim=(-3, -2, -1)).real / volume


def F_from_density(density: torch.Tensor, volume: float | torch.Tensor, shape: tuple[int, ...]) -> torch.Tensor:
    """Structure factors [..., h, k, l] of a map, on a grid of odd `shape` no larger than the map."""
    return volume * _resize(torch.fft.ifftn(density, dim=(-3, -2, -1)), shape)


def refine(density: torch.Tensor, shape: tuple[int, ...]) -> torch.Tensor:
    """Interpolate maps [..., x, y, z] to a finer grid; exact for maps limited to their own Fourier coefficients."""
    coefficients = tuple(n - 1 + n % 2 for n in density.shape[-3:])
    return density_from_F(F_from_density(density, 1.0, coefficients), 1.0, shape)


def density_of(hkl: np.ndarray, F: np.ndarray, cell: Cell, symmetry: Symmetry) -> np.ndarray:
    """Compute the map [x, y, z] of one cell in e/Å^3, on a grid with a spacing of about d_min/4.

    F [n_refl] lists one reflection of each class of equivalents. A real F is the same for all equivalents: |F|^2 gives
    the Patterson map in e^2/Å^3.
    """
    d_min = float(cell.d_spacing(hkl).min())
    hkl, F = symmetry.expand(hkl, F)
    shape = tuple(max(2 * int(m) + 2, 4 * math.ceil(a / d_min)) for m, a in zip(np.abs(hkl).max(0), cell.parameters))
    half, upper, lower = np.zeros((*shape[:2], shape[2] // 2 + 1), complex), hkl[:, 2] >= 0, hkl[:, 2] <= 0
    half[tuple(hkl[upper].T)] = F[upper].conj() / 2  # irfftn uses exp(+2 pi i h.x)
    half[tuple(-hkl[lower].T)] += F[lower] / 2
    return torch.fft.irfftn(torch.as_tensor(half), s=shape, norm="forward").div_(cell.volume).numpy()


def _resize(F: torch.Tensor, shape: tuple[int, ...]) -> torch.Tensor:
    """Pad a grid in FFT order with zeros, or cut its high indices."""
    out = torch.zeros((*F.shape[:-3], *shape), dtype=F.dtype, device=F.device)
    corners = [(min(a, b) + 1) // 2 for a, b in zip(F.shape[-3:], shape)]
    signs = [[slice(0, m), slice(-(m - 1), None)] if m > 1 else [slice(0, 1)] for m in corners]
    for h in signs[0]:
        for k in signs[1]:
            for l in signs[2]:
                out[..., h, k, l] = F[..., h, k, l]
    return out
