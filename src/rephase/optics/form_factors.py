"""Fourier transforms of bodies of uniform density, and the quadratures that average over sizes.

Functions that are even in a dimensionless argument take its square, so that they also have a gradient at the origin.
All are differentiable and batched, and work on any device.
"""

import math
from functools import cache
from typing import NamedTuple

import numpy as np
import scipy.special
import torch

from rephase.errors import OpticsError

DISTRIBUTIONS = ("gaussian", "lognormal", "schulz")
"""Distributions of a size x with mean or median c and relative width w, in r = x/c: exp(-(r - 1)^2/(2 w^2));
exp(-ln^2 r/(2 w^2))/r; r^(z - 1) exp(-z r) with z = 1/w^2. They are the same as in sasmodels."""
_FEW = 0.25  # squared argument below which closed forms suffer from cancellation, and a series is used
_NEAR = 12.0  # argument up to which a polynomial replaces Hankel's series, which has eleven digits there
_HANKEL = [math.prod((4 - (2 * j - 1) ** 2) / (8 * j) for j in range(1, k + 1)) for k in range(16)]
_NARROWEST = 1e-3  # relative width below which a distribution has no width within the digits of its logarithm
N_NODES = {"gaussian": 35, "lognormal": 80, "schulz": 80}
"""Number of sizes that represent each distribution, unless a `Spread` gives another number."""
_N_SIGMAS = 3.0  # for the Gaussian, as in sasmodels
_TAIL = 3.5  # in widths of the logarithm: one size in four thousand lies farther out


class Spread(NamedTuple):
    """Distribution of one size of the bodies in a sample.

    Attributes
    ----------
    size
        Name of the size, e.g. ``radius``.
    kind
        One of `DISTRIBUTIONS`.
    width
        [batch] or a number: standard deviation relative to the size (of the logarithm for ``lognormal``), 0 to 1.
    n_sigmas
        Half the range of sizes, in widths; sizes are evenly spaced and above 0. With None, it is 3 for ``gaussian``;
        the sizes of the other distributions are evenly spaced in the logarithm, from 3.5 widths below the centre to 3.5
        above the size with the largest weight in the radius of gyration.
    n_nodes
        Number of sizes; None for that of `N_NODES`.
    """

    size: str
    kind: str
    width: torch.Tensor | float
    n_sigmas: float | None = None
    n_nodes: int | None = None


def phasor(angle: torch.Tensor) -> torch.Tensor:
    """exp(i angle), the phase factor of a real angle in rad."""
    return torch.polar(torch.ones_like(angle), angle)


def check_sizes(sizes: torch.Tensor, names: tuple[str, ...]) -> None:
    """Raise `OpticsError` unless there is a finite number above 0 for each name, [sample, name]."""
    if sizes.ndim != 2 or sizes.shape[1] != len(names):
        raise OpticsError(f"sizes have shape {tuple(sizes.shape)}: expected [sample, {len(names)}]: {', '.join(names)}")
    for name, values in zip(names, sizes.detach().T):
        if not (torch.isfinite(values) & (values > 0)).all():
            raise OpticsError(f"{name} has values that are not above 0: expected lengths in nm")


def per_sample(value: torch.Tensor | float, like: torch.Tensor) -> torch.Tensor:
    """Convert a number, or one per sample, to [sample] with the dtype and device of `like` [sample, ...]."""
    return torch.as_tensor(value, dtype=like.dtype, device=like.device).expand(len(like))


def spread_sizes(
    sizes: torch.Tensor, names: tuple[str, ...], spread: Spread | None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return sizes [batch, node, size] of the bodies of each sample, and their weights [batch, node], which add to 1.

    Raises
    ------
    OpticsError
        The size or distribution is unknown, or the width is outside 0 to 1.
    """
    if spread is None:
        return sizes[:, None], torch.ones_like(sizes[:, :1])
    if spread.size not in names:
        raise OpticsError(f"spread of {spread.size!r}: expected one of the sizes {', '.join(names)}")
    if spread.kind not in DISTRIBUTIONS:
        raise OpticsError(f"distribution {spread.kind!r}: expected one of {', '.join(DISTRIBUTIONS)}")
    n_nodes = N_NODES[spread.kind] if spread.n_nodes is None else spread.n_nodes
    if n_nodes < 2:
        raise OpticsError(f"n_nodes = {n_nodes}: expected at least 2 sizes")
    width = per_sample(spread.width, sizes)[:, None]
    if not ((width >= 0) & (width <= 1)).all():
        raise OpticsError("width of a spread: expected 0 to 1, the standard deviation relative to the size")
    if spread.n_sigmas is None and spread.kind != "gaussian":
        ratio, weights = _spaced_in_logarithm(spread.kind, width, n_nodes)
    else:
        n_sigmas = _N_SIGMAS if spread.n_sigmas is None else spread.n_sigmas
        ratio, weights = _evenly_spaced(spread.kind, width, n_sigmas, n_nodes)
    chosen = torch.tensor([name == spread.size for name in names], device=sizes.device)
    varied = sizes[:, None] * torch.where(chosen, ratio[..., None], 1.0)
    return varied, weights / weights.sum(1, keepdim=True)


def _evenly_spaced(kind: str, width: torch.Tensor, n_sigmas: float, n_nodes: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return ratios r and their weights [batch, node] around the centre; sizes not above 0 have no weight."""
    ratio = 1 + width * torch.linspace(-n_sigmas, n_sigmas, n_nodes, dtype=width.dtype, device=width.device)
    exists = ratio > 0
    ratio = torch.where(exists, ratio, 1.0)
    return ratio, torch.where(exists, _density(kind, ratio, width.clamp(min=_NARROWEST)), 0.0)


def _spaced_in_logarithm(kind: str, width: torch.Tensor, n_nodes: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return ratios r and their weights [batch, node], to the range that <r^8>/<r^6>, the radius of gyration, needs."""
    heaviest = 8 * width**2  # ln r at which r^8 times the density in ln r is largest
    if kind == "schulz":
        heaviest = heaviest.log1p()
    place = torch.linspace(0, 1, n_nodes, dtype=width.dtype, device=width.device)
    ratio = (-_TAIL * width + (heaviest + 2 * _TAIL * width) * place).exp()
    return ratio, ratio * _density(kind, ratio, width.clamp(min=_NARROWEST))


def _density(kind: str, ratio: torch.Tensor, width: torch.Tensor) -> torch.Tensor:
    """Return the density of a distribution at r = `ratio`, not normalised."""
    if kind == "gaussian":
        return torch.exp(-(((ratio - 1) / width) ** 2) / 2)
    if kind == "lognormal":
        return torch.exp(-((ratio.log() / width) ** 2) / 2) / ratio
    z = width**-2
    return torch.exp(z * (torch.log1p(ratio - 1) - (ratio - 1)) - ratio.log())


def gauss_legendre(n: int, like: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return nodes and weights [n] for the integral from 0 to 1, with the dtype and device of `like`."""
    nodes, weights = _leggauss(n)
    return torch.as_tensor((nodes + 1) / 2).to(like), torch.as_tensor(weights / 2).to(like)


_leggauss = cache(np.polynomial.legendre.leggauss)  # it takes as long as a curve


def n_nodes_of_wave(phase: float) -> int:
    """Return the number of Gauss-Legendre nodes that integrate a wave over a phase range `phase` to nine digits."""
    return 8 * math.ceil((0.25 * phase + 2 * phase ** (1 / 3) + 8) / 8)


def ball(x_squared: torch.Tensor) -> torch.Tensor:
    """Return the transform of a ball divided by its volume, ``3 (sin x - x cos x)/x^3`` of x = qR, from x^2; 1 at 0."""
    is_small = x_squared < _FEW
    small = torch.where(is_small, x_squared, 0.0)
    series = _polynomial([1, -1 / 10, 1 / 280, -1 / 15120, 1 / 1330560, -1 / 172972800], small)
    x = torch.where(is_small, 1.0, x_squared).sqrt()
    return torch.where(is_small, series, 3 * (x.sin() - x * x.cos()) / x**3)


def disc(x_squared: torch.Tensor) -> torch.Tensor:
    """Return the transform of a disc divided by its area, ``2 J_1(x)/x`` for x = qR, from x^2; 1 at 0.

    Torch's own ``bessel_j1`` has no gradient, and in float64 its error is up to 5e-7 between 5 and 20.
    """
    is_near = x_squared < _NEAR**2
    near = _polynomial(_near_coefficients(), torch.where(is_near, x_squared, 0.0) * (2 / _NEAR**2) - 1)
    return torch.where(is_near, near, _disc_far(torch.where(is_near, _NEAR**2, x_squared)))


@cache
def _near_coefficients() -> list[float]:
    """Return the coefficients of the polynomial in 2 (x/12)^2 - 1 equal to 2 J_1(x)/x at Chebyshev nodes up to 12."""
    nodes = np.polynomial.chebyshev.chebpts1(17)
    x = _NEAR * np.sqrt((nodes + 1) / 2)
    values = 2 * scipy.special.j1(x) / x
    return np.polynomial.chebyshev.cheb2poly(np.polynomial.chebyshev.chebfit(nodes, values, 16)).tolist()


def _disc_far(x_squared: torch.Tensor) -> torch.Tensor:
    """Evaluate ``2 J_1(x)/x`` by Hankel's asymptotic series of J_1: DLMF 10.17.3."""
    inverse = 1 / x_squared
    phase = x_squared.sqrt() - 0.75 * math.pi
    even, odd = (_polynomial(_HANKEL[start::2], -inverse) for start in (0, 1))
    root = inverse.sqrt()
    wave = phase.cos() * even - phase.sin() * odd * root
    return math.sqrt(8 / math.pi) * wave * root * root.sqrt()


def slab(x: torch.Tensor) -> torch.Tensor:
    """Return the transform of a slab divided by its thickness, ``sin x/x`` for x = qL/2; 1 at 0."""
    return torch.sinc(x / math.pi)


def _polynomial(coefficients: list[float], x: torch.Tensor) -> torch.Tensor:
    total = torch.full_like(x, coefficients[-1])
    for coefficient in reversed(coefficients[:-1]):
        total = total * x + coefficient
    return total
