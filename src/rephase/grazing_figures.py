"""Figures of patterns at grazing incidence: what was measured, what draws of the posterior expect, what is left over."""

from collections.abc import Mapping

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure

from rephase.plots import TWO_COLUMNS
from rephase.posterior_figures import predicted_curve
from rephase.runs import Run

_FEWEST = 0.3  # counts that the darkest colour stands for
_SIGMAS = 4.0
_HIDDEN = "0.75"


def gisaxs_pattern(run: Run) -> Figure:
    """The pattern that the run asked for and what the flow's posterior expects; curves by all methods for a cut."""
    arrays = run.arrays("posterior_gisaxs")
    axes = {str(name): arrays[f"axis_{number}"] for number, name in enumerate(arrays["axes"])}
    if len(axes) == 2:
        return predicted_image(arrays["counts"], arrays["mask"], arrays["expected"][0], axes)
    ((name, angle),) = axes.items()
    expected = {str(method): drawn for method, drawn in zip(arrays["methods"], arrays["expected"])}
    return predicted_curve(angle, arrays["counts"], arrays["mask"], expected, x_label=name)


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
    panels = {"measured": counts, "expected": mean, "residual / √mean": (counts - mean) / np.sqrt(mean)}
    figure, places = plt.subplots(
        1, 3, figsize=(TWO_COLUMNS, 2.4), sharex=True, sharey=True, layout="constrained"
    )  # fmt: skip
    levels = LogNorm(_FEWEST, max(counts.max(), 10 * _FEWEST))
    (up, rows), (across, columns) = axes.items()
    for ax, (title, values) in zip(places, panels.items()):
        is_residual = title not in ("measured", "expected")
        shown = np.where(mask, values if is_residual else np.maximum(values, _FEWEST), np.nan)
        drawn = ax.imshow(
            shown, origin="lower", aspect="auto", extent=(*_edges(columns), *_edges(rows)), interpolation="nearest",
            cmap="RdBu_r" if is_residual else "viridis", norm=Normalize(-_SIGMAS, _SIGMAS) if is_residual else levels,
        )  # fmt: skip
        ax.set(title=title, facecolor=_HIDDEN)
        if title != "measured":  # the first two share a scale
            figure.colorbar(drawn, ax=ax, extend="both" if is_residual else "min", label="" if is_residual else "counts")
    places[0].set_ylabel(up)
    places[1].set_xlabel(across)
    return figure


def _edges(centres: np.ndarray) -> tuple[float, float]:
    half = (centres[1] - centres[0]) / 2
    return centres[0] - half, centres[-1] + half
