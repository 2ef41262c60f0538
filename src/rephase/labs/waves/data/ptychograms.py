"""Simulated ptychography under a known probe: prior, forward model, and what a network looks at."""

import torch

from rephase.config.waves import PtychogramSimulation
from rephase.inference.patterns import PatternBatch
from rephase.labs.waves.data.patterns import WaveSimulator
from rephase.labs.waves.engines.ptychography import conjugate_gradients, descend
from rephase.optics.propagation import FarField
from rephase.optics.ptychography import Scan, gaussian_probe, raster

_DARK = 1e-3  # of the brightest illumination; what has less is as good as never seen


class PtychogramSimulator(WaveSimulator):
    """Far-field frames [sample, frame, row, column] of u [sample, 2, row, column], phase in radians and amplitude.

    The probe holds one photon, so ``photons`` are those of an empty frame. Probe and positions are known and the same
    for all samples; positions differ from a raster by moves that a seed of their own fixes.

    Parameters
    ----------
    config
        Phases, amplitudes, objects, probe, scan, photons.

    Raises
    ------
    ConfigError
        Bounds or ranges that cannot be.
    OpticsError
        A scan that reaches beyond the object.
    """

    config: PtychogramSimulation
    names, units = ("phase", "amplitude"), ("rad", "1")
    n_seen = 2

    def __init__(self, config: PtychogramSimulation):
        super().__init__(config, (config.phase, config.amplitude), (config.n_side**2, config.frame, config.frame))
        moves = _seeded(config.jitter_seed)
        self.positions = raster(config.n_side, step=config.step, jitter=config.jitter, generator=moves)
        self.scan = self._scan_on(torch.device("cpu"))
        self.probe = gaussian_probe(
            config.frame, width=config.probe_width, n_photons=1, curvature=config.probe_curvature
        )
        illumination = self.scan.put(self.scan.probes(self.probe).abs().square())
        self.illumination = illumination / illumination.max()

    def wave(self, u: torch.Tensor) -> torch.Tensor:
        """Wave [..., row, column] that phases and amplitudes [..., 2, row, column] let through."""
        return torch.polar(u[..., 1, :, :], u[..., 0, :, :])

    def pattern(self, wave: torch.Tensor) -> torch.Tensor:
        """Share of an empty frame's photons in each pixel, [sample, frame, row, column]."""
        return self._scan_on(wave.device).frames(wave, self.probe.to(wave))

    def estimate(self, batch: PatternBatch) -> torch.Tensor:
        """Wave after a few epochs of conjugate gradients from the empty beam."""
        return self._fitted(batch, None, self.config.n_epochs)

    def guess(self, batch: PatternBatch) -> torch.Tensor:
        """Phases and amplitudes of the estimate."""
        found = self.estimate(batch)
        return torch.stack([found.angle(), found.abs()], dim=1)

    def reconstruct(self, batch: PatternBatch, *, n_iterations: int) -> torch.Tensor:
        """Wave after so many epochs of gradient descent from the empty beam."""
        frames, probe, mask = self._measured(batch)
        return descend(
            frames, self._scan_on(frames.device), probe, n_epochs=n_iterations, generator=_seeded(0), mask=mask
        ).object

    def refine(self, batch: PatternBatch, wave: torch.Tensor, *, n_iterations: int) -> torch.Tensor:
        """A wave after so many epochs of conjugate gradients."""
        return self._fitted(batch, wave, n_iterations)

    def _fitted(self, batch: PatternBatch, start: torch.Tensor | None, n_epochs: int) -> torch.Tensor:
        frames, probe, mask = self._measured(batch)
        return conjugate_gradients(
            frames, self._scan_on(frames.device), probe, n_epochs=n_epochs, start=start, mask=mask
        ).object

    def condition(self, batch: PatternBatch) -> torch.Tensor:
        """What a network looks at besides the guess: illumination and photons."""
        exposure = self.exposure(batch)
        light = self.illumination.to(exposure).clamp_min(_DARK).log10().expand_as(exposure)
        return torch.cat([light, exposure], dim=1)

    def _scan_on(self, device: torch.device) -> Scan:
        size, frame = self.config.size, self.config.frame
        return Scan(
            self.positions.to(device), object_shape=(size, size), probe_shape=(frame, frame), propagator=FarField()
        )

    def _measured(self, batch: PatternBatch) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Frames of a probe of one photon, that probe, and masks [sample, 1, row, column]."""
        frames = batch.counts / batch.photons
        return frames, self.probe.to(frames.device), batch.mask.all(1, keepdim=True)


def _seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)
