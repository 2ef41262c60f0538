"""Simulated near-field holograms of pure phase objects: prior, forward model, and what a network looks at."""

import torch

from rephase.config.waves import HologramSimulation
from rephase.inference.patterns import PatternBatch
from rephase.labs.waves.data.patterns import WaveSimulator
from rephase.labs.waves.engines.holography import invert_contrast, retrieve
from rephase.labs.waves.engines.projections import KnownObject
from rephase.optics.holography import holograms, object_wave

_FILM = 0.1  # a share of the pixels that is all but empty, and how far films are on the way to the densest object


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

    def pattern(self, wave: torch.Tensor) -> torch.Tensor:
        """Intensity [sample, distance, row, column] over the empty beam."""
        return holograms(wave, self.fresnel_numbers)

    def normalised(self, batch: PatternBatch) -> torch.Tensor:
        """Measured holograms over the empty beam, 1 where nothing was measured."""
        return torch.where(batch.mask, batch.counts / batch.photons, 1.0)

    def estimates(self, batch: PatternBatch) -> torch.Tensor:
        """Phases [sample, strength, row, column] by linear inversion of the contrast; their mean, unseen, is 0."""
        seen, numbers = self.normalised(batch), self.fresnel_numbers
        return torch.stack([invert_contrast(seen, numbers, strength=s) for s in self.config.strengths], dim=1)

    def estimate(self, batch: PatternBatch) -> torch.Tensor:
        """Wave of the first of the linear estimates."""
        return self.wave(self.guess(batch))

    def guess(self, batch: PatternBatch) -> torch.Tensor:
        """Phases of the first of the linear estimates; of each, what is nearest to the empty beam is put there."""
        share = self.objects.share(self.estimates(batch)[:, :1])
        film = share.flatten(1).quantile(_FILM, 1)[:, None, None, None]
        return self.objects.at(share - film + _FILM)

    def reconstruct(self, batch: PatternBatch, *, n_iterations: int) -> torch.Tensor:
        """Wave after alternating projections from the linear estimate."""
        return self.refine(batch, self.estimate(batch), n_iterations=n_iterations)

    def refine(self, batch: PatternBatch, wave: torch.Tensor, *, n_iterations: int) -> torch.Tensor:
        """A wave after alternating projections."""
        low, high = sorted(self.config.phase)
        known, seen = KnownObject(phase=(low, high)), self.normalised(batch)
        found = retrieve(seen, self.fresnel_numbers, known, n_iterations=n_iterations, start=wave, mask=batch.mask)
        return found.wave

    def condition(self, batch: PatternBatch) -> torch.Tensor:
        """What a network looks at besides the guess: linear estimates, holograms, masks, photons."""
        share, contrast = self.objects.share(self.estimates(batch)), self.normalised(batch) - 1
        return torch.cat([share, contrast, batch.mask.to(share), self.exposure(batch)], dim=1)
