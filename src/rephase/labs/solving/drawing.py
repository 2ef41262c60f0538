"""Pictures of a solution and its model from tables: R1 by resolution, Wilson plot, residuals, trials."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from scipy.special import ndtri

from rephase.plots import ONE_COLUMN, STYLE, resolution_axis

_BLUE, _RED, _GREY = "#0072B2", "#D55E00", "0.4"
_SIZE = (ONE_COLUMN * 1.25, 2.5)
_MARGINS = {"left": 0.15, "right": 0.86, "bottom": 0.16, "top": 0.96}  # faster than a layout fitted to the texts
_MOST_POINTS = 4000  # of a scatter of reflections


def _axes() -> tuple[Figure, Axes]:
    return plt.subplots(figsize=_SIZE, layout="none", gridspec_kw=_MARGINS)


def draw_r1(shells: pd.DataFrame, r1: float) -> Figure:
    """Draw R1 in resolution shells, with the number of observed reflections as bars; see `r1_by_resolution`."""
    with plt.style.context(STYLE):
        figure, ax = _axes()
        low, high = shells["d_max"] ** -2.0, shells["d_min"] ** -2.0
        count = ax.twinx()
        count.bar(low, shells["n_observed"], width=high - low, align="edge", color="0.88", edgecolor="white")
        count.set(ylabel="reflections with I > 2σ", ylim=(0, 2.2 * shells["n_observed"].max()))
        count.spines["right"].set_visible(True)
        ax.set(zorder=count.get_zorder() + 1, facecolor="none", ylabel="R1 (%)")
        ax.plot((low + high) / 2, 100 * shells["r1"], "-o", color=_BLUE, label="I > 2σ")
        ax.plot((low + high) / 2, 100 * shells["r1_all"], "--", color=_RED, label="all")
        ax.axhline(100 * r1, color=_GREY, linestyle=":", label=f"R1 = {100 * r1:.2f} %")
        ax.set_ylim(0, 1.25 * 100 * float(shells[["r1", "r1_all"]].max(axis=None)))
        ax.legend(loc="upper left", ncols=3)
        resolution_axis(ax, float(shells["d_min"].min()))
    return figure


def draw_wilson(table: pd.DataFrame, b_iso: float) -> Figure:
    """Draw ln(<I/ε>/Σf²) of shells against 1/d², with the fitted line; see `Wilson`."""
    with plt.style.context(STYLE):
        figure, ax = _axes()
        ax.plot(4 * table["s_squared"], table["log_ratio"], "o", color=_BLUE, label="shells", clip_on=False)
        ax.plot(4 * table["s_squared"], table["line"], "-", color=_RED, label=f"B = {b_iso:.2f} Å²")
        ax.set_ylabel("ln(⟨I/ε⟩ / Σf²)")
        ax.legend()
        resolution_axis(ax, float((4 * table["s_squared"].max()) ** -0.5))
    return figure


def draw_amplitudes(amplitude_obs: np.ndarray, amplitude_calc: np.ndarray) -> Figure:
    """Draw observed against calculated amplitudes [n_refl], both in electrons per cell."""
    with plt.style.context(STYLE):
        figure, ax = _axes()
        step = -(-len(amplitude_obs) // _MOST_POINTS)
        largest = float(max(amplitude_obs.max(), amplitude_calc.max()))
        ax.plot([0, largest], [0, largest], "-", color=_GREY, linewidth=0.8)
        ax.plot(amplitude_calc[::step], amplitude_obs[::step], ".", ms=2, color=_BLUE, rasterized=True)
        ax.set(xlabel="|F| calculated (e)", ylabel="|F| observed (e)", xlim=(0, None), ylim=(0, None))
    return figure


def draw_residuals(residuals: np.ndarray) -> Figure:
    """Draw the quantiles of weighted residuals [n_refl] against those of a normal distribution."""
    with plt.style.context(STYLE):
        figure, ax = _axes()
        n = len(residuals)
        ranked, step = np.sort(residuals), -(-n // _MOST_POINTS)
        expected = ndtri((np.arange(n) + 0.5) / n)
        ax.plot(expected[[0, -1]], expected[[0, -1]], "-", color=_GREY, linewidth=0.8)
        ax.plot(expected[::step], ranked[::step], ".", ms=2.5, color=_BLUE, rasterized=True)
        ax.set(xlabel="expected for normal errors", ylabel="√w (Fo² − Fc²)")
    return figure


def draw_trials(misfit: np.ndarray, agrees: np.ndarray) -> Figure:
    """Draw the misfits [n] of the trials that were kept, the best first, and which reached the best one's solution."""
    with plt.style.context(STYLE):
        figure, ax = _axes()
        order = np.argsort(misfit, kind="stable")
        place, value, agreeing = np.arange(1, len(misfit) + 1), misfit[order], agrees[order]
        for chosen, tint, marker, name in (
            (agreeing, _BLUE, "o", "same solution as the best"),
            (~agreeing, _RED, "x", "another map"),
        ):
            ax.plot(place[chosen], value[chosen], marker, color=tint, label=f"{name} ({chosen.sum()})")
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
        ax.set(xlabel="trial, by misfit", ylabel="misfit R", ylim=(0, 1.3 * float(value.max())))
        ax.legend(loc="upper left")
    return figure
