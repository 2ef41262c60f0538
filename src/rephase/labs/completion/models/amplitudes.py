"""Shared by the models on a monoclinic grid: output fields, their use as amplitudes, and the input channels."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping

import torch
from torch import nn

from rephase.labs.completion.data import CompletionBatch
from rephase.labs.completion.grids import MonoclinicGrid
from rephase.labs.completion.models.baselines import MEAN_OF_ROOT_MEAN_SQUARE, wilson_amplitude

_LARGEST_LOG_RATIO = 4.0  # of |F| over its expectation: larger ones do not occur, and exp() of them would overflow


def squared_error(pred: torch.Tensor, true: torch.Tensor, missing: torch.Tensor) -> torch.Tensor:
    """Mean squared difference over the missing reflections, relative to their mean square in each crystal."""
    power = (true.square() * missing).sum((1, 2, 3))
    return (((pred - true).square() * missing).sum((1, 2, 3)) / power).mean()


def absolute_error(pred: torch.Tensor, true: torch.Tensor, missing: torch.Tensor) -> torch.Tensor:
    """R factor over the missing reflections."""
    return (((pred - true).abs() * missing).sum((1, 2, 3)) / (true * missing).sum((1, 2, 3))).mean()


AMPLITUDE_LOSSES: dict[str, Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]] = {
    "mse": squared_error,
    "r_factor": absolute_error,
}


class GridModel(nn.Module, ABC):
    """A model on a monoclinic grid: subclasses for networks define ``fields``, subclasses for tasks the other methods.

    Parameters
    ----------
    shape
        Number of grid points along h, k, l.
    loss
        Name in ``losses`` of the task; the first one by default.
    """

    n_fields: int
    losses: Mapping[str, Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]]

    def __init__(self, shape: tuple[int, int, int], loss: str | None = None):
        super().__init__()
        self.grid, self.loss_name = MonoclinicGrid(shape), loss or next(iter(self.losses))

    @abstractmethod
    def fields(self, batch: CompletionBatch) -> torch.Tensor:
        """Predict real numbers for every reflection, [batch, n_fields, h, k, l]."""

    @abstractmethod
    def loss(self, batch: CompletionBatch) -> torch.Tensor:
        """Loss of a batch, one number."""

    @abstractmethod
    def predict(self, batch: CompletionBatch) -> torch.Tensor:
        """Predict the quantity of the task for every reflection, [batch, h, k, l]."""


class AmplitudeModel(GridModel):
    """A model that completes amplitudes by correcting the expectation of Wilson's line for each reflection.

    Its field is the logarithm of |F| over this expectation. Equivalent reflections have the same amplitude by
    construction, and observed amplitudes are returned unchanged.
    """

    n_fields = 1
    losses = AMPLITUDE_LOSSES

    def forward(self, batch: CompletionBatch) -> torch.Tensor:
        """Predict |F| in electrons for every reflection, observed or not, [batch, h, k, l]."""
        ratio = self.fields(batch)[:, 0].clamp(-_LARGEST_LOG_RATIO, _LARGEST_LOG_RATIO)
        ratio = (ratio + self.grid.partner(ratio)) / 2
        return MEAN_OF_ROOT_MEAN_SQUARE * wilson_amplitude(batch) * ratio.exp() * batch.mask

    def loss(self, batch: CompletionBatch) -> torch.Tensor:
        """Loss of a batch over the missing reflections, one number."""
        return self.misfit(self(batch), batch)

    def misfit(self, amplitude: torch.Tensor, batch: CompletionBatch) -> torch.Tensor:
        """Loss of |F| [batch, h, k, l] in electrons over the missing reflections, one number."""
        return self.losses[self.loss_name](amplitude, batch.F.abs(), batch.missing)

    @torch.no_grad()
    def predict(self, batch: CompletionBatch) -> torch.Tensor:
        """Complete |F| in electrons, [batch, h, k, l]; observed amplitudes are returned unchanged."""
        return torch.where(batch.observed, batch.F.abs(), self(batch))


class AmplitudeInput(nn.Module):
    """The grid as input channels of a convolution: observed |E|, masks, 1/d, indices and centric zones.

    The masks mark observed and existing reflections. h is centred, because h = 1 and h = -1 are neighbours of h = 0; k
    and l begin at 0.
    """

    n_channels = 8
    coordinates: torch.Tensor

    def __init__(self, shape: tuple[int, int, int]):
        super().__init__()
        grid = MonoclinicGrid(shape)
        index = torch.as_tensor(grid.hkl, dtype=torch.float32) / torch.tensor(grid.largest)
        zones = torch.as_tensor(grid.hkl[..., 1:2] == 0, dtype=torch.float32)  # (h, 0, l): special in every group
        channels = torch.cat([index, zones], dim=-1).movedim(-1, 0)
        self.register_buffer("coordinates", channels[None], persistent=False)

    def forward(self, batch: CompletionBatch) -> torch.Tensor:
        """Stack the channels, [batch, 8, h, k, l]."""
        E = batch.F.abs() * batch.observed / wilson_amplitude(batch)
        own = [E, batch.observed, batch.mask, (4 * batch.s_squared).sqrt()]  # 1/d in Å^-1
        stacked = torch.stack([field.to(self.coordinates.dtype) for field in own], dim=1)
        every = torch.cat([stacked, self.coordinates.expand(len(E), -1, -1, -1, -1)], dim=1)
        return torch.fft.fftshift(every, dim=-3)

    @staticmethod
    def uncentred(fields: torch.Tensor) -> torch.Tensor:
        """Undo the centring of h."""
        return torch.fft.ifftshift(fields, dim=-3)
