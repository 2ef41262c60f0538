"""Write the trained models of a run as weights files, with cards that say how far they can be trusted."""

import os
from itertools import chain
from pathlib import Path

from rephase.config.sections import checked_name
from rephase.errors import ConfigError, TrainingError
from rephase.laboratories import LABORATORIES
from rephase.labs.laboratory import Laboratory
from rephase.learning.weights import has_card, save_weights
from rephase.runs import Run


def ship_weights(run: Run, folder: Path, *, suffix: str = "") -> list[Path]:
    """Write the best epoch's weights of every model that a run has trained and that its laboratory ships.

    Parameters
    ----------
    run
        Run with trained models; its data are built again if they are gone.
    folder
        Folder of ``MODEL.safetensors`` and ``MODEL.json``; posterior models are also named after their experiment.
    suffix
        Suffix of the names, if a folder holds several weights of one model.

    Raises
    ------
    ConfigError
        File names cannot have the suffix, or the folder has a file of that name that rephase did not write.
    TrainingError
        The run has no trained model.
    """
    try:
        checked_name(f"model{suffix}")
    except ValueError as error:
        raise ConfigError(f"suffix {suffix!r}: {error}") from error
    trained = chain.from_iterable(laboratory.weights(run) for laboratory in LABORATORIES.values())
    paths = [save_weights(_place(folder, f"{card.name}{suffix}"), model, card) for model, card in trained]
    if not paths:
        shipping = [name for name, laboratory in LABORATORIES.items() if laboratory.weights is not Laboratory.weights]
        raise TrainingError(
            f"{run.folder}: no trained model to ship; first run notebooks of a laboratory that ships its models: "
            f"{', '.join(shipping)}"
        )
    return paths


def _place(folder: Path, name: str) -> Path:
    """Return the path for weights; files already there must have a rephase card, which `save_weights` writes first."""
    path = folder / f"{name}.safetensors"
    there = [file.name for file in (path, path.with_suffix(".json")) if os.path.lexists(file)]
    if there and not has_card(path):
        raise ConfigError(f"--out {folder}: rephase did not write {' and '.join(there)}; give another folder")
    return path
