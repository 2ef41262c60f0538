"""Baselines that need no image: the most common labels, the label frequencies. Any classifier must beat them."""

from collections.abc import Callable

import torch

from rephase.labs.images.data.batch import ImageBatch


class MostCommonLabels:
    """Predicts for every image the most common combination of labels."""

    def __init__(self, labels: torch.Tensor):
        combinations, counts = labels.unique(dim=0, return_counts=True)
        self.answer = combinations[counts.argmax()]

    def predict(self, batch: ImageBatch) -> torch.Tensor:
        """Probabilities 0 or 1, [batch, n_labels]."""
        return self.answer.to(batch.labels).expand_as(batch.labels)


class LabelFrequencies:
    """Predicts each label with its training frequency."""

    def __init__(self, labels: torch.Tensor):
        self.answer = labels.mean(0)

    def predict(self, batch: ImageBatch) -> torch.Tensor:
        """Probabilities [batch, n_labels], the same for every image."""
        return self.answer.to(batch.labels).expand_as(batch.labels)


IMAGE_BASELINES: dict[str, Callable[[torch.Tensor], MostCommonLabels | LabelFrequencies]] = {
    "most_common": MostCommonLabels,
    "frequencies": LabelFrequencies,
}
"""Baselines by name; each is made from the labels of the training images, [n, n_labels]."""
