"""Fully connected network of three layers."""

import torch
from torch import nn

from rephase.labs.crystals.data import Batch
from rephase.labs.crystals.models.layers import N_FIELDS, HalfSpace, PhaseModel


class MLP(PhaseModel):
    """Three dense layers over one reflection of every Friedel pair.

    Parameters
    ----------
    shape, loss
        As in `PhaseModel`.
    width
        Number of units of the two hidden layers.
    """

    def __init__(self, shape: tuple[int, ...], loss: str = "aligned", *, width: int = 1024):
        super().__init__(shape, loss)
        self.half_space = HalfSpace(shape)
        n = len(self.half_space)
        self.layers = nn.Sequential(
            nn.Linear(2 * n, width),
            nn.LayerNorm(width),
            nn.SiLU(),
            nn.Linear(width, width),
            nn.LayerNorm(width),
            nn.SiLU(),
            nn.Linear(width, N_FIELDS * n),
        )

    def forward(self, batch: Batch) -> torch.Tensor:
        """Predict normalised structure factors, complex [batch, h, k, l]."""
        return self.half_space.scatter(self.layers(self.half_space.gather(batch.E.abs() * batch.mask).to(self.dtype)))
