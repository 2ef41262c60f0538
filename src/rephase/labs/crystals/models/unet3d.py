"""3D U-Net on the reciprocal grid (Ronneberger et al. 2015, doi:10.1007/978-3-319-24574-4_28)."""

import torch

from rephase.labs.crystals.data import Batch
from rephase.labs.crystals.models.layers import N_FIELDS, PhaseModel, ReciprocalInput, friedel_pair
from rephase.learning.layers import UNetBody, from_centre


class UNet3D(PhaseModel):
    """U-Net from amplitudes to structure factors.

    Parameters
    ----------
    shape, loss
        As in `PhaseModel`.
    width, levels
        As in `UNetBody`.
    """

    def __init__(self, shape: tuple[int, ...], loss: str = "aligned", *, width: int = 16, levels: int = 2):
        super().__init__(shape, loss)
        self.input = ReciprocalInput(shape)
        self.body = UNetBody(self.input.n_channels, N_FIELDS, width=width, levels=levels)
        self.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]

    def forward(self, batch: Batch) -> torch.Tensor:
        """Predict normalised structure factors, complex [batch, h, k, l]."""
        return friedel_pair(from_centre(self.body(self.input(batch))))
