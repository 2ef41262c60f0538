"""Simulated small-angle scattering of particles in solution, as counts at each q.

The unknowns are the sizes of the shape (nm), the intensity at q = 0 and the background (1/cm) and, if configured, the
spread of the first size, which is then log-normal about its median; the spread is the standard deviation of its
logarithm. For each curve the exposure, the power of q with which photons grow, the ranges hidden by a beam stop and
the rim of the detector, and missing points in between are drawn at random.
"""

import math

import numpy as np
import torch

from rephase.config.scattering import SaxsSimulation
from rephase.inference.patterns import ParameterSimulator, PatternBatch, check_range
from rephase.inference.priors import BoxPrior, Parameter
from rephase.optics.form_factors import Spread
from rephase.optics.noise import Exposure, draw_counts
from rephase.optics.saxs import SHAPES, curve

_NEAR_ZERO = 1e-4  # 1/nm over the largest size: q R far below 1
_SPREAD = "lognormal"


class SaxsSimulator(ParameterSimulator):
    """Curves of one shape at fixed q.

    Parameters
    ----------
    config
        Settings of shape, bounds and exposures.
    """

    def __init__(self, config: SaxsSimulation):
        check_range("photons", config.photons)
        check_range("q", config.q)
        check_range("growth", config.growth, is_log=False)
        sizes = SHAPES[config.shape].sizes
        spread = [] if config.spread is None else [Parameter("spread", "", *config.spread)]
        prior = BoxPrior(
            *(Parameter(name, "nm", *config.sizes, is_log=True) for name in sizes),
            Parameter("forward", "1/cm", *config.forward, is_log=True),
            Parameter("background", "1/cm", *config.background, is_log=True),
            *spread,
        )
        super().__init__(prior, (config.n_q,))
        self.config, self.n_sizes = config, len(sizes)
        self.q = torch.logspace(math.log10(config.q[0]), math.log10(config.q[1]), config.n_q)
        """Values of q, nm^-1, [n_q]."""
        self.axes = {"q (1/nm)": self.q}

    def intensity(self, u: torch.Tensor) -> torch.Tensor:
        """Intensity [sample, n_q] in 1/cm of unknowns [sample, parameter]."""
        sizes, forward, background = u[:, : self.n_sizes], u[:, self.n_sizes], u[:, self.n_sizes + 1]
        spread = None
        if self.config.spread is not None:
            spread = Spread(SHAPES[self.config.shape].sizes[0], _SPREAD, u[:, -1])
        n_regions = SHAPES[self.config.shape].n_contrasts
        contrast = u.new_tensor([1.0, self.config.contrast_ratio][:n_regions]).expand(len(u), -1)
        q = torch.cat([self.q[:1] * _NEAR_ZERO, self.q]).to(u)
        found = curve(self.config.shape, q, sizes, contrast, spread=spread)
        return forward[:, None] * found[:, 1:] / found[:, :1] + background[:, None]

    def draw(self, n: int, rng: np.random.Generator) -> PatternBatch:
        """Draw `n` curves with their unknowns, exposures and masks."""
        u = self.prior.draw(n, rng)
        low, high = np.log(self.config.photons)
        slow, fast = self.config.growth
        photons = self._photons(np.exp(rng.uniform(low, high, (n, 1))), rng.uniform(slow, fast, (n, 1)))
        first, last = self.config.hidden * rng.random((2, n, 1))
        place = np.linspace(0, 1, self.config.n_q)
        is_there = rng.random((n, self.config.n_q)) >= self.config.missing * rng.random((n, 1))
        is_inside = (place >= first) & (place <= 1 - last)
        is_there |= ~(is_inside & is_there).any(1, keepdims=True)  # keep the points of curves that would lose all
        mask = torch.as_tensor(is_inside & is_there)
        generator = torch.Generator().manual_seed(int(rng.integers(1 << 62)))
        with torch.no_grad():
            counts = draw_counts(self.intensity(u), Exposure(photons), generator=generator)
        return PatternBatch(u, torch.where(mask, counts, 0.0), photons, mask)

    def exposures(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Fewest and most photons [n_q] that are drawn at each q."""
        fewest, most = self._photons(*np.array([self.config.photons, self.config.growth])[..., None])
        return fewest, most

    def _photons(self, level: np.ndarray, power: np.ndarray) -> torch.Tensor:
        """Counts for 1/cm, [sample, n_q], from their number at the first q and the power of q, [sample, 1]."""
        return torch.as_tensor(level * (self.q / self.q[0]).numpy() ** power, dtype=torch.float32)
