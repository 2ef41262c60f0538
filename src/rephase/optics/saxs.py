"""Small-angle scattering of dilute particles: curves averaged over orientations, oriented patterns, smearing.

Particles of one shape, far apart, in a solvent::

    I(q) = scale 1e7 <|A(q)|^2> / <V> + background,   A(q) = integral of contrast exp(-i q.r) dr

Lengths are in nm and q in nm^-1 (``q [1/Å] * PER_ANGSTROM``); the contrast, a difference of scattering length
densities, is in nm^-2 (1e-6 Å^-2 are 1e-4 nm^-2); I is in cm^-1 if the scale is the volume fraction. All shapes have an
axis of revolution, and the same definitions as in sasmodels under the same names.

Guinier & Fournet, Small-Angle Scattering of X-Rays (1955); Pedersen (1997), doi:10.1016/S0001-8686(97)00312-6.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch

from rephase.devices import at_once
from rephase.errors import OpticsError, nearest_name
from rephase.optics.form_factors import (
    Spread,
    ball,
    check_sizes,
    disc,
    gauss_legendre,
    n_nodes_of_wave,
    per_sample,
    slab,
    spread_sizes,
)

PER_ANGSTROM = 10.0
"""1/Å in 1/nm."""
_PER_CM = 1e7  # 1/nm in 1/cm
_TAILS = (-2.5, 3.0)  # truncation of a Gaussian resolution function, in standard deviations, as in sasmodels

Sizes = list[torch.Tensor]
Amplitude = Callable[[torch.Tensor, torch.Tensor, Sizes, Sizes], torch.Tensor]


class Shape(NamedTuple):
    """A body of revolution.

    ``amplitude(square of q across the axis, q along it, sizes, contrasts)`` is A in nm, ``volume(sizes)`` is in nm^3,
    and ``reach(sizes)`` is the longest distance in nm of a point from the centre. ``n_contrasts`` counts its regions.
    """

    sizes: tuple[str, ...]
    amplitude: Amplitude
    volume: Callable[..., torch.Tensor]
    reach: Callable[..., torch.Tensor]
    n_contrasts: int = 1
    is_round: bool = False


def curve(
    shape: str,
    q: torch.Tensor,
    sizes: torch.Tensor,
    contrast: torch.Tensor,
    *,
    scale: torch.Tensor | float = 1.0,
    background: torch.Tensor | float = 0.0,
    spread: Spread | None = None,
) -> torch.Tensor:
    """Compute the scattering curves of particles, averaged over all orientations.

    Parameters
    ----------
    shape
        Name in `SHAPES`, which lists the names of its sizes.
    q
        [n_q] nm^-1, above 0.
    sizes
        [sample, size] nm, above 0.
    contrast
        [sample, region] nm^-2, of the particle relative to the solvent; of core and shell for a core-shell sphere.
    scale
        Volume fraction: a number, or [sample].
    background
        cm^-1: a number, or [sample].
    spread
        Distribution of one of the sizes. The width is [sample] or a number.

    Returns
    -------
    torch.Tensor
        Intensity [sample, n_q] in cm^-1, with the dtype and device of `sizes`.

    Raises
    ------
    OpticsError
        The shape or the size of the spread is unknown, the number of sizes or contrasts is wrong, or sizes or q are not
        above 0.

    Examples
    --------
    >>> q = torch.tensor([0.1, 1.0])
    >>> curve("sphere", q, torch.tensor([[5.0]]), torch.tensor([[1e-4]]), scale=0.01).round(decimals=4)
    tensor([[0.4980, 0.0017]])
    """
    form = _shape(shape)
    _check_q(q)
    q = q.to(sizes)
    varied, weights = _bodies(form, sizes, contrast, spread)
    if form.is_round:
        along, solid_angle = q.new_ones(1), q.new_ones(1)
    else:
        reach = float(form.reach(*varied.detach().unbind(2)).amax())
        along, solid_angle = gauss_legendre(n_nodes_of_wave(2 * reach * float(q.amax())), q)
    q = q.expand(len(sizes), -1)[..., None]
    mean = _mean_square(form, q**2 * (1 - along**2), q * along, solid_angle, varied, weights, contrast)
    return _absolute(form, mean, varied, weights, scale, background)


def pattern(
    shape: str,
    q_x: torch.Tensor,
    q_y: torch.Tensor,
    sizes: torch.Tensor,
    contrast: torch.Tensor,
    *,
    theta_deg: torch.Tensor | float,
    phi_deg: torch.Tensor | float,
    scale: torch.Tensor | float = 1.0,
    background: torch.Tensor | float = 0.0,
    spread: Spread | None = None,
) -> torch.Tensor:
    """Compute the patterns of particles with the same orientation, in a beam along z.

    Parameters
    ----------
    shape, sizes, contrast, scale, background, spread
        As in `curve`.
    q_x, q_y
        nm^-1, arrays of the same shape, e.g. [row, column].
    theta_deg
        Angle between the axis of revolution and the beam in degrees, a number or [sample].
    phi_deg
        Angle of the projected axis from x towards y in degrees, a number or [sample].

    Returns
    -------
    torch.Tensor
        Intensity [sample, ...] in cm^-1, in the shape of `q_x`.

    Raises
    ------
    OpticsError
        As in `curve`, or `q_x` and `q_y` have different shapes.
    """
    form = _shape(shape)
    if q_x.shape != q_y.shape:
        raise OpticsError(f"q_x has shape {tuple(q_x.shape)}, q_y {tuple(q_y.shape)}: expected the same")
    varied, weights = _bodies(form, sizes, contrast, spread)
    theta, phi = (per_sample(t, sizes).deg2rad()[:, None] for t in (theta_deg, phi_deg))
    x, y = q_x.to(sizes).flatten(), q_y.to(sizes).flatten()
    along = theta.sin() * (phi.cos() * x + phi.sin() * y)
    across = (x**2 + y**2 - along**2).clamp(min=0)
    mean = _mean_square(form, across[..., None], along[..., None], x.new_ones(1), varied, weights, contrast)
    return _absolute(form, mean, varied, weights, scale, background).unflatten(1, q_x.shape)


def smear(
    model: Callable[[torch.Tensor], torch.Tensor], q: torch.Tensor, dq: torch.Tensor, *, n_nodes: int = 16
) -> torch.Tensor:
    """Smear curves by the finite resolution of an instrument: the mean of I over a Gaussian around each q.

    The Gaussian is truncated at -2.5 and +3 standard deviations; negative q count as |q|.

    Parameters
    ----------
    model
        Function from q [m] in nm^-1 to intensities [sample, m], e.g. a `curve` with the other parameters fixed.
    q
        [n_q] nm^-1, above 0.
    dq
        [n_q] nm^-1, standard deviations; 0 for no smearing.
    n_nodes
        Number of q at which the model is evaluated for each point.

    Returns
    -------
    torch.Tensor
        Smeared intensities [sample, n_q].

    Raises
    ------
    OpticsError
        q is not above 0, or dq is negative or has another shape.
    """
    _check_q(q)
    if dq.shape != q.shape or not (torch.isfinite(dq) & (dq >= 0)).all():
        raise OpticsError(f"dq has shape {tuple(dq.shape)}: expected {tuple(q.shape)} standard deviations, 0 or more")
    nodes, weights = gauss_legendre(n_nodes, q)
    low, high = _TAILS
    off = low + (high - low) * nodes
    weights = weights * torch.exp(-(off**2) / 2)
    asked = (q[:, None] + dq[:, None] * off).abs()
    found = model(asked.flatten()).unflatten(1, asked.shape)
    return found @ (weights / weights.sum()).to(found)


def _sphere(across: torch.Tensor, along: torch.Tensor, sizes: Sizes, contrast: Sizes) -> torch.Tensor:
    (radius,) = sizes
    return contrast[0] * _ball_volume(radius) * ball((across + along**2) * radius**2)


def _core_shell(across: torch.Tensor, along: torch.Tensor, sizes: Sizes, contrast: Sizes) -> torch.Tensor:
    radius, thickness = sizes
    core, shell = contrast
    inner = _sphere(across, along, [radius], [core - shell])
    return inner + _sphere(across, along, [radius + thickness], [shell])


def _ellipsoid(across: torch.Tensor, along: torch.Tensor, sizes: Sizes, contrast: Sizes) -> torch.Tensor:
    polar, equatorial = sizes
    volume = 4 / 3 * math.pi * polar * equatorial**2
    return contrast[0] * volume * ball(across * equatorial**2 + (along * polar) ** 2)


def _cylinder(across: torch.Tensor, along: torch.Tensor, sizes: Sizes, contrast: Sizes) -> torch.Tensor:
    radius, length = sizes
    volume = math.pi * radius**2 * length
    return contrast[0] * volume * disc(across * radius**2) * slab(along * length / 2)


def _ball_volume(radius: torch.Tensor) -> torch.Tensor:
    return 4 / 3 * math.pi * radius**3


SHAPES = {
    "sphere": Shape(("radius",), _sphere, _ball_volume, lambda radius: radius, is_round=True),
    "core_shell_sphere": Shape(
        ("radius", "thickness"),
        _core_shell,
        lambda radius, thickness: _ball_volume(radius + thickness),
        lambda radius, thickness: radius + thickness,
        n_contrasts=2,
        is_round=True,
    ),
    "ellipsoid": Shape(
        ("radius_polar", "radius_equatorial"),
        _ellipsoid,
        lambda polar, equatorial: 4 / 3 * math.pi * polar * equatorial**2,
        torch.maximum,
    ),
    "cylinder": Shape(
        ("radius", "length"),
        _cylinder,
        lambda radius, length: math.pi * radius**2 * length,
        lambda radius, length: torch.hypot(radius, length / 2),
    ),
}
"""Shapes by name."""


def _shape(name: str) -> Shape:
    if name not in SHAPES:
        raise OpticsError(f"shape {name!r}: {nearest_name(name, SHAPES)}")
    return SHAPES[name]


def _check_q(q: torch.Tensor) -> None:
    if q.ndim != 1 or not len(q) or not (torch.isfinite(q) & (q > 0)).all():
        raise OpticsError(f"q has shape {tuple(q.shape)}: expected [n_q] finite values above 0 in 1/nm; omit q = 0")


def _bodies(
    form: Shape, sizes: torch.Tensor, contrast: torch.Tensor, spread: Spread | None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Check the sizes; return them [sample, node, size] with their weights [sample, node]."""
    check_sizes(sizes, form.sizes)
    if contrast.shape != (len(sizes), form.n_contrasts):
        raise OpticsError(
            f"contrast has shape {tuple(contrast.shape)}: expected [{len(sizes)}, {form.n_contrasts}], one per region"
        )
    return spread_sizes(sizes, form.sizes, spread)


def _mean_square(
    form: Shape,
    across: torch.Tensor,
    along: torch.Tensor,
    solid_angle: torch.Tensor,
    sizes: torch.Tensor,
    weights: torch.Tensor,
    contrast: torch.Tensor,
) -> torch.Tensor:
    """Average ``|A|^2`` in nm^2, [sample, n_q], for q across (squared) and along the axis [sample, n_q, view].

    A piece holds some samples or, where the curve of one sample is too large, some of its q.
    """
    n_q, most = across.shape[1], at_once("SAXS", sizes.device) // (len(solid_angle) * weights.shape[1])
    n_points = max(1, min(n_q, most))

    def mean_square(across: torch.Tensor, along: torch.Tensor, *bodies: torch.Tensor) -> torch.Tensor:
        sizes, weights, contrast = (t[:, None] for t in bodies)
        every = [t[..., None] for t in sizes.unbind(3)]
        contrasts = [t[..., None, None] for t in contrast.unbind(2)]
        amplitude = form.amplitude(across[:, :, None], along[:, :, None], every, contrasts)  # [sample, q, node, view]
        return (amplitude**2 @ solid_angle * weights).sum(2)

    fields = (t.split(max(1, most // n_points)) for t in (across, along, sizes, weights, contrast))
    means = []
    for across, along, *bodies in zip(*fields):
        waves = zip(across.split(n_points, 1), along.split(n_points, 1))
        means.append(torch.cat([mean_square(*wave, *bodies) for wave in waves], 1))
    return torch.cat(means)


def _absolute(
    form: Shape,
    mean_square: torch.Tensor,
    sizes: torch.Tensor,
    weights: torch.Tensor,
    scale: torch.Tensor | float,
    background: torch.Tensor | float,
) -> torch.Tensor:
    """Return the intensities [sample, n_q] in cm^-1."""
    volume = (weights * form.volume(*sizes.unbind(2))).sum(1)
    scale, background = (per_sample(t, volume) for t in (scale, background))
    return (_PER_CM * scale / volume)[:, None] * mean_square + background[:, None]
