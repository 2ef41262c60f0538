"""Scores of completed amplitudes, over all reflections and over those that were not measured."""

from typing import NamedTuple

import torch

from rephase.datasets.monoclinic import CompletionBatch
from rephase.metrics import Metric, structural_similarity


class Completed(NamedTuple):
    """Predicted and true |F| in units of the largest observed one, and which reflections there are.

    ``pred`` and ``true`` [batch, h, k, l], zero where there is no reflection; ``mask``, and ``missing``: not measured.
    """

    pred: torch.Tensor
    true: torch.Tensor
    mask: torch.Tensor
    missing: torch.Tensor


def complete(amplitude: torch.Tensor, batch: CompletionBatch) -> Completed:
    """Put predicted |F| in electrons, [batch, h, k, l], beside the truth; the observed part is the observed data."""
    true = batch.F.abs() * batch.mask
    pred = torch.where(batch.observed, true, amplitude * batch.mask)
    return Completed(pred / batch.scale, true / batch.scale, batch.mask, batch.missing)


def _r_factor(c: Completed, counted: torch.Tensor) -> torch.Tensor:
    difference = ((c.pred - c.true).abs() * counted).sum((1, 2, 3))
    return difference / (c.true * counted).sum((1, 2, 3)).clamp_min(torch.finfo(c.true.dtype).tiny)


def r_factor(c: Completed) -> torch.Tensor:
    """R = sum ||F_out| - |F|| / sum |F| over every reflection of the grid, as the reference work counts."""
    return _r_factor(c, c.mask)


def r_factor_missing(c: Completed) -> torch.Tensor:
    """The same over the reflections that were not measured: what a completion adds."""
    return _r_factor(c, c.missing)


def mse(c: Completed) -> torch.Tensor:
    """Mean squared difference over every point of the grid, reflection or not, as the reference work counts."""
    return (c.pred - c.true).square().mean((1, 2, 3))


def mse_missing(c: Completed) -> torch.Tensor:
    """Mean squared difference over the reflections that were not measured."""
    return ((c.pred - c.true).square() * c.missing).sum((1, 2, 3)) / c.missing.sum((1, 2, 3))


def ssim(c: Completed) -> torch.Tensor:
    """Structural similarity of the two grids of amplitudes, whose values range over 1."""
    return structural_similarity(c.pred, c.true, periodic=False)


COMPLETION_METRICS: dict[str, Metric[Completed]] = {
    "r_factor": Metric(r_factor, "", "lower"),
    "r_factor_missing": Metric(r_factor_missing, "", "lower"),
    "mse": Metric(mse, "", "lower"),
    "mse_missing": Metric(mse_missing, "", "lower"),
    "ssim": Metric(ssim, "", "higher"),
}
