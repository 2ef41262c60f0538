"""Layers that networks of several laboratories share: convolution blocks and the body of a U-Net."""

from collections.abc import Callable

import torch
from torch import nn

from rephase.learning.convolutions import Conv3d


class UNetBody(nn.Module):
    """Encoder and decoder with skip connections, from fields [batch, n_in, h, k, l] to [batch, n_out, h, k, l].

    The grid is padded with zeros to a multiple of 2^levels.

    Parameters
    ----------
    n_in, n_out
        Number of input and output channels.
    width
        Number of channels of the first level; it doubles at each lower level.
    levels
        Number of times the grid is halved.
    block
        Function that makes the layers of a level, given its number of input and output channels.
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
        """Compute fields [batch, n_out, h, k, l]."""
        n_h, n_k, n_l = x.shape[-3:]
        x, skips = nn.functional.pad(x, (0, -n_l % self.step, 0, -n_k % self.step, 0, -n_h % self.step)), []
        for encoder, down in zip(self.encoders, self.downs):
            skips.append(encoder(x))
            x = down(skips[-1])
        x = self.bottom(x)
        for up, decoder, skip in zip(self.ups, self.decoders, reversed(skips)):
            x = decoder(torch.cat([up(x), skip], dim=1))
        return self.head(x)[..., :n_h, :n_k, :n_l]


class GroupNorm(nn.GroupNorm):
    """Group normalisation in float32 where a training multiplies in bfloat16.

    On a GPU, torch does so itself. On a CPU, its gradient in bfloat16 takes three times as long as in float32, if the
    channels are the last axis in memory.
    """

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Normalise fields [batch, channel, h, k, l]; the result is float32 at least."""
        return super().forward(at_least_single(input))


def at_least_single(fields: torch.Tensor) -> torch.Tensor:
    """Convert half-precision fields to float32, which complex numbers need."""
    return fields.float() if fields.dtype in (torch.bfloat16, torch.float16) else fields


def from_centre(fields: torch.Tensor) -> torch.Tensor:
    """Undo the centring of `ReciprocalInput`."""
    return torch.fft.ifftshift(fields, dim=(-3, -2, -1))


def convolution_block(n_in: int, n_out: int) -> nn.Sequential:
    """Return a 3×3×3 convolution with zero padding, followed by group normalisation and SiLU."""
    return nn.Sequential(Conv3d(n_in, n_out, 3, padding=1), GroupNorm(max(1, n_out // 8), n_out), nn.SiLU())
