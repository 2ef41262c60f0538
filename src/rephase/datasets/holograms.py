"""Simulated near-field holograms of pure phase objects: prior, forward model, and what a network looks at."""

import torch

from rephase.datasets.patterns import PatternBatch
from rephase.datasets.wave_patterns import WaveSimulator
from rephase.optics.holography import holograms, object_wave
from rephase.posterior_config import HologramSimulation
from rephase.solvers.holography import invert_contrast


class HologramSimulator(WaveSimulator):
    """Holograms [sample, distance, row, column] of phases u [sample, 1, row, column] in radians.

    One unit of intensity is the empty beam, so ``photons`` are those of an empty pixel. The field is periodic.

    Parameters
    ----------
    config
        Phases, objects, distances, photons.

    Raises
    ------
    ConfigError
        Bounds or ranges that cannot be.
    OpticsError
        Fresnel numbers that are not above 0, or at which so few pixels under-sample the propagation.
    """

    config: HologramSimulation
    names, units = ("phase",), ("rad",)

    def __init__(self, config: HologramSimulation):
        n = len(config.fresnel_numbers)
        super().__init__(config, (config.phase,), (n, config.size, config.size))
        self.fresnel_numbers = torch.tensor(config.fresnel_numbers, dtype=torch.float64)
        self.n_seen = len(config.strengths) + 2 * n + 1
        self.intensity(torch.zeros(1, *self.u_shape))  # says what sampling is needed

    def wave(self, u: torch.Tensor) -> torch.Tensor:
        """Wave [..., row, column] right behind phases [..., 1, row, column]."""
        return object_wave(u[..., 0, :, :])

    def intensity(self, u: torch.Tensor) -> torch.Tensor:
        """Intensity [sample, distance, row, column] over the empty beam, of phases [sample, 1, row, column]."""
        return holograms(self.wave(u), self.fresnel_numbers)

    def normalised(self, batch: PatternBatch) -> torch.Tensor:
        """Measured holograms over the empty beam, 1 where nothing was measured."""
        return torch.where(batch.mask, batch.counts / batch.photons, 1.0)

    def estimates(self, batch: PatternBatch) -> torch.Tensor:
        """Phases [sample, strength, row, column] by linear inversion of the contrast; their mean, unseen, is 0."""
        seen, numbers = self.normalised(batch), self.fresnel_numbers
        return torch.stack([invert_contrast(seen, numbers, strength=s) for s in self.config.strengths], dim=1)

    def condition(self, batch: PatternBatch) -> torch.Tensor:
        """What a network looks at: linear estimates, holograms, masks and photons, [sample, n_seen, row, column]."""
        share, contrast = self.objects.share(self.estimates(batch)), self.normalised(batch) - 1
        return torch.cat([share, contrast, batch.mask.to(share), self.exposure(batch)], dim=1)
