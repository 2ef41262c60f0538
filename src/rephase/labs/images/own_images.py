"""Steps of notebook 24: the user's own images, their labels by a classifier, where it sees them, and how surely."""

from pathlib import Path
from typing import cast

import numpy as np
import pandas as pd
import torch

from rephase.config import Config
from rephase.config.images import ImagesConfig
from rephase.devices import at_once, pick_device
from rephase.errors import ConfigError, check_file
from rephase.formats.cxi import write_cxi
from rephase.formats.image_formats import FORMATS, format_of
from rephase.formats.label_sets import LabelSet
from rephase.labs.images.activation_maps import activation_map
from rephase.labs.images.cards import IMAGES, ImageCard
from rephase.labs.images.data.batch import ImageBatch
from rephase.labs.images.data.files import ImageFiles, files_of, read_images
from rephase.labs.images.data.noise import with_noise
from rephase.labs.images.data.sources import IMAGE_SOURCES, FileShots, label_set_of
from rephase.labs.images.data.stored import input_of
from rephase.labs.images.models.networks import ImageClassifier
from rephase.labs.images.shipping import image_card
from rephase.labs.images.steps import build_images, trained_classifier
from rephase.learning.batches import on_device
from rephase.learning.weights import Weights, load_weights
from rephase.runs import Run

Classifier = Weights[ImageClassifier, ImageCard]

_STREAM = 14  # of random numbers, separate from the streams of the dataset and its noise
_PER_SHOWN = 8  # simulated images for each image in the figure
_UNSURE = 0.25


def check_own_images(config: Config) -> None:
    """Raise if the images or the mask of the configuration do not exist, or its weights are not of a classifier."""
    options = config.images.classify
    if options.path is not None and not files_of(Path(options.path)):
        raise ConfigError(
            f"images.classify.path = {options.path}: a folder without {', '.join(FORMATS)} files; "
            "give another, or null for simulated images"
        )
    check_file("images.classify.mask", options.mask, otherwise="")
    if options.weights is not None:
        load_weights(options.weights, IMAGES)


def open_classifier(run: Run) -> Classifier:
    """Open the classifier of the weights that the run names, or its own first classifier, trained if necessary.

    Raises
    ------
    ConfigError
        The configuration has neither weights nor a model to train; or the labels of the weights differ from those of
        the run's own dataset, and ``images.classify.path`` names no other images.
    """
    images = run.config.images
    if images.classify.weights is not None:
        classifier = load_weights(images.classify.weights, IMAGES, device=pick_device(run.device))
        _check_labels(images, classifier.card.labels)
        return classifier
    if not images.models:
        raise ConfigError("images.classify.weights: null, but images.models lists no model to train; give weights")
    name, data = next(iter(images.models)), build_images(run)
    model = trained_classifier(run, data, name)
    return Weights(model, image_card(run, data, name, model))


def _check_labels(images: ImagesConfig, known: tuple[str, ...]) -> None:
    own = label_set_of(images.data).names
    if images.classify.path is None and own != known:
        raise ConfigError(
            f"images.classify.weights = {images.classify.weights}: a classifier of {', '.join(known)}, but images of "
            f"images.data.kind = {images.data.kind} have {', '.join(own)}; set images.classify.weights=null to take "
            "the first model of this run, or name images of your own in images.classify.path"
        )


def own_images(run: Run, size: int, labels: tuple[str, ...] = ()) -> ImageFiles:
    """Open the images that the run names; they are resampled to a square of `size` pixels when they are read.

    Labels in the files are used if each image has as many as `labels`, each 0 or 1; others are ignored.
    Without a path, the images are those of the file that the dataset is made from, or else new labelled shots that are
    simulated like the dataset but in no split. These are first written to ``data/simulated_shots.cxi`` of the run.

    Raises
    ------
    ImageError
        No image can be used; the message says why the first could not.
    """
    options, data = run.config.images.classify, run.config.images.data
    named = data.file if options.path is None and data.kind == "file" else options
    if named.path is not None:
        images = read_images(named.path, size=size, geometry=named.geometry, mask=named.mask, labels=None)
        return _with_noted(images, LabelSet(labels)) if labels else images
    source, path = IMAGE_SOURCES[data.kind](data), run.folder / "data" / "simulated_shots.cxi"
    if not path.is_file():
        n, rng = _PER_SHOWN * options.n_shown, np.random.default_rng([data.seed, _STREAM])
        shots = with_noise(source.draw(n, rng), np.arange(n), data.noise, seed=int(rng.integers(1 << 62)))
        write_cxi(path, *(field.numpy() for field in shots))
    return read_images(path, size=size, labels=source.label_set)


def _with_noted(images: ImageFiles, labels: LabelSet) -> ImageFiles:
    """Add the labels in the files to the images, where they fit the label set."""
    files = {shot.path for shot in images.shots}
    listed = [shot for file in files for shot in format_of(file).list(file, labels).shots]
    told = {(shot.path, shot.name): shot.labels for shot in listed}
    shots = [shot._replace(labels=told.get((shot.path, shot.name))) for shot in images.shots]
    config = images.config.model_copy(update={"labels": labels.names})
    return ImageFiles(shots, images.left_out.itertuples(index=False), config, images.size)


def classify_images(run: Run, classifier: Classifier, images: ImageFiles) -> pd.DataFrame:
    """Classify images batch by batch.

    Saves the table ``classified_images``; the table ``classified_left_out`` of images that cannot be used; the arrays
    ``image_embeddings`` with names and features [n, n_features] of the images.

    Returns
    -------
    pandas.DataFrame
        A row per image in the given order: file and name; ``labels``, those assigned; ``unsure``, the labels whose
        decision (assigned or not) is wrong with a probability above 1/4; ``expected_wrong``, the sum of these
        probabilities over all labels; ``p(LABEL)`` of each label. If the files contain labels, also ``noted``; if the
        classifier was trained on the file, also ``split``: ``train``, ``validation``, ``test`` or ``none``.
        Probabilities are those of the network, and only as reliable as its calibration.
    """
    n_images = at_once("scored images", next(classifier.model.parameters()).device)
    found = [_seen(classifier, batch) for batch in images.batches("all", n_images)]
    probability, features = (torch.cat(parts).numpy() for parts in zip(*found))
    labels, given = classifier.card.labels, probability >= np.array(classifier.card.thresholds)
    wrong = np.where(given, 1 - probability, probability)
    table = pd.DataFrame({"file": [shot.path.name for shot in images.shots], "name": images.names})
    table["labels"], table["unsure"] = _named(given, labels), _named(wrong > _UNSURE, labels)
    table["expected_wrong"] = wrong.sum(1)
    if any(shot.labels is not None for shot in images.shots):
        table["noted"] = _noted(images)
    if _learned_from_these(run, classifier):
        table["split"] = _splits(run, images)
    table[[f"p({label})" for label in labels]] = probability
    run.save_table("classified_images", table)
    run.save_table("classified_left_out", images.left_out)
    run.save_arrays("image_embeddings", names=np.array(images.names), features=features)
    _save_examples(run, classifier, images, table, wrong)
    return table


@torch.no_grad()
def _seen(classifier: Classifier, batch: ImageBatch) -> tuple[torch.Tensor, torch.Tensor]:
    """Probabilities [batch, n_labels] and features [batch, n_features] of images, on the CPU."""
    features = classifier.model.embed(_taken(classifier, batch))
    return classifier.model.head(features).sigmoid().cpu(), features.cpu()


def _taken(classifier: Classifier, batch: ImageBatch) -> ImageBatch:
    """Turn images into the input of the network, on its device."""
    device = next(classifier.model.parameters()).device
    return on_device(input_of(batch, classifier.card.data), device)


def _named(carried: np.ndarray, labels: tuple[str, ...]) -> list[str]:
    """Name the labels of each row of boolean [n, n_labels] in words."""
    return [", ".join(name for name, is_there in zip(labels, row) if is_there) or "none" for row in carried]


def _noted(images: ImageFiles) -> list[str]:
    """Name the labels that the files contain for each image."""
    names = images.config.labels
    return ["unknown" if shot.labels is None else _named(shot.labels[None], names)[0] for shot in images.shots]


def _learned_from_these(run: Run, classifier: Classifier) -> bool:
    """Return whether the classifier was trained on the file of these images."""
    images = run.config.images
    return images.classify.path is None and images.data.kind == "file" and classifier.card.data == images.data


def _splits(run: Run, images: ImageFiles) -> list[str]:
    """Return the split of the run's dataset that each image is in."""
    data = build_images(run)
    shots = cast(FileShots, data.source).files.shots  # the only source of kind "file"
    split = {(shots[n].path, shots[n].name): name for name, numbers in data.splits.items() for n in numbers}
    return [split.get((shot.path, shot.name), "none") for shot in images.shots]


def first_images(run: Run) -> pd.DataFrame:
    """The first classified images, from the saved table."""
    return run.table("classified_images").head(20)


def assigned_labels(run: Run) -> pd.DataFrame:
    """The commonest combinations of labels that were assigned, and how many images have each."""
    return run.table("classified_images")["labels"].value_counts().head(10).to_frame("images")


def doubtful_images(run: Run) -> pd.DataFrame:
    """The images whose labels are most probably wrong, the most doubtful first."""
    return run.table("classified_images").nlargest(10, "expected_wrong")[["name", "labels", "unsure", "expected_wrong"]]


def _save_examples(
    run: Run, classifier: Classifier, images: ImageFiles, table: pd.DataFrame, wrong: np.ndarray
) -> None:
    """Save ``classified_examples``: the surest images, then as many of the most doubtful, with the map of one label.

    For a sure image this is its most probable label, for a doubtful one the label that is most probably wrong.
    """
    labels, order = classifier.card.labels, np.argsort(table["expected_wrong"].to_numpy(), kind="stable")
    n = min(run.config.images.classify.n_shown, len(order))
    chosen = np.concatenate([order[: -(-n // 2)], order[::-1][: n // 2]])
    is_sure = np.arange(n) < -(-n // 2)
    probability = table[[f"p({label})" for label in labels]].to_numpy()[chosen]
    decides = np.where(is_sure, probability.argmax(1), wrong[chosen].argmax(1))
    shown = images[chosen]
    run.save_arrays(
        "classified_examples",
        image=shown.image.numpy(),
        mask=shown.mask.numpy(),
        is_sure=is_sure,
        activation=_activation(classifier, shown, decides),
        decides=np.array(labels)[decides],
        probability=probability[np.arange(n), decides],
        title=table["name"].to_numpy(str)[chosen],
        labels=table["labels"].to_numpy(str)[chosen],
    )


def _activation(classifier: Classifier, batch: ImageBatch, label: np.ndarray) -> np.ndarray:
    """Map where one label of each image is seen, [batch, y, x]; 0 for networks of correlation maps."""
    found = torch.zeros_like(batch.image)
    if classifier.card.data.input == "image":
        taken = _taken(classifier, batch)
        for number in np.unique(label):
            rows = np.flatnonzero(label == number)
            found[rows] = activation_map(classifier.model, ImageBatch(*(f[rows] for f in taken)), int(number)).cpu()
    return found.numpy()
