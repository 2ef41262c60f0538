"""The steps of the notebooks on diffraction images: the images, classifiers and their scores, experiments."""

import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch

from rephase.config import Config
from rephase.config.images import ImageDataConfig, ImagesConfig
from rephase.config.sections import fingerprint
from rephase.errors import ConfigError, nearest_name
from rephase.labs.images.data.droplet_labels import LABELS, label_table
from rephase.labs.images.data.sources import open_images
from rephase.labs.images.data.stored import ImageData
from rephase.labs.images.models import IMAGE_MODELS
from rephase.labs.images.models.baselines import IMAGE_BASELINES
from rephase.labs.images.models.networks import ImageClassifier
from rephase.labs.images.scores import (
    CLASSIFICATION_METRICS,
    ImagePredictor,
    absent_labels,
    classify_split,
    image_scores,
)
from rephase.learning.scoring import summarise
from rephase.learning.training import fit, loss_curve
from rephase.optics.correlation import correlation_map
from rephase.runs import Run
from rephase.runs.tables import left_out

_N_EXAMPLES = 12
_SPLITS = ("train", "validation", "test")
_CHANGED_WHEN_READ = {"input", "noise", "label_fraction"}  # of images.data: everything else is another data set
_STORED = ImageDataConfig.model_fields.keys() - _CHANGED_WHEN_READ


def check_experiments(config: Config) -> None:
    """Raise `ConfigError` if an experiment changes what does not exist, or there is no model for it."""
    images = config.images
    if images.experiments and not images.models:
        raise ConfigError("images.experiments: expected a model in images.models, which they train; add one")
    for changes in (point for name in images.experiments for point in experiment_points(config, name)):
        varied = config.changed(changes)
        if varied.images.data.model_dump(include=_STORED) != images.data.model_dump(include=_STORED):
            raise ConfigError(
                f"images.experiments: {', '.join(changes)} would need another data set; "
                f"of images.data only {', '.join(sorted(_CHANGED_WHEN_READ))} may change: give the rest to a sweep"
            )


def build_images(run: Run) -> ImageData:
    """Build or open the images of the run."""
    return open_images(run.folder / "data" / "images.zarr", run.config.images.data, workers=run.workers)


def describe_images(run: Run, data: ImageData) -> pd.DataFrame:
    """Count labels, and leave what the figures of the images show.

    Returns
    -------
    pandas.DataFrame
        A row per label: images in each split, share of all in percent, and that of the measured set of droplets.
    """
    counts = {split: data.labels[data.splits[split]].sum(0).numpy() for split in _SPLITS}
    table = pd.DataFrame({"label": data.label_names, **counts})
    table["share (%)"] = (100 * data.labels.float().mean(0).numpy()).round(2)
    if data.label_names == LABELS:
        combinations, images = label_table()
        table["measured (%)"] = (100 * (images @ combinations) / images.sum()).round(2)
    run.save_table("image_labels", table)
    shown = data[_examples(data)]
    rings, angles = data.config.size // 2, data.config.size
    correlated, pairs = correlation_map(shown.image, shown.mask, n_q=rings, n_delta=angles)
    run.save_arrays(
        "image_examples", image=shown.image.numpy(), mask=shown.mask.numpy(), labels=shown.labels.numpy() > 0,
        correlation=np.where(pairs.numpy(), correlated.numpy(), np.nan), names=np.array(data.label_names),
    )  # fmt: skip
    return table


def _examples(data: ImageData) -> np.ndarray:
    """Samples with different combinations of labels, the commonest first."""
    _, first, counts = np.unique(data.labels.numpy(), axis=0, return_index=True, return_counts=True)
    return first[np.argsort(-counts, kind="stable")][:_N_EXAMPLES]


def score_baselines(run: Run, data: ImageData) -> pd.DataFrame:
    """Score what needs no image, and leave its tables; labels that no image of the test set has are named."""
    labels = data.labels[data.splits["train"]].float()
    for name, make in IMAGE_BASELINES.items():
        _score(run, data, name, make(labels), "cpu")
    return summary(run)


def train_and_score(run: Run, data: ImageData, name: str) -> pd.DataFrame:
    """Train a classifier, score it, leave its tables and curve; the scores of all so far.

    One that the configuration does not list is left out, so that a sweep may train fewer.
    """
    if name not in run.config.images.models:
        return left_out("not in images.models of this configuration", model=name)
    model = trained_classifier(run, data, name)
    run.save_table(f"image_curve_{name}", loss_curve(training_of(run, name).folder))
    _score(run, data, name, model, next(model.parameters()).device)
    return summary(run)


def train_and_score_all(run: Run, data: ImageData) -> pd.DataFrame:
    """Train and score every classifier of the configuration; the scores of all so far."""
    for name in run.config.images.models:
        train_and_score(run, data, name)
    return summary(run)


def trained_classifier(run: Run, data: ImageData, name: str) -> ImageClassifier:
    """A classifier of the configuration, trained where it is not yet."""
    return _trained(run, run.config, data, name, run.config.seed)


class Training(NamedTuple):
    """A training of a classifier: its configuration, and where its checkpoints and logs are."""

    images: ImagesConfig
    folder: Path


def training_of(run: Run, name: str) -> Training:
    """The training of a classifier of the configuration, done or not."""
    return _training(run, run.config, name, run.config.seed)


def _training(run: Run, config: Config, name: str, seed: int) -> Training:
    """Of equal data, options and seed there is one training, whichever experiment asks for it."""
    if config.images.data.input == "correlation":  # q and Δ are no space that could be mirrored
        config = config.changed({f"images.models.{name}.options.flips": False})
    images = config.images
    identity = [name, images.data.model_dump(mode="json"), images.models[name].options,
                images.training_of(name).model_dump(mode="json"), seed]  # fmt: skip
    return Training(images, run.checkpoints("images") / f"{name}-{fingerprint(identity)}")


def _trained(run: Run, config: Config, data: ImageData, name: str, seed: int) -> ImageClassifier:
    images, folder = _training(run, config, name, seed)
    return fit(IMAGE_MODELS, name, data, images, folder, seed=seed, device=run.device)


def _score(run: Run, data: ImageData, name: str, predictor: ImagePredictor, device: torch.device | str) -> None:
    """Table ``image_results_NAME``; arrays ``image_predictions_NAME`` with probabilities, truth and thresholds."""
    classified = classify_split(predictor, data, device=device)
    results = image_scores(classified, data.label_names, name=name, experiment="images", seed=run.config.seed)
    run.save_table(f"image_results_{name}", results)
    run.save_arrays(f"image_predictions_{name}", **{key: part.numpy() for key, part in classified._asdict().items()})


def summary(run: Run, *, metric: str = "") -> pd.DataFrame:
    """The scores so far as a table to read: a column per metric, or with one of `LABEL_METRICS` a column per label."""
    results = run.results("image_results")
    if not metric:
        return summarise(results, [*CLASSIFICATION_METRICS]).round(3)
    chosen = results[results["split"].str.contains(":") & (results["metric"] == metric)]
    named = chosen.assign(label=chosen["split"].str.split(":").str[1])
    return named.pivot_table(index="model", columns="label", values="value", sort=False).round(3)


def score_hits(run: Run) -> pd.DataFrame:
    """How surely one single particle of the wanted kind is found: F1, precision and recall of each model so far.

    Where images are of no single particles nothing is wanted, and the table says so.
    """
    data = run.config.images.data
    if data.kind != "single_particles":
        return left_out(f"images.data.kind = {data.kind}: no kind of particle is wanted")
    results = run.results("image_results")
    of_wanted = results[results["split"] == f"test:{data.wanted}"]
    table = of_wanted.pivot_table(index="model", columns="metric", values="value", sort=False)
    return table.reindex(columns=["f1", "precision", "recall"]).round(3)


def labels_not_judged(data: ImageData) -> tuple[str, ...]:
    """Labels that no image of the test set has: they are in no mean."""
    return absent_labels(data.labels[data.splits["test"]], data.label_names)


def experiment_points(config: Config, name: str) -> list[dict[str, Any]]:
    """Changes of the configuration that an experiment makes: every combination of its values, by their whole paths."""
    experiments = config.images.experiments
    if name not in experiments:
        raise ConfigError(f"experiment {name!r}: not in images.experiments; {nearest_name(name, experiments)}")
    paths, values = experiments[name].keys(), experiments[name].values()
    return [dict(zip((f"images.{path}" for path in paths), point)) for point in itertools.product(*values)]


def run_experiment(run: Run, name: str) -> pd.DataFrame:
    """Train the first model of the configuration with every combination of an experiment, by every seed.

    Leaves the table ``image_trial_results_NAME``, one number a row, and ``image_experiment_NAME``, with a column
    for each thing that varies. What was trained before is only read. An experiment that the configuration does not
    list is left out.

    Returns
    -------
    pandas.DataFrame
        Means over the seeds, a row for each combination, a column per metric; below them what needs no image.
    """
    if name not in run.config.images.experiments:
        return left_out("not in images.experiments of this configuration", experiment=name)
    baselines = score_baselines(run, build_images(run)).loc[[*IMAGE_BASELINES]]
    model = next(iter(run.config.images.models))
    tables, results = [], []
    for point in experiment_points(run.config, name):
        config = run.config.changed(point)
        data = open_images(run.folder / "data" / "images.zarr", config.images.data, workers=run.workers)
        varied = {path.split(".")[-1]: value for path, value in point.items()}
        for seed in config.images.seeds:
            scored = _run_point(run, config, data, model, config.seed + seed, varied)
            results.append(scored)
            tables.append(scored[~scored["split"].str.contains(":")].assign(**varied))
    run.save_table(f"image_trial_results_{name}", pd.concat(results))
    table = pd.concat(tables, ignore_index=True)
    run.save_table(f"image_experiment_{name}", table)
    wide = table.pivot_table(index=["model", *varied], columns="metric", values="value", sort=False)
    whatever = {(baseline, *["any"] * len(varied)): scores for (baseline, _), scores in baselines.iterrows()}
    return pd.concat([wide[[*CLASSIFICATION_METRICS]].round(3), pd.DataFrame(whatever).T.rename_axis(wide.index.names)])


def _run_point(
    run: Run, config: Config, data: ImageData, model: str, seed: int, varied: Mapping[str, Any]
) -> pd.DataFrame:
    classifier = _trained(run, config, data, model, seed)
    classified = classify_split(classifier, data, device=next(classifier.parameters()).device)
    words = ", ".join(f"{key}={value}" for key, value in varied.items())
    return image_scores(classified, data.label_names, name=model, experiment=f"images, {words}", seed=seed)
