"""Shapes of helium droplets: spheroids, pills, bent and asymmetric ones, cores, layers, partners; and random ones."""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch

from rephase.errors import OpticsError, check_positive, nearest_name

N_HARMONICS = 7
"""Number of coefficients of an asymmetric droplet: real spherical harmonics of degree 3."""
# Radii in nm at these quantiles, of the 7,264 droplets of CXIDB 94; the two ends are guesses
_QUANTILES = (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0)
_RADII = (70.0, 141.0, 259.0, 332.0, 404.0, 554.0, 800.0)


class Droplets(NamedTuple):
    """Droplets, one per row. In the frame of a droplet, z is its long axis (its short axis if it is oblate).

    A point u of that frame is straightened, ``x' = x - bend (z^2/2 - L^2/4)`` and ``z' = sign(z) max(|z| - half_length,
    0)``; the surface is where ``x'^2/a^2 + y^2/b^2 + z'^2/c^2 = s^2`` with ``s = 1 + sum_m harmonics_m Y_3m(u)``.

    Attributes
    ----------
    semi_axes
        [droplet, 3] nm; zeros mean no droplet.
    half_length
        [droplet] nm, half-length of the straight part along z; not 0 for a pill.
    bend
        [droplet] 1/nm, curvature of the axis, in the xz plane; ``L = c + half_length`` is half of its length.
    harmonics
        [droplet, 7] root mean square relative heights of the real spherical harmonics of degree 3.
    core_scale
        [droplet] relative size of a core of the same shape; 0 for none.
    core_density
        [droplet] n - 1 of the core relative to that of helium.
    n_layers
        [droplet] number of shells of higher density from the centre to the surface; 0 for none.
    layer_contrast
        [droplet] amplitude of the density of the shells, relative to the mean.
    partner_radius
        [droplet] nm, radius of a second, spherical droplet; 0 for none.
    partner_offset
        [droplet, 3] nm, centre of the second droplet from that of the first, in the frame of the laboratory.
    rotation
        [droplet, 3, 3] rotation from the frame of the droplet to that of the laboratory.
    """

    semi_axes: torch.Tensor
    half_length: torch.Tensor
    bend: torch.Tensor
    harmonics: torch.Tensor
    core_scale: torch.Tensor
    core_density: torch.Tensor
    n_layers: torch.Tensor
    layer_contrast: torch.Tensor
    partner_radius: torch.Tensor
    partner_offset: torch.Tensor
    rotation: torch.Tensor

    def take(self, rows: torch.Tensor) -> "Droplets":
        """Return some of the droplets, by index or by booleans."""
        return Droplets(*(t[rows] for t in self))

    def to(self, device: torch.device | str, dtype: torch.dtype) -> "Droplets":
        """Move to a device and a dtype."""
        return Droplets(*(t.to(device, dtype) for t in self))

    def extent(self) -> torch.Tensor:
        """Return half-sides [droplet, 3] in nm of boxes around the droplets, without partners, in the laboratory."""
        along_z, along_x = self.rotation[..., 2].abs(), self.rotation[..., 0].abs()
        swell = 1 + _MOST_HARMONIC * self.harmonics.norm(dim=-1, keepdim=True)
        ellipsoid = (self.rotation * (swell * self.semi_axes)[:, None]).norm(dim=-1)
        half = self._long_half()
        sagitta = (self.bend * half**2).abs() / 4
        return ellipsoid + along_z * self.half_length[:, None] + along_x * sagitta[:, None]

    def _long_half(self) -> torch.Tensor:
        return self.half_length + self.semi_axes[:, 2]


_MOST_HARMONIC = math.sqrt(7)  # no combination of unit norm rises higher: the addition theorem, sum_m Y_3m^2 = 7
_GAP = 1.02  # smallest distance of partners relative to the sum of their radii


def join(parts: Sequence[Droplets]) -> Droplets:
    """Join several sets of droplets in order."""
    return Droplets(*(torch.cat(tensors) for tensors in zip(*parts)))


def spheroids(semi_axes: torch.Tensor, rotation: torch.Tensor | None = None) -> Droplets:
    """Return plain ellipsoids with semi-axes [droplet, 3] in nm and an optional `rotation` [droplet, 3, 3]."""
    zero = semi_axes.new_zeros(len(semi_axes))
    eye = torch.eye(3, dtype=semi_axes.dtype, device=semi_axes.device).repeat(len(zero), 1, 1)
    return Droplets(
        semi_axes,
        half_length=zero,
        bend=zero,
        harmonics=zero[:, None].repeat(1, N_HARMONICS),
        core_scale=zero,
        core_density=zero + 1,
        n_layers=zero,
        layer_contrast=zero,
        partner_radius=zero,
        partner_offset=zero[:, None].repeat(1, 3),
        rotation=eye if rotation is None else rotation,
    )


def _column(values: torch.Tensor) -> torch.Tensor:
    """Reshape [droplet] to [droplet, 1, 1], which broadcasts with images."""
    return values[:, None, None]


def relative_density(
    droplets: Droplets, x: torch.Tensor, y: torch.Tensor, z: torch.Tensor, edge: torch.Tensor
) -> torch.Tensor:
    """Compute the density relative to helium at points of the laboratory, without partners.

    Parameters
    ----------
    droplets
        One droplet for each row of the coordinates.
    x, y, z
        Coordinates in nm that broadcast with [droplet, row, column].
    edge
        [droplet] nm over which the density rises from 0 to 1: the spacing of the points, so that a sum over them
        accounts for cells that the surface cuts.

    Returns
    -------
    torch.Tensor
        [droplet, row, column]: 0 outside, 1 in plain helium.
    """
    u, v, w = (
        _column(row[:, 0]) * x + _column(row[:, 1]) * y + _column(row[:, 2]) * z for row in droplets.rotation.unbind(2)
    )
    surface = _squared_height(droplets, u, v, w)
    if droplets.bend.any():
        u = u - _column(droplets.bend) * (w * w / 2 - _column(droplets._long_half()) ** 2 / 4)
    if droplets.half_length.any():
        w = w.sign() * (w.abs() - _column(droplets.half_length)).clamp(min=0)
    inverse = 1 / droplets.semi_axes.clamp(min=1e-3) ** 2
    gradient = (_column(inverse[:, 0]) * u, _column(inverse[:, 1]) * v, _column(inverse[:, 2]) * w)  # half the gradient
    level = gradient[0] * u + gradient[1] * v + gradient[2] * w
    slope = 2 * _column(edge) * (gradient[0] ** 2 + gradient[1] ** 2 + gradient[2] ** 2).sqrt().clamp(min=1e-12)
    inside = ((surface - level) / slope + 0.5).clamp(0, 1)
    inside = inside * _column(droplets.semi_axes[:, 0] > 0)
    return inside * _inner_density(droplets, level, surface, slope)


def _inner_density(
    droplets: Droplets, level: torch.Tensor, surface: torch.Tensor | float, slope: torch.Tensor
) -> torch.Tensor | float:
    density: torch.Tensor | float = 1.0
    if droplets.core_scale.any():
        core = ((surface * _column(droplets.core_scale) ** 2 - level) / slope + 0.5).clamp(0, 1)
        density = density + (_column(droplets.core_density) - 1) * core * _column(droplets.core_scale > 0)
    if droplets.n_layers.any():
        depth = (level / surface).sqrt()
        contrast = _column(droplets.layer_contrast * (droplets.n_layers > 0))
        density = density + contrast * torch.cos(2 * math.pi * _column(droplets.n_layers) * depth)
    return density


def _squared_height(droplets: Droplets, u: torch.Tensor, v: torch.Tensor, w: torch.Tensor) -> torch.Tensor | float:
    """Return s^2, where s is the height of the surface relative to the spheroid in the direction of each point."""
    if not droplets.harmonics.any():
        return 1.0
    uu, vv, ww = u * u, v * v, w * w
    square = (uu + vv + ww).clamp(min=1e-6)
    cubics = (
        math.sqrt(35 / 8) * v * (3 * uu - vv),
        math.sqrt(105) * u * v * w,
        math.sqrt(21 / 8) * v * (5 * ww - square),
        math.sqrt(7 / 4) * w * (5 * ww - 3 * square),
        math.sqrt(21 / 8) * u * (5 * ww - square),
        math.sqrt(105 / 4) * w * (uu - vv),
        math.sqrt(35 / 8) * u * (uu - 3 * vv),
    )
    height = sum(_column(c) * cubic for c, cubic in zip(droplets.harmonics.unbind(1), cubics))
    return (1 + height * square**-1.5).clamp(min=0.1) ** 2


def random_rotations(n: int, generator: torch.Generator, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """Draw rotations [n, 3, 3], uniform over all orientations, from quaternions of normal numbers."""
    quaternion = torch.randn(n, 4, generator=generator, device=generator.device, dtype=dtype)
    w, x, y, z = (quaternion / quaternion.norm(dim=1, keepdim=True)).unbind(1)
    rows = [
        1 - 2 * (y * y + z * z),
        2 * (x * y - w * z),
        2 * (x * z + w * y),
        2 * (x * y + w * z),
        1 - 2 * (x * x + z * z),
        2 * (y * z - w * x),
        2 * (x * z - w * y),
        2 * (y * z + w * x),
        1 - 2 * (x * x + y * y),
    ]
    return torch.stack(rows, 1).unflatten(1, (3, 3))


def random_radii(n: int, generator: torch.Generator, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """Draw radii [n] in nm with the distribution of real droplets: 5/25/50/75/95 % below 141/259/332/404/554 nm."""
    share, radius = (torch.tensor(t, device=generator.device, dtype=dtype) for t in (_QUANTILES, _RADII))
    uniform = torch.rand(n, generator=generator, device=generator.device, dtype=dtype)
    upper = torch.searchsorted(share, uniform).clamp(1, len(share) - 1)
    part = (uniform - share[upper - 1]) / (share[upper] - share[upper - 1])
    return radius[upper - 1].lerp(radius[upper], part)


class _Draw:
    """Random numbers for one set of droplets."""

    def __init__(self, n: int, generator: torch.Generator, dtype: torch.dtype):
        self.n, self.generator, self.dtype = n, generator, dtype

    def uniform(self, low: float, high: float) -> torch.Tensor:
        values = torch.rand(self.n, generator=self.generator, device=self.generator.device, dtype=self.dtype)
        return low + (high - low) * values

    def normal(self, columns: int) -> torch.Tensor:
        shape = (self.n, columns)
        return torch.randn(shape, generator=self.generator, device=self.generator.device, dtype=self.dtype)

    def radii(self) -> torch.Tensor:
        return random_radii(self.n, self.generator, self.dtype)


def _spheroid(ratio: torch.Tensor, radius: torch.Tensor, draw: _Draw) -> Droplets:
    """Return spheroids with the volume of a sphere, the semi-axis along z `ratio` times as long as the others."""
    across = radius * ratio ** (-1 / 3)
    axes = torch.stack([across, across, across * ratio], 1)
    return spheroids(axes, random_rotations(draw.n, draw.generator, draw.dtype))


def _oblate(aspect: torch.Tensor, radius: torch.Tensor, draw: _Draw) -> Droplets:
    return _spheroid(1 / aspect, radius, draw)


def _prolate(aspect: torch.Tensor, radius: torch.Tensor, draw: _Draw) -> Droplets:
    return _spheroid(aspect, radius, draw)


def _pill(aspect: torch.Tensor, radius: torch.Tensor, draw: _Draw) -> Droplets:
    cap = radius / (1 + 1.5 * (aspect - 1)) ** (1 / 3)
    return _spheroid(torch.ones_like(cap), cap, draw)._replace(half_length=cap * (aspect - 1))


def _bent(aspect: torch.Tensor, radius: torch.Tensor, draw: _Draw) -> Droplets:
    pill = _pill(aspect, radius, draw)
    return pill._replace(bend=2 * draw.uniform(0.4, 1.2) * pill.semi_axes[:, 2] / pill._long_half() ** 2)


def _empty(aspect: torch.Tensor, radius: torch.Tensor, draw: _Draw) -> Droplets:
    return _spheroid(aspect, torch.zeros_like(radius), draw)


class _Kind(NamedTuple):
    make: Callable[[torch.Tensor, torch.Tensor, _Draw], Droplets]
    aspect: tuple[float, float]


# Ratio of longest to shortest axis: Langbehn et al. (2018) saw oblate droplets up to about 1.5, pills up to about 3
KINDS = {
    "oblate": _Kind(_oblate, (1.0, 1.5)),
    "prolate": _Kind(_prolate, (1.2, 2.2)),
    "pill": _Kind(_pill, (1.5, 3.0)),
    "bent": _Kind(_bent, (1.6, 3.0)),
    "empty": _Kind(_empty, (1.0, 1.0)),
}
"""Kinds of droplet by name, with the range of their aspect ratio, the longest axis divided by the shortest."""


def _asymmetric(droplets: Droplets, draw: _Draw) -> Droplets:
    direction = draw.normal(N_HARMONICS)
    height = draw.uniform(0.04, 0.09)[:, None]
    return droplets._replace(harmonics=height * direction / direction.norm(dim=1, keepdim=True))


def _partner(droplets: Droplets, draw: _Draw) -> Droplets:
    radius = draw.radii()
    angle = draw.uniform(0, 2 * math.pi)
    apart = _GAP * (droplets.extent().norm(dim=1) + radius) + draw.uniform(0, 800)
    along = draw.uniform(-5000, 5000)
    offset = torch.stack([apart * angle.cos(), apart * angle.sin(), along], 1)
    return droplets._replace(partner_radius=radius, partner_offset=offset)


def _core_shell(droplets: Droplets, draw: _Draw) -> Droplets:
    return droplets._replace(core_scale=draw.uniform(0.4, 0.8), core_density=draw.uniform(1.5, 3.0))


def _layered(droplets: Droplets, draw: _Draw) -> Droplets:
    return droplets._replace(n_layers=draw.uniform(3, 7).floor(), layer_contrast=draw.uniform(0.3, 0.6))


FEATURES: dict[str, Callable[[Droplets, _Draw], Droplets]] = {
    "asymmetric": _asymmetric,
    "partner": _partner,
    "core_shell": _core_shell,
    "layered": _layered,
}
"""Additional features of a droplet of any kind, by name."""


def random_droplets(
    n: int,
    kind: str = "oblate",
    *,
    features: Sequence[str] = (),
    aspect: tuple[float, float] | None = None,
    generator: torch.Generator,
    dtype: torch.dtype = torch.float32,
) -> Droplets:
    """Draw `n` droplets of one kind, in random orientations, with the volume distribution of real droplets.

    Parameters
    ----------
    n
        Number of droplets.
    kind
        Name in `KINDS`: oblate, prolate, pill, bent or empty.
    features
        Names in `FEATURES`: asymmetric, partner, core_shell, layered.
    aspect
        Range of the aspect ratio, the longest axis divided by the shortest, at least 1; by default that of the kind.
    generator
        Generator of all random numbers; its device is that of the result.
    dtype
        float32 or float64.

    Raises
    ------
    OpticsError
        The kind or a feature is unknown, `n` is below one, or an aspect ratio is below 1.
    """
    if kind not in KINDS:
        raise OpticsError(f"no kind of droplet {kind!r}; {nearest_name(kind, KINDS)}")
    for name in features:
        if name not in FEATURES:
            raise OpticsError(f"no feature {name!r} of droplets; {nearest_name(name, FEATURES)}")
    check_positive("n", n, remedy="ask for at least one droplet", error=OpticsError)
    low, high = aspect or KINDS[kind].aspect
    if not 1 <= low <= high:
        raise OpticsError(
            f"aspect = {low} to {high}: expected a range, at least 1, of the longest axis divided by the shortest"
        )
    draw = _Draw(n, generator, dtype)
    droplets = KINDS[kind].make(draw.uniform(low, high), draw.radii(), draw)
    for name in features:
        droplets = FEATURES[name](droplets, draw)
    return droplets
