"""Figures of notebook 14: where in d each route is right, and the same section of each map."""

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from rephase.completion import Sections
from rephase.completion_figures import draw_sections
from rephase.plots import ONE_COLUMN, TWO_COLUMNS, colour, label, plain, resolution_axis
from rephase.runs import Run

_IN_A_ROW = 4


def inference_by_resolution(run: Run) -> Figure:
    """R against d of the reflections that were cut off, for every route."""
    table = run.table("inference_shells")
    figure, ax = plt.subplots(figsize=(ONE_COLUMN * 1.3, 2.6))
    for name, part in table.groupby("model", sort=False):
        middle = (part["d_min"] ** -2.0 + part["d_max"] ** -2.0) / 2
        ax.plot(middle, part["r_factor"], "-o", color=colour(str(name)), label=label(str(name)))
    resolution_axis(ax, float(table["d_min"].min()))
    ax.set_xlim(left=float(table["d_max"].max()) ** -2.0)
    ax.set(ylabel="R of what was cut off", ylim=(0, None))
    ax.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return figure


def inference_maps(run: Run) -> Figure:
    """The same section of the map of what was given, of every completion, and of the truth."""
    arrays = run.arrays("inference_sections")
    titles = [label(str(title)) for title in arrays["titles"]]
    n_rows = -(-len(titles) // _IN_A_ROW)
    n_columns = -(-len(titles) // n_rows)
    figure, axes = plt.subplots(
        n_rows, n_columns, figsize=(TWO_COLUMNS, 0.5 + 2.0 * n_rows), squeeze=False, layout="constrained"
    )
    sections = Sections(arrays["values"], int(arrays["along"]))
    draw_sections(axes.flat, sections, arrays["cell"].tolist(), str(arrays["unit"]))
    for ax, title in zip(axes.flat, titles):
        ax.set_title(title)
    for ax in axes.flat[len(titles) :]:
        ax.set_visible(False)
    figure.suptitle(plain(arrays["title"], longest=120), fontsize="medium")
    return figure
