"""Linear regression from the amplitudes to the structure factors."""

import torch
from torch import nn

from rephase.labs.crystals.data import Batch
from rephase.labs.crystals.models.layers import N_FIELDS, HalfSpace, PhaseModel


class Linear(PhaseModel):
    """Linear regression ``E = A |E| + b`` over one reflection of every Friedel pair."""

    def __init__(self, shape: tuple[int, ...], loss: str = "aligned"):
        super().__init__(shape, loss)
        self.half_space = HalfSpace(shape)
        self.map = nn.Linear(2 * len(self.half_space), N_FIELDS * len(self.half_space))

    def forward(self, batch: Batch) -> torch.Tensor:
        """Predict normalised structure factors, complex [batch, h, k, l]."""
        return self.half_space.scatter(self.map(self.half_space.gather(batch.E.abs() * batch.mask).to(self.dtype)))
