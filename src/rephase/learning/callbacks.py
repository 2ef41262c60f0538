"""What a trainer does beside its steps: show progress, pause in time, and measure the speed.

Lightning takes seconds to import, so this module is imported only where a training starts.
"""

import json
import sys
import time
from pathlib import Path
from typing import Any

import lightning as L
from tqdm import tqdm

from rephase.deadlines import is_time_over, pause
from rephase.files.writing import write_whole


class StepBar(L.Callback):
    """One progress bar over all steps of a training, on the error stream and not among a notebook's results."""

    def __init__(self, name: str):
        self.name = name
        self.bar = tqdm(disable=True)

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

    def on_exception(self, *_: Any) -> None:
        """Close the bar, so that the error has a line of its own."""
        self.bar.close()


class SpeedLog(L.Callback):
    """Time of all pieces of a training, without its validation: for steps, and for waiting for the next batch.

    Written to `path` as JSON at the end: ``samples``, ``seconds`` in all, ``waiting_seconds``, ``samples_per_second``,
    ``waiting_share``. This time is written into each checkpoint, as time after the last checkpoint is trained again.
    """

    def __init__(self, name: str, path: Path, *, progress: bool):
        self.name, self.path, self.progress = name, path, progress
        self.spent = {"samples": 0.0, "seconds": 0.0, "waiting_seconds": 0.0}

    def on_train_start(self, *_: Any) -> None:
        """Start the clock, also in the middle of an epoch."""
        self.since = time.perf_counter()

    def on_train_epoch_start(self, *_: Any) -> None:
        """Start the clock again after a validation."""
        self.since = time.perf_counter()

    def on_train_batch_start(self, *_: Any) -> None:
        """Count the time since the last step as spent waiting."""
        waited = self._lap()
        self.spent["seconds"] += waited
        self.spent["waiting_seconds"] += waited

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: Any, _: Any, batch: Any, batch_idx: int) -> None:
        """Count a step and the samples that all processes took in it."""
        self.spent["seconds"] += self._lap()
        self.spent["samples"] += pl_module.counts(batch, batch_idx)[1]

    def _lap(self) -> float:
        """Return the seconds since the last call."""
        before, self.since = self.since, time.perf_counter()
        return self.since - before

    def state_dict(self) -> dict[str, Any]:
        """Return what the checkpoint keeps."""
        return dict(self.spent)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue from a checkpoint."""
        self.spent.update(state_dict)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Write the file, and a line on the error stream."""
        if not trainer.is_global_zero or not self.spent["seconds"]:
            return
        spent = self.spent
        rate, share = spent["samples"] / spent["seconds"], spent["waiting_seconds"] / spent["seconds"]
        write_whole(self.path, json.dumps({**spent, "samples_per_second": rate, "waiting_share": share}, indent=1))
        if self.progress:
            tqdm.write(f"{self.name}: {rate:.4g} samples/s, {share:.0%} of the time waiting for data", file=sys.stderr)


class PauseInTime(L.Callback):
    """Stop a training when the time of the command is over: between two steps, or between two epochs.

    Between two steps, the state is first written to `path`; between two epochs, it was already. At least one step is
    taken, however short the time.
    """

    def __init__(self, name: str, path: Path):
        self.name, self.path, self.has_stepped = name, path, False

    def on_train_batch_end(self, trainer: L.Trainer, *_: Any) -> None:
        """Stop after a step, except after the last of an epoch, which is validated first."""
        self.has_stepped = True
        loop = trainer.fit_loop
        if not loop.epoch_loop.batch_progress.is_last_batch and self._is_over(trainer):
            trainer.save_checkpoint(self.path)
            raise pause(f"step {loop.batch_idx + 1} of epoch {trainer.current_epoch} of {self.name}")

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Stop between two epochs."""
        if self.has_stepped and self._is_over(trainer):
            raise pause(f"the start of epoch {trainer.current_epoch} of {self.name}")

    def _is_over(self, trainer: L.Trainer) -> bool:
        """Whether the time is over in any process, so that all stop at the same step."""
        is_over = is_time_over()
        return is_over if trainer.world_size == 1 else trainer.strategy.reduce_boolean_decision(is_over, all=False)
