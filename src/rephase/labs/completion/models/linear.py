"""Linear regression on the grid of a monoclinic crystal."""

import math

import torch
from torch import nn

from rephase.labs.completion.data import CompletionBatch
from rephase.labs.completion.models.amplitudes import AmplitudeModel, GridModel
from rephase.labs.completion.models.baselines import MEAN_OF_ROOT_MEAN_SQUARE, wilson_amplitude


class GridLinear(GridModel):
    """``fields = B A (|E| - <|E|>) + b``: unobserved amplitudes enter as 0, their expected deviation.

    A has few rows, because a full matrix for the grid of the reference work would have 116 million elements, more than
    there are amplitudes to fit.

    Parameters
    ----------
    shape, loss
        As in `GridModel`.
    rank
        Number of rows of A.
    """

    def __init__(self, shape: tuple[int, int, int], loss: str | None = None, *, rank: int = 64):
        super().__init__(shape, loss)
        n = math.prod(shape)
        self.narrow, self.widen = nn.Linear(n, rank, bias=False), nn.Linear(rank, self.n_fields * n)
        nn.init.zeros_(self.widen.bias)

    def fields(self, batch: CompletionBatch) -> torch.Tensor:
        """Predict the fields, [batch, n_fields, h, k, l]."""
        E = batch.F.abs() / wilson_amplitude(batch)
        deviation = (E - MEAN_OF_ROOT_MEAN_SQUARE) * batch.observed
        return self.widen(self.narrow(deviation.flatten(1))).unflatten(1, (self.n_fields, *self.grid.shape))


class AmplitudeLinear(AmplitudeModel, GridLinear):
    """Amplitudes by linear regression."""
