"""Base of simulated shots: detector, beam and focus of a configuration; chunks that depend on their seed alone."""

from abc import ABC, abstractmethod
from typing import Any, NamedTuple

import numpy as np
import torch

from rephase.config.images import ImageDataConfig
from rephase.formats.label_sets import LabelSet
from rephase.labs.images.data.batch import ImageBatch
from rephase.optics.detector import Detector, expose

LEAST_PHOTONS = 300.0
"""Fewest expected photons on the measured pixels of a shot that is not weak: fewer carry no information."""


class Usual(NamedTuple):
    """Defaults for values that a configuration leaves null: detector, photon energy in eV, peak photons per nm^2."""

    detector: Detector
    energy_ev: float
    peak_fluence: float


class SimulatedShots(ABC):
    """Shots of droplets or particles, ``n_views`` of each.

    Parameters
    ----------
    config
        Settings of the simulation.
    """

    label_set: LabelSet
    usual: Usual

    def __init__(self, config: ImageDataConfig):
        self.config, self.parents = config, np.arange(config.n_samples) // config.n_views
        self.energy_ev = config.energy_ev or self.usual.energy_ev
        self.detector = _detector(config, self.usual.detector)
        shown = config.model_dump(mode="json", exclude={"file", "input", "noise", "label_fraction", "split"})
        self.identity: dict[str, Any] = {"config": shown}
        self._labels = self.draw_labels(int(self.parents.max()) + 1, np.random.default_rng([config.seed, 2]))

    @abstractmethod
    def draw_labels(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """Draw the labels of `n` droplets or particles, boolean [n, n_labels]."""

    @abstractmethod
    def scatter(self, labels: np.ndarray, n_views: int, generator: torch.Generator) -> torch.Tensor:
        """Cross sections in nm^2 of droplets or particles with `labels`, [n * n_views, y, x], views adjacent."""

    def is_dim(self, labels: np.ndarray) -> np.ndarray:
        """Which shots have fewer expected photons than `LEAST_PHOTONS`, boolean [n]."""
        return np.zeros(len(labels), dtype=bool)

    def shots(self, rows: slice) -> ImageBatch:
        """Simulate the shots of a range of samples that starts and ends with a parent; the same at every call."""
        seed = int(np.random.default_rng([self.config.seed, 0, rows.start]).integers(1 << 62))
        labels = self._labels[np.unique(self.parents[rows])]
        return self._simulated(labels, self.config.n_views, torch.Generator().manual_seed(seed))

    def draw(self, n: int, rng: np.random.Generator) -> ImageBatch:
        """Simulate `n` new shots, each of a new droplet or particle."""
        generator = torch.Generator().manual_seed(int(rng.integers(1 << 62)))
        return self._simulated(self.draw_labels(n, rng), 1, generator)

    def offsets(self, n: int, generator: torch.Generator) -> torch.Tensor:
        """Draw the offset of the beam of each shot from the middle of the detector, pixels (x, y), [n, 2]."""
        largest = self.detector.n_pixels / 4
        drawn = self.config.detector.offset * self.detector.n_pixels * torch.randn(n, 2, generator=generator)
        return drawn.clamp(-largest, largest)

    def _simulated(self, labels: np.ndarray, n_views: int, generator: torch.Generator) -> ImageBatch:
        intensity = self.scatter(labels, n_views, generator)
        shown = np.repeat(labels, n_views, axis=0)
        photons = self._photons(intensity, torch.as_tensor(self.is_dim(shown)), generator)
        background = 2 * self.config.detector.background * torch.rand(len(shown), 1, 1, generator=generator)
        image = expose(intensity, self.detector, photons, background=background, generator=generator)
        mask = self.detector.mask().expand(image.shape)
        return ImageBatch(image, mask, torch.as_tensor(shown).float())

    def _photons(self, intensity: torch.Tensor, is_dim: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """Draw the expected photons of each shot on the whole detector, [n].

        The fluence is uniform in the logarithm, from the fluence that gives `LEAST_PHOTONS` to that in the middle of
        the focus. Dim shots have between a hundredth and a third of `LEAST_PHOTONS`.
        """
        tiny = torch.finfo(intensity.dtype).tiny
        total = intensity.sum((1, 2))
        measured = (intensity * self.detector.mask()).sum((1, 2)).clamp(min=tiny)
        peak = self.config.fluence.peak or self.usual.peak_fluence
        least = torch.maximum(LEAST_PHOTONS / measured, torch.tensor(peak * 10**-self.config.fluence.decades))
        low = torch.where(is_dim, 0.01 * LEAST_PHOTONS / measured, least)
        high = torch.where(is_dim, LEAST_PHOTONS / 3 / measured, least.clamp(min=peak))
        drawn = torch.rand(len(total), generator=generator)
        return torch.where(total > 0, (low * (high / low) ** drawn) * total, 0)


def _detector(config: ImageDataConfig, usual: Detector) -> Detector:
    given, side = config.detector, config.size
    dead = tuple(tuple(round(edge * side) for edge in area) for area in given.dead)
    return Detector(
        n_pixels=side,
        max_angle_deg=usual.max_angle_deg if given.max_angle_deg is None else given.max_angle_deg,
        hole_deg=usual.hole_deg if given.hole_deg is None else given.hole_deg,
        dead=dead,  # type: ignore[arg-type]  # four numbers each, as the configuration has
        gain=given.gain,
        saturation=given.saturation,
    )
