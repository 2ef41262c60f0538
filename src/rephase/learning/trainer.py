"""Lightning's part of a training: the module, the trainer, its progress bar and checkpoints.

Importing Lightning takes seconds, so this module is imported only where a training starts.
"""

import logging
import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any, cast

import lightning as L
import torch
from lightning.fabric.plugins.io import CheckpointIO
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from lightning.pytorch.strategies.launchers import subprocess_script
from torch import nn

from rephase.config.sections import TrainingConfig
from rephase.devices import deterministic, pick_device, seeded, tf32, trainer_options
from rephase.errors import RephaseError, TrainingError
from rephase.learning.batches import Batches, BatchType, Loader, SplitData, StreamedData
from rephase.learning.callbacks import PauseInTime, SpeedLog, StepBar
from rephase.learning.checkpoints import read_checkpoint, write_checkpoint
from rephase.processes import log_level
from rephase.ranks import ALONE, Ranks, watched_ranks

Samples = tuple[torch.Tensor, ...]
"""A batch as seen by the training: tensors whose first axis is that of the samples."""
_PART = "part_of_epoch"  # key of a checkpoint from the middle of an epoch
_DIVERGED = 1e10  # losses are near 1; a diverged flow recovers only to the prior
OPTIMISERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "adamw": torch.optim.AdamW,
    "sgd": partial(torch.optim.SGD, momentum=0.9, nesterov=True),  # the cycle varies the momentum from 0.85 to 0.95
}


class EpochMeans:
    """Means over the samples of an epoch, of all processes: `sums` has the sum and the number of samples by name."""

    def __init__(self) -> None:
        self.sums: dict[str, tuple[torch.Tensor, int]] = {}

    def add(self, name: str, value: torch.Tensor, n: int) -> None:
        """Add the mean over `n` samples."""
        added = value.detach().double() * n
        total, n_before = self.sums.get(name, (torch.zeros_like(added), 0))
        self.sums[name] = (total.to(added.device) + added, n_before + n)  # those of a checkpoint are on the CPU

    def take(self, trainer: L.Trainer) -> dict[str, torch.Tensor]:
        """Return the means, and start anew."""
        joined = {
            name: trainer.strategy.reduce(torch.stack((total, total.new_tensor(n))), reduce_op="sum")
            for name, (total, n) in self.sums.items()
        }
        self.sums = {}
        return {name: total / n for name, (total, n) in joined.items()}


class ModelModule(L.LightningModule):
    """A model that has ``loss(batch)``, with its optimiser and one cycle of the learning rate."""

    def __init__(self, model: nn.Module, options: TrainingConfig, seed: int = 0):
        super().__init__()
        self.model, self.options, self.seed = model, options, seed
        self.means = {"train": EpochMeans(), "validation": EpochMeans()}

    def counts(self, batch: Samples, number: int) -> tuple[int, int]:
        """Return the number of samples of this process in a batch, and that of all processes."""
        trainer = self.trainer
        if trainer.world_size == 1:
            return len(batch[0]), len(batch[0])
        loader = trainer.val_dataloaders if trainer.validating else trainer.train_dataloader
        return _order_of(cast(Loader[Any], loader)).counts(number)

    def on_train_batch_start(self, batch: Samples, batch_idx: int) -> None:
        """Make dropout and mirroring depend only on seed, step and process, so that a resumed training repeats them."""
        of_rank = (self.trainer.global_rank,) if self.trainer.global_rank else ()
        torch.manual_seed(hash((self.seed, self.current_epoch, batch_idx, *of_rank)))

    def loss(self, batch: Samples, name: str) -> torch.Tensor:
        """Return the loss of a batch; stop the training, naming the loss, if it is not finite or diverges."""
        loss: torch.Tensor = self.model.loss(batch)  # type: ignore[operator]  # every model of the tables has one
        self.stop_if_diverged(name, loss)
        return loss

    def stop_if_diverged(self, name: str, loss: torch.Tensor) -> None:
        """Raise `TrainingError` if a loss is not finite or has diverged."""
        self._stop_unless_below(_DIVERGED, name, loss)

    def training_step(self, batch: Samples, batch_idx: int) -> torch.Tensor:
        """Return the loss of a training batch.

        Processes average their gradients. Where their parts of a batch differ in size, the weights of their losses make
        this the gradient of the mean over the whole batch.
        """
        loss, (n_own, n) = self.loss(batch, "loss"), self.counts(batch, batch_idx)
        self.means["train"].add("train_loss", loss, n_own)
        return loss if self.trainer.world_size == 1 else loss * (n_own * self.trainer.world_size / n)

    def on_train_epoch_end(self) -> None:
        """Log the means of the epoch."""
        self.log_dict(self.means["train"].take(self.trainer))

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
            f"lower the learning rate of this training (learning_rate, now {self.options.learning_rate}) "
            "or check the data"
        )

    def validation_step(self, batch: Samples, batch_idx: int) -> None:
        """Add the loss of a validation batch to the mean."""
        loss = self.loss(batch, "validation loss")
        self.means["validation"].add("validation_loss", loss, self.counts(batch, batch_idx)[0])

    def on_validation_epoch_end(self) -> None:
        """Log the mean loss of the validation."""
        self.log_dict(self.means["validation"].take(self.trainer))

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep how far an epoch has come that is not finished yet: the number of its steps, and its sums."""
        if self.means["train"].sums:
            checkpoint[_PART] = {"n_done": self.trainer.fit_loop.batch_idx + 1, "sums": self.means["train"].sums}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Continue the means of an epoch that is not finished yet."""
        if _PART in checkpoint:
            self.means["train"].sums = dict(checkpoint[_PART]["sums"])

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


def module_of(model: nn.Module, options: TrainingConfig, seed: int = 0) -> ModelModule:
    """Return the module that trains a model: that of its ``training_module`` if it has one, else `ModelModule`."""
    made: Callable[[TrainingConfig, int], ModelModule] | None = getattr(model, "training_module", None)
    return ModelModule(model, options, seed) if made is None else made(options, seed)


def run_epochs(
    module: ModelModule,
    name: str,
    data: SplitData[BatchType],
    folder: Path,
    *,
    device: str,
    progress: bool,
    ranks: Ranks = ALONE,
) -> None:
    """Train to the end, starting from the last checkpoint if there is one.

    Raises
    ------
    OutOfTime
        The time given to the command is over; the last checkpoint has the state.
    """
    options, seed = module.options, module.seed
    last, on = folder / "last.ckpt", pick_device(device)
    part: dict[str, Any] = {"rank": ranks.own(), "n_ranks": ranks.count, "device": on}
    loader = (
        StreamedData(data, options.n_streamed, options.batch_size, seed=seed).loader(on)
        if options.n_streamed
        else data.loader("train", options.batch_size, seed=seed, **part)
    )
    others = _watched_ranks(ranks) if ranks.count > 1 else nullcontext()
    with _quiet_lightning(), _blamed_on_checkpoint(last), others, seeded(seed), deterministic(), tf32():
        if last.is_file():  # a resuming trainer starts the first loader before it sets its epoch
            kept = read_checkpoint(last)
            n_done = kept[_PART]["n_done"] if _PART in kept else 0
            _order_of(loader).resume(int(kept["epoch"]) + (0 if n_done else 1), n_done)
        _trainer(name, folder, options, progress, trainer_options(device, options.precision, ranks)).fit(
            module,
            loader,
            data.loader("validation", options.batch_size, **part),
            ckpt_path=last if last.is_file() else None,
            weights_only=True,
        )


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


@contextmanager
def _watched_ranks(ranks: Ranks) -> Iterator[None]:
    """Watch the processes that Lightning starts in its place: it would kill this one without a word."""
    observed = "_launch_process_observer"
    before = getattr(subprocess_script, observed)
    with watched_ranks(ranks) as watch:
        setattr(subprocess_script, observed, watch)
        try:
            yield
        finally:
            setattr(subprocess_script, observed, before)


@contextmanager
def _quiet_lightning() -> Iterator[None]:
    """Suppress Lightning's messages about folders of a resumed training, loaders in memory and an unused GPU."""
    logs = log_level("lightning.pytorch", logging.WARNING), log_level("lightning.fabric", logging.WARNING)
    with logs[0], logs[1], warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Checkpoint directory .* exists")
        warnings.filterwarnings("ignore", message="The '(train|val)_dataloader' does not have many workers")
        warnings.filterwarnings("ignore", message="GPU available but not used")
        warnings.filterwarnings("ignore", message="It is recommended to use .*sync_dist=True")  # means of all processes
        warnings.filterwarnings("ignore", message="You're resuming from a checkpoint that ended before the epoch ended")
        warnings.filterwarnings("ignore", category=FutureWarning)
        warnings.filterwarnings("ignore", category=DeprecationWarning)
        yield


def _order_of(loader: Loader[Any]) -> Batches:
    return cast(Batches, loader.sampler)


def _trainer(name: str, folder: Path, options: TrainingConfig, progress: bool, machine: dict[str, Any]) -> L.Trainer:
    keep: dict[str, Any] = {"save_on_train_epoch_end": True, "enable_version_counter": False}
    best = ModelCheckpoint(folder, filename="best", monitor="validation_loss", **keep)
    last = ModelCheckpoint(folder, filename="last", **keep)
    return L.Trainer(
        default_root_dir=folder,
        max_epochs=options.epochs,
        callbacks=[
            EarlyStopping("validation_loss", patience=options.patience, check_on_train_epoch_end=True),
            *([StepBar(name)] if progress else []),
            SpeedLog(name, folder / "speed.json", progress=progress),
            PauseInTime(name, folder / "last.ckpt"),
            best,
            last,
        ],
        logger=[CSVLogger(folder, name="csv"), TensorBoardLogger(folder, name="tensorboard")],
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        log_every_n_steps=1,
        plugins=[CheckedCheckpoints()],
        **machine,
    )


class CheckedCheckpoints(CheckpointIO):
    """Lightning's interface to write and read these checkpoints."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """Write with `write_checkpoint`."""
        write_checkpoint(path, checkpoint)

    def load_checkpoint(
        self, path: str | Path, map_location: Any = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Read with `read_checkpoint`, always weights only; if the folder was moved, paths are updated."""
        checkpoint = read_checkpoint(path)
        folder = os.path.realpath(Path(path).parent)
        for state in checkpoint.get("callbacks", {}).values():
            if "dirpath" in state:
                state.update(_moved(state, folder), dirpath=folder)
        return checkpoint

    def remove_checkpoint(self, path: str | Path) -> None:
        """Remove nothing: a new checkpoint replaces the old one, and a path in a file cannot be trusted."""


def _moved(state: dict[str, Any], folder: str) -> dict[str, Any]:
    """Move the paths to another folder in the state of a callback that keeps paths and scores of its checkpoints."""

    def move(path: str) -> str:
        return path and os.path.join(folder, os.path.basename(path))

    names = ("best_model_path", "kth_best_model_path", "last_model_path")
    scores = {move(path): score for path, score in state["best_k_models"].items()}
    return {name: move(state[name]) for name in names} | {"best_k_models": scores}
