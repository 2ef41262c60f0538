"""From the trainings of a run to files of weights, with cards that say how far they can be trusted."""

import os
from itertools import chain
from pathlib import Path

from rephase.config.sections import checked_name
from rephase.errors import ConfigError, TrainingError
from rephase.laboratories import LABORATORIES
from rephase.learning.weights import has_card, save_weights
from rephase.runs import Run


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
    trained = chain.from_iterable(laboratory.weights(run) for laboratory in LABORATORIES.values())
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
