"""Figure of notebook 24: images with the labels that they are given, and where the network sees them."""

from textwrap import wrap

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.image import AxesImage

from rephase.classifying_figures import draw_counts
from rephase.plots import TWO_COLUMNS, plain
from rephase.runs import Run

_IN_A_ROW, _LINE = 4, 26
_LEVELS, _TINTS = (0.3, 0.6, 0.9, 1.0), [to_rgba("#56B4E9", alpha) for alpha in (0.12, 0.24, 0.36)]


def classified_images(run: Run) -> Figure:
    """The surest images, then the most doubtful; Grad-CAM++ of one label above 0.3, 0.6, 0.9 of its maximum in blue."""
    arrays = run.arrays("classified_examples")
    is_sure = arrays["is_sure"]
    groups = {"surest": np.flatnonzero(is_sure), "most doubtful": np.flatnonzero(~is_sure)}
    shown = {heading: group for heading, group in groups.items() if len(group)}
    n_columns = min(_IN_A_ROW, len(shown["surest"]))
    rows = [-(-len(group) // n_columns) for group in shown.values()]
    figure = plt.figure(figsize=(TWO_COLUMNS / _IN_A_ROW * (n_columns + 0.4), 2.4 * sum(rows)))
    parts = figure.subfigures(len(shown), 1, height_ratios=rows, squeeze=False)
    for part, n_rows, (heading, group) in zip(parts[:, 0], rows, shown.items()):
        part.suptitle(heading, fontsize="medium", fontweight="bold")
        axes = part.subplots(n_rows, n_columns, squeeze=False)
        for ax in axes.flat[len(group) :]:
            ax.set_visible(False)
        for ax, number in zip(axes.flat, group):
            drawn = _draw_image(ax, {name: values[number] for name, values in arrays.items()})
        part.colorbar(drawn, ax=axes, pad=0.01).set_label("counts / largest of the image")
    return figure


def _draw_image(ax: Axes, one: dict[str, np.ndarray]) -> AxesImage:
    """Draw one image of the arrays ``classified_examples``."""
    drawn = draw_counts(ax, one["image"], one["mask"])
    if one["activation"].any():
        ax.contourf(one["activation"], levels=_LEVELS, colors=_TINTS)
    name = str(one["title"])
    lines = [name if len(name) <= _LINE else f"…{name[1 - _LINE :]}", *wrap(_words(one["labels"]), _LINE)]
    lines += [f"{_words(one['decides'])}: p = {one['probability']:.2f}"]
    ax.set_title("\n".join(map(plain, lines)), fontsize=6.5)
    return drawn


def _words(labels: np.ndarray) -> str:
    return str(labels)[:200].replace("_", " ")
