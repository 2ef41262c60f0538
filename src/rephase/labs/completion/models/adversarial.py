"""Training of a generator and its critic, with one step of each per batch."""

from typing import Any, cast

import torch
from lightning.pytorch.core.optimizer import LightningOptimizer

from rephase.config.sections import TrainingConfig
from rephase.labs.completion.data import CompletionBatch
from rephase.labs.completion.models.gan import AmplitudeGAN
from rephase.learning.trainer import ModelModule


class AdversarialModule(ModelModule):
    """Train a generator and a critic, one step of each per batch, with an optimiser each like that of other models."""

    model: AmplitudeGAN

    def __init__(self, model: AmplitudeGAN, options: TrainingConfig, seed: int = 0):
        super().__init__(model, options, seed)
        self.automatic_optimization = False

    def training_step(self, batch: CompletionBatch, _: int) -> None:  # type: ignore[override]  # nothing to go back from
        """Train the critic, then the generator; the logged loss is the reconstruction loss, as in validation."""
        amplitude = self.model(batch)
        reconstruction = self.model.misfit(amplitude, batch).detach()
        critic_loss = self.model.critic_loss(amplitude, batch)
        self._step(0, "critic loss", critic_loss)
        self._step(1, "loss", self.model.generator_loss(amplitude, batch))
        for name, value in (("train_loss", reconstruction), ("critic_loss", critic_loss)):
            self.means["train"].add(name, value, len(batch[0]))

    def _step(self, network: int, name: str, loss: torch.Tensor) -> None:
        """Take one step of one network, numbered in the order of `configure_optimizers`."""
        self.stop_if_diverged(name, loss)
        optimiser = cast(list[LightningOptimizer], self.optimizers())[network]
        optimiser.zero_grad()
        self.manual_backward(loss)
        optimiser.step()
        cast(list[torch.optim.lr_scheduler.LRScheduler], self.lr_schedulers())[network].step()

    def configure_optimizers(self) -> Any:
        """Return the optimiser of the critic, then that of the generator."""
        return [self._optimiser(self.model.critic), self._optimiser(self.model.generator)]
