"""Simulated ptychography with a known probe: prior, forward model, and condition of a network."""

import torch

from rephase.config.waves import PtychogramSimulation
from rephase.inference.patterns import PatternBatch
from rephase.labs.waves.data.patterns import WaveSimulator
from rephase.labs.waves.engines.ptychography import conjugate_gradients, descend
from rephase.optics.propagation import FarField
from rephase.optics.ptychography import Scan, gaussian_probe, raster

_DARK = 1e-3  # of the brightest illumination; darker pixels count as not illuminated


class PtychogramSimulator(WaveSimulator):
    """Far-field frames [sample, frame, row, column] of u [sample, 2, row, column], phase in radians and amplitude.

    The probe holds one photon, so that ``photons`` is the number in an empty frame. Probe and positions are known and
    the same for all samples; positions are shifted from a raster by random moves with their own seed.

    Parameters
    ----------
    config
        Settings of phases, amplitudes, objects, probe, scan and photons.

    Raises
    ------
    ConfigError
        Bounds or ranges are invalid.
    OpticsError
        The scan extends outside the object.
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
        """Exit wave [..., row, column] of phases and amplitudes [..., 2, row, column]."""
        return torch.polar(u[..., 1, :, :], u[..., 0, :, :])

    def pattern(self, wave: torch.Tensor) -> torch.Tensor:
        """Fraction of the photons of an empty frame in each pixel, [sample, frame, row, column]."""
        return self._scan_on(wave.device).frames(wave, self.probe.to(wave))

    def estimate(self, batch: PatternBatch) -> torch.Tensor:
        """Wave after a few epochs of conjugate gradients from the empty beam."""
        return self._fitted(batch, None, self.config.n_epochs)

    def guess(self, batch: PatternBatch) -> torch.Tensor:
        """Phases and amplitudes of the estimate."""
        found = self.estimate(batch)
        return torch.stack([found.angle(), found.abs()], dim=1)

    def reconstruct(self, batch: PatternBatch, *, n_iterations: int) -> torch.Tensor:
        """Wave after `n_iterations` epochs of gradient descent from the empty beam."""
        frames, probe, mask = self._measured(batch)
        return descend(
            frames, self._scan_on(frames.device), probe, n_epochs=n_iterations, generator=_seeded(0), mask=mask
        ).object

    def refine(self, batch: PatternBatch, wave: torch.Tensor, *, n_iterations: int) -> torch.Tensor:
        """Refine a wave by `n_iterations` epochs of conjugate gradients."""
        return self._fitted(batch, wave, n_iterations)

    def _fitted(self, batch: PatternBatch, start: torch.Tensor | None, n_epochs: int) -> torch.Tensor:
        frames, probe, mask = self._measured(batch)
        return conjugate_gradients(
            frames, self._scan_on(frames.device), probe, n_epochs=n_epochs, start=start, mask=mask
        ).object

    def condition(self, batch: PatternBatch) -> torch.Tensor:
        """Condition of a network besides the guess: illumination and photons."""
        exposure = self.exposure(batch)
        light = self.illumination.to(exposure).clamp_min(_DARK).log10().expand_as(exposure)
        return torch.cat([light, exposure], dim=1)

    def _scan_on(self, device: torch.device) -> Scan:
        size, frame = self.config.size, self.config.frame
        return Scan(
            self.positions.to(device), object_shape=(size, size), probe_shape=(frame, frame), propagator=FarField()
        )

    def _measured(self, batch: PatternBatch) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return frames for a probe of one photon, that probe, and masks [sample, 1, row, column]."""
        frames = batch.counts / batch.photons
        return frames, self.probe.to(frames.device), batch.mask.all(1, keepdim=True)


def _seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)
