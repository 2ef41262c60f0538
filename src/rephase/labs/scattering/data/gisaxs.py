"""Simulated grazing-incidence scattering of islands on a layer on a substrate, as counts in each pixel.

The unknowns are the sizes of the islands (nm), their number per nm^2, the thickness of the layer and the roughness of
its top (nm), the angle of incidence (degrees), the background in a pixel for 1e8 incident photons and, if configured,
the relative spread of the radius. The number of photons on the sample is known. A stop hides the specular rod, and the
edge of the sample hides the region near the horizon; both are drawn for each pattern.

The model includes that of `rephase.optics.gisaxs`, refraction and reflection by layer and substrate, and a distribution
of radii. It does not include ordered or touching islands, multiple scattering, diffuse scattering of rough interfaces,
further layers, the divergence of the beam, or the variation of intensity within a pixel: the intensity at the centre
stands for the whole solid angle, so that pixels must be narrow compared with fringes and the step at the critical
angle. The interface between layer and substrate is smooth.
"""

import numpy as np
import torch

from rephase.config.scattering import GisaxsSimulation
from rephase.inference.patterns import ParameterSimulator, PatternBatch, check_range
from rephase.inference.priors import BoxPrior, Parameter
from rephase.optics.form_factors import Spread
from rephase.optics.gisaxs import ISLANDS, ExitAngles, grazing_pattern
from rephase.optics.noise import Exposure, draw_counts
from rephase.optics.reflectivity import Stack

_BEAM = 1e8  # incident photons of the unit of intensity, so that intensities are about 1
_N_RADII = 9  # from -3 to 3 standard deviations


class GisaxsSimulator(ParameterSimulator):
    """Patterns of one shape of islands on one detector; a detector of one row or column gives curves.

    Parameters
    ----------
    config
        Settings of shape, bounds, optical constants, detector and exposures.
    """

    def __init__(self, config: GisaxsSimulation):
        check_range("photons", config.photons)
        sizes = ISLANDS[config.shape].sizes
        spread = [] if config.spread is None else [Parameter("spread", "", *config.spread)]
        prior = BoxPrior(
            *(Parameter(name, "nm", *config.sizes, is_log=True) for name in sizes),
            Parameter("density", "1/nm^2", *config.density, is_log=True),
            Parameter("thickness", "nm", *config.thickness),
            Parameter("roughness", "nm", *config.roughness),
            Parameter("incidence", "deg", *config.incidence_deg),
            Parameter("background", "1/pixel", *config.background, is_log=True),
            *spread,
        )
        super().__init__(prior, tuple(n for n in config.pixels if n > 1))
        self.config, self.n_sizes = config, len(sizes)
        self.exits = _exits(config)
        angles = (self.exits.alpha_deg, self.exits.phi_deg)
        named = zip(("exit angle (degrees)", "angle from the plane of incidence (degrees)"), angles)
        self.axes = {name: angle for name, angle in named if len(angle) > 1}

    def intensity(self, u: torch.Tensor) -> torch.Tensor:
        """Photons in each pixel for 1e8 incident photons, [sample, *pattern], of unknowns [sample, parameter]."""
        one_each = [1] * (len(self.prior) - self.n_sizes)
        sizes, density, thickness, roughness, incidence, background, *spread = u.split([self.n_sizes, *one_each], 1)
        delta, beta = (u.new_tensor(pair).expand(len(u), 2) for pair in zip(self.config.layer, self.config.substrate))
        rough = torch.cat([roughness, torch.zeros_like(roughness)], 1)
        of_particle = u.new_tensor(self.config.particle).expand(len(u), 2)
        scattered = grazing_pattern(
            self.config.shape,
            sizes,
            of_particle[:, 0],
            of_particle[:, 1],
            Stack(delta, beta, thickness, rough),
            self.exits,
            energy_ev=self.config.energy_ev,
            incidence_deg=incidence[:, 0],
            density=density[:, 0],
            spread=Spread("radius", "gaussian", spread[0][:, 0], n_nodes=_N_RADII) if spread else None,
        )
        return (_BEAM * scattered + background[..., None]).reshape(len(u), *self.pattern_shape)

    def draw(self, n: int, rng: np.random.Generator) -> PatternBatch:
        """Draw `n` patterns with their unknowns, exposures and masks."""
        u = self.prior.draw(n, rng)
        shape = (n, *[1] * len(self.pattern_shape))
        low, high = np.log(self.config.photons)
        level = np.exp(rng.uniform(low, high, size=shape))
        photons, mask = torch.as_tensor(level, dtype=torch.float32), self._seen(n, rng)
        generator = torch.Generator().manual_seed(int(rng.integers(1 << 62)))
        with torch.no_grad():
            counts = draw_counts(self.intensity(u), Exposure(photons), generator=generator)
        return PatternBatch(u, torch.where(mask, counts, 0.0), photons, mask)

    def _seen(self, n: int, rng: np.random.Generator) -> torch.Tensor:
        """Draw masks, boolean [n, *pattern]: True beside the stop and above the horizon."""
        stop, edge = (
            torch.as_tensor(widest * rng.random((n, 1))) for widest in (self.config.rod_deg, self.config.horizon_deg)
        )
        is_beside, is_above = self.exits.phi_deg.abs() >= stop, self.exits.alpha_deg >= edge
        return (is_above[:, :, None] & is_beside[:, None]).reshape(n, *self.pattern_shape)


def _exits(config: GisaxsSimulation) -> ExitAngles:
    """Return the centres of the pixels."""
    edges = (config.alpha_deg, config.phi_deg)
    alpha, phi = ((high - low) / n for (low, high), n in zip(edges, config.pixels))
    return ExitAngles(
        config.alpha_deg[0] + alpha * (torch.arange(config.pixels[0]) + 0.5),
        config.phi_deg[0] + phi * (torch.arange(config.pixels[1]) + 0.5),
        (alpha, phi),
    )
