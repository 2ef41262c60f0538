"""From a model on a monoclinic grid and a split to tidy tables: overall, per space group, per resolution shell."""

from collections.abc import Iterable
from typing import Protocol

import numpy as np
import pandas as pd
import torch

from rephase.completion_metrics import COMPLETION_METRICS, PHASE_METRICS, Completed, align_phases, complete
from rephase.crystal.phases import unit_phasor
from rephase.datasets.monoclinic import CompletionBatch, MonoclinicData
from rephase.evaluation import Judged, Scoring, score_splits
from rephase.metrics import map_similarity, phase_error

N_SHELLS = 12
MAP_SCORE = "map_ssim"


class AmplitudePredictor(Protocol):
    """Anything that completes amplitudes: a trained model, a baseline, a solved structure."""

    def predict(self, batch: CompletionBatch) -> torch.Tensor:
        """|F| [batch, h, k, l] in electrons."""


def evaluate_completion(
    name: str, predictor: AmplitudePredictor, data: MonoclinicData, *, splits: Iterable[str] = ("test",), seed: int = 0,
    device: torch.device | str = "cpu",
) -> tuple[pd.DataFrame, pd.DataFrame]:  # fmt: skip
    """Score completed amplitudes on splits of the data.

    Parameters
    ----------
    name, predictor, data, splits, seed, device
        As in `rephase.evaluation.evaluate`.

    Returns
    -------
    results
        As there: the mean of every metric over a split, and over each of its space groups (``test:C 1 2 1``).
        ``map_ssim`` compares the map of the completed amplitudes with the true one, both with the true phases.
    shells
        R and mean squared difference of the reflections that were not measured, per shell of equal width in 1/d^2.
    """
    return score_splits(
        _scoring(data), name, predictor, data, splits=splits, seed=seed, experiment="completion", device=device
    )


class PhasePredictor(Protocol):
    """Anything that gives phases to monoclinic crystals: a trained model, chance."""

    def predict(self, batch: CompletionBatch) -> torch.Tensor:
        """F, complex [batch, h, k, l], in electrons."""


def evaluate_monoclinic_phases(
    name: str, predictor: PhasePredictor, data: MonoclinicData, *, splits: Iterable[str] = ("test",), seed: int = 0,
    device: torch.device | str = "cpu",
) -> tuple[pd.DataFrame, pd.DataFrame]:  # fmt: skip
    """Score phases of monoclinic crystals, best over the allowed origins and both hands.

    Parameters
    ----------
    name, predictor, data, splits, seed, device
        As in `rephase.evaluation.evaluate`.

    Returns
    -------
    results
        As there: the mean of `PHASE_METRICS` over a split, and over each of its space groups (``test:C 1 2 1``).
    shells
        Mean |Δφ| weighted by the true amplitude, per shell of equal width in 1/d^2.
    """
    return score_splits(
        _phase_scoring(data), name, predictor, data, splits=splits, seed=seed, experiment="monoclinic_phases",
        device=device,
    )  # fmt: skip


def _phase_scoring(data: MonoclinicData) -> Scoring[CompletionBatch]:
    groups = np.array([symmetry.symbol for symmetry in data.symmetries])

    def judge(predictor: PhasePredictor, batch: CompletionBatch, device: torch.device | str) -> Judged:
        there = CompletionBatch(*(field.to(device) for field in batch))
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
    """Complete a batch and put the truth beside it, on the CPU."""
    there = CompletionBatch(*(field.to(device) for field in batch))
    return complete(predictor.predict(there).cpu(), batch)


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
    """Every score of completed amplitudes, [batch] each."""
    scores = {metric: entry.function(completed).numpy() for metric, entry in COMPLETION_METRICS.items()}
    return scores | {MAP_SCORE: _map_ssim(completed, batch).numpy()}


def _map_ssim(completed: Completed, batch: CompletionBatch) -> torch.Tensor:
    phasor = unit_phasor(batch.F)
    return map_similarity(batch.density(completed.pred * phasor), batch.density(completed.true * phasor))


def _shell_terms(c: Completed) -> dict[str, torch.Tensor]:
    """What is summed over the reflections of a shell, each [batch, h, k, l]."""
    difference = (c.pred - c.true).abs()
    return {"amplitude": c.true, "residual": difference, "square": difference**2}


def _shell_scores(sums: pd.DataFrame) -> pd.DataFrame:
    return pd.DataFrame({
        "d_max": sums["d_max"],
        "d_min": sums["d_min"],
        "n": sums["n"].astype(int),
        "r_factor_missing": sums["residual"] / sums["amplitude"],
        "mse_missing": sums["square"] / sums["n"],
    })  # fmt: skip
