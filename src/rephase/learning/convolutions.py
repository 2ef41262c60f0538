"""Convolutions whose gradients are correct on every grid; the models use these instead of torch's own."""

import torch
from torch import nn


class _PaddedConvolution(nn.modules.conv._ConvNd):
    """A convolution that pads the grid with zeros itself if the kernel is larger than the grid.

    In that case oneDNN, which computes convolutions for torch on a CPU, leaves parts of the gradients of weights and
    biases uninitialised, in bfloat16 and in float32 (``benchmarks/convolution_gradients.py``). The sums stay the same,
    and padding takes a third of the time that float32 would.
    """

    def _conv_forward(self, input: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
        size = input.shape[-len(self.kernel_size) :]
        extent = [spacing * (n - 1) + 1 for n, spacing in zip(self.kernel_size, self.dilation)]
        if self.padding_mode != "zeros" or all(n <= points for n, points in zip(extent, size)):
            return super()._conv_forward(input, weight, bias)
        padded = nn.functional.pad(input, self._reversed_padding_repeated_twice)
        convolve = getattr(nn.functional, f"conv{len(size)}d")
        return convolve(padded, weight, bias, self.stride, 0, self.dilation, self.groups)


class Conv1d(_PaddedConvolution, nn.Conv1d):
    """Torch's convolution along curves."""


class Conv2d(_PaddedConvolution, nn.Conv2d):
    """Torch's convolution over images."""


class Conv3d(_PaddedConvolution, nn.Conv3d):
    """Torch's convolution over grids of reflections and maps."""


CONVOLUTIONS: dict[int, type[Conv1d | Conv2d | Conv3d]] = {1: Conv1d, 2: Conv2d, 3: Conv3d}
"""Convolutions by the number of axes of a grid."""
