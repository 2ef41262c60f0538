"""Tidy tables of scores of a predictor on a split: overall, per crystal, and per resolution shell."""

from collections.abc import Callable, Iterable
from typing import Any, Generic, Literal, NamedTuple, TypeVar

import numpy as np
import pandas as pd
import torch

from rephase.devices import at_once
from rephase.learning.batches import BatchType, SplitData
from rephase.runs import COLUMNS

Compared = TypeVar("Compared")


class Judged(NamedTuple):
    """The scores kept for a batch.

    ``scores`` has a row for each sample, with every metric and the ``part`` of the split that the sample belongs to.
    ``inverse_d_squared`` [n] in Å^-2 is that of the reflections that count in shells; ``terms`` [n] are summed there.
    """

    scores: pd.DataFrame
    inverse_d_squared: torch.Tensor
    terms: dict[str, torch.Tensor]


class Scoring(NamedTuple, Generic[BatchType]):
    """The scoring of predictions for a dataset.

    Parameters
    ----------
    judge
        Function that scores a predictor on a batch, on a device.
    units
        Unit of every metric.
    edges
        Edges of the resolution shells, increasing in 1/d^2 (Å^-2).
    shell_scores
        Function from the sums of the terms over each shell to its scores.
    """

    judge: Callable[[Any, BatchType, torch.device | str], Judged]
    units: dict[str, str]
    edges: np.ndarray
    shell_scores: Callable[[pd.DataFrame], pd.DataFrame]


def score_splits(
    scoring: Scoring[BatchType],
    name: str,
    predictor: Any,
    data: SplitData[BatchType],
    *,
    splits: Iterable[str],
    seed: int,
    experiment: str,
    device: torch.device | str,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Score a predictor on splits of any dataset; parameters and tables are those of `evaluate`."""
    results, shells = [], []
    n_samples = at_once("scored crystals", torch.device(device))  # a search over origins makes several maps of each
    for split in splits:
        if len(data.splits[split]) == 0:
            continue
        judged = (scoring.judge(predictor, batch, device) for batch in data.batches(split, n_samples))
        samples, sums = _collect(judged, scoring.edges)
        results.append(_tidy(samples, split, scoring.units))
        shells.append(scoring.shell_scores(sums).assign(split=split))
    identity = {"experiment": experiment, "model": name, "seed": seed}
    return (
        pd.concat(results, ignore_index=True).assign(**identity)[COLUMNS],
        pd.concat(shells, ignore_index=True).assign(**identity),
    )


def summarise(results: pd.DataFrame, metrics: list[str], *, parts: bool = False) -> pd.DataFrame:
    """Arrange tidy results for reading: one row per model and split, or part of a split, one column per metric."""
    chosen = results["split"].str.contains(":") == parts
    order = list(dict.fromkeys(results["model"]))
    wide = results[chosen].pivot_table(index=["model", "split"], columns="metric", values="value", sort=False)
    wide = wide.reindex(columns=metrics)
    return wide.sort_index(level=0, key=lambda names: names.map(order.index), sort_remaining=False)


def _collect(judged: Iterable[Judged], edges: np.ndarray) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the scores of every sample; and ``d_max, d_min, n`` and sums of terms for shells with reflections."""
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
    """Return one row per metric for the split and for each of its parts."""
    groups = [(split, samples), *((f"{split}:{part}", group) for part, group in samples.groupby("part"))]
    return pd.DataFrame(
        [
            {"split": label, "metric": metric, "unit": unit, "value": group[metric].mean(), "n": len(group)}
            for label, group in groups
            for metric, unit in units.items()
        ]
    )


class Metric(NamedTuple, Generic[Compared]):
    """A score, one value per sample [batch] unless stated otherwise; its unit; and which direction is better."""

    function: Callable[[Compared], torch.Tensor]
    unit: str
    better: Literal["lower", "higher"]
