"""Cards of the weights of classifiers of diffraction images."""

from typing import Annotated, Any, Literal, Self

from pydantic import (
    Field,
    model_validator,
)

from rephase.config.images import ImageDataConfig
from rephase.labs.images.models import IMAGE_MODELS
from rephase.labs.images.models.networks import ImageClassifier
from rephase.learning.cards import Card
from rephase.learning.weights import Kind


class ImageCard(Card):
    """Card of the weights of a classifier of diffraction images.

    Parameters
    ----------
    data
        The images that the classifier was trained on, and its input: images or correlation maps, and their size.
    labels
        Names of the labels in order.
    thresholds
        A label is assigned if its probability reaches the threshold; chosen on validation images.
    """

    kind: Literal["images"] = "images"
    data: ImageDataConfig
    labels: tuple[str, ...] = Field(min_length=1)
    thresholds: tuple[Annotated[float, Field(ge=0, le=1)], ...]

    @model_validator(mode="after")
    def _one_threshold_each(self) -> Self:
        if len(self.labels) != len(self.thresholds):
            raise ValueError(f"{len(self.labels)} labels and {len(self.thresholds)} thresholds: expected one per label")
        return self

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of an image or of a correlation map."""
        return self.data.shape

    @property
    def built_with(self) -> dict[str, Any]:
        """Number of labels of the model."""
        return {"n_labels": len(self.labels)}


IMAGES: Kind[ImageClassifier, ImageCard] = Kind("images", IMAGE_MODELS, ImageCard)
