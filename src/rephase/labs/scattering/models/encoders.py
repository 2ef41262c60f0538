"""Input of flows: the counts of a pattern on a scale for all exposures, its mask, and a summary of both."""

import itertools
import math
from collections.abc import Callable

import torch
from torch import nn

from rephase.errors import ConfigError
from rephase.inference.patterns import PatternBatch, check_shape
from rephase.learning.convolutions import CONVOLUTIONS

N_FIELDS = 3


def pattern_fields(batch: PatternBatch) -> torch.Tensor:
    """Fields [sample, 3, *pattern] of about unit size: logarithms of intensity and of counts, and the mask.

    The first is the logarithm of (counts + 1/2) / photons, the second carries its precision, and both are 0 where
    nothing was measured. Thus a network can distinguish exposures from intensities.
    """
    photons = batch.photons.expand_as(batch.counts)
    intensity = ((batch.counts + 0.5) / photons).log()
    fields = torch.stack([intensity, batch.counts.log1p(), torch.ones_like(batch.counts)], dim=1) / 3
    return torch.where(batch.mask[:, None], fields, 0.0)


class PatternEncoder(nn.Module):
    """Residual convolutions over a curve or an image, in stages of half the resolution, and dense layers to a summary.

    The simulator's sums over many pixels enter the dense layers too.

    Parameters
    ----------
    shape
        Shape of a pattern: one or two axes, 16 or more points along each.
    n_features
        Features in the summary.
    summaries
        Method of the simulator: sums [sample, n] over pixels of a batch.
    channels
        Channels of the first stage; the second has twice, and all others four times as many.

    Raises
    ------
    ConfigError
        Patterns have another number of axes, or fewer points.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        n_features: int,
        *,
        summaries: Callable[[PatternBatch], torch.Tensor],
        channels: int = 16,
    ):
        super().__init__()
        if len(shape) not in (1, 2) or min(shape) < 16:
            raise ConfigError(f"patterns of shape {tuple(shape)}: expected one or two axes, each of 16 or more points")
        convolution, self.shape, self.summaries = CONVOLUTIONS[len(shape)], tuple(shape), summaries
        widths = [N_FIELDS, channels, 2 * channels, 4 * channels, 4 * channels]
        stages: list[nn.Module] = []
        for n_in, n_out in itertools.pairwise(widths):
            stages += [convolution(n_in, n_out, 5, stride=2, padding=2), nn.SiLU(), _Residual(convolution, n_out)]
        self.stages = nn.Sequential(*stages)
        blank = torch.zeros(1, *shape)
        n_summed = summaries(PatternBatch(blank, blank, blank + 1, blank == 0)).shape[1]
        n_flat = widths[-1] * math.prod(-(-n // 16) for n in shape) + n_summed
        self.summary = nn.Sequential(
            nn.Linear(n_flat, 4 * n_features), nn.SiLU(), nn.Linear(4 * n_features, n_features)
        )

    def forward(self, batch: PatternBatch) -> torch.Tensor:
        """Summaries [sample, n_features].

        Raises
        ------
        ConfigError
            The encoder was made for patterns of another shape.
        """
        check_shape(batch, self.shape)
        seen = self.stages(pattern_fields(batch)).flatten(1)
        return self.summary(torch.cat([seen, self.summaries(batch)], 1))


class _Residual(nn.Module):
    def __init__(self, convolution: type[nn.Module], channels: int):
        super().__init__()
        self.change = nn.Sequential(
            convolution(channels, channels, 3, padding=1), nn.SiLU(), convolution(channels, channels, 3, padding=1)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.change(x)
