"""Trainings of the models of a table: which folder holds which training, its weights and its losses."""

import io
import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic

import pandas as pd
import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from rephase.config.sections import LearningConfig, fingerprint
from rephase.devices import pick_device
from rephase.errors import ConfigError, TrainingError
from rephase.files.reading import file_bytes, file_text
from rephase.files.writing import disk_errors, only_writer, write_whole
from rephase.learning.batches import BatchType, SplitData
from rephase.learning.checkpoints import read_checkpoint
from rephase.learning.models import Model, build_model
from rephase.ranks import ALONE, Ranks
from rephase.runs import Run, environment

_LOGGED = ["epoch", "train_loss", "validation_loss"]


@dataclass(frozen=True)
class Training(Generic[Model, BatchType]):
    """A training of a run, whether it is finished or not.

    Parameters
    ----------
    table, name, config, folder, seed
        As in `fit`.
    data
        Function that builds or opens the dataset, as far as it is not built yet.
    curve
        Name of the table of its losses in the run; empty for none.
    logged
        Further columns of its log that this table has.
    """

    table: Mapping[str, type[Model]]
    name: str
    config: LearningConfig
    folder: Path
    data: Callable[[], SplitData[BatchType]]
    seed: int
    curve: str = ""
    logged: tuple[str, ...] = ()

    @property
    def is_finished(self) -> bool:
        """Whether its last epoch has been trained."""
        return (self.folder / "finished").is_file()


def fit(
    table: Mapping[str, type[Model]],
    name: str,
    data: SplitData[BatchType],
    config: LearningConfig,
    folder: Path,
    *,
    seed: int = 0,
    device: str = "auto",
    progress: bool = True,
    ranks: Ranks = ALONE,
) -> Model:
    """Train a model of a table and return it with the weights of its best epoch.

    A training that was killed at any moment continues, when called again, from the last finished epoch, and one that
    was paused from the same step. On the CPU it ends with the same weights as an undisturbed training. Called again
    after the end, it only reads the weights.

    Parameters
    ----------
    table, name
        Table of models, and the name of the model in the table and in ``config.models``.
    data
        Dataset with the splits ``train`` and ``validation``.
    config
        Options of the model and of the training.
    folder
        Folder for checkpoints and logs of this model.
    seed
        Seed of the weights and of the order of the samples.
    device
        ``auto``, ``cpu`` or ``cuda``.
    progress
        Whether to show a progress bar, and the speed at the end.
    ranks
        The processes that share the training, all of which call this; it changes results only by rounding.

    Raises
    ------
    ConfigError
        Several processes cannot share the training of this model.
    TrainingError
        The loss is not finite, `folder` holds another training, or one whose files are damaged, or another process
        that shares the training is lost.
    DiskError
        Another process is training there, or the disk refuses a file.
    OutOfTime
        The time given to the command is over; the next call continues from this step.
    """
    options, folder = config.training_of(name), Path(folder)
    identity = {
        "model": name,
        "options": config.models[name].options,
        "training": options.model_dump(mode="json"),
        "data": data.config.model_dump(mode="json"),
        "seed": seed,
    }
    model = build_model(table, name, data.shape, config.models[name], loss=options.loss, seed=seed, **data.built_with)
    is_first = ranks.own() == 0
    if ranks.count > 1:
        _check_norms(model, name, pick_device(device))
    with disk_errors(folder):
        if is_first:
            _check_claim(folder, identity)
        if not (folder / "finished").is_file():
            with only_writer(folder) if is_first else nullcontext():
                from rephase.learning.trainer import module_of, run_epochs  # Lightning takes seconds

                if is_first:
                    _claim(folder, identity)
                module, is_shown = module_of(model, options, seed), progress and is_first
                run_epochs(module, name, data, folder, device=device, progress=is_shown, ranks=ranks)
                if is_first:
                    write_whole(folder / "finished", "")
    return trained_model(table, name, data, config, folder, device=device)


def check_shared(training: Training[Model, BatchType]) -> None:
    """Raise `ConfigError` if several processes cannot share a training."""
    name, options = training.name, training.config.training_of(training.name)
    if options.n_streamed:
        raise ConfigError(
            f"models.{name}: n_streamed = {options.n_streamed}: expected 0 on several devices, which share stored "
            "samples; store more samples, or train it on one device"
        )
    if hasattr(training.table[name], "training_module"):
        raise ConfigError(f"models.{name}: has a training of its own, expected one on several devices; train it on one")


def _check_norms(model: nn.Module, name: str, device: torch.device) -> None:
    """Raise `ConfigError` for batch normalisation in several processes on a CPU: torch joins their batches on GPUs."""
    if device.type == "cpu" and any(isinstance(layer, _BatchNorm) for layer in model.modules()):
        raise ConfigError(
            f"models.{name}: has batch normalisation, and on the CPU each process would normalise its part of a batch "
            "by itself; give --devices 1, or --device cuda"
        )


def train(run: Run, training: Training[Model, BatchType], *, ranks: Ranks = ALONE) -> Model:
    """Train a model of a run with `fit`, save its learning curve as a table, and return it with its best weights."""
    t = training
    model = fit(t.table, t.name, t.data(), t.config, t.folder, seed=t.seed, device=run.device, ranks=ranks)
    if t.curve and ranks.own() == 0:
        run.save_table(t.curve, loss_curve(t.folder, t.logged))
    return model


def trained_model(
    table: Mapping[str, type[Model]],
    name: str,
    data: SplitData[BatchType],
    config: LearningConfig,
    folder: Path,
    *,
    device: str = "auto",
) -> Model:
    """Load a model with the weights of the best epoch so far of a training; parameters as in `fit`.

    Raises
    ------
    TrainingError
        No epoch was finished, or the weights are damaged, not finite, or those of another model.
    """
    path, options = Path(folder) / "best.ckpt", config.training_of(name)
    if not path.is_file():
        raise TrainingError(f"{path}: no weights of {name!r} yet; train it first")
    model = build_model(table, name, data.shape, config.models[name], loss=options.loss, **data.built_with)
    weights = read_checkpoint(path)["state_dict"]
    for key, value in weights.items():
        if not torch.isfinite(value).all():
            raise TrainingError(f"{path}: {key} has values that are not finite; delete its folder and train again")
    try:
        model.load_state_dict({key.removeprefix("model."): value for key, value in weights.items()})
    except RuntimeError as error:
        raise TrainingError(f"{path}: weights of another model than {name!r} ({error}); train it again") from error
    return model.eval().to(pick_device(device))


def loss_curve(folder: Path, more: Sequence[str] = ()) -> pd.DataFrame:
    """Return the losses per epoch, ``epoch, train_loss, validation_loss``, joined over resumed trainings.

    ``more`` are further columns of the log.

    Raises
    ------
    TrainingError
        A log is damaged, or none has an epoch.
    """
    logs = sorted(Path(folder).glob("csv/version_*/metrics.csv"), key=lambda path: int(path.parent.name.split("_")[1]))
    columns = [*_LOGGED, *more]
    tables = [_logged(path, columns) for path in logs]
    rows = pd.concat([pd.DataFrame(columns=columns, dtype=float), *tables], ignore_index=True)
    curve = rows.groupby("epoch").last().dropna().reset_index()
    if curve.empty:
        raise TrainingError(f"{folder}: no epoch in the logs of the training; delete its folder and train again")
    return curve.astype({"epoch": int})


def _logged(path: Path, columns: list[str]) -> pd.DataFrame:
    """Return columns of a log, NaN where a value is missing."""
    content = file_bytes(path, TrainingError)
    try:
        return pd.read_csv(io.BytesIO(content)).reindex(columns=columns).astype(float)
    except ValueError as error:
        raise TrainingError(f"{path}: damaged ({error}); delete it, which leaves out its epochs") from error


def _claim(folder: Path, identity: dict[str, Any]) -> None:
    """Record which training this folder holds, unless that is already recorded."""
    path = folder / "identity.json"
    if not path.is_file():
        claim = {"fingerprint": fingerprint(identity), "made_with": environment(), **identity}
        write_whole(path, json.dumps(claim, indent=1))


def _check_claim(folder: Path, identity: dict[str, Any]) -> None:
    """Raise if the folder holds another training, or one that is not recorded."""
    path = folder / "identity.json"
    if not path.is_file():
        if left := [name for name in ("last.ckpt", "best.ckpt", "finished") if (folder / name).is_file()]:
            raise TrainingError(f"{path}: missing, but {left[0]} of a training exists; delete the folder")
        return
    try:
        claim = json.loads(file_text(path, TrainingError))["fingerprint"]
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        if isinstance(error, TrainingError):
            raise
        raise TrainingError(f"{path}: damaged, should record the training in this folder; delete the folder") from error
    if claim != fingerprint(identity):
        raise TrainingError(f"{folder}: holds another training; choose another run folder, or delete this one")
