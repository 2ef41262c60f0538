"""Three-layer 3D convolutional network on the reciprocal grid."""

import torch
from torch import nn

from rephase.labs.crystals.data import Batch
from rephase.labs.crystals.models.layers import N_FIELDS, PhaseModel, ReciprocalInput, friedel_pair
from rephase.learning.convolutions import Conv3d
from rephase.learning.layers import convolution_block, from_centre


class CNN3D(PhaseModel):
    """Three 3D convolutions: each output depends on reflections up to three indices away.

    Parameters
    ----------
    shape, loss
        As in `PhaseModel`.
    width
        Number of channels of the two hidden layers.
    """

    def __init__(self, shape: tuple[int, ...], loss: str = "aligned", *, width: int = 32):
        super().__init__(shape, loss)
        self.input = ReciprocalInput(shape)
        self.layers = nn.Sequential(
            convolution_block(self.input.n_channels, width),
            convolution_block(width, width),
            Conv3d(width, N_FIELDS, 3, padding=1),
        )
        self.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]

    def forward(self, batch: Batch) -> torch.Tensor:
        """Predict normalised structure factors, complex [batch, h, k, l]."""
        return friedel_pair(from_centre(self.layers(self.input(batch))))
