"""Base of simulations of coherent imaging: random objects, exposures, dead pixels, conditions of networks."""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping

import numpy as np
import torch

from rephase.config.waves import WaveSimulation
from rephase.inference.patterns import PatternBatch, check_range
from rephase.labs.waves.data.objects import RandomObjects
from rephase.optics.noise import Exposure, draw_counts


class WaveSimulator(ABC):
    """A simulator of images u [sample, channel, row, column] whose prior is known only by samples.

    A subclass defines names and units of the channels, the forward model, and a cheap classical estimate. ``n_seen`` is
    the number of channels of a `condition`.

    Parameters
    ----------
    config
        Settings of objects and exposures.
    bounds
        Values in the empty beam and in the densest object, for each channel.
    pattern_shape
        (distance or frame, row, column).

    Raises
    ------
    ConfigError
        Bounds or ranges are invalid.
    """

    names: tuple[str, ...]
    units: tuple[str, ...]
    n_seen: int

    def __init__(self, config: WaveSimulation, bounds: tuple[tuple[float, float], ...], pattern_shape: tuple[int, ...]):
        check_range("photons", config.photons)
        self.config, self.pattern_shape = config, pattern_shape
        self.objects = RandomObjects(config.objects, config.size, bounds)
        self.u_shape: tuple[int, ...] = self.objects.shape
        self.axes: Mapping[str, torch.Tensor] = {}
        self.illumination = torch.ones(config.size, config.size)
        """Total illumination of each pixel, [row, column], scaled to a maximum of 1."""

    @abstractmethod
    def wave(self, u: torch.Tensor) -> torch.Tensor:
        """Complex exit wave [..., row, column] of objects [..., channel, row, column] in a plane wave."""

    @abstractmethod
    def pattern(self, wave: torch.Tensor) -> torch.Tensor:
        """Intensity [sample, *pattern] of exit waves [sample, row, column]."""

    @abstractmethod
    def estimate(self, batch: PatternBatch) -> torch.Tensor:
        """Wave [sample, row, column] from a cheap classical method."""

    @abstractmethod
    def guess(self, batch: PatternBatch) -> torch.Tensor:
        """Unknowns u [sample, channel, row, column] of the cheap estimate, which condition a flow."""

    @abstractmethod
    def reconstruct(self, batch: PatternBatch, *, n_iterations: int) -> torch.Tensor:
        """Wave [sample, row, column] from an iterative engine with its usual start."""

    @abstractmethod
    def refine(self, batch: PatternBatch, wave: torch.Tensor, *, n_iterations: int) -> torch.Tensor:
        """Refine a wave [sample, row, column] by a few iterations of an engine that preserves a good start."""

    @abstractmethod
    def condition(self, batch: PatternBatch) -> torch.Tensor:
        """Condition of a network besides the guess, [sample, n_seen, row, column]; without gradient."""

    def intensity(self, u: torch.Tensor) -> torch.Tensor:
        """Intensity [sample, *pattern] of unknowns, differentiable by them."""
        return self.pattern(self.wave(u))

    def draw(self, n: int, rng: np.random.Generator) -> PatternBatch:
        """Draw `n` objects and their patterns.

        The photons are log-uniform. The fraction of dead pixels is uniform in 0 to ``dead``; they are the same in all
        frames of a sample.
        """
        u = self.objects.draw(n, rng)
        low, high = np.log(self.config.photons)
        photons = torch.as_tensor(np.exp(rng.uniform(low, high, (n, 1, 1, 1))), dtype=torch.float32)
        alive = rng.random((n, 1, *self.pattern_shape[1:])) >= self.config.dead * rng.random((n, 1, 1, 1))
        mask = torch.as_tensor(alive).expand(n, *self.pattern_shape).contiguous()
        generator = torch.Generator().manual_seed(int(rng.integers(1 << 62)))
        counts = draw_counts(self.intensity(u), Exposure(photons), generator=generator)
        return PatternBatch(u, torch.where(mask, counts, 0.0), photons, mask)

    def to_normal(self, u: torch.Tensor) -> torch.Tensor:
        """Map unknowns to z of the same shape; values outside the bounds count as at the bound."""
        return self.objects.to_normal(u)

    def from_normal(self, z: torch.Tensor) -> torch.Tensor:
        """Map z to unknowns, which are within their bounds for any z."""
        return self.objects.from_normal(z)

    def log_prior(self, z: torch.Tensor) -> torch.Tensor | None:
        """Return None, as the prior is known only by samples."""
        return None

    def exposure(self, batch: PatternBatch) -> torch.Tensor:
        """Logarithm of the photons, scaled to -1 at the lower and 1 at the upper bound, [sample, 1, row, column]."""
        low, high = (math.log(end) for end in self.config.photons)
        level = (2 * batch.photons.log() - low - high) / max(high - low, 1e-6)
        return level.expand(-1, 1, *self.u_shape[1:])
