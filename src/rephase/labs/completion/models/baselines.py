"""Completed amplitudes without training: zero, Wilson statistics at each resolution, true shell medians."""

import math
from collections.abc import Callable

import torch

from rephase.crystal.reflections.statistics import LOG_VARIANCE, USUAL_B, WILSON_D_MAX
from rephase.crystal.scattering import form_factor_coefficients
from rephase.labs.completion.data import CompletionBatch

_N_SHELLS = 12
MEAN_OF_ROOT_MEAN_SQUARE = math.sqrt(math.pi) / 2  # <|F|> / sqrt(<|F|^2>) of acentric reflections, Wilson (1949)


class ZeroFill:
    """Zero for every missing amplitude."""

    def predict(self, batch: CompletionBatch) -> torch.Tensor:
        """Complete |F| in electrons, [batch, h, k, l]."""
        return batch.F.abs() * batch.observed


class WilsonAmplitude:
    """The mean |F| at each resolution according to Wilson's line, fitted to the observed reflections.

    All reflections have the mean of acentric ones, which is 11 % too large if all are centric (0.798), as in
    P 1 21/c 1.
    """

    def predict(self, batch: CompletionBatch) -> torch.Tensor:
        """Complete |F| in electrons, [batch, h, k, l]."""
        expected = MEAN_OF_ROOT_MEAN_SQUARE * wilson_amplitude(batch) * batch.mask
        return torch.where(batch.observed, batch.F.abs(), expected)


class ShellMedian:
    """The true median |F| of the missing reflections in each shell, as a reference for predictions."""

    def predict(self, batch: CompletionBatch) -> torch.Tensor:
        """Complete |F| in electrons, [batch, h, k, l]."""
        amplitude, out = batch.F.abs(), batch.F.abs() * batch.observed
        shell = _shells(batch, batch.missing)
        for number in range(_N_SHELLS):
            inside = batch.missing & (shell == number)
            median = torch.where(inside, amplitude, torch.nan).flatten(1).nanmedian(dim=1).values
            out = torch.where(inside, median[:, None, None, None], out)
        return out


def wilson_amplitude(batch: CompletionBatch) -> torch.Tensor:
    """Compute the RMS |F| at every grid point, [batch, h, k, l], from a Wilson line through the observed reflections.

    ln(<|F|^2>/f^2) = a - 2 B s^2 with f of carbon, fitted to shells with d < 3.5 Å and a prior for B.
    """
    ratio = batch.F.abs().square() / _carbon(batch.s_squared).square()
    counted = batch.observed & (4 * batch.s_squared * WILSON_D_MAX**2 > 1)
    shell = torch.nn.functional.one_hot(_shells(batch, counted), _N_SHELLS) * counted[..., None]
    n = shell.sum((1, 2, 3)).to(ratio.dtype)

    def mean(values: torch.Tensor) -> torch.Tensor:
        return (values[..., None] * shell).sum((1, 2, 3)) / n.clamp_min(1)

    x, y = mean(batch.s_squared), mean(ratio).clamp_min(torch.finfo(ratio.dtype).tiny).log()
    total = n.sum(1, keepdim=True)
    x_mean, y_mean = (n * x).sum(1, keepdim=True) / total, (n * y).sum(1, keepdim=True) / total
    weight, before = n / LOG_VARIANCE, (2 * USUAL_B[1]) ** -2
    slope = (weight * (x - x_mean) * (y - y_mean)).sum(1, keepdim=True) - 2 * USUAL_B[0] * before
    slope = slope / ((weight * (x - x_mean) ** 2).sum(1, keepdim=True) + before)
    line = y_mean[..., None, None] + slope[..., None, None] * (batch.s_squared - x_mean[..., None, None])
    return (line / 2).exp() * _carbon(batch.s_squared)


def _shells(batch: CompletionBatch, counted: torch.Tensor) -> torch.Tensor:
    """Index of the shell of equal width in s^2 between the smallest and the largest counted one, [batch, h, k, l]."""
    s2 = batch.s_squared
    low = torch.where(counted, s2, torch.inf).amin((1, 2, 3), keepdim=True)
    high = torch.where(counted, s2, -torch.inf).amax((1, 2, 3), keepdim=True)
    return (_N_SHELLS * (s2 - low) / (high - low)).long().clamp(0, _N_SHELLS - 1)


def _carbon(s_squared: torch.Tensor) -> torch.Tensor:
    coefficients = s_squared.new_tensor(form_factor_coefficients(["C"])[0])
    gaussians = coefficients[0:8:2] * torch.exp(-coefficients[1:8:2] * s_squared[..., None])
    return gaussians.sum(-1) + coefficients[8]


AMPLITUDE_BASELINES: dict[str, Callable[[], ZeroFill | WilsonAmplitude | ShellMedian]] = {
    "zero_fill": ZeroFill,
    "wilson": WilsonAmplitude,
    "shell_median": ShellMedian,
}
