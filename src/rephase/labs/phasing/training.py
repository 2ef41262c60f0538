"""Training of the recurrent network through several steps at once, with a running mean of its weights."""

import time
from copy import deepcopy
from typing import Any, cast

import torch
from lightning.pytorch.core.optimizer import LightningOptimizer

from rephase.config.phasing import PhasingTraining
from rephase.labs.phasing.data import PhasingBatch, parts
from rephase.labs.phasing.losses import mixed_with_true, unrolled_loss
from rephase.labs.phasing.models import START, starting_weights
from rephase.labs.phasing.scores import SEEN, attempts
from rephase.learning.trainer import ModelModule
from rephase.solvers.learned.network import RecurrentNetwork
from rephase.solvers.learned.starts import random_starts

_WARM_UP = 20  # steps in which the running mean forgets the first weights
_TRAINED = "trained."  # prefix of the weights that are being trained; those of the model are their running mean


def decay_of_mean(averaging: float, n_steps: int) -> float:
    """Return the decay of the running mean after some steps: `averaging`, and less in the first ones."""
    return min(averaging, n_steps / (n_steps + _WARM_UP))


class RecurrentModule(ModelModule):
    """Train a copy of the network, and keep the running mean of its weights in the model, which is validated.

    The log has, for each epoch, the number of ``crystals_seen`` so far, ``crystals_per_second`` of this epoch, and what
    `Attempts.shares` says of the validation.
    """

    model: RecurrentNetwork
    options: PhasingTraining

    def __init__(self, model: RecurrentNetwork, options: PhasingTraining, seed: int = 0):
        super().__init__(model, options, seed)
        self.automatic_optimization = False
        self.n_seen, self.start_sha256 = 0, ""
        if options.start is not None:
            start = starting_weights(options.start, model)
            model.load_state_dict(start.model.state_dict())
            self.n_seen, self.start_sha256 = start.card.n_seen, start.card.sha256
        self.trained = deepcopy(model)
        self._since = (time.perf_counter(), 0)

    def training_step(self, batch: PhasingBatch, _: int) -> None:  # type: ignore[override]  # nothing to go back from
        """Take one step; the crystals of each grid add their part of the gradient in turn."""
        optimiser = cast(LightningOptimizer, self.optimizers())
        optimiser.zero_grad()
        n_free, n = int(torch.randint(self.options.n_free + 1, ())), len(batch.F)
        for part in parts(batch):
            is_free = torch.rand(len(part)) < self.options.free
            start = random_starts(part.data.spheres, part.operations.without_group(is_free))
            start = mixed_with_true(start, part.true, self.options.near)
            loss = unrolled_loss(self.trained, part, start, n_free=n_free, n_steps=self.options.n_steps)
            self.stop_if_diverged("loss", loss)
            self.manual_backward(loss * (len(part) / n))
            self.means["train"].add("train_loss", loss, len(part))
        optimiser.step()
        cast(torch.optim.lr_scheduler.LRScheduler, self.lr_schedulers()).step()
        self._average()
        self.n_seen += n

    @torch.no_grad()
    def _average(self) -> None:
        """Move the running mean towards the trained weights, faster in the first steps."""
        decay = decay_of_mean(self.options.averaging, self.global_step)
        for mean, value in zip(self.model.parameters(), self.trained.parameters()):
            mean.lerp_(value, 1 - decay)

    def on_train_epoch_start(self) -> None:
        """Start the clock of the epoch."""
        self._since = time.perf_counter(), self.n_seen

    def on_train_epoch_end(self) -> None:
        """Log the means of the epoch, and how fast it was."""
        super().on_train_epoch_end()
        since, n_before = self._since
        speed = (self.n_seen - n_before) / (time.perf_counter() - since)
        self.log_dict({SEEN: float(self.n_seen), "crystals_per_second": speed})

    def validation_step(self, batch: PhasingBatch, batch_idx: int) -> None:  # type: ignore[override]
        """Search with the mean weights, always from the same starts."""
        generator = torch.Generator().manual_seed(hash((self.seed, batch_idx)) % 2**63)
        found = attempts(self.model, batch, self.options.validation, generator)
        for name, value in {"validation_loss": found.misfit.mean(), **found.shares()}.items():
            self.means["validation"].add(name, value, len(batch.F))

    def configure_optimizers(self) -> Any:
        """Return the optimiser of the trained weights, with one cycle of the learning rate."""
        return self._optimiser(self.trained)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the trained weights apart from those of the model."""
        super().on_save_checkpoint(checkpoint)
        weights = checkpoint["state_dict"]
        checkpoint[_TRAINED] = {key: weights.pop(key) for key in list(weights) if key.startswith(_TRAINED)}
        checkpoint |= {SEEN: self.n_seen, START: self.start_sha256}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Continue with the trained weights."""
        super().on_load_checkpoint(checkpoint)
        checkpoint["state_dict"] |= checkpoint[_TRAINED]
        self.n_seen, self.start_sha256 = checkpoint[SEEN], checkpoint.get(START, "")
