"""Normalizing flows of parameters, conditioned on patterns: samples and densities of p(u | pattern)."""

from typing import Protocol

import torch
import zuko
from torch import nn
from zuko.distributions import NormalizingFlow

from rephase.datasets.patterns import PatternBatch, Simulator, log_joint
from rephase.errors import ConfigError
from rephase.models.pattern_encoders import PatternEncoder


class PosteriorModel(Protocol):
    """What every model of posteriors gives; densities are those of z, the unknowns without bounds."""

    simulator: Simulator

    def loss(self, batch: PatternBatch) -> torch.Tensor:
        """Loss of a batch, one number."""

    def log_prob(self, batch: PatternBatch) -> torch.Tensor:
        """Logarithm of the density, [..., sample], of ``batch.u`` [..., sample, *u_shape] given the rest."""

    def sample(self, batch: PatternBatch, n: int) -> torch.Tensor:
        """Draw `n` unknowns for each pattern: [n, sample, *u_shape]."""


class ParameterFlow(nn.Module):
    """Neural spline flow with coupling layers over z, conditioned on a summary of the pattern.

    Coupling layers are as fast to sample from as to train (Durkan et al. 2019, arXiv 1906.04032). The loss is, per
    parameter and in nats::

        -log q(z | pattern) + physics_weight (entropy_weight log q(z') - log p(z') - log p(pattern | z')),   z' ~ q

    The second part is the negative evidence lower bound with the forward model in it: with an `entropy_weight` of 1
    the true posterior is at the minimum of both parts; with less, samples are pressed together at the best fit.

    Parameters
    ----------
    shape
        Of a pattern, one or two axes.
    loss
        ``nll``.
    simulator
        Prior and forward model.
    n_layers
        Of coupling; every one changes half of the parameters.
    n_bins
        Of the splines.
    width
        Numbers in the hidden layers, two in each coupling.
    n_features
        Numbers that the pattern is summarised by.
    channels
        Of the first convolution of the summary; they double to four times as many.
    physics_weight, entropy_weight
        See above; a `physics_weight` of 0 never calls the forward model.

    Raises
    ------
    ConfigError
        A simulator with fewer than two parameters, or an unknown loss.
    """

    def __init__(
        self, shape: tuple[int, ...], loss: str = "nll", *, simulator: Simulator, n_layers: int = 6, n_bins: int = 8,
        width: int = 96, n_features: int = 48, channels: int = 16, physics_weight: float = 0.0,
        entropy_weight: float = 1.0,
    ):  # fmt: skip
        super().__init__()
        if loss != "nll":
            raise ConfigError(f"loss = {loss!r}: expected nll, the one loss of flows")
        if len(simulator.u_shape) != 1 or simulator.u_shape[0] < 2:
            raise ConfigError(f"unknowns of shape {simulator.u_shape}: expected two parameters or more for this flow")
        self.simulator, self.loss_name = simulator, loss
        self.physics_weight, self.entropy_weight = physics_weight, entropy_weight
        self.encoder = PatternEncoder(shape, n_features, channels=channels)
        self.flow = zuko.flows.NSF(
            simulator.u_shape[0], n_features, transforms=n_layers, bins=n_bins, hidden_features=(width, width), passes=2
        )

    def loss(self, batch: PatternBatch) -> torch.Tensor:
        """Loss of a batch in nats per parameter; in evaluation the likelihood alone."""
        posterior = self.posterior(batch)
        loss = -posterior.log_prob(self.simulator.to_normal(batch.u)).mean()
        if self.training and self.physics_weight:
            loss = loss + self.physics_weight * self.physics_loss(batch)
        return loss / self.simulator.u_shape[0]

    def physics_loss(self, batch: PatternBatch, n: int = 1) -> torch.Tensor:
        """Negative evidence lower bound in nats from `n` samples of each pattern; ``batch.u`` is not looked at."""
        z, log_q = self.posterior(batch).rsample_and_log_prob((n,))
        gain = self.log_joint(z, batch) - self.entropy_weight * log_q
        return -gain.mean()

    def log_joint(self, z: torch.Tensor, batch: PatternBatch) -> torch.Tensor:
        """Logarithm of prior density times likelihood, [n, sample], of z [n, sample, parameter]."""
        return log_joint(self.simulator, z, batch)

    def posterior(self, batch: PatternBatch) -> NormalizingFlow:
        """Distribution of z [sample, parameter]."""
        return self.flow(self.encoder(batch))

    @torch.no_grad()
    def log_prob(self, batch: PatternBatch) -> torch.Tensor:
        """Logarithm of the density of z, [..., sample], of parameters ``batch.u`` [..., sample, parameter]."""
        return self.posterior(batch).log_prob(self.simulator.to_normal(batch.u))

    @torch.no_grad()
    def sample(self, batch: PatternBatch, n: int) -> torch.Tensor:
        """Parameters [n, sample, parameter], within their bounds."""
        return self.simulator.from_normal(self.posterior(batch).sample((n,)))
