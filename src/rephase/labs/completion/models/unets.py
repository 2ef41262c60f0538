"""U-Nets on the grid of a monoclinic crystal: plain, and with Fourier layers, which act on maps."""

from collections.abc import Callable

import torch
from torch import nn

from rephase.labs.completion.data import CompletionBatch
from rephase.labs.completion.models.amplitudes import AmplitudeInput, AmplitudeModel, GridModel
from rephase.learning.convolutions import Conv3d
from rephase.learning.layers import UNetBody, at_least_single, convolution_block


class GridUNet(GridModel):
    """U-Net on the reciprocal grid.

    Parameters
    ----------
    shape, loss
        As in `GridModel`.
    width, levels
        As in `UNetBody`.
    """

    block: Callable[[int, int], nn.Module] | None = None  # None: the block of `UNetBody`

    def __init__(self, shape: tuple[int, int, int], loss: str | None = None, *, width: int = 64, levels: int = 2):
        super().__init__(shape, loss)
        self.input = AmplitudeInput(shape)
        self.body = UNetBody(self.input.n_channels, self.n_fields, width=width, levels=levels, block=type(self).block)

    def fields(self, batch: CompletionBatch) -> torch.Tensor:
        """Predict the fields, [batch, n_fields, h, k, l]."""
        return self.input.uncentred(self.body(self.input(batch)))


class FourierLayer(nn.Module):
    """Transform features as spectra into maps, convolve neighbours in the crystal, and transform back.

    Half of the channels are the real parts and half the imaginary parts of the spectra of real maps; l < 0 follows from
    Friedel's law, and k < 0 from the mirror symmetry of every diffraction pattern of these crystals. Real and imaginary
    part of the new spectrum, and hence its phase, are kept.
    """

    def __init__(self, n: int):
        super().__init__()
        self.to_spectrum = Conv3d(n, n, 1)
        self.in_map = nn.Sequential(
            Conv3d(n // 2, n, 3, padding=1, padding_mode="circular"), nn.SiLU(), Conv3d(n, n // 2, 1)
        )
        self.from_spectrum = Conv3d(n, n, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Add the output of the layer to fields [batch, n, h, k, l], with h centred, k and l from 0."""
        n_h, n_k, n_l = x.shape[-3:]
        spectrum = torch.fft.ifftshift(at_least_single(self.to_spectrum(x)), dim=-3)
        first, second = spectrum.chunk(2, dim=1)
        whole = (n_h, 2 * n_k, 2 * n_l)
        spectrum = nn.functional.pad(torch.complex(first, second), (0, 1, 0, 1))
        mirrored = torch.cat([spectrum, spectrum[..., 1:-1, :].flip(-2)], dim=-2)  # k = 0 … n, then -(n - 1) … -1
        density = torch.fft.irfftn(mirrored, s=whole, dim=(-3, -2, -1), norm="ortho")
        seen = torch.fft.rfftn(self.in_map(density), dim=(-3, -2, -1), norm="ortho")[..., :n_k, :n_l]
        both = torch.fft.fftshift(torch.cat([seen.real, seen.imag], dim=1), dim=-3)
        return x + self.from_spectrum(both.to(x.dtype))


def _fourier_block(n_in: int, n_out: int) -> nn.Module:
    return nn.Sequential(convolution_block(n_in, n_out), FourierLayer(n_out), convolution_block(n_out, n_out))


class GridFourierUNet(GridUNet):
    """U-Net whose blocks combine 3D convolutions in reciprocal space with Fourier layers, which act on maps."""

    block = staticmethod(_fourier_block)


class AmplitudeUNet(AmplitudeModel, GridUNet):
    """Amplitudes by a U-Net."""


class FourierUNet(AmplitudeModel, GridFourierUNet):
    """Amplitudes by a U-Net with Fourier layers."""
