"""Baselines without training, which any model must beat: parent's phases, nearest neighbour in |E|, chance."""

from collections.abc import Callable

import torch

from rephase.crystal.phases import friedel_mate, unit_phasor
from rephase.labs.crystals.data import Batch, PerturbedData

_ROWS_AT_ONCE = 2048


class ParentPhases:
    """The phases of the unperturbed crystal; where its amplitude is zero, the phase of the Wilson scale."""

    def predict(self, batch: Batch) -> torch.Tensor:
        """Combine the observed amplitudes with the parent's phases."""
        known = batch.F_parent.abs() > 1e-6 * batch.F_parent.abs().amax((1, 2, 3), keepdim=True)
        phasor = torch.where(known, unit_phasor(batch.F_parent), unit_phasor(batch.scale))
        return batch.F.abs() * phasor * batch.mask


class Chance:
    """Random phases that obey Friedel's law, seeded by the batch so that results are reproducible."""

    def predict(self, batch: Batch) -> torch.Tensor:
        """Combine the observed amplitudes with random phases."""
        generator = torch.Generator().manual_seed(int(batch.parent.sum()) + len(batch.parent))
        angle = 2 * torch.pi * torch.rand(batch.F.shape, generator=generator).to(batch.F.device)
        return batch.F.abs() * unit_phasor(torch.exp(1j * (angle - friedel_mate(angle)))) * batch.mask


class NearestNeighbour:
    """The phases of the training sample whose normalised amplitudes |E| are closest: a lookup table."""

    def __init__(self, data: PerturbedData):
        self.data, self.samples = data, torch.as_tensor(data.splits["train"])

    def predict(self, batch: Batch) -> torch.Tensor:
        """Combine the observed amplitudes with the phases of the nearest training sample."""
        wanted = (batch.E.abs() * batch.mask).flatten(1).cpu()
        best = torch.full((len(wanted),), torch.inf)
        nearest = torch.zeros(len(wanted), dtype=torch.long)
        for rows in self.samples.split(_ROWS_AT_ONCE):
            known = self.data[rows]
            distance, index = torch.cdist(wanted, (known.E.abs() * known.mask).flatten(1)).min(dim=1)
            nearest = torch.where(distance < best, rows[index], nearest)
            best = torch.minimum(best, distance)
        found = unit_phasor(self.data[nearest].E).to(batch.F.device)
        return batch.F.abs() * found * unit_phasor(batch.scale) * batch.mask


BASELINES: dict[str, Callable[[PerturbedData], ParentPhases | Chance | NearestNeighbour]] = {
    "nearest_neighbour": NearestNeighbour,
    "parent_phases": lambda data: ParentPhases(),
    "chance": lambda data: Chance(),
}
