"""3D U-Net on the reciprocal grid (Ronneberger et al. 2015, doi:10.1007/978-3-319-24574-4_28)."""

import torch
from torch import nn

from rephase.datasets.perturbed import Batch
from rephase.models.layers import N_FIELDS, PhaseModel, ReciprocalInput, convolution_block, friedel_pair, from_centre


class UNet3D(PhaseModel):
    """Encoder and decoder with skip connections; the grid is padded with zeros to a multiple of 2^levels.

    Parameters
    ----------
    shape, loss
        As in `PhaseModel`.
    width
        Channels of the first level; they double at each level below.
    levels
        How often the grid is halved.
    """

    def __init__(self, shape: tuple[int, ...], loss: str = "aligned", *, width: int = 16, levels: int = 2):
        super().__init__(shape, loss)
        self.input = ReciprocalInput(shape)
        widths = [width * 2**level for level in range(levels + 1)]
        self.padding = [-n % 2**levels for n in shape]
        double = lambda n_in, n_out: nn.Sequential(convolution_block(n_in, n_out), convolution_block(n_out, n_out))  # noqa: E731
        self.encoders = nn.ModuleList(double(a, b) for a, b in zip([self.input.n_channels, *widths[:-2]], widths[:-1]))
        # strided convolutions instead of pooling, whose gradient on a GPU is not deterministic
        self.downs = nn.ModuleList(nn.Conv3d(a, a, 2, stride=2) for a in widths[:-1])
        self.bottom = double(widths[-2], widths[-1])
        self.ups = nn.ModuleList(nn.ConvTranspose3d(b, a, 2, stride=2) for a, b in zip(widths[-2::-1], widths[:0:-1]))
        self.decoders = nn.ModuleList(double(2 * a, a) for a in widths[-2::-1])
        self.head = nn.Conv3d(width, N_FIELDS, 1)
        self.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]

    def forward(self, batch: Batch) -> torch.Tensor:
        """Normalised structure factors, complex [batch, h, k, l]."""
        h, k, l = self.padding
        x, skips = nn.functional.pad(self.input(batch), (0, l, 0, k, 0, h)), []
        for encoder, down in zip(self.encoders, self.downs):
            skips.append(encoder(x))
            x = down(skips[-1])
        x = self.bottom(x)
        for up, decoder, skip in zip(self.ups, self.decoders, reversed(skips)):
            x = decoder(torch.cat([up(x), skip], dim=1))
        nh, nk, nl = self.shape
        return friedel_pair(from_centre(self.head(x)[..., :nh, :nk, :nl]))
