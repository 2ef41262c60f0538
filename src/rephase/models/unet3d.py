"""3D U-Net on the reciprocal grid (Ronneberger et al. 2015, doi:10.1007/978-3-319-24574-4_28)."""

from collections.abc import Callable

import torch
from torch import nn

from rephase.datasets.perturbed import Batch
from rephase.models.convolutions import Conv3d
from rephase.models.layers import N_FIELDS, PhaseModel, ReciprocalInput, convolution_block, friedel_pair, from_centre


class UNetBody(nn.Module):
    """Encoder and decoder with skip connections: fields [batch, n_in, h, k, l] to [batch, n_out, h, k, l].

    The grid is padded with zeros to a multiple of 2^levels.

    Parameters
    ----------
    n_in, n_out
        Channels.
    width
        Channels of the first level; they double at each level below.
    levels
        How often the grid is halved.
    block
        Makes what each level does, from its number of channels before and after.
    """

    def __init__(
        self, n_in: int, n_out: int, *, width: int, levels: int, block: Callable[[int, int], nn.Module] | None = None
    ):
        super().__init__()
        block = block or (lambda a, b: nn.Sequential(convolution_block(a, b), convolution_block(b, b)))
        widths = [width * 2**level for level in range(levels + 1)]
        self.step = 2**levels
        self.encoders = nn.ModuleList(block(a, b) for a, b in zip([n_in, *widths[:-2]], widths[:-1]))
        # strided convolutions instead of pooling, whose gradient on a GPU is not deterministic
        self.downs = nn.ModuleList(Conv3d(a, a, 2, stride=2) for a in widths[:-1])
        self.bottom = block(widths[-2], widths[-1])
        self.ups = nn.ModuleList(nn.ConvTranspose3d(b, a, 2, stride=2) for a, b in zip(widths[-2::-1], widths[:0:-1]))
        self.decoders = nn.ModuleList(block(2 * a, a) for a in widths[-2::-1])
        self.head = Conv3d(width, n_out, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Fields [batch, n_out, h, k, l]."""
        n_h, n_k, n_l = x.shape[-3:]
        x, skips = nn.functional.pad(x, (0, -n_l % self.step, 0, -n_k % self.step, 0, -n_h % self.step)), []
        for encoder, down in zip(self.encoders, self.downs):
            skips.append(encoder(x))
            x = down(skips[-1])
        x = self.bottom(x)
        for up, decoder, skip in zip(self.ups, self.decoders, reversed(skips)):
            x = decoder(torch.cat([up(x), skip], dim=1))
        return self.head(x)[..., :n_h, :n_k, :n_l]


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
        """Normalised structure factors, complex [batch, h, k, l]."""
        return friedel_pair(from_centre(self.body(self.input(batch))))
