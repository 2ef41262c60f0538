"""Scores of predicted structure factors: pure functions of a `Comparison`, and the table `METRICS`."""

from collections.abc import Iterable
from typing import NamedTuple, Protocol

import numpy as np
import pandas as pd
import torch

from rephase.crystal.density import density_from_F
from rephase.crystal.phases import align, align_hand, friedel_mate, phase_error, phase_misfit
from rephase.labs.crystals.data import Batch, PerturbedData
from rephase.learning.batches import on_device
from rephase.learning.scoring import Judged, Metric, Scoring, score_splits
from rephase.learning.similarity import map_similarity


class Comparison(NamedTuple):
    """Predicted and true structure factors, aligned once for all metrics.

    ``F_pred`` is the unchanged prediction, ``F_hand`` the prediction in the closer enantiomorph (hand), ``F_aligned``
    in the best origin and hand, and ``F_map`` the same with weights |F|^2, which is best for the map; these and
    ``F_true`` are complex [batch, h, k, l]. ``scored`` is True for reflections whose phase is scored; the densities of
    F_map and F_true are maps [batch, x, y, z] in e/Å^3.
    """

    F_pred: torch.Tensor
    F_hand: torch.Tensor
    F_aligned: torch.Tensor
    F_map: torch.Tensor
    F_true: torch.Tensor
    scored: torch.Tensor
    density_pred: torch.Tensor
    density_true: torch.Tensor


def compare(F_pred: torch.Tensor, F_true: torch.Tensor, scored: torch.Tensor, volume: torch.Tensor) -> Comparison:
    """Align a prediction over origin and hand, and transform it and the truth to maps on twice the grid.

    The maps contain the scored reflections, without F(000). Unchanged by any origin shift or inversion of `F_pred`.
    """
    F_map = align(F_pred, F_true, scored * F_true.abs() ** 2).F
    fine = tuple(2 * n for n in F_true.shape[-3:])
    maps = [density_from_F(F * scored, volume[:, None, None, None], fine) for F in (F_map, F_true)]
    hand, aligned = align_hand(F_pred, F_true, scored), align(F_pred, F_true, scored).F
    return Comparison(F_pred, hand, aligned, F_map, F_true, scored, *maps)


def _mean(values: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    return (values * weight).sum((1, 2, 3)) / weight.sum((1, 2, 3))


def _total_misfit(F: torch.Tensor, c: Comparison) -> torch.Tensor:
    return (phase_misfit(F, c.F_true) * c.scored).sum((1, 2, 3))


def phase_loss_naive(c: Comparison) -> torch.Tensor:
    """Sum of 1 - cos Δφ without alignment: the score of the reference work (convolutional-neural-nets)."""
    return _total_misfit(c.F_pred, c)


def phase_loss_hand(c: Comparison) -> torch.Tensor:
    """Sum of 1 - cos Δφ in the closer hand, with the origin as predicted."""
    return _total_misfit(c.F_hand, c)


def phase_loss_aligned(c: Comparison) -> torch.Tensor:
    """Sum of 1 - cos Δφ, best over origin and hand."""
    return _total_misfit(c.F_aligned, c)


def phase_loss_per_reflection(c: Comparison) -> torch.Tensor:
    """Mean of 1 - cos Δφ, best over origin and hand."""
    return _mean(phase_misfit(c.F_aligned, c.F_true), c.scored)


def mean_phase_error(c: Comparison) -> torch.Tensor:
    """Mean |Δφ| in degrees, best over origin and hand; random phases without alignment would have 90."""
    return _mean(phase_error(c.F_aligned, c.F_true), c.scored)


def mean_phase_error_weighted(c: Comparison) -> torch.Tensor:
    """Mean |Δφ| in degrees, weighted by the true amplitude, in the origin and hand that are best for the map."""
    return _mean(phase_error(c.F_map, c.F_true), c.F_true.abs() * c.scored)


def mse(c: Comparison) -> torch.Tensor:
    """Mean |F_pred - F_true|^2 over mean |F_true|^2, aligned for the map; unaligned random phases have 2."""
    return _mean((c.F_map - c.F_true).abs() ** 2, c.scored) / _mean(c.F_true.abs() ** 2, c.scored)


def r_factor(c: Comparison) -> torch.Tensor:
    """R = sum ||F_true| - k|F_pred|| / sum |F_true|, k from least squares; 0 for a model that keeps the amplitudes.

    The smaller value of the two hands, whose amplitudes differ because of f''; an origin shift changes no amplitude.
    """
    true = c.F_true.abs() * c.scored
    return torch.minimum(*(_scaled_r(true, F.abs() * c.scored) for F in (c.F_pred, friedel_mate(c.F_pred))))


def _scaled_r(true: torch.Tensor, pred: torch.Tensor) -> torch.Tensor:
    scale = (true * pred).sum((1, 2, 3)) / (pred**2).sum((1, 2, 3)).clamp_min(torch.finfo(pred.dtype).tiny)
    return (true - scale[:, None, None, None] * pred).abs().sum((1, 2, 3)) / true.sum((1, 2, 3))


def map_cc(c: Comparison) -> torch.Tensor:
    """Pearson correlation of the two maps over the cell, F(000) excluded."""
    pred, true = (m - m.mean((1, 2, 3), keepdim=True) for m in (c.density_pred, c.density_true))
    norm = (pred**2).sum((1, 2, 3)).sqrt() * (true**2).sum((1, 2, 3)).sqrt()
    return (pred * true).sum((1, 2, 3)) / norm.clamp_min(torch.finfo(norm.dtype).tiny)


def ssim(c: Comparison) -> torch.Tensor:
    """Structural similarity of the two maps: uniform window, periodic boundaries, data range of the true map."""
    return map_similarity(c.density_pred, c.density_true)


METRICS: dict[str, Metric[Comparison]] = {
    "phase_loss_aligned": Metric(phase_loss_aligned, "", "lower"),
    "phase_loss_hand": Metric(phase_loss_hand, "", "lower"),
    "phase_loss_naive": Metric(phase_loss_naive, "", "lower"),
    "phase_loss_per_reflection": Metric(phase_loss_per_reflection, "", "lower"),
    "mean_phase_error": Metric(mean_phase_error, "deg", "lower"),
    "mean_phase_error_weighted": Metric(mean_phase_error_weighted, "deg", "lower"),
    "mse": Metric(mse, "", "lower"),
    "r_factor": Metric(r_factor, "", "lower"),
    "map_cc": Metric(map_cc, "", "higher"),
    "ssim": Metric(ssim, "", "higher"),
}


N_SHELLS = 8


class Predictor(Protocol):
    """Anything that predicts structure factors for a batch: a trained model, a baseline, a solver."""

    def predict(self, batch: Batch) -> torch.Tensor:
        """Predict F, complex [batch, h, k, l]."""


def evaluate(
    name: str,
    predictor: Predictor,
    data: PerturbedData,
    *,
    splits: Iterable[str] = ("test", "unseen"),
    seed: int = 0,
    experiment: str = "",
    device: torch.device | str = "cpu",
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Score predicted phases on splits of the data.

    Parameters
    ----------
    name
        Name of the model in the tables.
    predictor
        Object with ``predict(batch)``.
    data
        The dataset.
    splits
        ``test`` is split by sample, ``unseen`` by parent; empty splits are skipped.
    seed, experiment
        Values of these columns in the tables.
    device
        Device on which the model runs.

    Returns
    -------
    results
        Columns `COLUMNS`: the mean of every metric over a split, and over each of its crystals (``test:Ni``).
    shells
        Phase loss, phase errors, mse and R (scale 1) per shell of equal width in 1/d^2, ``d_max, d_min`` in Å.
    """
    return score_splits(
        _phase_scoring(data), name, predictor, data, splits=splits, seed=seed, experiment=experiment, device=device
    )


@torch.no_grad()
def predict_batch(predictor: Predictor, batch: Batch, device: torch.device | str = "cpu") -> Comparison:
    """Predict a batch on a device, and compare it with the truth on the CPU."""
    batch = on_device(batch, device)
    return compare(predictor.predict(batch).cpu(), batch.F.cpu(), batch.scored.cpu(), batch.volume.cpu())


def _phase_scoring(data: PerturbedData) -> Scoring[Batch]:
    names = np.array([crystal.name for crystal in data.parents.crystals])
    inverse = data.parents.d_hkl**-2.0

    def judge(predictor: Predictor, batch: Batch, device: torch.device | str) -> Judged:
        comparison = predict_batch(predictor, batch, device)
        scored = comparison.scored
        scores = pd.DataFrame({metric: entry.function(comparison).numpy() for metric, entry in METRICS.items()})
        undefined = (batch.mask.sum((1, 2, 3)) - 1 - scored.sum((1, 2, 3))).numpy()
        terms = {name: values[scored] for name, values in _shell_terms(comparison).items()}
        scores = scores.assign(part=names[batch.parent.numpy()], undefined_phases=undefined)
        return Judged(scores, inverse[batch.parent][scored], terms)

    units = {name: entry.unit for name, entry in METRICS.items()} | {"undefined_phases": ""}
    edges = np.linspace(0, float(inverse[data.parents.mask].max()), N_SHELLS + 1)
    return Scoring(judge, units, edges, _shell_scores)


def _shell_terms(c: Comparison) -> dict[str, torch.Tensor]:
    """Terms that are summed over the reflections of a shell, each [batch, h, k, l]."""
    amplitude, error = c.F_true.abs(), phase_error(c.F_aligned, c.F_true)
    return {
        "misfit": phase_misfit(c.F_aligned, c.F_true),
        "error": error,
        "amplitude": amplitude,
        "weighted_error": phase_error(c.F_map, c.F_true) * amplitude,
        "square": amplitude**2,
        "difference": (c.F_map - c.F_true).abs() ** 2,
        "residual": (amplitude - c.F_pred.abs()).abs(),
    }


def _shell_scores(sums: pd.DataFrame) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "d_max": sums["d_max"],
            "d_min": sums["d_min"],
            "n": sums["n"].astype(int),
            "phase_loss_per_reflection": sums["misfit"] / sums["n"],
            "mean_phase_error_deg": sums["error"] / sums["n"],
            "mean_phase_error_weighted_deg": sums["weighted_error"] / sums["amplitude"],
            "mse": sums["difference"] / sums["square"],
            "r_factor_unscaled": sums["residual"] / sums["amplitude"],
        }
    )
