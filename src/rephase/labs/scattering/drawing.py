"""Figures of posteriors: their calibration, samples by several methods, and the patterns that the samples predict."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator
from scipy.ndimage import gaussian_filter

from rephase.inference.calibration import LEVELS, coverage, ecdf_band, ecdf_difference
from rephase.plots import ONE_COLUMN, TWO_COLUMNS, colour, label

_TINTS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_GREY, _RIGHT = "0.85", "calibrated, 95 %"
_N_BINS, _SMOOTHED = 28, 1.3  # bins of draws, and standard deviation of the smoothing of contours, in bins
_SHARES = (0.9, 0.5)  # fractions of draws within contours
_MANY = 6  # parameters from which labels are smaller and fewer


def draw_ranks(ax: Axes, ranks: torch.Tensor, names: Sequence[str]) -> None:
    """Draw the fraction of ranks [n_patterns, n_parameters] below each rank minus the rank, and its band if uniform.

    The whole curve of uniform ranks stays within the band with a probability of 95 % for each parameter.
    """
    band = ecdf_band(len(ranks))
    ax.fill_between(band.points, band.low, band.high, color=_GREY, linewidth=0, label=_RIGHT)
    for curve, name, style in zip(ecdf_difference(ranks), names, _styles(len(names)), strict=True):
        ax.plot(band.points, curve, label=name, **style)
    ax.axhline(0, color="0.5", linewidth=0.6)
    ax.set(xlabel="rank of the truth", ylabel="fraction below − rank", xlim=(0, 1))
    ax.legend()


def draw_coverage(ax: Axes, ranks: torch.Tensor, names: Sequence[str]) -> None:
    """Draw the coverage of central intervals against their level, for ranks [n_patterns, n_parameters].

    The band is two standard deviations of the coverage of a calibrated posterior.
    """
    levels, n = np.linspace(0, 1, 101), len(ranks)
    error = 2 * np.sqrt(levels * (1 - levels) / n)
    ax.fill_between(levels, levels - error, levels + error, color=_GREY, linewidth=0, label=_RIGHT)
    for shares, name, style in zip(coverage(ranks, LEVELS).T, names, _styles(len(names)), strict=True):
        ax.plot(LEVELS, shares, marker="o", label=name, **style)
    ax.set(xlabel="level of the interval", ylabel="coverage", xlim=(0, 1), ylim=(0, 1), aspect="equal")
    ax.legend()


def draw_tarp(ax: Axes, ranks: Mapping[str, torch.Tensor]) -> None:
    """Draw the expected coverage by TARP of several methods, from the ``tarp_ranks`` [n_patterns] of each."""
    (n,) = {len(each) for each in ranks.values()}
    band = ecdf_band(n)
    low, high = band.points + band.low, band.points + band.high
    ax.fill_between(band.points, low, high, color=_GREY, linewidth=0, label=_RIGHT)
    for method, tint in zip(ranks, tints_of(ranks)):
        ax.plot(band.points, ecdf_difference(ranks[method][:, None])[0] + band.points, color=tint, label=label(method))
    ax.set(xlabel="credibility level", ylabel="expected coverage", xlim=(0, 1), ylim=(0, 1), aspect="equal")
    ax.legend()


def calibration(ranks: torch.Tensor, tarp: Mapping[str, torch.Tensor], names: Sequence[str]) -> Figure:
    """Ranks [n_patterns, n_parameters] and coverage of each parameter, and expected coverage of all by TARP."""
    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(TWO_COLUMNS, 2.6), layout="constrained")
    draw_ranks(left, ranks, names)
    draw_coverage(middle, ranks, names)
    draw_tarp(right, tarp)
    left.get_legend().remove(), middle.get_legend().remove()
    right.legend(handles=list(right.lines), loc="lower right")
    n_columns = -(-(len(names) + 1) // (1 if len(names) < _MANY else 2))
    figure.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=n_columns)
    return figure


def corner(
    samples: Mapping[str, np.ndarray],
    names: Sequence[str],
    units: Sequence[str],
    truth: np.ndarray | None = None,
) -> Figure:
    """Posterior of one pattern by several methods: each parameter, and contours of each pair around 50 and 90 %.

    Parameters
    ----------
    samples
        Samples by method, [n_draws, n_parameters].
    names, units
        Names and units of the parameters; an empty unit means none.
    truth
        True parameters [n_parameters], if known.
    """
    n, tints = len(names), tints_of(samples)
    figure, axes = plt.subplots(
        n, n, figsize=(min(TWO_COLUMNS, 1.7 * n), min(TWO_COLUMNS, 1.6 * n)), squeeze=False, layout="constrained"
    )
    named = [f"{name}\n({unit})".replace("^2", "²") if unit else name for name, unit in zip(names, units, strict=True)]
    edges = [_edges(np.concatenate([drawn[:, i] for drawn in samples.values()]), truth, i) for i in range(n)]
    for row, across in enumerate(axes):
        for column, ax in enumerate(across):
            _draw_cell(ax, list(zip(samples.values(), tints)), edges, row, column)
            ax.set_xlim(edges[column][0], edges[column][-1])
            if row > column:
                ax.set_ylim(edges[row][0], edges[row][-1])
            _mark_truth(ax, truth, row, column)
            _name_axes(ax, named, row, column)
    figure.align_labels()
    handles = [Line2D([], [], color=tint, label=label(method)) for method, tint in zip(samples, tints)]
    if truth is not None:
        handles.append(Line2D([], [], color="black", linestyle="--", linewidth=0.8, label="truth"))
    figure.legend(handles=handles, loc="upper right", bbox_to_anchor=(0.98, 0.98))
    return figure


def predicted_curve(
    x: np.ndarray, counts: np.ndarray, mask: np.ndarray, expected: Mapping[str, np.ndarray], *, x_label: str
) -> Figure:
    """A measured curve, the predictions of its posterior draws, and the residuals.

    Parameters
    ----------
    x, counts, mask
        Coordinates, measured counts and mask, [pixel]; True = measured.
    expected
        Expected counts of the draws of each method, [n_draws, pixel].
    x_label
        Label of the axis, with its unit.
    """
    figure, (above, below) = plt.subplots(2, 1, figsize=(ONE_COLUMN * 1.3, 3.4), sharex=True, height_ratios=(3, 1.2))
    shown = np.where(mask & (counts > 0), counts, np.nan)
    above.plot(x, shown, ".", color="0.4", markersize=3, label="measured")
    for (method, drawn), tint in zip(expected.items(), tints_of(expected)):
        mean = drawn.mean(0)
        above.plot(x, mean, color=tint, label=label(method))
        above.fill_between(x, *_band(drawn), color=tint, alpha=0.3, linewidth=0)
        below.plot(x, np.where(mask, (counts - mean) / np.sqrt(mean), np.nan), ".", color=tint, markersize=3)
    below.axhspan(-2, 2, color="0.95", zorder=0)
    _shade_hidden((above, below), x, mask)
    above.set(xscale="log", yscale="log", ylabel="counts")
    below.set(xlabel=x_label, ylabel="residual / √mean")
    above.legend()
    return figure


def tints_of(methods: Iterable[str]) -> list[str]:
    """Choose distinct colours of methods: their own colour if defined, else the next free one of the cycle."""
    own = [colour(method) for method in methods]
    free = (tint for tint in _TINTS if tint not in own)
    return [next(free) if tint == "black" else tint for tint in own]


def _styles(n: int) -> list[dict[str, Any]]:
    """Choose the colour of each line; when colours repeat, lines are dashed."""
    return [{"color": _TINTS[i % len(_TINTS)], "linestyle": "--" if i >= len(_TINTS) else "-"} for i in range(n)]


def _edges(values: np.ndarray, truth: np.ndarray | None, parameter: int) -> np.ndarray:
    """Choose edges of bins that cover nearly all draws, and the truth."""
    low, high = np.quantile(values, (0.001, 0.999))
    if truth is not None:
        low, high = min(low, truth[parameter]), max(high, truth[parameter])
    margin = 0.1 * (high - low) or 0.5
    return np.linspace(low - margin, high + margin, _N_BINS + 1)


def _draw_cell(ax: Axes, drawn: list[tuple[np.ndarray, str]], edges: list[np.ndarray], row: int, column: int) -> None:
    """Draw a parameter on the diagonal, or a pair below it."""
    if column > row:
        ax.axis("off")
    for samples, tint in drawn if column <= row else []:
        if row == column:
            ax.stairs(np.histogram(samples[:, row], edges[row], density=True)[0], edges[row], color=tint)
        else:
            _draw_contours(ax, samples[:, column], samples[:, row], edges[column], edges[row], tint)


def _draw_contours(ax: Axes, x: np.ndarray, y: np.ndarray, x_edges: np.ndarray, y_edges: np.ndarray, tint: str) -> None:
    """Draw contours that contain given fractions of the draws, from a smoothed histogram."""
    density = gaussian_filter(np.histogram2d(x, y, (x_edges, y_edges))[0], _SMOOTHED, mode="constant")
    falling = np.sort(density.ravel())[::-1]
    levels = [falling[np.searchsorted(falling.cumsum(), share * falling.sum())] for share in _SHARES]
    centres = [(edges[1:] + edges[:-1]) / 2 for edges in (x_edges, y_edges)]
    ax.contour(*centres, density.T, levels, colors=tint, linewidths=(0.8, 1.2))


def _mark_truth(ax: Axes, truth: np.ndarray | None, row: int, column: int) -> None:
    if truth is None or column > row:
        return
    ax.axvline(truth[column], color="black", linestyle="--", linewidth=0.8)
    if row != column:
        ax.axhline(truth[row], color="black", linestyle="--", linewidth=0.8)


def _name_axes(ax: Axes, names: Sequence[str], row: int, column: int) -> None:
    """Label the outer axes only; for many parameters with small, slanted and fewer labels."""
    is_many = len(names) >= _MANY
    ax.tick_params(labelbottom=row == len(names) - 1, labelleft=row != column and column == 0)
    ax.tick_params(labelsize=5 if is_many else 7)
    ax.tick_params("x", labelrotation=45 if is_many else 0)
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_locator(MaxNLocator(2 if is_many else 3))
        axis.set_major_formatter("{x:g}")
    if row == column:
        ax.set(yticks=[])
    if row == len(names) - 1:
        ax.set_xlabel(names[column], fontsize=7)
    if column == 0 and row:
        ax.set_ylabel(names[row], fontsize=7)


def _band(drawn: np.ndarray) -> np.ndarray:
    """Return the range [2, pixel] of the central 90 % of the draws, [n_draws, pixel]."""
    return np.quantile(drawn, (0.05, 0.95), axis=0)


def _shade_hidden(axes: Sequence[Axes], x: np.ndarray, mask: np.ndarray) -> None:
    """Shade the unmeasured ranges."""
    for ax in axes:
        ax.fill_between(x, 0, 1, where=~mask, transform=ax.get_xaxis_transform(), color="0.9", linewidth=0, zorder=0)
