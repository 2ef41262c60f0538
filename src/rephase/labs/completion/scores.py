"""Scores on a monoclinic grid: amplitudes, over all and over missing reflections, and phases."""

from collections.abc import Iterable
from typing import NamedTuple, Protocol

import numpy as np
import pandas as pd
import torch

from rephase.crystal.phases import phase_error, unit_phasor
from rephase.labs.completion.data import CompletionBatch, MonoclinicData
from rephase.labs.completion.grid_phases import align_monoclinic
from rephase.labs.completion.grids import MonoclinicGrid
from rephase.learning.batches import on_device
from rephase.learning.scoring import Judged, Metric, Scoring, score_splits
from rephase.learning.similarity import map_similarity, structural_similarity


class Completed(NamedTuple):
    """Predicted and true |F| in units of the largest observed one, with masks, [batch, h, k, l] each.

    ``pred`` and ``true`` are zero where ``mask`` is False (no reflection); ``missing`` marks unmeasured reflections.
    """

    pred: torch.Tensor
    true: torch.Tensor
    mask: torch.Tensor
    missing: torch.Tensor


def filled_in(amplitude: torch.Tensor, batch: CompletionBatch) -> Completed:
    """Pair predicted |F| in electrons, [batch, h, k, l], with the truth; observed amplitudes replace predicted ones."""
    true = batch.F.abs() * batch.mask
    pred = torch.where(batch.observed, true, amplitude * batch.mask)
    return Completed(pred / batch.scale, true / batch.scale, batch.mask, batch.missing)


def _r_factor(c: Completed, counted: torch.Tensor) -> torch.Tensor:
    difference = ((c.pred - c.true).abs() * counted).sum((1, 2, 3))
    return difference / (c.true * counted).sum((1, 2, 3)).clamp_min(torch.finfo(c.true.dtype).tiny)


def r_factor(c: Completed) -> torch.Tensor:
    """R = sum ||F_out| - |F|| / sum |F| over every reflection of the grid, as in the reference work."""
    return _r_factor(c, c.mask)


def r_factor_missing(c: Completed) -> torch.Tensor:
    """R over the missing reflections only, which the completion adds."""
    return _r_factor(c, c.missing)


def mse(c: Completed) -> torch.Tensor:
    """Mean squared difference over all grid points, with or without a reflection, as in the reference work."""
    return (c.pred - c.true).square().mean((1, 2, 3))


def mse_missing(c: Completed) -> torch.Tensor:
    """Mean squared difference over the missing reflections."""
    return ((c.pred - c.true).square() * c.missing).sum((1, 2, 3)) / c.missing.sum((1, 2, 3))


def ssim(c: Completed) -> torch.Tensor:
    """Structural similarity of the two grids of amplitudes, with a data range of 1."""
    return structural_similarity(c.pred, c.true, periodic=False)


COMPLETION_METRICS: dict[str, Metric[Completed]] = {
    "r_factor": Metric(r_factor, "", "lower"),
    "r_factor_missing": Metric(r_factor_missing, "", "lower"),
    "mse": Metric(mse, "", "lower"),
    "mse_missing": Metric(mse_missing, "", "lower"),
    "ssim": Metric(ssim, "", "higher"),
}


class Phased(NamedTuple):
    """Predicted F, moved to the best allowed origin and enantiomorph, and true F, complex [batch, h, k, l].

    ``multiplicity`` is the number of reflections of the whole sphere that each represents, 0 if it does not exist.
    """

    pred: torch.Tensor
    true: torch.Tensor
    multiplicity: torch.Tensor


def align_phases(F_pred: torch.Tensor, batch: CompletionBatch) -> Phased:
    """Move predicted F, complex [batch, h, k, l] and obeying the group, to where its map agrees best with the truth.

    The result is unchanged by an allowed shift of the origin or an inversion of `F_pred`.
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


N_SHELLS = 12


MAP_SCORE = "map_ssim"


class AmplitudePredictor(Protocol):
    """Anything that completes amplitudes: a trained model, a baseline, a solved structure."""

    def predict(self, batch: CompletionBatch) -> torch.Tensor:
        """Predict |F| in electrons, [batch, h, k, l]."""


def evaluate_completion(
    name: str,
    predictor: AmplitudePredictor,
    data: MonoclinicData,
    *,
    splits: Iterable[str] = ("test",),
    seed: int = 0,
    device: torch.device | str = "cpu",
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Score completed amplitudes on splits of the data.

    Parameters
    ----------
    name, predictor, data, splits, seed, device
        As in `rephase.labs.crystals.scores.evaluate`.

    Returns
    -------
    results
        The mean of every metric over a split, and over each of its space groups (``test:C 1 2 1``).
        ``map_ssim`` compares the map of the completed amplitudes with the true one, both with the true phases.
    shells
        R and mean squared difference over the missing reflections, per shell of equal width in 1/d^2.
    """
    return score_splits(
        _scoring(data), name, predictor, data, splits=splits, seed=seed, experiment="completion", device=device
    )


class PhasePredictor(Protocol):
    """Anything that predicts phases of monoclinic crystals: a trained model, chance."""

    def predict(self, batch: CompletionBatch) -> torch.Tensor:
        """Predict F in electrons, complex [batch, h, k, l]."""


def evaluate_monoclinic_phases(
    name: str,
    predictor: PhasePredictor,
    data: MonoclinicData,
    *,
    splits: Iterable[str] = ("test",),
    seed: int = 0,
    device: torch.device | str = "cpu",
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Score phases of monoclinic crystals, best over the allowed origins and both enantiomorphs.

    Parameters
    ----------
    name, predictor, data, splits, seed, device
        As in `rephase.labs.crystals.scores.evaluate`.

    Returns
    -------
    results
        The mean of `PHASE_METRICS` over a split, and over each of its space groups (``test:C 1 2 1``).
    shells
        Mean |Δφ| weighted by the true amplitude, per shell of equal width in 1/d^2.
    """
    return score_splits(
        _phase_scoring(data),
        name,
        predictor,
        data,
        splits=splits,
        seed=seed,
        experiment="monoclinic_phases",
        device=device,
    )


def _phase_scoring(data: MonoclinicData) -> Scoring[CompletionBatch]:
    groups = np.array([symmetry.symbol for symmetry in data.symmetries])

    def judge(predictor: PhasePredictor, batch: CompletionBatch, device: torch.device | str) -> Judged:
        there = on_device(batch, device)
        phased = align_phases(predictor.predict(there).cpu(), batch)
        scores = {metric: entry.function(phased).numpy() for metric, entry in PHASE_METRICS.items()}
        amplitude = (phased.multiplicity * phased.true.abs())[batch.mask]
        terms = {"amplitude": amplitude, "error": phase_error(phased.pred, phased.true)[batch.mask] * amplitude}
        parts = groups[batch.group.numpy()]
        return Judged(pd.DataFrame(scores).assign(part=parts), 4 * batch.s_squared[batch.mask], terms)

    units = {name: entry.unit for name, entry in PHASE_METRICS.items()}
    return Scoring(judge, units, _edges(data), _phase_shell_scores)


def _edges(data: MonoclinicData) -> np.ndarray:
    return np.linspace(0, data.config.d_min**-2, N_SHELLS + 1)


def _phase_shell_scores(sums: pd.DataFrame) -> pd.DataFrame:
    kept = sums[["d_max", "d_min", "n"]].astype({"n": int})
    return kept.assign(mean_phase_error_weighted_deg=sums["error"] / sums["amplitude"])


@torch.no_grad()
def complete_batch(
    predictor: AmplitudePredictor, batch: CompletionBatch, device: torch.device | str = "cpu"
) -> Completed:
    """Complete a batch on a device, and pair it with the truth on the CPU."""
    there = on_device(batch, device)
    return filled_in(predictor.predict(there).cpu(), batch)


def _scoring(data: MonoclinicData) -> Scoring[CompletionBatch]:
    groups = np.array([symmetry.symbol for symmetry in data.symmetries])

    def judge(predictor: AmplitudePredictor, batch: CompletionBatch, device: torch.device | str) -> Judged:
        completed = complete_batch(predictor, batch, device)
        scores = score_completed(completed, batch)
        terms = {name: values[completed.missing] for name, values in _shell_terms(completed).items()}
        inverse = 4 * batch.s_squared[completed.missing]
        return Judged(pd.DataFrame(scores).assign(part=groups[batch.group.numpy()]), inverse, terms)

    units = {name: entry.unit for name, entry in COMPLETION_METRICS.items()} | {MAP_SCORE: ""}
    return Scoring(judge, units, _edges(data), _shell_scores)


def score_completed(completed: Completed, batch: CompletionBatch) -> dict[str, np.ndarray]:
    """Compute every score of completed amplitudes, [batch] each."""
    scores = {metric: entry.function(completed).numpy() for metric, entry in COMPLETION_METRICS.items()}
    return scores | {MAP_SCORE: _map_ssim(completed, batch).numpy()}


def _map_ssim(completed: Completed, batch: CompletionBatch) -> torch.Tensor:
    phasor = unit_phasor(batch.F)
    return map_similarity(batch.density(completed.pred * phasor), batch.density(completed.true * phasor))


def _shell_terms(c: Completed) -> dict[str, torch.Tensor]:
    """Terms that are summed over the reflections of a shell, each [batch, h, k, l]."""
    difference = (c.pred - c.true).abs()
    return {"amplitude": c.true, "residual": difference, "square": difference**2}


def _shell_scores(sums: pd.DataFrame) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "d_max": sums["d_max"],
            "d_min": sums["d_min"],
            "n": sums["n"].astype(int),
            "r_factor_missing": sums["residual"] / sums["amplitude"],
            "mse_missing": sums["square"] / sums["n"],
        }
    )
