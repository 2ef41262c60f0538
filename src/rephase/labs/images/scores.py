"""Scores of multi-label classification, per label and over all labels; thresholds; tables of scores."""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import pandas as pd
import torch

from rephase.devices import at_once
from rephase.labs.images.data.batch import ImageBatch
from rephase.learning.batches import SplitData, on_device
from rephase.learning.scoring import Metric
from rephase.runs import COLUMNS

_N_BINS = 15


class Classified(NamedTuple):
    """Predicted probabilities beside the truth.

    ``probability`` [n, n_labels], 0–1; ``truth`` [n, n_labels], bool; ``threshold`` [n_labels]: a label is assigned if
    its probability reaches the threshold.
    """

    probability: torch.Tensor
    truth: torch.Tensor
    threshold: torch.Tensor

    @property
    def given(self) -> torch.Tensor:
        """Labels that are assigned, bool [n, n_labels]."""
        return self.probability >= self.threshold

    @property
    def occurs(self) -> torch.Tensor:
        """Labels that at least one sample has, bool [n_labels]; the others cannot be scored."""
        return self.truth.any(0)


def absent_labels(truth: torch.Tensor, names: tuple[str, ...]) -> tuple[str, ...]:
    """Return the names of the labels that no sample of `truth` [n, n_labels] has; means leave them out."""
    return tuple(name for name, occurs in zip(names, truth.any(0).tolist(), strict=True) if not occurs)


def best_thresholds(probability: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    """Find the threshold of each label with the largest F1, [n_labels]; choose it on validation data.

    It lies halfway between two probabilities that occur; among equally good thresholds the highest is taken. It is 1/2
    for a label without positives, and for a label whose probabilities are all 0 or 1.

    Parameters
    ----------
    probability, truth
        As in `Classified`.
    """
    level, found, is_cut = _ranked(probability.double(), truth)
    n_given = torch.arange(1, len(level) + 1, device=level.device)[:, None]
    best = torch.where(is_cut, 2 * found / (n_given + found[-1]), -1).argmax(0, keepdim=True)
    below = torch.cat([level[1:], torch.zeros_like(level[:1])])
    is_open = (found[-1] > 0) & ((level > 0) & (level < 1)).any(0)
    return torch.where(is_open, ((level + below) / 2).gather(0, best)[0], 0.5)


def _ranked(probability: torch.Tensor, truth: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Sort the probabilities down; return them, the positives so far, and whether a smaller one follows: [n, n_labels].

    A threshold is possible only after the last of equal probabilities.
    """
    level, order = probability.sort(0, descending=True)
    found = truth.gather(0, order).double().cumsum(0)
    return level, found, torch.cat([level[1:] < level[:-1], torch.ones_like(truth[:1])])


def _counts(c: Classified) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Count true and false positives, true and false negatives, [n_labels]."""
    given, truth = c.given, c.truth
    cells = (given & truth, given & ~truth, ~given & ~truth, ~given & truth)
    return tuple(cell.sum(0).double() for cell in cells)  # type: ignore[return-value]  # four of them


def _ratio(part: torch.Tensor, whole: torch.Tensor) -> torch.Tensor:
    """Return part / whole, and 0 where the whole is 0."""
    return torch.where(whole > 0, part / whole.clamp_min(torch.finfo(whole.dtype).tiny), 0)


def precision(c: Classified) -> torch.Tensor:
    """Fraction of the assigned labels that are correct, [n_labels]; 0 where none is assigned."""
    right, wrong, _, _ = _counts(c)
    return _ratio(right, right + wrong)


def recall(c: Classified) -> torch.Tensor:
    """Fraction of the true labels that are assigned, [n_labels]."""
    right, _, _, missed = _counts(c)
    return _ratio(right, right + missed)


def f1(c: Classified) -> torch.Tensor:
    """Harmonic mean of precision and recall, [n_labels]."""
    right, wrong, _, missed = _counts(c)
    return _ratio(2 * right, 2 * right + wrong + missed)


def mcc(c: Classified) -> torch.Tensor:
    """Matthews correlation of assigned and true labels, [n_labels]; 0, as for chance, if all or none are assigned."""
    right, wrong, right_negative, missed = _counts(c)
    margins = (right + wrong) * (right + missed) * (right_negative + wrong) * (right_negative + missed)
    return _ratio(right * right_negative - wrong * missed, margins.sqrt())


def average_precision(c: Classified) -> torch.Tensor:
    """Mean precision over the thresholds that just find each true label, [n_labels].

    ``AP = Σ_k (R_k - R_k-1) P_k`` over falling thresholds, with equal probabilities taken together; a random order
    scores about the frequency of the label.
    """
    _, found, is_cut = _ranked(c.probability, c.truth)
    n_given = torch.arange(1, len(found) + 1, device=found.device)[:, None]
    recalled = torch.where(is_cut, found, 0).cummax(0).values.diff(dim=0, prepend=torch.zeros_like(found[:1]))
    return _ratio((recalled * found / n_given).sum(0), found[-1])


def ece(c: Classified) -> torch.Tensor:
    """Expected calibration error, [n_labels]: ``Σ_b n_b / n |<p>_b - share of positives_b|`` over 15 bins of p.

    Naeini et al. 2015, doi:10.1609/aaai.v29i1.9602.
    """
    in_bin = (c.probability * _N_BINS).long().clamp(0, _N_BINS - 1)
    excess = c.probability.double() - c.truth.double()
    total = torch.zeros(_N_BINS, excess.shape[1], dtype=excess.dtype, device=excess.device)
    return total.scatter_add(0, in_bin, excess).abs().sum(0) / len(excess)


def _macro(values: torch.Tensor, c: Classified) -> torch.Tensor:
    """Mean over the labels that occur; NaN where none does."""
    return values[c.occurs].mean()


def exact_match(c: Classified) -> torch.Tensor:
    """Fraction of the samples with every label correct."""
    return (c.given == c.truth).all(1).double().mean()


def elementwise_accuracy(c: Classified) -> torch.Tensor:
    """Share of correct single answers: high even for a predictor that always gives the most common labels."""
    return (c.given == c.truth).double().mean()


LABEL_METRICS: dict[str, Metric[Classified]] = {
    "f1": Metric(f1, "", "higher"),
    "precision": Metric(precision, "", "higher"),
    "recall": Metric(recall, "", "higher"),
    "mcc": Metric(mcc, "", "higher"),
    "average_precision": Metric(average_precision, "", "higher"),
    "ece": Metric(ece, "", "lower"),
}


"""Scores of each label, [n_labels]; meaningless for a label that does not occur (`Classified.occurs`)."""


CLASSIFICATION_METRICS: dict[str, Metric[Classified]] = {
    "macro_f1": Metric(lambda c: _macro(f1(c), c), "", "higher"),
    "macro_mcc": Metric(lambda c: _macro(mcc(c), c), "", "higher"),
    "mean_average_precision": Metric(lambda c: _macro(average_precision(c), c), "", "higher"),
    "macro_ece": Metric(lambda c: _macro(ece(c), c), "", "lower"),
    "exact_match": Metric(exact_match, "", "higher"),
    "elementwise_accuracy": Metric(elementwise_accuracy, "", "higher"),
}


"""Scores of a whole set, one number each; macro: the mean over the labels that occur."""


class ImagePredictor(Protocol):
    """Anything that predicts the labels of images: a trained network or a baseline."""

    def predict(self, batch: ImageBatch) -> torch.Tensor:
        """Probability of each label, [batch, n_labels]."""


@torch.no_grad()
def probabilities(
    predictor: ImagePredictor, data: SplitData[ImageBatch], split: str, device: torch.device | str = "cpu"
) -> tuple[torch.Tensor, torch.Tensor]:
    """Predict the images of a split: probabilities [n, n_labels], and their true labels, bool, both on the CPU."""
    batches = data.batches(split, at_once("scored images", torch.device(device)))
    found = [(predictor.predict(on_device(batch, device)).cpu(), batch.labels > 0.5) for batch in batches]
    probability, truth = (torch.cat(parts) for parts in zip(*found))
    return probability, truth


def classify_split(
    predictor: ImagePredictor, data: SplitData[ImageBatch], split: str = "test", device: torch.device | str = "cpu"
) -> Classified:
    """Classify the images of a split with the thresholds that are best on the split ``validation``."""
    threshold = best_thresholds(*probabilities(predictor, data, "validation", device))
    return Classified(*probabilities(predictor, data, split, device), threshold)


def image_scores(
    classified: Classified,
    labels: Sequence[str],
    *,
    name: str,
    split: str = "test",
    experiment: str = "",
    seed: int = 0,
) -> pd.DataFrame:
    """Tabulate the scores of classified images in the columns `COLUMNS`.

    Scores over all labels carry the name of the split; scores of one label are named like ``test:round``, and their
    ``n`` is the number of images with that label. A label that no image has is left out, also of the means.
    """
    rows = [
        {
            "split": split,
            "metric": metric,
            "unit": entry.unit,
            "value": float(entry.function(classified)),
            "n": len(classified.truth),
        }
        for metric, entry in CLASSIFICATION_METRICS.items()
    ]
    frequency = classified.truth.sum(0).tolist()
    for metric, entry in LABEL_METRICS.items():
        values = entry.function(classified).tolist()
        rows += [
            {"split": f"{split}:{label}", "metric": metric, "unit": entry.unit, "value": value, "n": n}
            for label, value, n in zip(labels, values, frequency, strict=True)
            if n
        ]
    return pd.DataFrame(rows).assign(experiment=experiment, model=name, seed=seed)[COLUMNS]
