"""Normalizing flows of parameters, conditioned on patterns: samples and densities of p(u | pattern)."""

from typing import TYPE_CHECKING

import torch
from torch import nn

from rephase.errors import ConfigError, extra
from rephase.inference.patterns import PatternBatch, Simulator, SummingSimulator, check_patterns, expected_of
from rephase.labs.scattering.models.encoders import PatternEncoder
from rephase.optics.noise import poisson_deviance

if TYPE_CHECKING:
    from zuko.distributions import NormalizingFlow

_FAR = 3.0  # deviance per measured point; samples of the exact posterior have about 1


class ParameterFlow(nn.Module):
    """Neural spline flow with coupling layers over z, conditioned on a summary of the pattern.

    An affine map conditioned on the summary first centres and scales each parameter, as many counts narrow the prior to
    a thousandth; splines then model the remaining shape. Coupling layers sample as fast as they train (Durkan et al.
    2019, arXiv 1906.04032). The loss, in nats per parameter, is::

        -log q(z | pattern) + physics_weight (r(D(z')) / 2 - log p(z') + entropy_weight log q(z')),   z' ~ q

    The second part is the negative evidence lower bound with the forward model; D is the deviance of the pattern from
    the expected counts of a sample. With an `entropy_weight` of 1 both parts have their minimum at the true posterior;
    with less, samples concentrate at the best fit. r(D) is D up to 3 per measured point, and grows with its logarithm
    above: otherwise the first samples of a flow, whose D is 10^5 times larger, would dominate the loss.

    Parameters
    ----------
    shape
        Shape of a pattern, one or two axes.
    loss
        ``nll``.
    simulator
        Simulator with prior, forward model and informative sums over pixels.
    n_layers
        Coupling layers; each changes half of the parameters.
    n_bins
        Bins of the splines.
    width
        Units in a hidden layer; each coupling has two hidden layers.
    n_features
        Features in the summary of a pattern.
    channels
        Channels of the first convolution of the summary; they double to four times as many.
    physics_weight, entropy_weight
        Weights in the loss above; with a `physics_weight` of 0 the forward model is never called.

    Raises
    ------
    ConfigError
        The simulator has fewer than two parameters, or the loss is unknown.
    ExtraError
        zuko is not installed.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        loss: str = "nll",
        *,
        simulator: SummingSimulator,
        n_layers: int = 6,
        n_bins: int = 8,
        width: int = 96,
        n_features: int = 48,
        channels: int = 16,
        physics_weight: float = 0.0,
        entropy_weight: float = 1.0,
    ):
        super().__init__()
        if loss != "nll":
            raise ConfigError(f"loss = {loss!r}: expected nll, the only loss of flows")
        if len(simulator.u_shape) != 1 or simulator.u_shape[0] < 2:
            raise ConfigError(f"unknowns of shape {simulator.u_shape}: expected two parameters or more for this flow")
        self.simulator: Simulator = simulator
        self.loss_name = loss
        self.physics_weight, self.entropy_weight = physics_weight, entropy_weight
        self.encoder = PatternEncoder(shape, n_features, summaries=simulator.summaries, channels=channels)
        with extra("posteriors"):
            from rephase.labs.scattering.models.spline_flow import spline_flow
        self.flow = spline_flow(simulator.u_shape[0], n_features, n_layers, n_bins, width)

    def loss(self, batch: PatternBatch) -> torch.Tensor:
        """Loss of a batch in nats per parameter; in evaluation only the likelihood."""
        posterior = self.posterior(batch)
        loss = -posterior.log_prob(self.simulator.to_normal(batch.u)).mean()
        if self.training and self.physics_weight:
            loss = loss + self.physics_weight * self.physics_loss(batch)
        return loss / self.simulator.u_shape[0]

    def physics_loss(self, batch: PatternBatch, n: int = 1) -> torch.Tensor:
        """Second part of the loss in nats, from `n` samples of each pattern; ``batch.u`` is ignored."""
        z, log_q = self.posterior(batch).rsample_and_log_prob((n,))
        if not torch.isfinite(z).all():  # it has diverged: no forward model takes that; the trainer stops on NaN
            return z.sum() * torch.nan
        expected = expected_of(self.simulator, self.simulator.from_normal(z), batch)
        deviance = poisson_deviance(expected, batch.counts, batch.mask)
        prior = self.simulator.log_prior(z)
        known = 0.0 if prior is None else prior
        misfit = _bounded(deviance, _FAR * batch.mask.flatten(1).sum(1)) / 2
        return (misfit - known + self.entropy_weight * log_q).mean()

    def posterior(self, batch: PatternBatch) -> "NormalizingFlow":
        """Distribution of z [sample, parameter]."""
        return self.flow(self.encoder(batch))

    @torch.no_grad()
    def log_prob(self, batch: PatternBatch) -> torch.Tensor:
        """Logarithm of the density of z, [..., sample], of parameters ``batch.u`` [..., sample, parameter]."""
        return self.posterior(batch).log_prob(self.simulator.to_normal(batch.u))

    @torch.no_grad()
    def sample(self, batch: PatternBatch, n: int) -> torch.Tensor:
        """Draw parameters [n, sample, parameter], within their bounds.

        Raises
        ------
        PosteriorError
            A pattern is hidden entirely, or its counts, photons or mask are invalid.
        ConfigError
            The flow was made for patterns of another shape.
        """
        check_patterns(batch)
        return self.simulator.from_normal(self.posterior(batch).sample((n,)))


def _bounded(deviance: torch.Tensor, far: torch.Tensor) -> torch.Tensor:
    """Replace deviances [n, sample] above `far` [sample] by logarithmic growth, with a continuous slope."""
    return torch.where(deviance < far, deviance, far * (1 + (deviance.clamp_min(1e-6) / far).log()))
