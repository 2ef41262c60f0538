"""From the trainings of a run to files of weights, with cards that say how far they can be trusted."""

import json
import os
import shlex
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import torch

from rephase import wave_posteriors
from rephase.cards import AmplitudeCard, ImageCard, PosteriorCard, Ranges, RelativeErrors
from rephase.classification_evaluation import probabilities
from rephase.classification_metrics import best_thresholds
from rephase.classifying import build_images, training_of
from rephase.completing import build_data
from rephase.completion_evaluation import AmplitudePredictor, complete_batch
from rephase.config_sections import LearningConfig, checked_name
from rephase.datasets.image_data import ImageData
from rephase.datasets.monoclinic import MonoclinicData, beta_of
from rephase.datasets.simulators import SIMULATORS, WAVE_SIMULATORS
from rephase.errors import ConfigError, TrainingError
from rephase.models import AMPLITUDE_MODELS, IMAGE_MODELS, IMAGE_POSTERIOR_MODELS, POSTERIOR_MODELS, Model
from rephase.models.amplitudes import AmplitudeModel
from rephase.models.flows import ParameterFlow
from rephase.models.image_flows import ImageFlow
from rephase.models.image_networks import ImageClassifier
from rephase.posteriors import build_patterns, section_of, training_folder
from rephase.runs import Run, environment
from rephase.training import trained_model
from rephase.weights import IMAGE_POSTERIORS, POSTERIORS, Kind, Weights, has_card, save_weights

_N_SHELLS = 12
_NOTEBOOKS = {"saxs": "31", "oriented": "31", "gisaxs": "32", "ptychography": "33", "holography": "34"}
_FEWEST = 20  # reflections of a kind in a shell that tell its error


def ship_weights(run: Run, folder: Path, *, suffix: str = "") -> list[Path]:
    """Write the weights of every model of amplitudes, images or posteriors that a run has trained, of its best epoch.

    Parameters
    ----------
    run
        Its data are built again where they are gone.
    folder
        For ``MODEL.safetensors`` and ``MODEL.json``; those of posteriors are called after their experiment as well.
    suffix
        Added to the names, where a folder holds several of a model.

    Raises
    ------
    ConfigError
        A suffix that names of files cannot have; a file in the folder that rephase did not write.
    TrainingError
        The run has trained none.
    """
    try:
        checked_name(f"model{suffix}")
    except ValueError as error:
        raise ConfigError(f"suffix {suffix!r}: {error}") from error
    trained = chain(_amplitude_weights(run), _image_weights(run), _posterior_weights(run), _wave_weights(run))
    paths = [save_weights(_place(folder, f"{card.name}{suffix}"), model, card) for model, card in trained]
    if not paths:
        raise TrainingError(
            f"{run.folder}: no trained model of amplitudes, images or posteriors; run notebooks 12 and 13, 22, or 31 "
            "to 34 of it first"
        )
    return paths


def _place(folder: Path, name: str) -> Path:
    """Where weights go; files that are there have a card of rephase, which `save_weights` writes first."""
    path = folder / f"{name}.safetensors"
    there = [file.name for file in (path, path.with_suffix(".json")) if os.path.lexists(file)]
    if there and not has_card(path):
        raise ConfigError(f"--out {folder}: rephase did not write {' and '.join(there)}; give another folder")
    return path


def _amplitude_weights(run: Run) -> Iterator[Weights[AmplitudeModel, AmplitudeCard]]:
    config, places = run.config.completion, run.checkpoints("completion")
    names = [name for name in config.models if (places / name / "best.ckpt").is_file()]
    if not names:
        return
    data = build_data(run).random
    for name in names:
        model = trained_model(AMPLITUDE_MODELS, name, data, config, places / name, device=run.device)
        yield Weights(model, amplitude_card(run, data, name, model))


def _image_weights(run: Run) -> Iterator[Weights[ImageClassifier, ImageCard]]:
    trainings = {name: training_of(run, name) for name in run.config.images.models}
    trained = {name: training for name, training in trainings.items() if (training.folder / "best.ckpt").is_file()}
    if not trained:
        return
    data = build_images(run)
    for name, (config, folder) in trained.items():
        model = trained_model(IMAGE_MODELS, name, data, config, folder, device=run.device)
        yield Weights(model, image_card(run, data, name, model))


def _posterior_weights(run: Run) -> Iterator[Weights[ParameterFlow, PosteriorCard]]:
    for kind in SIMULATORS:
        section = section_of(run.config, kind)
        trained = {name: training_folder(run, kind, name) for name in section.models}
        for name, folder in trained.items():
            if (folder / "best.ckpt").is_file():
                data = build_patterns(run, kind)
                model = trained_model(POSTERIOR_MODELS, name, data, section, folder, device=run.device)
                figures = _figures(run, name, f"posterior_results_{kind}")
                yield Weights(model, posterior_card(run, POSTERIORS, kind, name, figures))


def _wave_weights(run: Run) -> Iterator[Weights[ImageFlow, PosteriorCard]]:
    for kind in WAVE_SIMULATORS:
        section, folder = wave_posteriors.config_of(run, kind), wave_posteriors.training_folder(run, kind)
        if (folder / "best.ckpt").is_file():
            data = wave_posteriors.build_patterns(run, kind)
            model = trained_model(IMAGE_POSTERIOR_MODELS, "image_flow", data, section, folder, device=run.device)
            figures = _figures(run, "flow", f"wave_results_{kind}")
            yield Weights(model, posterior_card(run, IMAGE_POSTERIORS, kind, "image_flow", figures))


def amplitude_card(run: Run, data: MonoclinicData, name: str, model: AmplitudeModel) -> AmplitudeCard:
    """What a trained model of amplitudes of a run is, and how far it is wrong."""
    shown = run.config.model_dump(mode="json", include={"seed", "monoclinic", "completion"})
    shown["monoclinic"]["folder"] = None
    shown["completion"]["models"] = {name: shown["completion"]["models"][name]}
    return AmplitudeCard(
        **_facts(run, run.config.completion, name, _figures(run, name, "completion_results")),
        data=run.config.monoclinic.model_copy(update={"folder": None}),
        trained_on=ranges(data),
        relative_error=relative_errors(model, data, device=next(model.parameters()).device),
        command=_command("12,13", shown),
    )


def image_card(run: Run, data: ImageData, name: str, model: ImageClassifier) -> ImageCard:
    """What a trained classifier of a run is; its thresholds are chosen on the validation images."""
    shown = run.config.model_dump(mode="json", include={"seed": True, "images": {"data", "models", "training"}})
    shown["images"]["models"] = {name: shown["images"]["models"][name]}
    thresholds = best_thresholds(*probabilities(model, data, "validation", next(model.parameters()).device))
    return ImageCard(
        **_facts(run, training_of(run, name).images, name, _figures(run, name, "image_results")),
        data=data.config,
        labels=data.label_names,
        thresholds=tuple(thresholds.tolist()),
        command=_command("24", shown),  # 22 makes experiments as well, which are not those of every network
    )


def posterior_card(
    run: Run, kind: Kind[Model, PosteriorCard], experiment: str, name: str, figures: dict[str, dict[str, float]]
) -> PosteriorCard:
    """What a trained flow of a run is."""
    section = getattr(run.config.posteriors, experiment)
    judged = {"scoring"} if kind.name == POSTERIORS.name else {"n_judged", "n_draws"}
    shown = section.model_dump(mode="json", include={"data", "models", "training", *judged})
    shown["models"] = {name: shown["models"][name]}
    return PosteriorCard(
        **_facts(run, section, name, figures),
        kind=kind.name,
        experiment=experiment,
        data=section.data,
        command=_command(_NOTEBOOKS[experiment], {"seed": run.config.seed, f"posteriors.{experiment}": shown}),
    )


def _facts(run: Run, config: LearningConfig, name: str, figures: dict[str, dict[str, float]]) -> dict[str, Any]:
    """What cards of every kind say."""
    training = config.training_of(name)
    return {
        "model": name,
        "options": config.models[name].options,
        "loss": training.loss,
        "training": training.model_dump(mode="json"),
        "seed": run.config.seed,
        "figures": figures,
        "made_with": environment(),
    }


def _command(only: str, shown: dict[str, Any]) -> str:
    """What trains the model again, from any configuration."""
    changes = [part for key, value in shown.items() for part in ("--set", f"{key}={json.dumps(value)}")]
    return shlex.join(["rephase", "run", "--only", only, *changes])


def ranges(data: MonoclinicData) -> Ranges:
    """Cells and volumes of the crystals that are trained on."""
    lattice = data.lattice[data.splits["train"]]
    values = dict(zip("abc", lattice.norm(dim=1).T)) | {"beta": beta_of(lattice), "volume": torch.linalg.det(lattice)}
    return Ranges(**{name: (float(value.min()), float(value.max())) for name, value in values.items()})


def relative_errors(
    predictor: AmplitudePredictor,
    data: MonoclinicData,
    *,
    split: str = "validation",
    device: torch.device | str = "cpu",
) -> RelativeErrors:
    """How far completed amplitudes are from the truth: the root of sum (|F_out| - |F|)^2 / sum |F_out|^2.

    Over the missing reflections, acentric and centric apart, in shells of equal width in 1/d^2 from 0 to the sphere of
    the data; a shell with hardly any has that of all.
    """
    edges, hkl = np.linspace(0, data.config.d_min**-2, _N_SHELLS + 1), data.grid.hkl.reshape(-1, 3)
    centric = torch.as_tensor(np.stack([symmetry.is_centric(hkl) for symmetry in data.symmetries]))
    centric = centric.reshape(-1, *data.grid.shape)
    sums = np.zeros((3, 2, _N_SHELLS))  # reflections, error, power; acentric and centric
    for batch in data.batches(split):
        c = complete_batch(predictor, batch, device)
        shell = np.digitize(4 * batch.s_squared[c.missing].numpy(), edges[1:-1])
        place = centric[batch.group][c.missing].numpy() * _N_SHELLS + shell
        pred, true = c.pred[c.missing].numpy(), c.true[c.missing].numpy()
        for row, term in enumerate((np.ones(len(pred)), (pred - true) ** 2, pred**2)):
            sums[row] += np.bincount(place, term, 2 * _N_SHELLS).reshape(2, _N_SHELLS)
    n, error, power = sums
    relative = np.where(n < _FEWEST, error.sum() / power.sum(), error / np.where(power > 0, power, 1))
    return RelativeErrors(acentric=tuple(np.sqrt(relative[0])), centric=tuple(np.sqrt(relative[1])))


def _figures(run: Run, name: str, results: str) -> dict[str, dict[str, float]]:
    """Scores of a model by split and metric, as far as the run has them."""
    if not run.has_results(results):
        return {}
    table = run.results(results)
    own = table[(table["model"] == name) & ~table["split"].str.contains(":")]
    own = own[np.isfinite(own["value"])]
    return {split: dict(zip(part["metric"], part["value"].round(5))) for split, part in own.groupby("split")}
