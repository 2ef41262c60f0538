"""Parts of the networks for diffraction images: scaling of counts, log activation, residual blocks, flips."""

import math
from collections.abc import Callable, Sequence

import torch
from torch import nn

from rephase.errors import ConfigError, check_positive, nearest_name
from rephase.labs.images.data.batch import ImageBatch
from rephase.learning.convolutions import Conv2d

_LEAKINESS = 0.2
_USUAL_MEAN = 25.0


class LogActivation(nn.Module):
    """``f(x) = α (ln(x + 1/e) + 1) + β`` for x ≥ 0, ``-α (ln(-x + 1/e) + 1) + β`` for x < 0.

    Diffracted intensity falls by decades from the centre outwards, and by decades from a strong shot to a weak one; f
    turns both into steps of similar size. It is odd about β, and continuous as is its derivative ``α / (|x| + 1/e)``.

    Parameters
    ----------
    alpha, beta
        α and β; not learned.

    References
    ----------
    Zimmermann et al. 2019, doi:10.1103/PhysRevE.99.063309.
    """

    def __init__(self, alpha: float = 0.2, beta: float = 0.0):
        super().__init__()
        self.alpha, self.beta = alpha, beta

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return f(x), of the shape of x."""
        positive = x >= 0
        magnitude = torch.where(positive, x, -x)  # abs() has no derivative at 0, where f has one
        level = self.alpha * torch.log1p(math.e * magnitude)
        return torch.where(positive, level, -level) + self.beta


def leaky_relu() -> nn.LeakyReLU:
    """The activation of every layer after the first."""
    return nn.LeakyReLU(_LEAKINESS, inplace=True)


ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "log": LogActivation,
    "log_scaled": LogActivation,
    "leaky_relu": leaky_relu,
}
"""Activations of the first convolution; the name also selects the scaling of its input, see `FirstConvolution`."""


class FirstConvolution(nn.Module):
    """Convolution and activation that turn counts into features; unmeasured pixels enter as zero.

    ==============  ==================================================================
    activation      input of the convolution
    ==============  ==================================================================
    ``log``         raw counts, as in Zimmermann et al. 2019
    ``log_scaled``  counts over one unit for all images, from `CountUnit`
    ``leaky_relu``  counts over ``full_scale``, or over their own root mean square
    ==============  ==================================================================

    Parameters
    ----------
    n_out, kernel, stride
        Channels, size and step of the convolution.
    activation
        Name in `ACTIVATIONS`.
    full_scale
        Counts that ``leaky_relu`` scales to 1; Zimmermann et al. 2019 took 65,535, the largest 16-bit number.

    Raises
    ------
    ConfigError
        No channels, an unknown activation, or a full scale that is not above 0 or that the activation does not use.
    """

    def __init__(self, n_out: int, kernel: int, stride: int, *, activation: str, full_scale: float | None):
        super().__init__()
        check_positive("width", n_out, remedy="give the channels of the first layers", error=ConfigError)
        if activation not in ACTIVATIONS:
            raise ConfigError(f"unknown activation {activation!r}; {nearest_name(activation, ACTIVATIONS)}")
        if full_scale is not None:
            check_positive("full_scale", full_scale, remedy="give the counts to scale to 1, or null", error=ConfigError)
            if activation != "leaky_relu":
                raise ConfigError(
                    f"full_scale = {full_scale}: expected null, as {activation} has its own scale; use leaky_relu"
                )
        self.scale = {"log": RawCounts, "log_scaled": CountUnit, "leaky_relu": OwnScale}[activation]()
        self.full_scale = full_scale
        self.convolution = convolution(1, n_out, kernel, stride)
        self.activation = ACTIVATIONS[activation]()

    def forward(self, batch: ImageBatch) -> torch.Tensor:
        """Features [batch, n_out, y, x]."""
        image = torch.where(batch.mask, batch.image, 0).to(self.convolution.weight.dtype)
        image = image / (self.full_scale or self.scale(image, batch.mask))
        return self.activation(self.convolution(image[:, None]))


class RawCounts(nn.Module):
    """Leaves counts unscaled."""

    def forward(self, image: torch.Tensor, mask: torch.Tensor) -> float:
        """Return 1."""
        return 1.0


class OwnScale(nn.Module):
    """Scales each image by its own root mean square."""

    def forward(self, image: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Root mean square of the measured pixels, [batch, 1, 1]."""
        return _mean(image.square(), mask).sqrt().clamp_min(torch.finfo(image.dtype).tiny)


class CountUnit(nn.Module):
    """One scale for all images, set by the first training batch such that its median image has a mean of 25.

    A typical shot has about as many photons, and the network still sees whether a shot is bright or weak. The unit is
    stored with the weights, and is 1 before training. Counts times any factor train to the same network
    (data-dependent initialisation: Salimans & Kingma 2016, arXiv 1602.07868).
    """

    unit: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("unit", torch.zeros(()))

    def forward(self, image: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """The unit in counts, a number."""
        if self.training:
            typical = _mean(image.detach().abs(), mask).median() / _USUAL_MEAN
            self.unit.copy_(torch.where(self.unit > 0, self.unit, typical))
        return torch.where(self.unit > 0, self.unit, 1.0)


def _mean(image: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Mean over the measured pixels, [batch, 1, 1], of images that are 0 elsewhere."""
    return image.sum((-2, -1), keepdim=True) / mask.sum((-2, -1), keepdim=True).clamp_min(1)


def convolution(n_in: int, n_out: int, kernel: int, stride: int = 1) -> Conv2d:
    """Make a convolution that keeps the image size at stride 1; it has no bias, as a normalisation follows."""
    return Conv2d(n_in, n_out, kernel, stride, padding=kernel // 2, bias=False)


class ResidualBlock(nn.Module):
    """Pre-activation block of a ResNet-v2: normalisation, activation and convolution, repeated; the input is added.

    Parameters
    ----------
    channels
        Channels before the first convolution and after each.
    kernels
        Sizes of the convolutions; the first one of size 3 has the stride.
    stride
        Step of the block.

    References
    ----------
    He et al. 2016, doi:10.1007/978-3-319-46493-0_38.
    """

    def __init__(self, channels: Sequence[int], kernels: Sequence[int], stride: int):
        super().__init__()
        strides = [stride if number == kernels.index(3) else 1 for number in range(len(kernels))]
        self.norms = nn.ModuleList(nn.BatchNorm2d(n) for n in channels[:-1])
        self.convolutions = nn.ModuleList(map(convolution, channels[:-1], channels[1:], kernels, strides))
        is_same = channels[0] == channels[-1] and stride == 1
        self.shortcut = None if is_same else convolution(channels[0], channels[-1], 1, stride)
        self.activation = leaky_relu()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Features [batch, channels[-1], y, x]."""
        first = self.activation(self.norms[0](x))
        shortcut = x if self.shortcut is None else self.shortcut(first)
        x = self.convolutions[0](first)
        for norm, convolve in zip(self.norms[1:], self.convolutions[1:]):
            x = convolve(self.activation(norm(x)))
        return shortcut + x


def flip(batch: ImageBatch) -> ImageBatch:
    """Mirror each image at random along neither, one or both of its axes; the labels stay the same."""
    image, mask = batch.image, batch.mask
    for axis in (-2, -1):
        is_mirrored = torch.rand(len(image), 1, 1, device=image.device) < 0.5
        image = torch.where(is_mirrored, image.flip(axis), image)
        mask = torch.where(is_mirrored, mask.flip(axis), mask)
    return ImageBatch(image, mask, batch.labels)
