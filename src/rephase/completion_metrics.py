"""Scores on a monoclinic grid: completed amplitudes, over all reflections and over those missing; and phases."""

from typing import NamedTuple

import torch

from rephase.crystal.monoclinic_grids import MonoclinicGrid
from rephase.crystal.monoclinic_phases import align_monoclinic
from rephase.datasets.monoclinic import CompletionBatch
from rephase.metrics import Metric, phase_error, structural_similarity


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


class Phased(NamedTuple):
    """Predicted F, moved to the nearest allowed origin and hand, and true F, complex [batch, h, k, l].

    ``multiplicity`` is how many reflections of the whole sphere each stands for, 0 where there is none.
    """

    pred: torch.Tensor
    true: torch.Tensor
    multiplicity: torch.Tensor


def align_phases(F_pred: torch.Tensor, batch: CompletionBatch) -> Phased:
    """Put predicted F, complex [batch, h, k, l] and as the group asks, beside the truth: where their maps agree best.

    Unchanged by an allowed shift of the origin, and by an inversion.
    """
    grid = MonoclinicGrid.of(batch.F)
    twice = torch.as_tensor(grid.hkl[..., 1:] > 0, device=batch.F.device).long() + 1  # k and -k, l and -l
    multiplicity = twice.prod(-1) * batch.mask
    weight = multiplicity * F_pred.abs() * batch.F.abs()
    return Phased(align_monoclinic(F_pred, batch.F, batch.operations, grid, weight), batch.F, multiplicity)


def map_cc(c: Phased) -> torch.Tensor:
    """Pearson correlation of the two maps over the cell, F(000) excluded."""
    product = (c.multiplicity * (c.pred * c.true.conj()).real).sum((1, 2, 3))
    power = [(c.multiplicity * F.abs().square()).sum((1, 2, 3)) for F in (c.pred, c.true)]
    return product / (power[0] * power[1]).sqrt()


def mean_phase_error_weighted(c: Phased) -> torch.Tensor:
    """Mean |Δφ| in degrees, weighted by the true amplitude."""
    weight = c.multiplicity * c.true.abs()
    return (phase_error(c.pred, c.true) * weight).sum((1, 2, 3)) / weight.sum((1, 2, 3))


PHASE_METRICS: dict[str, Metric[Phased]] = {
    "map_cc": Metric(map_cc, "", "higher"),
    "mean_phase_error_weighted": Metric(mean_phase_error_weighted, "deg", "lower"),
}
