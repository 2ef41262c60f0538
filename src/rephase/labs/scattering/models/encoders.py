"""What flows see of a pattern: counts on a scale that fits every exposure, the mask, and a summary of both."""

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

    The first is that of the counts over the photons, with half a count for none; the second says how sure it is, and
    both are 0 where nothing was measured. Exposures are so told apart from intensities.
    """
    photons = batch.photons.expand_as(batch.counts)
    intensity = ((batch.counts + 0.5) / photons).log()
    fields = torch.stack([intensity, batch.counts.log1p(), torch.ones_like(batch.counts)], dim=1) / 3
    return torch.where(batch.mask[:, None], fields, 0.0)


class PatternEncoder(nn.Module):
    """Residual convolutions over a curve or an image, each stage half as fine, and a dense layer to the summary.

    What the simulator of the patterns sums up of many pixels enters the dense layer as well.

    Parameters
    ----------
    shape
        Of a pattern: one or two axes, 16 or more along each.
    n_features
        Numbers in the summary.
    summaries
        Of the simulator: sums [sample, n] over pixels of a batch.
    channels
        Of the first stage; the next have twice, and all others four times as many.

    Raises
    ------
    ConfigError
        Patterns of another shape.
    """

    def __init__(
        self, shape: tuple[int, ...], n_features: int, *, summaries: Callable[[PatternBatch], torch.Tensor],
        channels: int = 16,
    ):  # fmt: skip
        super().__init__()
        if len(shape) not in (1, 2) or min(shape) < 16:
            raise ConfigError(f"patterns of shape {tuple(shape)}: expected one or two axes, each of 16 or more")
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
            Patterns of another size than the encoder was made for.
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
