"""Weights of the classifiers that a run has trained, with their cards."""

from collections.abc import Iterator
from functools import cache, partial

from rephase.labs.images.cards import ImageCard
from rephase.labs.images.data.stored import ImageData
from rephase.labs.images.models import IMAGE_MODELS
from rephase.labs.images.models.networks import ImageClassifier
from rephase.labs.images.scores import best_thresholds, probabilities
from rephase.labs.images.steps import build_images, training_of
from rephase.learning.cards import training_command, training_facts, training_figures
from rephase.learning.training import trained_model
from rephase.learning.weights import Weights
from rephase.runs import Run


def trained_weights(run: Run) -> Iterator[Weights[ImageClassifier, ImageCard]]:
    """Yield the models that a run has trained, at their best epochs, each with its card."""
    data = cache(partial(build_images, run))
    trainings = [training_of(run, name, data) for name in run.config.images.models]
    for training in trainings:
        if (training.folder / "best.ckpt").is_file():
            name, folder = training.name, training.folder
            model = trained_model(IMAGE_MODELS, name, data(), training.config, folder, device=run.device)
            yield Weights(model, image_card(run, data(), name, model))


def image_card(run: Run, data: ImageData, name: str, model: ImageClassifier) -> ImageCard:
    """Make the card of a trained classifier; its thresholds are chosen on the validation images."""
    shown = run.config.model_dump(mode="json", include={"seed": True, "images": {"data", "models", "training"}})
    shown["images"]["models"] = {name: shown["images"]["models"][name]}
    training = training_of(run, name, lambda: data)
    thresholds = best_thresholds(*probabilities(model, data, "validation", next(model.parameters()).device))
    return ImageCard(
        **training_facts(run, training.config, name, training_figures(run, name, "image_results")),
        data=data.config,
        labels=data.label_names,
        thresholds=tuple(thresholds.tolist()),
        command=training_command("24", shown),  # not 22, which runs experiments as well
    )
