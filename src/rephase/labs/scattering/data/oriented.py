"""Simulated small-angle patterns of particles that all point the same way, as counts on a square detector.

The unknowns are the sizes of the shape (nm), its tilt against the beam and its direction on the detector (degrees), the
intensity at q = 0 and the background (1/cm). A rotation by 180 degrees leaves a pattern unchanged, so that directions
end at 180 degrees, and a posterior near 0 has a second mode near 180. A beam stop hides the middle.
"""

import numpy as np
import torch

from rephase.config.scattering import OrientedSimulation
from rephase.inference.patterns import ParameterSimulator, PatternBatch, check_range, log_intensity
from rephase.inference.priors import BoxPrior, Parameter
from rephase.optics.noise import Exposure, draw_counts
from rephase.optics.saxs import SHAPES, pattern

_NEAR_ZERO = 1e-4  # of the largest q


class OrientedSimulator(ParameterSimulator):
    """Patterns of one shape on a square detector, ``n_pixels`` along each side.

    Parameters
    ----------
    config
        Settings of shape, bounds and exposures.
    """

    def __init__(self, config: OrientedSimulation):
        check_range("photons", config.photons)
        sizes = SHAPES[config.shape].sizes
        prior = BoxPrior(
            *(Parameter(name, "nm", *config.sizes, is_log=True) for name in sizes),
            Parameter("theta", "deg", *config.theta_deg),
            Parameter("phi", "deg", 0.0, 180.0),
            Parameter("forward", "1/cm", *config.forward, is_log=True),
            Parameter("background", "1/cm", *config.background, is_log=True),
        )
        super().__init__(prior, (config.n_pixels, config.n_pixels))
        self.config, self.n_sizes = config, len(sizes)
        line = torch.linspace(-config.q_max, config.q_max, config.n_pixels)
        self.q_y, self.q_x = torch.meshgrid(line, line, indexing="ij")
        """Components of q, nm^-1, [row, column]."""
        self.axes = {"$q_y$ (1/nm)": line, "$q_x$ (1/nm)": line}
        self.rings = _Rings(config.n_pixels)

    def intensity(self, u: torch.Tensor) -> torch.Tensor:
        """Intensity [sample, row, column] in 1/cm of unknowns [sample, parameter]."""
        sizes = u[:, : self.n_sizes]
        theta, phi, forward, background = u[:, self.n_sizes :].unbind(1)
        near_zero = self.q_x.new_full((1,), _NEAR_ZERO * self.config.q_max)
        q_x, q_y = (torch.cat([near_zero, q.flatten()]).to(u) for q in (self.q_x, self.q_y))
        contrast = u.new_ones(len(u), SHAPES[self.config.shape].n_contrasts)
        found = pattern(self.config.shape, q_x, q_y, sizes, contrast, theta_deg=theta, phi_deg=phi)
        relative = (found[:, 1:] / found[:, :1]).unflatten(1, self.pattern_shape)
        return forward[:, None, None] * relative + background[:, None, None]

    def summaries(self, batch: PatternBatch) -> torch.Tensor:
        """Intensities of rings about the beam, and their variation with the angle, [sample, 5 n_rings + 2].

        For each ring these are `log_intensity`, then the means over its counts of cos 2χ, sin 2χ, cos 4χ and sin 4χ,
        with χ the angle on the detector; last, the first two means over all rings. They are 0 without counts.
        """
        counts, photons = (
            torch.where(batch.mask, field, 0.0).flatten(1)[:, None] for field in (batch.counts, batch.photons)
        )
        counted, around = self.rings.add(counts * self.rings.waves.to(counts)).split([1, 4], 1)
        intensity = log_intensity(counted, self.rings.add(photons))
        of_all = around[:, :2].sum(2) / (counted.sum(2) + 1)
        return torch.cat([intensity.flatten(1), (around / (counted + 1)).flatten(1), of_all], 1)

    def draw(self, n: int, rng: np.random.Generator) -> PatternBatch:
        """Draw `n` patterns with their unknowns, exposures and beam stops."""
        u = self.prior.draw(n, rng)
        low, high = np.log(self.config.photons)
        photons = torch.as_tensor(np.exp(rng.uniform(low, high, size=(n, 1, 1))), dtype=torch.float32)
        stop = torch.as_tensor(self.config.beam_stop * self.config.q_max * rng.random((n, 1, 1)))
        mask = torch.hypot(self.q_x, self.q_y) >= stop
        generator = torch.Generator().manual_seed(int(rng.integers(1 << 62)))
        with torch.no_grad():
            counts = draw_counts(self.intensity(u), Exposure(photons), generator=generator)
        return PatternBatch(u, torch.where(mask, counts, 0.0), photons, mask)


class _Rings:
    """Rings about the middle of a square detector, each one pixel wide, and the harmonics around them.

    ``waves`` [5, pixel]: 1, cos 2χ, sin 2χ, cos 4χ, sin 4χ.
    """

    def __init__(self, n_pixels: int):
        line = torch.arange(n_pixels) - (n_pixels - 1) / 2
        y, x = (each.flatten() for each in torch.meshgrid(line, line, indexing="ij"))
        self.number, chi = torch.hypot(x, y).long(), torch.atan2(y, x)
        self.waves = torch.stack([torch.ones_like(chi), *(f(m * chi) for m in (2, 4) for f in (torch.cos, torch.sin))])

    def add(self, values: torch.Tensor) -> torch.Tensor:
        """Sums over each ring, [sample, field, ring], of values [sample, field, pixel]."""
        sums = values.new_zeros(*values.shape[:2], int(self.number.max()) + 1)
        return sums.index_add(2, self.number.to(values.device), values)
