"""Simulated near-field holograms of pure phase objects: prior, forward model, and condition of a network."""

import torch

from rephase.config.waves import HologramSimulation
from rephase.inference.patterns import PatternBatch
from rephase.labs.waves.data.patterns import WaveSimulator
from rephase.labs.waves.engines.holography import invert_contrast, retrieve
from rephase.labs.waves.engines.projections import KnownObject
from rephase.optics.holography import holograms, object_wave

_FILM = 0.1  # fraction of nearly empty pixels, and of the way from the empty beam to the densest object at films


class HologramSimulator(WaveSimulator):
    """Holograms [sample, distance, row, column] of phases u [sample, 1, row, column] in radians.

    The unit of intensity is the empty beam, so that ``photons`` is the number in an empty pixel. The field is periodic.

    Parameters
    ----------
    config
        Settings of phases, objects, distances and photons.

    Raises
    ------
    ConfigError
        Bounds or ranges are invalid.
    OpticsError
        Fresnel numbers are not above 0, or the pixels under-sample the propagation.
    """

    config: HologramSimulation
    names, units = ("phase",), ("rad",)

    def __init__(self, config: HologramSimulation):
        n = len(config.fresnel_numbers)
        super().__init__(config, (config.phase,), (n, config.size, config.size))
        self.fresnel_numbers = torch.tensor(config.fresnel_numbers, dtype=torch.float64)
        self.n_seen = len(config.strengths) + 2 * n + 1
        self.intensity(torch.zeros(1, *self.u_shape))  # raises if the propagation is under-sampled

    def wave(self, u: torch.Tensor) -> torch.Tensor:
        """Exit wave [..., row, column] of phases [..., 1, row, column]."""
        return object_wave(u[..., 0, :, :])

    def pattern(self, wave: torch.Tensor) -> torch.Tensor:
        """Intensity [sample, distance, row, column] over the empty beam."""
        return holograms(wave, self.fresnel_numbers)

    def normalised(self, batch: PatternBatch) -> torch.Tensor:
        """Measured holograms over the empty beam, 1 where nothing was measured."""
        return torch.where(batch.mask, batch.counts / batch.photons, 1.0)

    def estimates(self, batch: PatternBatch) -> torch.Tensor:
        """Phases [sample, strength, row, column] by linear inversion of the contrast; their unmeasured mean is 0."""
        seen, numbers = self.normalised(batch), self.fresnel_numbers
        return torch.stack([invert_contrast(seen, numbers, strength=s) for s in self.config.strengths], dim=1)

    def estimate(self, batch: PatternBatch) -> torch.Tensor:
        """Wave of the first linear estimate."""
        return self.wave(self.guess(batch))

    def guess(self, batch: PatternBatch) -> torch.Tensor:
        """Phases of the first linear estimate, shifted so that the emptiest pixels are near the empty beam."""
        share = self.objects.share(self.estimates(batch)[:, :1])
        film = share.flatten(1).quantile(_FILM, 1)[:, None, None, None]
        return self.objects.at(share - film + _FILM)

    def reconstruct(self, batch: PatternBatch, *, n_iterations: int) -> torch.Tensor:
        """Wave after alternating projections from the linear estimate."""
        return self.refine(batch, self.estimate(batch), n_iterations=n_iterations)

    def refine(self, batch: PatternBatch, wave: torch.Tensor, *, n_iterations: int) -> torch.Tensor:
        """Refine a wave by alternating projections."""
        low, high = sorted(self.config.phase)
        known, seen = KnownObject(phase=(low, high)), self.normalised(batch)
        found = retrieve(seen, self.fresnel_numbers, known, n_iterations=n_iterations, start=wave, mask=batch.mask)
        return found.wave

    def condition(self, batch: PatternBatch) -> torch.Tensor:
        """Condition of a network besides the guess: linear estimates, holograms, masks, photons."""
        share, contrast = self.objects.share(self.estimates(batch)), self.normalised(batch) - 1
        return torch.cat([share, contrast, batch.mask.to(share), self.exposure(batch)], dim=1)
