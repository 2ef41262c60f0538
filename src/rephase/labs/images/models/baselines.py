"""What needs no image: the most common labels, the frequency of each. Any classifier must beat them."""

from collections.abc import Callable

import torch

from rephase.labs.images.data.batch import ImageBatch


class MostCommonLabels:
    """Always the combination of labels that most images have."""

    def __init__(self, labels: torch.Tensor):
        combinations, counts = labels.unique(dim=0, return_counts=True)
        self.answer = combinations[counts.argmax()]

    def predict(self, batch: ImageBatch) -> torch.Tensor:
        """Probabilities 0 or 1, [batch, n_labels]."""
        return self.answer.to(batch.labels).expand_as(batch.labels)


class LabelFrequencies:
    """The share of the images that have a label, as its probability."""

    def __init__(self, labels: torch.Tensor):
        self.answer = labels.mean(0)

    def predict(self, batch: ImageBatch) -> torch.Tensor:
        """Probabilities [batch, n_labels], those of every image alike."""
        return self.answer.to(batch.labels).expand_as(batch.labels)


IMAGE_BASELINES: dict[str, Callable[[torch.Tensor], MostCommonLabels | LabelFrequencies]] = {
    "most_common": MostCommonLabels,
    "frequencies": LabelFrequencies,
}
"""Made from the labels of the training images, [n, n_labels]."""
