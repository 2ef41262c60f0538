"""Random objects in a coherent beam: the prior of posteriors of images.

An object is a film with cells on it. The number of cells is uniform in ``n_cells``. Cells are ellipses: the centre is
uniform in the inner 70 % of the field, the semi-axes are log-uniform in ``radii``, the direction is random, the edge is
0.5 to 2 pixels wide, the profile lies between those of a slab and a ball, and the density of each channel is uniform in
0.2 to 1. The density of the film is uniform in 0 to 0.1. All matter has the same texture: a factor
``exp(texture field)`` of its density, with a normal field of power spectrum ``f^-b``, b uniform in 1 to 3. The sum of
densities, D, gives the fraction of the way from the empty beam to the densest object,
``s = 0.04 + 0.92 (1 - exp(-D))``. Grain is added to each pixel and channel, ``z = Phi^-1(s) + grain N(0, 1)`` with Phi
the cumulative normal distribution, and ``u = empty + (densest - empty) Phi(z)``.

Without grain, smooth objects would have no volume in z, and a flow would have no density to learn.
"""

import math

import numpy as np
import torch

from rephase.config.waves import ObjectsConfig
from rephase.errors import ConfigError

_EDGE = 1e-6  # smallest distance to a bound, so that |z| is at most 4.76
_SHARES = (0.04, 0.96)  # of empty beam and densest object before the grain


class RandomObjects:
    """Images of objects, and their map to an unbounded space.

    Parameters
    ----------
    config
        Parameters of the prior above.
    size
        Pixels along each side.
    bounds
        Values in the empty beam and in the densest object, for each channel.

    Raises
    ------
    ConfigError
        Ranges are not in rising order, or bounds are equal.
    """

    def __init__(self, config: ObjectsConfig, size: int, bounds: tuple[tuple[float, float], ...]):
        for name, (low, high) in (("n_cells", config.n_cells), ("radii", config.radii)):
            if not 0 < low <= high:
                raise ConfigError(f"objects.{name} = ({low}, {high}): expected two numbers above 0 in rising order")
        for empty, densest in bounds:
            if empty == densest or not (math.isfinite(empty) and math.isfinite(densest)):
                raise ConfigError(f"bounds ({empty}, {densest}): expected two finite numbers that differ")
        self.config, self.size, self.bounds = config, size, bounds
        self.shape = (len(bounds), size, size)

    def draw(self, n: int, rng: np.random.Generator) -> torch.Tensor:
        """Draw objects [n, channel, row, column], float32."""
        film = 0.1 * torch.as_tensor(rng.random((n, 1, 1, 1)))
        density = 0.2 + 0.8 * torch.as_tensor(rng.random((n, self.config.n_cells[1], len(self.bounds))))
        matter = film + torch.einsum("nmc,nmyx->ncyx", density, self._cells(n, rng))
        matter = matter * torch.exp(self.config.texture * self._field(n, rng))[:, None]
        low, high = _SHARES
        share = low + (high - low) * -torch.expm1(-matter)
        grain = torch.as_tensor(rng.standard_normal(share.shape))
        return self.from_normal(torch.special.ndtri(share) + self.config.grain * grain).float()

    def to_normal(self, u: torch.Tensor) -> torch.Tensor:
        """Map objects [..., channel, row, column] to z; values outside the bounds count as at the bound."""
        return torch.special.ndtri(self.share(u).clamp(_EDGE, 1 - _EDGE))

    def from_normal(self, z: torch.Tensor) -> torch.Tensor:
        """Map z [..., channel, row, column] to objects, within their bounds."""
        return self.at(torch.special.ndtr(z))

    def share(self, u: torch.Tensor) -> torch.Tensor:
        """Fraction of the way from the empty beam, 0, to the densest object, 1."""
        empty, densest = self._ends(u)
        return (u - empty) / (densest - empty)

    def at(self, share: torch.Tensor) -> torch.Tensor:
        """Map fractions to objects, the inverse of `share`."""
        empty, densest = self._ends(share)
        return torch.lerp(empty, densest, share)

    def _ends(self, like: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        empty, densest = like.new_tensor(self.bounds)[..., None, None].unbind(1)
        return empty, densest

    def _cells(self, n: int, rng: np.random.Generator) -> torch.Tensor:
        """Draw the thickness of cells [n, cell, row, column], 0 to 1; absent cells are 0."""
        fewest, most = self.config.n_cells

        def draw(low: float, high: float, *shape: int) -> torch.Tensor:
            return torch.as_tensor(rng.uniform(low, high, (n, most, *shape, 1, 1)))

        y, x = (side - 0.5 - draw(-0.35, 0.35) for side in self._sides())
        angle, edge, is_ball = draw(0, math.pi), draw(0.5, 2), draw(0, 1)
        axes = torch.exp(draw(*np.log(self.config.radii), 2))
        along, across = x * angle.cos() + y * angle.sin(), y * angle.cos() - x * angle.sin()
        distance = torch.hypot(along / axes[:, :, 0], across / axes[:, :, 1])
        inside = torch.sigmoid((1 - distance) * axes.amin(2) * self.size / edge * 4)
        ball = (1 - distance.square()).clamp_min(0).sqrt()
        is_there = torch.arange(most) < torch.as_tensor(rng.integers(fewest, most + 1, n))[:, None]
        return inside * torch.lerp(torch.ones_like(ball), ball, is_ball) * is_there[..., None, None]

    def _field(self, n: int, rng: np.random.Generator) -> torch.Tensor:
        """Draw normal random fields [n, row, column], each of mean 0 and variance 1."""
        spectrum = torch.fft.rfft2(torch.as_tensor(rng.standard_normal((n, self.size, self.size))))
        fy, fx = torch.fft.fftfreq(self.size)[:, None], torch.fft.rfftfreq(self.size)
        frequency = torch.hypot(fy, fx).clamp_min(0.5 / self.size)
        power = torch.as_tensor(rng.uniform(1, 3, (n, 1, 1)))
        field = torch.fft.irfft2(spectrum * frequency ** (-power / 2), s=(self.size, self.size))
        field = field - field.mean((1, 2), keepdim=True)
        return field / field.std((1, 2), keepdim=True)

    def _sides(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Centres of rows and columns as fractions of the side, 0 to 1."""
        middle = (torch.arange(self.size) + 0.5) / self.size
        return middle[:, None], middle
