"""Small-angle scattering of dilute particles: curves averaged over orientations, oriented patterns, smearing.

Particles of one shape, far apart, in a solvent::

    I(q) = scale 1e7 <|A(q)|^2> / <V> + background,   A(q) = integral of contrast exp(-i q.r) dr

Lengths in nm and q in nm^-1 (``q [1/Å] * PER_ANGSTROM``); the contrast, the difference of scattering length densities,
in nm^-2 (1e-6 Å^-2 are 1e-4 nm^-2); I in cm^-1 where the scale is the volume fraction. All shapes have one axis of
revolution, and are what sasmodels calls by the same names.

Guinier & Fournet, Small-Angle Scattering of X-Rays (1955); Pedersen (1997), doi:10.1016/S0001-8686(97)00312-6.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch

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
_TAILS = (-2.5, 3.0)  # where a Gaussian resolution is cut, in standard deviations, as in sasmodels

Sizes = list[torch.Tensor]
Amplitude = Callable[[torch.Tensor, torch.Tensor, Sizes, Sizes], torch.Tensor]


class Shape(NamedTuple):
    """A body of revolution.

    ``amplitude(square of q across the axis, q along it, sizes, contrasts)`` is A in nm, ``volume(sizes)`` in nm^3, and
    ``reach(sizes)`` the longest distance in nm of a point from the middle. ``n_contrasts`` counts its regions.
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
    """Scattering curves of particles in all orientations.

    A batch needs memory for sample x n_q x view x node numbers: some 70 views at q times the longest half axis of 100
    where the shape is not round, and the nodes of the spread.

    Parameters
    ----------
    shape
        One of `SHAPES`, which name their sizes.
    q
        [n_q] nm^-1, above 0.
    sizes
        [sample, size] nm, above 0.
    contrast
        [sample, region] nm^-2: of the particle against the solvent; of core and shell for a core-shell sphere.
    scale
        Volume fraction: a number, or [sample].
    background
        cm^-1: a number, or [sample].
    spread
        How one of the sizes varies. The width is [sample] or a number.

    Returns
    -------
    torch.Tensor
        Intensity [sample, n_q] in cm^-1, of the dtype and on the device of `sizes`.

    Raises
    ------
    OpticsError
        An unknown shape or size, sizes or contrasts of another number, sizes or q that are not above 0.

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
    q = q[:, None]
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
    """Patterns of particles that all point the same way, under a beam along z.

    Parameters
    ----------
    shape, sizes, contrast, scale, background, spread
        As in `curve`.
    q_x, q_y
        nm^-1 of the same shape, e.g. [row, column].
    theta_deg
        Angle between the axis of revolution and the beam: degrees, a number or [sample].
    phi_deg
        Angle of the projected axis from x towards y: degrees, a number or [sample].

    Returns
    -------
    torch.Tensor
        Intensity [sample, ...] in cm^-1, of the shape of `q_x`.

    Raises
    ------
    OpticsError
        As `curve`, or `q_x` and `q_y` of different shapes.
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
    """Curves as an instrument of finite resolution sees them: the mean of I over a Gaussian around each q.

    The Gaussian is cut at -2.5 and +3 standard deviations; what lies at q < 0 counts as |q|.

    Parameters
    ----------
    model
        From q [m] in nm^-1 to intensities [sample, m], e.g. a `curve` with all else given.
    q
        [n_q] nm^-1, above 0.
    dq
        [n_q] nm^-1, standard deviations; 0: none.
    n_nodes
        At how many q the model is asked for each point.

    Returns
    -------
    torch.Tensor
        [sample, n_q].

    Raises
    ------
    OpticsError
        q not above 0, or dq negative or of another shape.
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
        ("radius", "thickness"), _core_shell, lambda radius, thickness: _ball_volume(radius + thickness),
        lambda radius, thickness: radius + thickness, n_contrasts=2, is_round=True,
    ),
    "ellipsoid": Shape(
        ("radius_polar", "radius_equatorial"), _ellipsoid,
        lambda polar, equatorial: 4 / 3 * math.pi * polar * equatorial**2, torch.maximum,
    ),
    "cylinder": Shape(
        ("radius", "length"), _cylinder, lambda radius, length: math.pi * radius**2 * length,
        lambda radius, length: torch.hypot(radius, length / 2),
    ),
}  # fmt: skip
"""Shapes by name."""


def _shape(name: str) -> Shape:
    if name not in SHAPES:
        raise OpticsError(f"shape {name!r}: {nearest_name(name, SHAPES)}")
    return SHAPES[name]


def _check_q(q: torch.Tensor) -> None:
    if q.ndim != 1 or not len(q) or not (torch.isfinite(q) & (q > 0)).all():
        raise OpticsError(
            f"q has shape {tuple(q.shape)}: expected [n_q] finite values above 0 in 1/nm; leave q = 0 out"
        )


def _bodies(
    form: Shape, sizes: torch.Tensor, contrast: torch.Tensor, spread: Spread | None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Checked sizes [sample, node, size] and their weights [sample, node]."""
    check_sizes(sizes, form.sizes)
    if contrast.shape != (len(sizes), form.n_contrasts):
        raise OpticsError(
            f"contrast has shape {tuple(contrast.shape)}: expected [{len(sizes)}, {form.n_contrasts}], one each region"
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
    """``<|A|^2>`` in nm^2, [sample, n_q], of q across (squared) and along the axis, both [n_q or sample, n_q, view]."""
    every = [t[:, None, None] for t in sizes.unbind(2)]
    amplitude = form.amplitude(across[..., None], along[..., None], every, [t[:, None, None, None] for t in contrast.T])
    return torch.einsum("sqvn,v,sn->sq", amplitude**2, solid_angle, weights)


def _absolute(
    form: Shape,
    mean_square: torch.Tensor,
    sizes: torch.Tensor,
    weights: torch.Tensor,
    scale: torch.Tensor | float,
    background: torch.Tensor | float,
) -> torch.Tensor:
    """Intensities [sample, n_q] in cm^-1."""
    volume = (weights * form.volume(*sizes.unbind(2))).sum(1)
    scale, background = (per_sample(t, volume) for t in (scale, background))
    return (_PER_CM * scale / volume)[:, None] * mean_square + background[:, None]
