"""What simulations of coherent imaging share: random objects, exposures, dead pixels, conditions of networks."""

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
    """A simulator of images u [sample, channel, row, column] that only samples of the prior are known of.

    A subclass has names and units of the channels, the forward model, and a cheap classical estimate. ``n_seen`` is the
    number of channels of a `condition`.

    Parameters
    ----------
    config
        Objects and exposures.
    bounds
        For each channel its value in the empty beam and in the densest object.
    pattern_shape
        (distance or frame, row, column).

    Raises
    ------
    ConfigError
        Bounds or ranges that cannot be.
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
        """[row, column] light that each pixel sees in all, 1 where it is most."""

    @abstractmethod
    def wave(self, u: torch.Tensor) -> torch.Tensor:
        """Complex wave [..., row, column] right behind objects [..., channel, row, column] in a plane wave."""

    @abstractmethod
    def pattern(self, wave: torch.Tensor) -> torch.Tensor:
        """Intensity [sample, *pattern] of waves right behind objects, [sample, row, column]."""

    @abstractmethod
    def estimate(self, batch: PatternBatch) -> torch.Tensor:
        """Wave [sample, row, column] that a cheap classical method finds."""

    @abstractmethod
    def guess(self, batch: PatternBatch) -> torch.Tensor:
        """Unknowns u [sample, channel, row, column] of the cheap estimate, about which a flow looks for the truth."""

    @abstractmethod
    def reconstruct(self, batch: PatternBatch, *, n_iterations: int) -> torch.Tensor:
        """Wave [sample, row, column] that an iterative engine finds from what it usually starts at."""

    @abstractmethod
    def refine(self, batch: PatternBatch, wave: torch.Tensor, *, n_iterations: int) -> torch.Tensor:
        """A wave [sample, row, column] after a few iterations of an engine that keeps what is right of it."""

    @abstractmethod
    def condition(self, batch: PatternBatch) -> torch.Tensor:
        """What a network looks at besides the guess, [sample, n_seen, row, column]; of no gradient."""

    def intensity(self, u: torch.Tensor) -> torch.Tensor:
        """Intensity [sample, *pattern] of unknowns, which it can be differentiated by."""
        return self.pattern(self.wave(u))

    def draw(self, n: int, rng: np.random.Generator) -> PatternBatch:
        """`n` objects and their patterns.

        Photons are uniform in their logarithm. A share of the detector's pixels that is uniform in 0 to ``dead`` is
        dead, the same in all frames of a sample.
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
        """Unknowns as z, of their shape; what is beyond a bound counts as at it."""
        return self.objects.to_normal(u)

    def from_normal(self, z: torch.Tensor) -> torch.Tensor:
        """Unknowns of z, within their bounds whatever z is."""
        return self.objects.from_normal(z)

    def log_prior(self, z: torch.Tensor) -> torch.Tensor | None:
        """None: only samples of the prior are known."""
        return None

    def exposure(self, batch: PatternBatch) -> torch.Tensor:
        """Logarithm of the photons, -1 at the lower bound and 1 at the upper one, [sample, 1, row, column]."""
        low, high = (math.log(end) for end in self.config.photons)
        level = (2 * batch.photons.log() - low - high) / max(high - low, 1e-6)
        return level.expand(-1, 1, *self.u_shape[1:])
