"""From a predictor and a split to tidy tables of scores: overall, per crystal, per resolution shell."""

from collections.abc import Iterable
from typing import Protocol

import numpy as np
import pandas as pd
import torch

from rephase.datasets.perturbed import Batch, PerturbedData
from rephase.losses import phase_misfit
from rephase.metrics import METRICS, Comparison, compare, phase_error

COLUMNS = ["experiment", "model", "split", "metric", "unit", "value", "n", "seed"]
N_SHELLS = 8
_BATCH = 32  # the search over origins works on small maps: more at once leave the cache


class Predictor(Protocol):
    """Anything that gives structure factors for a batch: a trained model, a baseline, a solver."""

    def predict(self, batch: Batch) -> torch.Tensor:
        """F, complex [batch, h, k, l]."""


def evaluate(
    name: str, predictor: Predictor, data: PerturbedData, *, splits: Iterable[str] = ("test", "unseen"), seed: int = 0,
    experiment: str = "", device: torch.device | str = "cpu",
) -> tuple[pd.DataFrame, pd.DataFrame]:  # fmt: skip
    """Score a predictor on splits of the data.

    Parameters
    ----------
    name
        Of the model, for the tables.
    predictor
        Has ``predict(batch)``.
    data
        The data set.
    splits
        ``test`` is by sample, ``unseen`` by parent; an empty split is left out.
    seed, experiment
        Columns of the tables.
    device
        Where the model runs.

    Returns
    -------
    results
        Columns `COLUMNS`: the mean of every metric over a split, and over each of its crystals (``test:Ni``).
    shells
        The same per shell of equal width in 1/d^2, ``d_max, d_min`` in Å: phase loss, phase errors, mse, R (scale 1).
    """
    results, shells = [], []
    for split in splits:
        if len(data.splits[split]) == 0:
            continue
        samples, per_shell = _score_split(predictor, data, split, device)
        results.append(_tidy(samples, split, list(METRICS)))
        shells.append(per_shell.assign(split=split))
    identity = {"experiment": experiment, "model": name, "seed": seed}
    return (
        pd.concat(results, ignore_index=True).assign(**identity)[COLUMNS],
        pd.concat(shells, ignore_index=True).assign(**identity),
    )


@torch.no_grad()
def predict_batch(predictor: Predictor, batch: Batch, device: torch.device | str = "cpu") -> Comparison:
    """Predict a batch and compare it with the truth, on the CPU."""
    batch = Batch(*(field.to(device) for field in batch))
    return compare(predictor.predict(batch).cpu(), batch.F.cpu(), batch.scored.cpu(), batch.volume.cpu())


def _score_split(
    predictor: Predictor, data: PerturbedData, split: str, device: torch.device | str
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Every metric of every sample, with its crystal; and the phase error per shell."""
    rows, edges, totals = [], _shell_edges(data), np.zeros((N_SHELLS, len(_SHELL_SUMS)))
    for batch in data.batches(split, _BATCH):
        comparison = predict_batch(predictor, batch, device)
        scores = {metric: entry.function(comparison).numpy() for metric, entry in METRICS.items()}
        undefined = (batch.mask.sum((1, 2, 3)) - 1 - comparison.scored.sum((1, 2, 3))).numpy()
        rows.append(pd.DataFrame(scores).assign(parent=batch.parent.numpy(), undefined_phases=undefined))
        scored = comparison.scored
        shell = np.digitize(data.parents.d_hkl[batch.parent][scored].numpy() ** -2.0, edges[1:-1])
        for column, values in enumerate(_shell_terms(comparison)):
            totals[:, column] += np.bincount(shell, values[scored].numpy(), N_SHELLS)
    names = np.array([crystal.name for crystal in data.parents.crystals])
    samples = pd.concat(rows, ignore_index=True)
    return samples.assign(crystal=names[samples.parent]), _shell_table(totals, edges)


_SHELL_SUMS = ("n", "misfit", "error", "amplitude", "weighted_error", "square", "difference", "residual")


def _shell_terms(c: Comparison) -> tuple[torch.Tensor, ...]:
    """What is summed over the reflections of a shell, in the order of `_SHELL_SUMS`; each [batch, h, k, l]."""
    amplitude, error = c.F_true.abs(), phase_error(c.F_aligned, c.F_true)
    weighted = phase_error(c.F_map, c.F_true) * amplitude
    residual = (amplitude - c.F_pred.abs()).abs()
    ones, difference = torch.ones_like(amplitude), (c.F_map - c.F_true).abs() ** 2
    return ones, phase_misfit(c.F_aligned, c.F_true), error, amplitude, weighted, amplitude**2, difference, residual


def _shell_table(totals: np.ndarray, edges: np.ndarray) -> pd.DataFrame:
    """Scores of the shells that hold reflections."""
    d = np.divide(1, np.sqrt(edges), out=np.full(len(edges), np.inf), where=edges > 0)
    sums = pd.DataFrame(totals, columns=list(_SHELL_SUMS)).assign(d_max=d[:-1], d_min=d[1:])
    sums = sums[sums["n"] > 0]
    return pd.DataFrame({
        "d_max": sums["d_max"],
        "d_min": sums["d_min"],
        "n": sums["n"].astype(int),
        "phase_loss_per_reflection": sums["misfit"] / sums["n"],
        "mean_phase_error_deg": sums["error"] / sums["n"],
        "mean_phase_error_weighted_deg": sums["weighted_error"] / sums["amplitude"],
        "mse": sums["difference"] / sums["square"],
        "r_factor_unscaled": sums["residual"] / sums["amplitude"],
    })  # fmt: skip


def _shell_edges(data: PerturbedData) -> np.ndarray:
    """Edges of the shells in 1/d^2 (Å^-2), from 0 to the largest that is measured."""
    inverse = (data.parents.d_hkl**-2.0)[data.parents.mask]
    return np.linspace(0, float(inverse.max()), N_SHELLS + 1)


def _tidy(samples: pd.DataFrame, split: str, metrics: list[str]) -> pd.DataFrame:
    """One row per metric of the split and of each of its crystals."""
    units = {name: entry.unit for name, entry in METRICS.items()} | {"undefined_phases": ""}
    groups = [(split, samples), *((f"{split}:{crystal}", group) for crystal, group in samples.groupby("crystal"))]
    return pd.DataFrame([
        {"split": label, "metric": metric, "unit": units[metric], "value": group[metric].mean(), "n": len(group)}
        for label, group in groups
        for metric in [*metrics, "undefined_phases"]
    ])  # fmt: skip
