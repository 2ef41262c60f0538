"""From a classifier and a data set of images to probabilities beside the truth, and tidy tables of scores."""

from collections.abc import Sequence
from typing import Protocol

import pandas as pd
import torch

from rephase.classification_metrics import CLASSIFICATION_METRICS, LABEL_METRICS, Classified, best_thresholds
from rephase.datasets.batches import SplitData
from rephase.datasets.images import ImageBatch
from rephase.evaluation import COLUMNS

_BATCH = 64


class ImagePredictor(Protocol):
    """Anything that gives labels to images: a trained network, a baseline."""

    def predict(self, batch: ImageBatch) -> torch.Tensor:
        """Probability of each label, [batch, n_labels]."""


@torch.no_grad()
def probabilities(
    predictor: ImagePredictor, data: SplitData[ImageBatch], split: str, device: torch.device | str = "cpu"
) -> tuple[torch.Tensor, torch.Tensor]:
    """Probabilities [n, n_labels] of the images of a split, and their labels, bool, both on the CPU."""
    found = [
        (predictor.predict(ImageBatch(*(field.to(device) for field in batch))).cpu(), batch.labels > 0.5)
        for batch in data.batches(split, _BATCH)
    ]
    probability, truth = (torch.cat(parts) for parts in zip(*found))
    return probability, truth


def classify_split(
    predictor: ImagePredictor, data: SplitData[ImageBatch], split: str = "test", device: torch.device | str = "cpu"
) -> Classified:
    """Give labels to the images of a split, with the thresholds that are best on the split ``validation``."""
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
    """Scores of labels that were given, in the columns `COLUMNS`.

    Those of all labels have the name of the split; those of one label ``test:round``, with ``n`` the images that have
    it. A label that no image has is left out, of the means as well.
    """
    rows = [
        {"split": split, "metric": metric, "unit": entry.unit, "value": float(entry.function(classified)),
         "n": len(classified.truth)}
        for metric, entry in CLASSIFICATION_METRICS.items()
    ]  # fmt: skip
    frequency = classified.truth.sum(0).tolist()
    for metric, entry in LABEL_METRICS.items():
        values = entry.function(classified).tolist()
        rows += [
            {"split": f"{split}:{label}", "metric": metric, "unit": entry.unit, "value": value, "n": n}
            for label, value, n in zip(labels, values, frequency, strict=True)
            if n
        ]
    return pd.DataFrame(rows).assign(experiment=experiment, model=name, seed=seed)[COLUMNS]
