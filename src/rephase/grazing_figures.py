"""Figures of patterns with two axes: what was measured, what draws of a posterior expect, what is left over."""

from collections.abc import Mapping
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.image import AxesImage

from rephase.plots import TWO_COLUMNS
from rephase.posterior_run_figures import posterior_prediction
from rephase.runs import Run

_FEWEST = 0.3  # counts that the darkest colour stands for
_SIGMAS = 4.0
_HIDDEN = "0.75"


def pattern_prediction(run: Run, kind: str) -> Figure:
    """The pattern of the run, what the flow's posterior expects and the residual; curves where it is a cut."""
    arrays = run.arrays(f"posterior_{kind}")
    axes = {str(name): arrays[f"axis_{number}"] for number, name in enumerate(arrays["axes"])}
    if len(axes) == 1:
        return posterior_prediction(run, kind)
    return predicted_image(arrays["counts"], arrays["mask"], arrays["expected"][0], axes)


def predicted_image(
    counts: np.ndarray, mask: np.ndarray, expected: np.ndarray, axes: Mapping[str, np.ndarray]
) -> Figure:
    """A measured image, the mean of what draws of its posterior expect, and the residual over the root of that mean.

    Parameters
    ----------
    counts, mask
        [row, column]; the second True = measured.
    expected
        Counts expected of the draws, [n_draws, row, column].
    axes
        Places of rows and of columns by what is written beside them; evenly spaced.
    """
    mean = expected.mean(0)
    figure, places = plt.subplots(
        1, 3, figsize=(TWO_COLUMNS, 2.4), sharex=True, sharey=True, layout="constrained"
    )  # fmt: skip
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
    """Draw an image with rows upwards; what is not a number is grey."""
    ax.set(title=title, facecolor=_HIDDEN)
    return ax.imshow(values, origin="lower", aspect="auto", extent=extent, interpolation="nearest", **options)


def _edges(centres: np.ndarray) -> tuple[float, float]:
    half = (centres[1] - centres[0]) / 2
    return centres[0] - half, centres[-1] + half
