"""The laboratory of diffraction images as an entry of the table of laboratories."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

from rephase.config import Config
from rephase.files.inputs import with_neighbours
from rephase.labs.images import figures
from rephase.labs.images.cards import IMAGES
from rephase.labs.images.data.files import files_of
from rephase.labs.images.data.sources import check_images
from rephase.labs.images.models import IMAGE_MODELS
from rephase.labs.images.models.networks import SMALLEST_IMAGE
from rephase.labs.images.own_images import assigned_labels, check_own_images, doubtful_images, first_images
from rephase.labs.images.shipping import trained_weights
from rephase.labs.images.steps import (
    all_experiments,
    check_experiments,
    data_sets,
    score_hits,
    summary,
    trainings,
)
from rephase.labs.laboratory import Laboratory, saved
from rephase.learning.models import check_models
from rephase.learning.weights import shipped_files


def check(config: Config) -> None:
    """Raise if images, a file, an experiment, a network or its training is wrong."""
    check_models(IMAGE_MODELS, config.images, "images", (SMALLEST_IMAGE, SMALLEST_IMAGE))
    check_images(config.images.data)
    check_experiments(config)
    check_own_images(config)


def files(config: Config) -> Iterator[Path]:
    """Yield the mask of the user's images and the weights."""
    yield from with_neighbours(config.images.classify.mask, config.images.classify.weights)
    yield from shipped_files(IMAGES)


def large_files(config: Config) -> Iterator[Path]:
    """Yield the files of measured images."""
    images = config.images
    for path in (images.classify.path, images.data.file.path if images.data.kind == "file" else None):
        yield from files_of(Path(path)) if path is not None else ()


LABORATORY = Laboratory(
    package="rephase.labs.images",
    notebooks=("21", "22", "23", "24"),
    check=check,
    files=files,
    large_files=large_files,
    data_sets=data_sets,
    tables={
        "classifier_scores": summary,
        "classifier_f1": partial(summary, metric="f1"),
        "hit_scores": score_hits,
        "experiment_scores": all_experiments,
        "label_counts": saved("image_labels"),
        "first_classified_images": first_images,
        "assigned_labels": assigned_labels,
        "doubtful_images": doubtful_images,
        "images_left_out": saved("classified_left_out"),
    },
    figures={
        "image_labels": figures.image_labels,
        "image_examples": figures.image_examples,
        "image_correlations": figures.image_correlations,
        "image_loss_curves": figures.image_loss_curves,
        "image_scores": figures.image_scores,
        "image_calibration": figures.image_calibration,
        "image_experiments": figures.image_experiments,
        "classified_images": figures.classified_images,
    },
    weights=trained_weights,
    trainings=trainings,
)
