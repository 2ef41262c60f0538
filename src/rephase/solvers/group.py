"""A space group applied to hemisphere lists: averaging, and finding its origin in a solution without symmetry."""

import math
from functools import partial

import numpy as np
import torch

from rephase.crystal.symmetry import Symmetry, rows_of
from rephase.devices import at_once
from rephase.solvers.grids import fast_size

_ASCENTS, _FREE_AXIS = 6, 1e-4  # the origin along polar axes is free: there the curvature is zero


class GroupTables:
    """The operations of a group as they permute a hemisphere list."""

    def __init__(self, hkl: np.ndarray, symmetry: Symmetry, device: torch.device):
        images, shifts = symmetry.equivalents(hkl)
        place = rows_of(images, np.concatenate([hkl, -hkl]))
        outside = place < 0  # at the edge, if the cell fits the group only approximately: such reflections stay
        place = np.where(outside, np.arange(len(hkl)), place)
        images, shifts = np.where(outside[..., None], hkl, images), np.where(outside, 0.0, shifts)
        as_tensor = partial(torch.as_tensor, device=device)
        self.n_operations = len(images)
        self._index, self._is_mate = as_tensor(place % len(hkl)), as_tensor(place >= len(hkl))
        self._turn = as_tensor(np.exp(-1j * shifts).astype(np.complex64))
        self._steps = as_tensor(images - hkl)
        self._hkl = as_tensor(hkl)

    def average(self, F: torch.Tensor) -> torch.Tensor:
        """Average the estimates of F(h) from all operations: symmetric lists [batch, n_refl]."""
        return self._estimates(F, len(self._hkl)).mean(1)

    def agreement(self, F: torch.Tensor, n_used: int) -> torch.Tensor:
        """Return how well lists [batch, n_refl] obey each operation, 1 if exactly: [batch, n_operations]."""
        own = F[:, :n_used]
        product = (own[:, None].conj() * self._estimates(F, n_used)).real.sum(-1)
        return product / (own.abs() ** 2).sum(-1, keepdim=True)

    def move_to_origin(self, F: torch.Tensor, n_used: int, shape: tuple[int, ...]) -> tuple[torch.Tensor, torch.Tensor]:
        """Move lists [batch, n_refl] of P1 solutions to the origin of the group.

        Maximises ``C(s) = sum_R sum_h F*(h) F(hR) exp(2 pi i h.t) exp(-2 pi i (hR - h).s)`` over s by FFT.

        Returns
        -------
        F, agreement
            The moved lists, and C(s) divided by its largest possible value, [batch].
        """
        fine = tuple(fast_size(2 * n) for n in shape)
        steps = self._steps[:, :n_used] % torch.tensor(fine, device=F.device)
        cells = ((steps[..., 0] * fine[1] + steps[..., 1]) * fine[2] + steps[..., 2]).flatten()
        n_lists = max(1, at_once("origin maps", F.device) // math.prod(fine))
        found = [self._best_shifts(part, n_used, fine, cells) for part in F.split(n_lists)]
        shifts, agreements = (torch.cat(parts) for parts in zip(*found))
        angle = -2 * math.pi * shifts @ self._hkl.T.float()
        return F * torch.polar(torch.ones_like(angle), angle), agreements

    def _best_shifts(
        self, F: torch.Tensor, n_used: int, fine: tuple[int, ...], cells: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the shifts [batch, 3] of the highest points of C(s) on a grid `fine`, and their agreement [batch].

        `cells` [n_operations * n_used] are the points of the grid on which the terms fall.
        """
        n_points = math.prod(fine)
        products = (F[:, None, :n_used].conj() * self._estimates(F, n_used)).flatten()
        places = (torch.arange(len(F), device=F.device)[:, None] * n_points + cells).flatten()
        grids = torch.zeros(len(F) * n_points, dtype=products.dtype, device=F.device).index_add_(0, places, products)
        correlation = torch.fft.fftn(grids.view(-1, *fine), dim=(1, 2, 3)).real.flatten(1)
        best = correlation.argmax(1)
        steps = (best // (fine[1] * fine[2]), best // fine[2] % fine[1], best % fine[2])
        shifts = torch.stack([step / n for step, n in zip(steps, fine)], dim=1)
        strength = correlation.gather(1, best[:, None])[:, 0]
        return shifts, strength / (F[:, :n_used].abs() ** 2).sum(1) / self.n_operations

    def refine_origin(self, F: torch.Tensor, n_used: int) -> torch.Tensor:
        """Move lists [batch, n_refl] near the origin of the group to the maximum of C(s).

        Newton's method, with the largest curvature that terms of these moduli can have: unlike the true curvature, it
        cannot overshoot, so C(s) never decreases.
        """
        steps = 2 * math.pi * self._steps[:, :n_used].reshape(-1, 3).to(F.real.dtype)
        for _ in range(_ASCENTS):
            product = (F[:, None, :n_used].conj() * self._estimates(F, n_used)).flatten(1)
            gradient = product.imag @ steps
            curvature = (product.abs()[:, None] * steps.T) @ steps
            shift = (torch.linalg.pinv(curvature, rtol=_FREE_AXIS) @ gradient[..., None])[..., 0]
            angle = -2 * math.pi * shift @ self._hkl.T.to(shift.dtype)
            F = F * torch.polar(torch.ones_like(angle), angle)
        return F

    def _estimates(self, F: torch.Tensor, n_used: int) -> torch.Tensor:
        values = F[:, self._index[:, :n_used]]
        return torch.where(self._is_mate[:, :n_used], values.conj(), values) * self._turn[:, :n_used]
