"""The two constraints that every solver shares: the measured amplitudes, and a density that is positive and compact."""

import torch

from rephase.solvers.problem import PhaseProblem


class Modulus:
    """Projection on the measured amplitudes: it keeps the phases, and only damps the unmeasured reflections.

    Parameters
    ----------
    problem
        Phase problem, with the known reflections and the upper limits of the others.
    amplitude
        [n_known], `PhaseProblem.amplitude`, sharpened or not.
    damping
        Factor in (0, 1] of the unmeasured reflections; 0 sets them to zero.
    weak_share
        Fraction of the reflections, without absences, that count as weak: they keep the amplitude of the map, and their
        phases are shifted by π/2 (Oszlányi & Sütő 2005, doi:10.1107/S0108767304027746).
    held
        F [batch, n_known] imposed on each map, 0 where the phase is free.
    """

    def __init__(
        self,
        problem: PhaseProblem,
        amplitude: torch.Tensor,
        *,
        damping: float = 1.0,
        weak_share: float = 0.0,
        held: torch.Tensor | None = None,
    ):
        self.problem, self.amplitude, self.damping = problem, amplitude, damping
        self._limit = problem.limit * amplitude.norm() / problem.amplitude.norm()
        # for known reflections, their amplitude
        largest = problem.grid.put(torch.cat([amplitude, self._limit]), fill=float("inf"))
        is_known = problem.grid.put(torch.ones_like(amplitude)) > 0
        is_known[0, 0, 0] = True  # F(000) is left out of every map
        largest[0, 0, 0] = 0.0
        self._largest, self._at_most = largest, torch.where(is_known, torch.inf, damping)
        self._held = None if held is None else problem.grid.put(held)
        self._turn: torch.Tensor | None = None
        if weak_share > 0:
            present = problem.E > 0
            is_weak = present & (problem.E <= problem.E[present].quantile(weak_share))
            self._turn = problem.grid.put(torch.where(is_weak, 1j, 1.0 + 0j), fill=1.0)
            weak = problem.grid.put(is_weak.float()) > 0
            self._largest = largest.masked_fill(weak, torch.inf)
            self._at_most = self._at_most.masked_fill(weak, 1.0)

    def __call__(self, maps: torch.Tensor) -> torch.Tensor:
        """Project maps [batch, x, y, z]."""
        return self._back(self.coefficients(maps))

    def coefficients(self, maps: torch.Tensor) -> torch.Tensor:
        """Return the half grids of the projected maps."""
        grid = torch.fft.rfftn(maps, dim=(-3, -2, -1))
        parts = torch.view_as_real(grid).square()  # several times faster than abs() of a complex grid
        inverse = (parts[..., 0] + parts[..., 1]).add_(1e-24).rsqrt_()
        grid = grid * torch.minimum(self._largest * inverse, self._at_most)
        grid = grid if self._turn is None else grid * self._turn
        return grid if self._held is None else torch.where(self._held == 0, grid, self._held)

    def in_list(self, F: torch.Tensor) -> torch.Tensor:
        """Project lists [batch, n_refl] in the same way."""
        known, free = F[:, : len(self.amplitude)], F[:, len(self.amplitude) :]
        factor = (self._limit / free.abs().clamp_min(1e-12)).clamp_max(self.damping)
        return torch.cat([self.amplitude * known / known.abs().clamp_min(1e-12), free * factor], dim=1)

    def _back(self, grid: torch.Tensor) -> torch.Tensor:
        return torch.fft.irfftn(grid, s=self.problem.grid.shape, dim=(-3, -2, -1))


def above(maps: torch.Tensor, threshold: torch.Tensor | float) -> torch.Tensor:
    """Project on densities that are zero or above a threshold."""
    return torch.where(maps > threshold, maps, 0.0)
