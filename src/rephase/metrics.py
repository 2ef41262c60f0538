"""Scores of predicted structure factors: pure functions of a `Comparison`, and the table `METRICS`."""

from collections.abc import Callable
from typing import Generic, Literal, NamedTuple, TypeVar

import torch
import torch.nn.functional as nn_functional

from rephase.crystal.density import density_from_F
from rephase.crystal.phases import align, align_hand, friedel_mate, unit_phasor
from rephase.losses import phase_misfit

_SSIM_WINDOW = 7  # voxels, the usual uniform window
_SSIM_C1, _SSIM_C2 = 0.01**2, 0.03**2  # Wang et al. 2004, doi:10.1109/TIP.2003.819861


class Comparison(NamedTuple):
    """Predicted and true structure factors, aligned once for every metric.

    ``F_pred`` as predicted; ``F_hand`` in the closer hand; ``F_aligned`` in the best origin and hand; ``F_map``
    likewise, with |F|^2 as weight, which is best for the map; ``F_true``: all complex [batch, h, k, l]. ``scored`` is
    True where a phase counts; the densities of F_map and F_true are maps [batch, x, y, z] in e/Å^3.
    """

    F_pred: torch.Tensor
    F_hand: torch.Tensor
    F_aligned: torch.Tensor
    F_map: torch.Tensor
    F_true: torch.Tensor
    scored: torch.Tensor
    density_pred: torch.Tensor
    density_true: torch.Tensor


def compare(F_pred: torch.Tensor, F_true: torch.Tensor, scored: torch.Tensor, volume: torch.Tensor) -> Comparison:
    """Align a prediction over origin and hand and transform both to maps on twice the grid.

    The maps hold the scored reflections, without F(000). Unchanged by any origin shift or inversion of `F_pred`.
    """
    F_map = align(F_pred, F_true, scored * F_true.abs() ** 2).F
    fine = tuple(2 * n for n in F_true.shape[-3:])
    maps = [density_from_F(F * scored, volume[:, None, None, None], fine) for F in (F_map, F_true)]
    hand, aligned = align_hand(F_pred, F_true, scored), align(F_pred, F_true, scored).F
    return Comparison(F_pred, hand, aligned, F_map, F_true, scored, *maps)


def _mean(values: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    return (values * weight).sum((1, 2, 3)) / weight.sum((1, 2, 3))


def _total_misfit(F: torch.Tensor, c: Comparison) -> torch.Tensor:
    return (phase_misfit(F, c.F_true) * c.scored).sum((1, 2, 3))


def phase_loss_naive(c: Comparison) -> torch.Tensor:
    """Sum of 1 - cos Δφ as predicted: the figure of the reference work."""
    return _total_misfit(c.F_pred, c)


def phase_loss_hand(c: Comparison) -> torch.Tensor:
    """Sum of 1 - cos Δφ against the closer hand, the origin as predicted."""
    return _total_misfit(c.F_hand, c)


def phase_loss_aligned(c: Comparison) -> torch.Tensor:
    """Sum of 1 - cos Δφ, best over origin and hand."""
    return _total_misfit(c.F_aligned, c)


def phase_loss_per_reflection(c: Comparison) -> torch.Tensor:
    """Mean of 1 - cos Δφ, best over origin and hand."""
    return _mean(phase_misfit(c.F_aligned, c.F_true), c.scored)


def phase_error(F: torch.Tensor, F_true: torch.Tensor) -> torch.Tensor:
    """|Δφ| in degrees, [0, 180]."""
    return torch.rad2deg((unit_phasor(F) * unit_phasor(F_true).conj()).angle().abs())


def mean_phase_error(c: Comparison) -> torch.Tensor:
    """Mean |Δφ|, best over origin and hand; 90 for random phases before alignment."""
    return _mean(phase_error(c.F_aligned, c.F_true), c.scored)


def mean_phase_error_weighted(c: Comparison) -> torch.Tensor:
    """Mean |Δφ| weighted by the true amplitude, best over origin and hand for the map."""
    return _mean(phase_error(c.F_map, c.F_true), c.F_true.abs() * c.scored)


def mse(c: Comparison) -> torch.Tensor:
    """Mean |F_pred - F_true|^2 over mean |F_true|^2, aligned for the map: 0 perfect, 2 for random phases unaligned."""
    return _mean((c.F_map - c.F_true).abs() ** 2, c.scored) / _mean(c.F_true.abs() ** 2, c.scored)


def r_factor(c: Comparison) -> torch.Tensor:
    """R = sum ||F_true| - k|F_pred|| / sum |F_true|, k from least squares; 0 for a model that keeps the amplitudes.

    The smaller of the two hands, whose amplitudes differ by f''; an origin shift changes no amplitude.
    """
    true = c.F_true.abs() * c.scored
    return torch.minimum(*(_scaled_r(true, F.abs() * c.scored) for F in (c.F_pred, friedel_mate(c.F_pred))))


def _scaled_r(true: torch.Tensor, pred: torch.Tensor) -> torch.Tensor:
    scale = (true * pred).sum((1, 2, 3)) / (pred**2).sum((1, 2, 3)).clamp_min(torch.finfo(pred.dtype).tiny)
    return (true - scale[:, None, None, None] * pred).abs().sum((1, 2, 3)) / true.sum((1, 2, 3))


def map_cc(c: Comparison) -> torch.Tensor:
    """Pearson correlation of the two maps over the cell, F(000) excluded."""
    pred, true = (m - m.mean((1, 2, 3), keepdim=True) for m in (c.density_pred, c.density_true))
    norm = (pred**2).sum((1, 2, 3)).sqrt() * (true**2).sum((1, 2, 3)).sqrt()
    return (pred * true).sum((1, 2, 3)) / norm.clamp_min(torch.finfo(norm.dtype).tiny)


def ssim(c: Comparison) -> torch.Tensor:
    """Structural similarity of the two maps: uniform window, periodic as the cell is, range that of the true map."""
    return map_similarity(c.density_pred, c.density_true)


def map_similarity(pred: torch.Tensor, true: torch.Tensor) -> torch.Tensor:
    """Structural similarity [batch] of periodic maps [batch, x, y, z], in the range of the true one."""
    low = true.amin((1, 2, 3), keepdim=True)
    extent = true.amax((1, 2, 3), keepdim=True) - low
    return structural_similarity((pred - low) / extent, (true - low) / extent)


def structural_similarity(x: torch.Tensor, y: torch.Tensor, *, periodic: bool = True) -> torch.Tensor:
    """Mean structural similarity [batch] of arrays [batch, ...] of two or three axes: uniform window of 7.

    Values are to range over 1. Windows wrap around where the arrays are periodic, else only those count that lie
    inside.
    """
    means = (_window_mean(m, periodic=periodic) for m in (x, y, x * x, y * y, x * y))
    mean_x, mean_y, mean_xx, mean_yy, mean_xy = means
    in_window = _SSIM_WINDOW ** (x.ndim - 1)
    unbiased = in_window / (in_window - 1)
    var_x, var_y = unbiased * (mean_xx - mean_x**2), unbiased * (mean_yy - mean_y**2)
    covariance = unbiased * (mean_xy - mean_x * mean_y)
    luminance = (2 * mean_x * mean_y + _SSIM_C1) / (mean_x**2 + mean_y**2 + _SSIM_C1)
    structure = (2 * covariance + _SSIM_C2) / (var_x + var_y + _SSIM_C2)
    return (luminance * structure).flatten(1).mean(1)


def _window_mean(values: torch.Tensor, *, periodic: bool) -> torch.Tensor:
    half, n_axes = _SSIM_WINDOW // 2, values.ndim - 1
    pool = {2: nn_functional.avg_pool2d, 3: nn_functional.avg_pool3d}[n_axes]
    padded = nn_functional.pad(values[:, None], (half,) * 2 * n_axes, mode="circular") if periodic else values[:, None]
    for axis in range(n_axes):  # a uniform window separates
        window = [1] * n_axes
        window[axis] = _SSIM_WINDOW
        padded = pool(padded, window, stride=1)
    return padded[:, 0]


Judged = TypeVar("Judged")


class Metric(NamedTuple, Generic[Judged]):
    """Scores of what it judges, where nothing else is said of each sample, [batch]; its unit; which way is better."""

    function: Callable[[Judged], torch.Tensor]
    unit: str
    better: Literal["lower", "higher"]


METRICS: dict[str, Metric[Comparison]] = {
    "phase_loss_aligned": Metric(phase_loss_aligned, "", "lower"),
    "phase_loss_hand": Metric(phase_loss_hand, "", "lower"),
    "phase_loss_naive": Metric(phase_loss_naive, "", "lower"),
    "phase_loss_per_reflection": Metric(phase_loss_per_reflection, "", "lower"),
    "mean_phase_error": Metric(mean_phase_error, "deg", "lower"),
    "mean_phase_error_weighted": Metric(mean_phase_error_weighted, "deg", "lower"),
    "mse": Metric(mse, "", "lower"),
    "r_factor": Metric(r_factor, "", "lower"),
    "map_cc": Metric(map_cc, "", "higher"),
    "ssim": Metric(ssim, "", "higher"),
}
