"""Training of the models of a table: Lightning module, checkpoints, early stopping and resuming."""

import io
import json
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, cast

import lightning as L
import pandas as pd
import torch
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from torch import nn
from torch.utils.data import DataLoader
from tqdm import tqdm

from rephase.config.sections import LearningConfig, TrainingConfig, fingerprint
from rephase.devices import pick_device, seed_everything, trainer_options
from rephase.errors import RephaseError, TrainingError
from rephase.files.reading import file_bytes, file_text
from rephase.files.writing import disk_errors, only_writer, write_whole
from rephase.learning.batches import Batches, BatchType, SplitData, StreamedData
from rephase.learning.checkpoints import CheckedCheckpoints, read_checkpoint
from rephase.learning.models import Model, build_model
from rephase.runs import Run, environment

Samples = tuple[torch.Tensor, ...]
"""A batch as seen by the training: tensors whose first axis is that of the samples."""
_LOGGED = ["epoch", "train_loss", "validation_loss"]
_DIVERGED = 1e10  # losses are near 1; a diverged flow recovers only to the prior
OPTIMISERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "adamw": torch.optim.AdamW,
    "sgd": partial(torch.optim.SGD, momentum=0.9, nesterov=True),  # the cycle varies the momentum from 0.85 to 0.95
}


class ModelModule(L.LightningModule):
    """A model that has ``loss(batch)``, with its optimiser and one cycle of the learning rate."""

    def __init__(self, model: nn.Module, options: TrainingConfig, seed: int = 0):
        super().__init__()
        self.model, self.options, self.seed = model, options, seed

    def on_train_batch_start(self, batch: Samples, batch_idx: int) -> None:
        """Make dropout and mirroring depend only on seed and step, so that a resumed training repeats them."""
        torch.manual_seed(hash((self.seed, self.current_epoch, batch_idx)))

    def loss(self, batch: Samples, name: str) -> torch.Tensor:
        """Return the loss of a batch; stop the training, naming the loss, if it is not finite or diverges."""
        loss: torch.Tensor = self.model.loss(batch)  # type: ignore[operator]  # every model of the tables has one
        self.stop_if_diverged(name, loss)
        return loss

    def stop_if_diverged(self, name: str, loss: torch.Tensor) -> None:
        """Raise `TrainingError` if a loss is not finite or has diverged."""
        self._stop_unless_below(_DIVERGED, name, loss)

    def training_step(self, batch: Samples, _: int) -> torch.Tensor:
        """Return the loss of a training batch."""
        loss = self.loss(batch, "loss")
        self.log("train_loss", loss.detach(), on_step=False, on_epoch=True, batch_size=len(batch[0]))
        return loss

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Stop before a gradient that is not finite spoils the weights; scale down a gradient that is too large."""
        stepped = [p for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
        norm = torch.nn.utils.get_total_norm([p.grad for p in stepped])
        self._stop_unless_below(torch.inf, "gradient", norm)
        if self.options.gradient_norm is not None:
            torch.nn.utils.clip_grads_with_norm_(stepped, self.options.gradient_norm, norm)

    def _stop_unless_below(self, bound: float, name: str, value: torch.Tensor) -> None:
        if value.abs() < bound:
            return
        step, kept = self.trainer.fit_loop.total_batch_idx, Path(self.trainer.default_root_dir) / "last.ckpt"
        state = f"the last good checkpoint is {kept}" if kept.is_file() else "no epoch was finished, so none is kept"
        raise TrainingError(
            f"{name} = {value.item()} at step {step} (epoch {self.current_epoch}); {state}; "
            f"lower training.learning_rate (now {self.options.learning_rate}) or check the data"
        )

    def validation_step(self, batch: Samples, _: int) -> None:
        """Log the loss of a validation batch."""
        loss = self.loss(batch, "validation loss")
        self.log("validation_loss", loss, on_epoch=True, prog_bar=True, batch_size=len(batch[0]))

    def configure_optimizers(self) -> Any:
        """Return an optimiser with one cycle of the learning rate over all steps."""
        return self._optimiser(self.model)

    def _optimiser(self, network: nn.Module) -> dict[str, Any]:
        options = self.options
        made = OPTIMISERS[options.optimiser]
        optimiser = made(network.parameters(), lr=options.learning_rate, weight_decay=options.weight_decay)
        steps = int(self.trainer.estimated_stepping_batches)
        cycle = torch.optim.lr_scheduler.OneCycleLR(optimiser, options.learning_rate, total_steps=steps, pct_start=0.2)
        return {"optimizer": optimiser, "lr_scheduler": {"scheduler": cycle, "interval": "step"}}


class StepBar(L.Callback):
    """One progress bar over all steps of a training, on the error stream and not among a notebook's results."""

    def __init__(self, name: str):
        self.name = name

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Open the bar at the step from which the training resumes."""
        steps = int(trainer.estimated_stepping_batches)
        self.bar = tqdm(
            total=steps, initial=trainer.fit_loop.total_batch_idx + 1, desc=self.name, unit="step", mininterval=1
        )

    def on_train_batch_end(self, *_: Any) -> None:
        """Advance by one step."""
        self.bar.update()

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Show the latest validation loss."""
        self.bar.set_postfix(validation_loss=f"{float(trainer.callback_metrics['validation_loss']):.4g}")

    def on_train_end(self, *_: Any) -> None:
        """Close the bar."""
        self.bar.close()


def module_of(model: nn.Module, options: TrainingConfig, seed: int = 0) -> ModelModule:
    """Return the module that trains a model: that of its ``training_module`` if it has one, else `ModelModule`."""
    made: Callable[[TrainingConfig, int], ModelModule] | None = getattr(model, "training_module", None)
    return ModelModule(model, options, seed) if made is None else made(options, seed)


def fit(
    table: Mapping[str, type[Model]], name: str, data: SplitData[BatchType], config: LearningConfig, folder: Path, *,
    seed: int = 0, device: str = "auto", progress: bool = True,
) -> Model:  # fmt: skip
    """Train a model of a table and return it with the weights of its best epoch.

    A training that was killed at any moment continues, when called again, from the last finished epoch, and on the CPU
    it ends with the same weights as an undisturbed training. Called again after the end, it only reads the weights.

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
        Whether to show a progress bar.

    Raises
    ------
    TrainingError
        The loss is not finite, or `folder` holds another training, or one whose files are damaged.
    DiskError
        Another process is training there, or the disk refuses a file.
    """
    options, folder = config.training_of(name), Path(folder)
    identity = {"model": name, "options": config.models[name].options, "training": options.model_dump(mode="json"),
                "data": data.config.model_dump(mode="json"), "seed": seed}  # fmt: skip
    model = build_model(table, name, data.shape, config.models[name], loss=options.loss, seed=seed, **data.built_with)
    with disk_errors(folder):
        _check_claim(folder, identity)
        if not (folder / "finished").is_file():
            with only_writer(folder):
                _claim(folder, identity)
                _train(module_of(model, options, seed), name, data, folder, device=device, progress=progress)
    return trained_model(table, name, data, config, folder, device=device)


def train(
    run: Run, table: Mapping[str, type[Model]], name: str, data: SplitData[BatchType], config: LearningConfig,
    folder: Path, *, curve: str,
) -> Model:  # fmt: skip
    """Train a model with `fit`, with the seed and device of a run, and save its losses as the table `curve`."""
    model = fit(table, name, data, config, folder, seed=run.config.seed, device=run.device)
    run.save_table(curve, loss_curve(folder))
    return model


def _train(
    module: ModelModule, name: str, data: SplitData[BatchType], folder: Path, *, device: str, progress: bool
) -> None:
    """Train to the end, starting from the last finished epoch if there is one."""
    options, seed = module.options, module.seed
    seed_everything(seed)
    last, loader = folder / "last.ckpt", _training_loader(data, options, seed)
    with _quiet_lightning(), _blamed_on_checkpoint(last):
        if last.is_file():  # a resuming trainer starts the first loader before it sets its epoch
            _order_of(loader).set_epoch(int(read_checkpoint(last)["epoch"]) + 1)
        _trainer(name, folder, options, device, progress).fit(
            module, loader, data.loader("validation", options.batch_size),
            ckpt_path=last if last.is_file() else None, weights_only=True,
        )  # fmt: skip
    write_whole(folder / "finished", "")


@contextmanager
def _blamed_on_checkpoint(path: Path) -> Iterator[None]:
    """Turn errors of a resumed training into a `TrainingError` that names the checkpoint as their likely cause."""
    is_resumed = path.is_file()
    try:
        yield
    except (AttributeError, KeyError, TypeError, ValueError, IndexError, RuntimeError) as error:
        if isinstance(error, RephaseError) or not is_resumed:
            raise
        raise TrainingError(
            f"{path}: the training that resumes from it fails ({error}); if it fails again, delete its folder to "
            "train again"
        ) from error


def trained_model(
    table: Mapping[str, type[Model]], name: str, data: SplitData[BatchType], config: LearningConfig, folder: Path, *,
    device: str = "auto",
) -> Model:  # fmt: skip
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
        module_of(model, options).load_state_dict(weights)
    except RuntimeError as error:
        raise TrainingError(f"{path}: weights of another model than {name!r} ({error}); train it again") from error
    return model.eval().to(pick_device(device))


def loss_curve(folder: Path) -> pd.DataFrame:
    """Return the losses per epoch, ``epoch, train_loss, validation_loss``, joined over resumed trainings.

    Raises
    ------
    TrainingError
        A log is damaged, or none has an epoch.
    """
    logs = sorted(Path(folder).glob("csv/version_*/metrics.csv"), key=lambda path: int(path.parent.name.split("_")[1]))
    rows = pd.concat([pd.DataFrame(columns=_LOGGED, dtype=float), *map(_logged, logs)], ignore_index=True)
    curve = rows.groupby("epoch").last().dropna().reset_index()
    if curve.empty:
        raise TrainingError(f"{folder}: no epoch in the logs of the training; delete its folder and train again")
    return curve.astype({"epoch": int})


def _logged(path: Path) -> pd.DataFrame:
    """Return the losses in a log, NaN where one is missing."""
    content = file_bytes(path, TrainingError)
    try:
        return pd.read_csv(io.BytesIO(content)).reindex(columns=_LOGGED).astype(float)
    except ValueError as error:
        raise TrainingError(f"{path}: damaged ({error}); delete it, which leaves out its epochs") from error


@contextmanager
def _quiet_lightning() -> Iterator[None]:
    """Suppress Lightning's warnings about existing folders of a resumed training, and about loaders in memory."""
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Checkpoint directory .* exists")
        warnings.filterwarnings("ignore", message="The '(train|val)_dataloader' does not have many workers")
        warnings.filterwarnings("ignore", category=FutureWarning)
        warnings.filterwarnings("ignore", category=DeprecationWarning)
        yield


def _order_of(loader: DataLoader[BatchType]) -> Batches:
    return cast(Batches, loader.sampler)


def _training_loader(data: SplitData[BatchType], options: TrainingConfig, seed: int) -> DataLoader[BatchType]:
    if options.n_streamed:
        return StreamedData(data, options.n_streamed, options.batch_size, seed=seed).loader()
    return data.loader("train", options.batch_size, seed=seed)


def _trainer(name: str, folder: Path, options: TrainingConfig, device: str, progress: bool) -> L.Trainer:
    keep: dict[str, Any] = {"save_on_train_epoch_end": True, "enable_version_counter": False}
    best = ModelCheckpoint(folder, filename="best", monitor="validation_loss", **keep)
    last = ModelCheckpoint(folder, filename="last", **keep)
    return L.Trainer(
        default_root_dir=folder,
        max_epochs=options.epochs,
        callbacks=[EarlyStopping("validation_loss", patience=options.patience, check_on_train_epoch_end=True),
                   *([StepBar(name)] if progress else []), best, last],
        logger=[CSVLogger(folder, name="csv"), TensorBoardLogger(folder, name="tensorboard")],
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        log_every_n_steps=1,
        plugins=[CheckedCheckpoints()],
        **trainer_options(device, options.precision),
    )  # fmt: skip


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
        raise TrainingError(f"{path}: damaged, expected what was trained here; delete the folder") from error
    if claim != fingerprint(identity):
        raise TrainingError(f"{folder}: holds another training; choose another run folder, or delete this one")
