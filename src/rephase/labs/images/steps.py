"""Steps of the notebooks on diffraction images: build images, train and score classifiers, run experiments."""

import itertools
from collections.abc import Callable, Iterator, Mapping
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from rephase.config import Config
from rephase.config.images import ImageDataConfig
from rephase.config.sections import fingerprint
from rephase.errors import ConfigError, nearest_name
from rephase.labs.images.data.batch import ImageBatch
from rephase.labs.images.data.droplet_labels import LABELS, label_table
from rephase.labs.images.data.sources import open_images, source_of
from rephase.labs.images.data.stored import ImageData, fill_maps, fill_shots
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
from rephase.labs.laboratory import DataSet
from rephase.learning.scoring import summarise
from rephase.learning.store import Shard
from rephase.learning.training import Training, train
from rephase.optics.correlation import correlation_map
from rephase.runs import Run
from rephase.runs.tables import left_out

_N_EXAMPLES = 12
_SPLITS = ("train", "validation", "test")
_CHANGED_WHEN_READ = {
    "input",
    "noise",
    "label_fraction",
}  # keys of images.data; a change of any other needs another dataset
_STORED = ImageDataConfig.model_fields.keys() - _CHANGED_WHEN_READ


def check_experiments(config: Config) -> None:
    """Raise `ConfigError` if an experiment changes an unknown or a stored key, or if there is no model to train."""
    images = config.images
    if images.experiments and not images.models:
        raise ConfigError("images.experiments: expected a model in images.models for experiments to train; add one")
    for changes in (point for name in images.experiments for point in experiment_points(config, name)):
        varied = config.changed(changes)
        if varied.images.data.model_dump(include=_STORED) != images.data.model_dump(include=_STORED):
            raise ConfigError(
                f"images.experiments: {', '.join(changes)} would need another dataset; "
                f"of images.data only {', '.join(sorted(_CHANGED_WHEN_READ))} may change; vary the rest in a sweep"
            )


def build_images(run: Run) -> ImageData:
    """Build or open the images of the run."""
    return _open(run, run.config)


def _open(run: Run, config: Config) -> ImageData:
    """Build or open the images of the run as an experiment reads them."""
    return open_images(_data_folder(run), config.images.data, workers=run.workers)


def data_sets(run: Run) -> Iterator[DataSet]:
    """Yield the images of the run with the correlation maps of the configuration and its experiments."""
    points = [point for name in run.config.images.experiments for point in experiment_points(run.config, name)]
    inputs = [run.config.changed(point).images.data for point in ({}, *points)]

    def build(shard: Shard) -> None:
        images = fill_shots(_data_folder(run), source_of(inputs[0]), workers=run.workers, shard=shard)
        for config in inputs:
            if config.input == "correlation":
                fill_maps(images, source_of(config), workers=run.workers, shard=shard)

    yield DataSet("images", build)


def _data_folder(run: Run) -> Path:
    return run.folder / "data" / "images.zarr"


def describe_images(run: Run, data: ImageData) -> pd.DataFrame:
    """Count labels, and save the data of the figures of images.

    Returns
    -------
    pandas.DataFrame
        A row per label: images in each split, percentage of all images, and percentage in the measured set of droplets.
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
        "image_examples",
        image=shown.image.numpy(),
        mask=shown.mask.numpy(),
        labels=shown.labels.numpy() > 0,
        correlation=np.where(pairs.numpy(), correlated.numpy(), np.nan),
        names=np.array(data.label_names),
    )
    return table


def _examples(data: ImageData) -> np.ndarray:
    """Return one sample of each combination of labels, the commonest first."""
    _, first, counts = np.unique(data.labels.numpy(), axis=0, return_index=True, return_counts=True)
    return first[np.argsort(-counts, kind="stable")][:_N_EXAMPLES]


def score_baselines(run: Run, data: ImageData) -> pd.DataFrame:
    """Score the baselines that need no image and save their tables; return the scores so far."""
    labels = data.labels[data.splits["train"]].float()
    for name, make in IMAGE_BASELINES.items():
        _score(run, data, name, make(labels), "cpu")
    return summary(run)


def train_and_score(run: Run, data: ImageData, name: str) -> pd.DataFrame:
    """Train and score a classifier, save its tables and loss curve, and return all scores so far.

    A classifier that the configuration does not list is left out, so that a sweep may train fewer.
    """
    if name not in run.config.images.models:
        return left_out("not in images.models of this configuration", model=name)
    model = train(run, training_of(run, name, lambda: data))
    _score(run, data, name, model, next(model.parameters()).device)
    return summary(run)


def train_and_score_all(run: Run, data: ImageData) -> pd.DataFrame:
    """Train and score every classifier of the configuration, and return all scores so far."""
    for name in run.config.images.models:
        train_and_score(run, data, name)
    return summary(run)


def trained_classifier(run: Run, data: ImageData, name: str) -> ImageClassifier:
    """Return a classifier of the configuration; train it first if it is not trained yet."""
    return train(run, _training(run, run.config, name, run.config.seed, lambda: data))


def training_of(run: Run, name: str, data: Callable[[], ImageData]) -> Training[ImageClassifier, ImageBatch]:
    """Return the training of a classifier of the configuration, whether it is finished or not."""
    return _training(run, run.config, name, run.config.seed, data, curve=f"image_curve_{name}")


def trainings(run: Run) -> Iterator[Training[ImageClassifier, ImageBatch]]:
    """Yield the trainings of the classifiers of the configuration, and those of its experiments."""
    data, images = cache(partial(build_images, run)), run.config.images
    yield from (training_of(run, name, data) for name in images.models)
    for changes in (point for name in images.experiments for point in experiment_points(run.config, name)):
        config = run.config.changed(changes)
        for seed in config.images.seeds:
            yield _training(run, config, _tried(run), config.seed + seed, partial(_open, run, config))


def _tried(run: Run) -> str:
    """Return the classifier of the experiments: the first of the configuration."""
    return next(iter(run.config.images.models))


def _training(
    run: Run, config: Config, name: str, seed: int, data: Callable[[], ImageData], curve: str = ""
) -> Training[ImageClassifier, ImageBatch]:
    """Return the one training for equal data, options and seed, which all experiments share."""
    if config.images.data.input == "correlation":  # maps over q and Δ cannot be mirrored
        config = config.changed({f"images.models.{name}.options.flips": False})
    images = config.images
    identity = [
        name,
        images.data.model_dump(mode="json"),
        images.models[name].options,
        images.training_of(name).model_dump(mode="json"),
        seed,
    ]
    folder = run.checkpoints("images") / f"{name}-{fingerprint(identity)}"
    return Training(IMAGE_MODELS, name, images, folder, data, seed, curve)


def _score(run: Run, data: ImageData, name: str, predictor: ImagePredictor, device: torch.device | str) -> None:
    """Save the table ``image_results_NAME``, and ``image_predictions_NAME``: probabilities, truth and thresholds."""
    classified = classify_split(predictor, data, device=device)
    results = image_scores(classified, data.label_names, name=name, experiment="images", seed=run.config.seed)
    run.save_table(f"image_results_{name}", results)
    run.save_arrays(f"image_predictions_{name}", **{key: part.numpy() for key, part in classified._asdict().items()})


def summary(run: Run, *, metric: str = "") -> pd.DataFrame:
    """Tabulate the scores so far: a column per metric or, for a metric of `LABEL_METRICS`, a column per label."""
    results = run.results("image_results")
    if not metric:
        return summarise(results, [*CLASSIFICATION_METRICS]).round(3)
    chosen = results[results["split"].str.contains(":") & (results["metric"] == metric)]
    named = chosen.assign(label=chosen["split"].str.split(":").str[1])
    return named.pivot_table(index="model", columns="label", values="value", sort=False).round(3)


def score_hits(run: Run) -> pd.DataFrame:
    """Tabulate F1, precision and recall of each model so far for shots of one single particle of the wanted kind.

    For images of other kinds, the table says that these scores apply to single particles only.
    """
    data, results = run.config.images.data, run.results("image_results")
    if data.kind != "single_particles":
        return left_out(f"images.data.kind = {data.kind}: applies to single particles only")
    of_wanted = results[results["split"] == f"test:{data.wanted}"]
    table = of_wanted.pivot_table(index="model", columns="metric", values="value", sort=False)
    return table.reindex(columns=["f1", "precision", "recall"]).round(3)


def labels_not_judged(data: ImageData) -> tuple[str, ...]:
    """Return the labels that no test image has; means leave them out."""
    return absent_labels(data.labels[data.splits["test"]], data.label_names)


def experiment_points(config: Config, name: str) -> list[dict[str, Any]]:
    """List the changes to the configuration that an experiment makes: all combinations of its values, by full path."""
    experiments = config.images.experiments
    if name not in experiments:
        raise ConfigError(f"experiment {name!r}: not in images.experiments; {nearest_name(name, experiments)}")
    paths, values = experiments[name].keys(), experiments[name].values()
    return [dict(zip((f"images.{path}" for path in paths), point)) for point in itertools.product(*values)]


def run_experiment(run: Run, name: str) -> pd.DataFrame:
    """Train the first model of the configuration with every combination of an experiment and every seed.

    Saves the table ``image_trial_results_NAME``, one number per row, and ``image_experiment_NAME``, with a column
    per varied key. Models that are already trained are only read. An experiment that the configuration does not
    list is left out.

    Returns
    -------
    pandas.DataFrame
        Means over the seeds, a row per combination, a column per metric; below them the baselines.
    """
    if name not in run.config.images.experiments:
        return left_out("not in images.experiments of this configuration", experiment=name)
    score_baselines(run, build_images(run))
    model = _tried(run)
    tables, results = [], []
    for point in experiment_points(run.config, name):
        config = run.config.changed(point)
        data = _open(run, config)
        varied = {path.split(".")[-1]: value for path, value in point.items()}
        for seed in config.images.seeds:
            scored = _run_point(run, config, data, model, config.seed + seed, varied)
            results.append(scored)
            tables.append(scored[~scored["split"].str.contains(":")].assign(**varied))
    run.save_table(f"image_trial_results_{name}", pd.concat(results))
    run.save_table(f"image_experiment_{name}", pd.concat(tables, ignore_index=True))
    return experiment_scores(run, name)


def experiment_scores(run: Run, name: str) -> pd.DataFrame:
    """Means over the seeds of an experiment, from the saved tables; see `run_experiment`."""
    varied = [path.split(".")[-1] for path in run.config.images.experiments[name]]
    wide = run.table(f"image_experiment_{name}").pivot_table(
        index=["model", *varied], columns="metric", values="value", sort=False
    )
    baselines = summary(run).loc[[*IMAGE_BASELINES]]
    whatever = {(baseline, *["any"] * len(varied)): scores for (baseline, _), scores in baselines.iterrows()}
    return pd.concat([wide[[*CLASSIFICATION_METRICS]].round(3), pd.DataFrame(whatever).T.rename_axis(wide.index.names)])


def all_experiments(run: Run) -> pd.DataFrame:
    """Scores of every experiment so far in one table; the values of the varied keys stand in one column."""
    parts = []
    for name in run.tables("image_experiment"):
        scores = experiment_scores(run, name)
        keys = scores.index.to_frame().drop(columns="model")
        words = [", ".join(f"{key}={value}" for key, value in row.items()) for row in keys.to_dict("records")]
        index = [pd.Index([name] * len(scores)), scores.index.get_level_values("model"), pd.Index(words)]
        parts.append(scores.set_index(pd.MultiIndex.from_arrays(index, names=["experiment", "model", "varied"])))
    return pd.concat(parts)


def _run_point(
    run: Run, config: Config, data: ImageData, model: str, seed: int, varied: Mapping[str, Any]
) -> pd.DataFrame:
    classifier = train(run, _training(run, config, model, seed, lambda: data))
    classified = classify_split(classifier, data, device=next(classifier.parameters()).device)
    words = ", ".join(f"{key}={value}" for key, value in varied.items())
    return image_scores(classified, data.label_names, name=model, experiment=f"images, {words}", seed=seed)
