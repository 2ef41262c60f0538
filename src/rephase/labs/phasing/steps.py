"""Trainings of the learned solver in a run."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

from rephase.config import Config
from rephase.config.phasing import PhasingConfig
from rephase.config.sections import validate
from rephase.errors import TrainingError
from rephase.files.reading import file_text
from rephase.labs.phasing.data import PhasingBatch, PhasingCrystals, kinds_of
from rephase.labs.phasing.models import PHASING_MODELS
from rephase.learning.training import Training, trained_model
from rephase.runs import Run
from rephase.solvers.learned.network import RecurrentNetwork


def check_crystals(config: Config) -> None:
    """Raise `ConfigError` or `SymmetryError` if no such crystals can be generated."""
    kinds_of(config.phasing.data)


def trainings(run: Run) -> Iterator[Training[Any, PhasingBatch]]:
    """Yield the trainings of the configuration; their crystals are made on the fly."""
    config, folder = run.config.phasing, run.checkpoints("phasing")
    for name in config.models:
        yield Training(
            PHASING_MODELS,
            name,
            config,
            folder / name,
            lambda: PhasingCrystals(config.data),
            run.config.seed,
            curve=f"phasing_curve_{name}",
        )


def trained_network(folder: Path, *, device: str = "auto") -> RecurrentNetwork:
    """Load the network of a training, finished or not, with the weights of its best epoch so far.

    Parameters
    ----------
    folder
        Folder of the training, ``RUN/checkpoints/phasing/NAME``.
    device
        ``auto``, ``cpu`` or ``cuda``.

    Raises
    ------
    TrainingError
        There is no training of this laboratory, or it has not finished an epoch, or a file is damaged.
    """
    path = folder / "identity.json"
    try:
        identity = json.loads(file_text(path, TrainingError))
        name, options = str(identity["model"]), identity["options"]
    except (ValueError, TypeError, KeyError) as error:
        if isinstance(error, TrainingError):
            raise
        raise TrainingError(f"{path}: damaged, should record a training; give RUN/checkpoints/phasing/NAME") from error
    config = validate(PhasingConfig, {"models": {name: {"options": options}}}, str(path))
    data = PhasingCrystals(config.data)
    return cast(RecurrentNetwork, trained_model(PHASING_MODELS, name, data, config, folder, device=device))
