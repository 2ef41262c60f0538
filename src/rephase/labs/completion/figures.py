"""Figures of completion: crystals, loss curves, accuracy against resolution, a layer of reciprocal space."""

from collections.abc import Mapping

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.ticker import MaxNLocator

from rephase.labs.completion.complete import Sections
from rephase.labs.completion.models.baselines import AMPLITUDE_BASELINES
from rephase.labs.completion.pictures import draw_sections
from rephase.plots import (
    ONE_COLUMN,
    TWO_COLUMNS,
    colour,
    draw_loss_curves,
    histogram,
    label,
    name_powers,
    plain,
    reciprocal_plane,
    resolution_axis,
)
from rephase.runs import Run

_TINTS = {"random": "#0072B2", "real": "#D55E00"}


_NOT_LEARNED = {*AMPLITUDE_BASELINES, "chance"}


_IN_A_ROW = 4  # panels at most


_TITLES = {"test": "random crystals", "real": "crystals of the folder"}


def monoclinic_crystals(run: Run) -> Figure:
    """Cell volumes, numbers of reflections and mean amplitudes of the random crystals and of those of the folder."""
    crystals, shells = run.table("monoclinic_crystals"), run.table("monoclinic_shells")
    figure, (volumes, counts, wilson) = plt.subplots(1, 3, figsize=(TWO_COLUMNS, 2.5))
    for source in dict.fromkeys(crystals["source"]):
        own, tint = crystals[crystals["source"] == source], _TINTS[source]
        name = f"{source} ({len(own)})"
        histogram(volumes, own["volume"], _edges(crystals["volume"]), tint, name)
        histogram(counts, own["reflections"], _edges(crystals["reflections"]), tint, name)
        line = shells[shells["source"] == source]
        wilson.plot(line["inverse_d_squared"], line["rms_amplitude"], "-o", color=tint, label=name)
    cut_off = run.config.completion.data.measured.d_min
    wilson.axvspan(0, cut_off[0] ** -2.0, color="0.9", label=f"observed: d ≥ {cut_off[0]:g} Å")
    volumes.set(xlabel="volume of the cell (Å³)", ylabel="fraction per Å³", ylim=(0, None))
    counts.set(xlabel="reflections on the grid", ylabel="fraction per reflection", ylim=(0, None))
    wilson.set(ylabel="⟨|F|²⟩$^{1/2}$ / largest observed |F|", yscale="log")
    name_powers(wilson, "y")
    resolution_axis(wilson, run.config.completion.data.d_min)
    for ax in (volumes, counts):
        ax.ticklabel_format(axis="y", style="sci", scilimits=(0, 0))
        ax.xaxis.set_major_locator(MaxNLocator(4))
    figure.legend(*wilson.get_legend_handles_labels(), loc="outside upper center", ncols=3)
    return figure


def _edges(values: pd.Series) -> np.ndarray:
    return np.linspace(values.min(), values.max(), 16)


def completion_loss_curves(run: Run) -> Figure:
    """Training and validation loss against the epoch for every amplitude model trained so far."""
    return draw_loss_curves(run.tables("completion_curve"), run.config.completion.training.loss)


def completion_by_resolution(run: Run) -> Figure:
    """R over the missing reflections against d for every model and baseline except zero, whose R is 1."""
    tables = {name: table for name, table in run.tables("completion_shells").items() if name != "zero_fill"}
    return _by_resolution(tables, "r_factor_missing", "R of the missing reflections")


def monoclinic_phases_by_resolution(run: Run) -> Figure:
    """Mean phase error against d for every phase network and for chance."""
    figure = _by_resolution(
        run.tables("monoclinic_phases_shells"), "mean_phase_error_weighted_deg", "mean phase error, weighted by |F| (°)"
    )
    figure.axes[0].set_ylim(0, max(100, figure.axes[0].get_ylim()[1]))
    return figure


def _by_resolution(tables: Mapping[str, pd.DataFrame], column: str, name: str) -> Figure:
    """Draw a column of shell tables against d, one panel per test set, with baselines dashed."""
    splits = [split for split in _TITLES if any(split in set(table["split"]) for table in tables.values())]
    figure, axes = plt.subplots(
        1, len(splits), figsize=(ONE_COLUMN * (len(splits) + 0.4), 2.6), sharey=True, squeeze=False
    )
    for ax, split in zip(axes[0], splits):
        for predictor, table in tables.items():
            part = table[table["split"] == split]
            middle = (part["d_min"] ** -2.0 + part["d_max"] ** -2.0) / 2
            style = "--" if predictor in _NOT_LEARNED else "-o"
            ax.plot(middle, part[column], style, color=colour(predictor), label=label(predictor))
        shells = pd.concat(tables.values())
        resolution_axis(ax, float(shells["d_min"].min()), float(shells["d_max"].max()))
        ax.set_title(_TITLES[split])
    axes[0, 0].set_ylabel(name)
    axes[0, -1].legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return figure


def completion_layers(run: Run) -> Figure:
    """The layer hk0 of one crystal of each test set: observed amplitudes, truth, and the completion by each model."""
    learned = run.tables("completion_curve")
    arrays = {name: run.arrays(f"completion_layer_{name}") for name in ("wilson", *learned)}
    first = arrays["wilson"]
    panels = {"observed": np.where(first["observed"], first["true"], np.nan), "truth": first["true"]}
    panels |= {label(name): values["pred"] for name, values in arrays.items()}
    block = -(-len(panels) // _IN_A_ROW)  # rows of each crystal
    n_rows, n_columns = block * len(first["split"]), -(-len(panels) // block)
    figure, axes = plt.subplots(
        n_rows, n_columns, figsize=(1 + 1.5 * n_columns, 0.4 + 1.25 * n_rows), sharex=True, sharey=True, squeeze=False
    )
    for row, split in enumerate(first["split"]):
        own = axes[row * block : (row + 1) * block]
        for ax in own.flat[len(panels) :]:
            ax.set_visible(False)
        for ax, (title, values) in zip(own.flat, panels.items()):
            image = _draw_layer(ax, np.where(first["mask"][row], values[row], np.nan))
            ax.set(title=title, xlabel="h")
            ax.tick_params(labelbottom=True)
        for ax in own[:, 0]:
            ax.set_ylabel(f"{split}, l = 0\nk")
    figure.colorbar(image, ax=axes, pad=0.01, aspect=10 * n_rows).set_label("|F| / largest observed |F|")
    return figure


def _draw_layer(ax: Axes, values: np.ndarray) -> AxesImage:
    """Draw a layer [h, k] with h in FFT order and k from 0; colours scale with the square root."""
    h, k = (values.shape[0] - 1) // 2, values.shape[1]
    kept = np.concatenate([values[: h + 1], values[-h:]])  # -n/2 of an even grid has no partner
    lower = np.full((len(kept), k - 1), np.nan)
    image = reciprocal_plane(ax, np.concatenate([kept, lower], axis=1), (h, k - 1), PowerNorm(0.5, vmin=0, vmax=1))
    ax.set_ylim(-0.5, k - 0.5)
    ax.set_facecolor("0.92")
    return image


def comparison_by_resolution(run: Run) -> Figure:
    """R over the removed reflections against d for every route."""
    table = run.table("inference_shells")
    figure, ax = plt.subplots(figsize=(ONE_COLUMN * 1.3, 2.6))
    for name, part in table.groupby("model", sort=False):
        middle = (part["d_min"] ** -2.0 + part["d_max"] ** -2.0) / 2
        ax.plot(middle, part["r_factor"], "-o", color=colour(str(name)), label=label(str(name)))
    resolution_axis(ax, float(table["d_min"].min()), float(table["d_max"].max()))
    ax.set(ylabel="R of the removed reflections", ylim=(0, None))
    ax.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return figure


def comparison_maps(run: Run) -> Figure:
    """The same section through the maps of the given data, of every completion and of the truth."""
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
