"""Figures of posteriors that the notebooks of a run show, for any kind of experiment with parameters."""

from collections.abc import Mapping
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.image import AxesImage

from rephase.labs.scattering.drawing import calibration, corner, predicted_curve, tints_of
from rephase.labs.scattering.flow import flow_name, section_of
from rephase.plots import TWO_COLUMNS, draw_loss_curves, draw_words, plain
from rephase.runs import Run

_SHOWN = {"Markov chains": "Markov chains", "nsf": "flow"}  # methods and their names in figures


_SCORES = {
    "c2st": ("C2ST against Markov chains", 0.5),
    "coverage_90": ("coverage of 90 %", 0.9),
    "deviance": ("deviance / points", 1.0),
}


def posterior_loss_curves(run: Run, kind: str) -> Figure:
    """Training and validation loss of every flow of a kind."""
    if not section_of(run.config, kind).models:
        return draw_words("weights are given: nothing was trained")
    return draw_loss_curves(run.tables(f"posterior_curve_{kind}"), "nll, nats/parameter")


def posterior_calibration(run: Run, kind: str) -> Figure:
    """Ranks and coverage of each parameter, and expected coverage of all parameters by TARP, for the run's flow."""
    name = flow_name(section_of(run.config, kind))
    arrays = run.arrays(f"calibration_{kind}_{name}")
    return calibration(
        torch.as_tensor(arrays["ranks"]), {"nsf": torch.as_tensor(arrays["tarp"])}, [*map(_words, arrays["names"])]
    )


def posterior_corner(run: Run, kind: str) -> Figure:
    """Samples of the flow and of MCMC for the pattern of the run."""
    arrays = run.arrays(f"posterior_{kind}")
    samples = {name: arrays["samples"][[*arrays["methods"]].index(method)] for name, method in _SHOWN.items()}
    truth = arrays["truth"] if np.isfinite(arrays["truth"]).all() else None
    return corner(samples, [*map(_words, arrays["names"])], [*map(str, arrays["units"])], truth)


def posterior_prediction(run: Run, kind: str) -> Figure:
    """The curve of the run and the predictions from samples of the flow and of MCMC."""
    arrays = run.arrays(f"posterior_{kind}")
    expected = {name: arrays["expected"][[*arrays["methods"]].index(method)] for name, method in _SHOWN.items()}
    (axis,) = arrays["axes"]
    return predicted_curve(arrays["axis_0"], arrays["counts"], arrays["mask"], expected, x_label=str(axis))


def posterior_losses(run: Run, kind: str) -> Figure:
    """Scores of each way of training in each case of the experiment; dashed: scores of the exact posterior."""
    table = run.table(f"posterior_losses_{kind}")
    cases, methods = table["case"].unique(), table["method"].unique()
    figure, axes = plt.subplots(1, len(_SCORES), figsize=(TWO_COLUMNS, 2.8))
    for ax, (score, (title, right)) in zip(axes, _SCORES.items()):
        ax.axhline(right, linestyle="--", color="0.6", linewidth=0.8)
        for number, (method, tint) in enumerate(zip(methods, tints_of(methods))):
            shift = (number - (len(methods) - 1) / 2) * 0.13
            _draw_method(ax, table[table["method"] == method], score, shift, tint, str(method))
        ax.set_xticks(range(len(cases)), cases, rotation=30, ha="right", fontsize=7)
        ax.set(title=title, yscale="log" if score == "deviance" else "linear")
    axes[0].set(ylim=(0.45, 1.03))
    axes[1].set(ylim=(-0.03, 1.03))
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return figure


def _draw_method(ax: Axes, part: pd.DataFrame, score: str, shift: float, tint: str, name: str) -> None:
    ax.plot(np.arange(len(part)) + shift, part[score], "o", color=tint, markersize=4, label=name)


def _words(name: object) -> str:
    return plain(name).replace("_", " ")


_FEWEST = 0.3  # counts at the dark end of the colour scale


_SIGMAS = 4.0


_HIDDEN = "0.75"


def pattern_prediction(run: Run, kind: str) -> Figure:
    """The pattern of the run, the mean prediction of the flow's posterior and the residual; curves for a cut."""
    arrays = run.arrays(f"posterior_{kind}")
    axes = {str(name): arrays[f"axis_{number}"] for number, name in enumerate(arrays["axes"])}
    if len(axes) == 1:
        return posterior_prediction(run, kind)
    return predicted_image(arrays["counts"], arrays["mask"], arrays["expected"][0], axes)


def predicted_image(
    counts: np.ndarray, mask: np.ndarray, expected: np.ndarray, axes: Mapping[str, np.ndarray]
) -> Figure:
    """A measured image, the mean prediction of its posterior draws, and the residual over the root of that mean.

    Parameters
    ----------
    counts, mask
        Measured counts and mask, [row, column]; True = measured.
    expected
        Expected counts of the draws, [n_draws, row, column].
    axes
        Coordinates of rows and of columns by axis label; evenly spaced.
    """
    mean = expected.mean(0)
    figure, places = plt.subplots(1, 3, figsize=(TWO_COLUMNS, 2.4), sharex=True, sharey=True, layout="constrained")
    (up, rows), (across, columns) = axes.items()
    extent = (*_edges(columns), *_edges(rows))
    levels = LogNorm(_FEWEST, max(counts.max(), 10 * _FEWEST))
    for ax, title, values in zip(places, ("measured", "expected"), (counts, mean)):
        drawn = _draw(ax, title, np.where(mask, np.maximum(values, _FEWEST), np.nan), extent, norm=levels)
    figure.colorbar(drawn, ax=places[1], extend="min").ax.set_title("counts")
    sigmas = np.where(mask, (counts - mean) / np.sqrt(mean), np.nan)
    drawn = _draw(places[2], "residual / √mean", sigmas, extent, cmap="RdBu_r", norm=Normalize(-_SIGMAS, _SIGMAS))
    figure.colorbar(drawn, ax=places[2], extend="both")
    places[0].set_ylabel(up)
    places[1].set_xlabel(across)
    return figure


def _draw(
    ax: Axes, title: str, values: np.ndarray, extent: tuple[float, float, float, float], **options: Any
) -> AxesImage:
    """Draw an image with rows upwards; NaN is grey."""
    ax.set(title=title, facecolor=_HIDDEN)
    return ax.imshow(values, origin="lower", aspect="auto", extent=extent, interpolation="nearest", **options)


def _edges(centres: np.ndarray) -> tuple[float, float]:
    half = (centres[1] - centres[0]) / 2
    return centres[0] - half, centres[-1] + half
