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
    """What the weights of a classifier of diffraction images are.

    Parameters
    ----------
    data
        The images that it was trained on, and what it is given of them: their size, or that of correlation maps.
    labels
        Names of the labels in order.
    thresholds
        A label is given where its probability is not below; chosen on images that were not trained on.
    """

    kind: Literal["images"] = "images"
    data: ImageDataConfig
    labels: tuple[str, ...] = Field(min_length=1)
    thresholds: tuple[Annotated[float, Field(ge=0, le=1)], ...]

    @model_validator(mode="after")
    def _one_threshold_each(self) -> Self:
        if len(self.labels) != len(self.thresholds):
            raise ValueError(f"{len(self.labels)} labels and {len(self.thresholds)} thresholds: expected as many")
        return self

    @property
    def shape(self) -> tuple[int, ...]:
        """Of an image, or of a correlation map."""
        return self.data.shape

    @property
    def built_with(self) -> dict[str, Any]:
        """How many labels the model gives."""
        return {"n_labels": len(self.labels)}


IMAGES: Kind[ImageClassifier, ImageCard] = Kind("images", IMAGE_MODELS, ImageCard)
