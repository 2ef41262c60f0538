"""From a predictor and a split to tidy tables of scores: overall, per crystal, per resolution shell."""

from collections.abc import Callable, Iterable
from typing import Any, Generic, NamedTuple, Protocol

import numpy as np
import pandas as pd
import torch

from rephase.datasets.batches import BatchType, SplitData
from rephase.datasets.perturbed import Batch, PerturbedData
from rephase.losses import phase_misfit
from rephase.metrics import METRICS, Comparison, compare, phase_error

COLUMNS = ["experiment", "model", "split", "metric", "unit", "value", "n", "seed"]
N_SHELLS = 8
_BATCH = 32  # the search over origins works on small maps: more at once leave the cache


class Judged(NamedTuple):
    """What is kept of a batch.

    ``scores`` has a row for each sample: every metric, and the ``part`` of the split that it belongs to.
    ``inverse_d_squared [n]`` in Å^-2 are those of the reflections that count in shells, ``terms [n]`` what is summed.
    """

    scores: pd.DataFrame
    inverse_d_squared: torch.Tensor
    terms: dict[str, torch.Tensor]


class Scoring(NamedTuple, Generic[BatchType]):
    """How the predictions for a data set are scored.

    Parameters
    ----------
    judge
        From a predictor, a batch and a device.
    units
        Of every metric.
    edges
        Of the shells, rising in 1/d^2 (Å^-2).
    shell_scores
        From the sums of the terms over each shell to its scores.
    """

    judge: Callable[[Any, BatchType, torch.device | str], Judged]
    units: dict[str, str]
    edges: np.ndarray
    shell_scores: Callable[[pd.DataFrame], pd.DataFrame]


class Predictor(Protocol):
    """Anything that gives structure factors for a batch: a trained model, a baseline, a solver."""

    def predict(self, batch: Batch) -> torch.Tensor:
        """F, complex [batch, h, k, l]."""


def evaluate(
    name: str, predictor: Predictor, data: PerturbedData, *, splits: Iterable[str] = ("test", "unseen"), seed: int = 0,
    experiment: str = "", device: torch.device | str = "cpu",
) -> tuple[pd.DataFrame, pd.DataFrame]:  # fmt: skip
    """Score a predictor of phases on splits of the data.

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
    return score_splits(
        _phase_scoring(data), name, predictor, data, splits=splits, seed=seed, experiment=experiment, device=device
    )


def score_splits(
    scoring: Scoring[BatchType], name: str, predictor: Any, data: SplitData[BatchType], *, splits: Iterable[str],
    seed: int, experiment: str, device: torch.device | str,
) -> tuple[pd.DataFrame, pd.DataFrame]:  # fmt: skip
    """Score a predictor on splits of any data set; parameters and tables are those of `evaluate`."""
    results, shells = [], []
    for split in splits:
        if len(data.splits[split]) == 0:
            continue
        judged = (scoring.judge(predictor, batch, device) for batch in data.batches(split, _BATCH))
        samples, sums = _collect(judged, scoring.edges)
        results.append(_tidy(samples, split, scoring.units))
        shells.append(scoring.shell_scores(sums).assign(split=split))
    identity = {"experiment": experiment, "model": name, "seed": seed}
    return (
        pd.concat(results, ignore_index=True).assign(**identity)[COLUMNS],
        pd.concat(shells, ignore_index=True).assign(**identity),
    )


def summarise(results: pd.DataFrame, metrics: list[str], *, parts: bool = False) -> pd.DataFrame:
    """Tidy results as a table to read: one row per model and split, or part of a split, and one column per metric."""
    chosen = results["split"].str.contains(":") == parts
    order = list(dict.fromkeys(results["model"]))
    wide = results[chosen].pivot_table(index=["model", "split"], columns="metric", values="value", sort=False)
    wide = wide.reindex(columns=metrics)
    return wide.sort_index(level=0, key=lambda names: names.map(order.index), sort_remaining=False)


def _collect(judged: Iterable[Judged], edges: np.ndarray) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Scores of every sample; for each shell that holds reflections ``d_max, d_min``, ``n`` and the sums of terms."""
    rows, sums = [], []
    for scores, inverse_d_squared, terms in judged:
        rows.append(scores)
        shell = np.digitize(inverse_d_squared.numpy(), edges[1:-1])
        weights = {"n": None, **{name: values.numpy() for name, values in terms.items()}}
        sums.append(pd.DataFrame({k: np.bincount(shell, values, len(edges) - 1) for k, values in weights.items()}))
    d = np.divide(1, np.sqrt(edges), out=np.full(len(edges), np.inf), where=edges > 0)
    total = pd.concat(sums).groupby(level=0).sum().assign(d_max=d[:-1], d_min=d[1:])
    return pd.concat(rows, ignore_index=True), total[total["n"] > 0]


def _tidy(samples: pd.DataFrame, split: str, units: dict[str, str]) -> pd.DataFrame:
    """One row per metric of the split and of each of its parts."""
    groups = [(split, samples), *((f"{split}:{part}", group) for part, group in samples.groupby("part"))]
    return pd.DataFrame([
        {"split": label, "metric": metric, "unit": unit, "value": group[metric].mean(), "n": len(group)}
        for label, group in groups
        for metric, unit in units.items()
    ])  # fmt: skip


@torch.no_grad()
def predict_batch(predictor: Predictor, batch: Batch, device: torch.device | str = "cpu") -> Comparison:
    """Predict a batch and compare it with the truth, on the CPU."""
    batch = Batch(*(field.to(device) for field in batch))
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
    """What is summed over the reflections of a shell, each [batch, h, k, l]."""
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
