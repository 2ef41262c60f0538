"""Figures of diffraction images: labels, examples, correlations; loss curves, scores and calibration of classifiers."""

from textwrap import wrap

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm, to_rgba
from matplotlib.figure import Figure
from matplotlib.image import AxesImage

from rephase.labs.images.models.baselines import IMAGE_BASELINES
from rephase.plots import ONE_COLUMN, TWO_COLUMNS, colour, draw_loss_curves, label, name_powers, plain
from rephase.runs import Run

_IN_A_ROW, _N_CORRELATED = 4, 3


_TINTS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")


_N_BINS = 8  # of probabilities


def image_labels(run: Run) -> Figure:
    """How often each label occurs, among the images of the run and, for droplets, among the measured ones."""
    table = run.table("image_labels")
    figure, ax = plt.subplots(figsize=(TWO_COLUMNS, 2.6))
    place, sources = np.arange(len(table)), {"share (%)": "this run", "measured (%)": "measured, 7,264 images"}
    shown = {column: name for column, name in sources.items() if column in table}
    width = 0.8 / len(shown)
    for number, (column, name) in enumerate(shown.items()):
        ax.bar(place + (number - (len(shown) - 1) / 2) * width, table[column], width, label=name, color=_TINTS[number])
    ax.set(yscale="log", ylabel="percentage of images")
    name_powers(ax, "y")
    ax.set_xticks(place, [_upright(name) for name in table["label"]])
    ax.legend()
    return figure


def image_examples(run: Run) -> Figure:
    """One image of each of the commonest combinations of labels, with counts on a logarithmic scale."""
    arrays = run.arrays("image_examples")
    n = len(arrays["image"])
    figure, axes = _grid(n)
    for ax, image, mask, carried in zip(axes.flat, arrays["image"], arrays["mask"], arrays["labels"]):
        drawn = draw_counts(ax, image, mask)
        ax.set_title(_words(arrays["names"][carried]), fontsize=7)
    figure.colorbar(drawn, ax=axes, pad=0.01).set_label("counts / largest count of the image")
    return figure


def image_correlations(run: Run) -> Figure:
    """Images above their two-point correlation maps."""
    arrays = run.arrays("image_examples")
    chosen = _brightest(arrays["image"], arrays["mask"])
    figure, axes = plt.subplots(2, len(chosen), figsize=(TWO_COLUMNS, 3.8), squeeze=False)
    for above, below, number in zip(*axes, chosen):
        draw_counts(above, arrays["image"][number], arrays["mask"][number])
        above.set_title(_words(arrays["names"][arrays["labels"][number]]), fontsize=7)
        values = arrays["correlation"][number]
        drawn = below.imshow(
            values / np.nanmax(np.abs(values), axis=1, keepdims=True, initial=1e-9),
            origin="lower",
            aspect="auto",
            cmap="RdBu_r",
            vmin=-1,
            vmax=1,
            extent=(0, 180, 0, 1),
        )
        below.set(xlabel="Δ (°)", xticks=[0, 45, 90, 135, 180])
    axes[1, 0].set_ylabel("q / q_max")
    figure.colorbar(drawn, ax=axes[1], pad=0.01).set_label("C(q, q, Δ) / largest |C| at this q")
    return figure


def _brightest(image: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Numbers of the images with the most photons, in order."""
    return np.sort(np.argsort(-(image * mask).sum((1, 2)))[:_N_CORRELATED])


def image_loss_curves(run: Run) -> Figure:
    """Training and validation loss against the epoch, for every classifier trained so far."""
    return draw_loss_curves(run.tables("image_curve"), run.config.images.training.loss)


def image_scores(run: Run) -> Figure:
    """Average precision of each label for every classifier; bars: the label frequencies as the only prediction."""
    tables = {name: _by_label(table, "average_precision") for name, table in run.tables("image_results").items()}
    floor = tables["frequencies"]
    names, place = list(floor.index), np.arange(len(floor))
    figure, ax = plt.subplots(figsize=(TWO_COLUMNS, 2.8))
    ax.bar(place, floor, 0.8, color="0.85", label=label("frequencies"))
    learned = [name for name in tables if name not in IMAGE_BASELINES]
    for number, name in enumerate(learned):
        shift = (number - (len(learned) - 1) / 2) * 0.25
        ax.plot(place + shift, tables[name][names], "o", color=colour(name), label=label(name))
    ax.set(ylabel="average precision", ylim=(0, 1.03))
    ax.set_xticks(place, [_upright(name) for name in names])
    ax.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=4)
    return figure


def _by_label(results: pd.DataFrame, metric: str) -> pd.Series:
    chosen = results[results["split"].str.contains(":") & (results["metric"] == metric)]
    return chosen.set_index(chosen["split"].str.split(":").str[1])["value"]


def image_calibration(run: Run) -> Figure:
    """Observed frequency of labels against their predicted probability, over all labels."""
    figure, ax = plt.subplots(figsize=(ONE_COLUMN * 1.3, 2.8))
    ax.plot([0, 1], [0, 1], "--", color="0.6", label="calibrated")
    for name in run.tables("image_curve"):
        arrays = run.arrays(f"image_predictions_{name}")
        probability, truth = arrays["probability"].ravel(), arrays["truth"].ravel()
        bins = np.minimum((probability * _N_BINS).astype(int), _N_BINS - 1)
        n = np.bincount(bins, minlength=_N_BINS)
        middle, share = (np.bincount(bins, v, _N_BINS)[n > 0] / n[n > 0] for v in (probability, truth))
        ax.plot(middle, share, "-o", color=colour(name), label=label(name), clip_on=False)
    ax.set(xlabel="predicted probability", ylabel="observed frequency", xlim=(0, 1), ylim=(0, 1), aspect="equal")
    ax.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return figure


def image_experiments(run: Run) -> Figure:
    """Macro-F1 of every experiment of the run against its first varied key, with a line per value of the next.

    Dashed: a predictor that gives each label its training frequency.
    """
    floor = run.table("image_results_frequencies").set_index(["split", "metric"])["value"]["test", "macro_f1"]
    if not run.has_results("image_experiment"):
        return _note("No experiment of images.experiments was run.")
    tables = run.tables("image_experiment")
    n_rows, n_columns = -(-len(tables) // 2), min(2, len(tables))
    figure, axes = plt.subplots(
        n_rows, n_columns, figsize=(ONE_COLUMN * n_columns, 3.0 * n_rows), sharey=True, squeeze=False
    )
    for ax in axes.flat[len(tables) :]:
        ax.set_visible(False)
    for ax, (name, table) in zip(axes.flat, tables.items()):
        ax.axhline(floor, color="0.6", linestyle="--", label=label("frequencies"))
        _draw_experiment(ax, name, table[table["metric"] == "macro_f1"], [*run.config.images.experiments[name]])
    for ax in axes[:, 0]:
        ax.set(ylabel="macro-F1, test images", ylim=(0, 1))
    return figure


def _note(text: str) -> Figure:
    """Return a figure with text instead of panels."""
    figure, ax = plt.subplots(figsize=(ONE_COLUMN, 0.5))
    ax.axis("off")
    ax.text(0.5, 0.5, text, ha="center", va="center")
    return figure


def _draw_experiment(ax: Axes, name: str, table: pd.DataFrame, paths: list[str]) -> None:
    x, *others = (path.split(".")[-1] for path in paths)
    groups = table.groupby(others, sort=False) if others else [((), table)]
    for number, (values, part) in enumerate(groups):
        by_x = part.groupby(x)["value"]
        mean, tint = by_x.mean(), _TINTS[number]
        called = ", ".join(label(str(value)) for value in values) or "mean over the seeds"
        ax.fill_between(mean.index, by_x.min(), by_x.max(), color=tint, alpha=0.2, linewidth=0)
        ax.plot(mean.index, mean, "-o", color=tint, label=called)
    positive = table[x].min() > 0
    ax.set(
        title=plain(name),
        xlabel=label(x),
        xscale="log" if positive and table[x].max() > 5 * table[x].min() else "linear",
    )
    ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.17), fontsize=7)


def _grid(n: int) -> tuple[Figure, np.ndarray]:
    """Return panels without axes for `n` images."""
    rows = -(-n // _IN_A_ROW)
    figure, axes = plt.subplots(rows, _IN_A_ROW, figsize=(TWO_COLUMNS, 1.9 * rows + 0.2), squeeze=False)
    for ax in axes.flat:
        ax.axis("off")
    return figure, axes


def draw_counts(ax: Axes, image: np.ndarray, mask: np.ndarray) -> AxesImage:
    """Draw counts over the largest count of the image, over three and a half decades; grey: not measured."""
    largest = image[mask].max(initial=1e-9)
    shown = np.where(mask, np.maximum(image / largest, 10**-3.5), np.nan)
    ax.set_facecolor("0.7")
    colours = plt.get_cmap("inferno").with_extremes(bad="0.7")
    ax.set(xticks=[], yticks=[])
    return ax.imshow(shown, origin="lower", cmap=colours, norm=LogNorm(10**-3.5, 1))


def _words(names: np.ndarray) -> str:
    words = ", ".join(str(name).replace("_", " ") for name in names) or "none"
    return "\n".join(plain(line) for line in wrap(words[:200], 26))


def _upright(name: object) -> str:
    """Format a label below an axis with one word per line."""
    return plain(name).replace("_", "\n")


_LINE = 26


_LEVELS, _SHADES = (0.3, 0.6, 0.9, 1.0), [to_rgba("#56B4E9", alpha) for alpha in (0.12, 0.24, 0.36)]


def classified_images(run: Run) -> Figure:
    """The surest images, then the most doubtful; blue: Grad-CAM++ of one label above 0.3, 0.6, 0.9 of its maximum."""
    arrays = run.arrays("classified_examples")
    is_sure = arrays["is_sure"]
    groups = {"surest": np.flatnonzero(is_sure), "most doubtful": np.flatnonzero(~is_sure)}
    shown = {heading: group for heading, group in groups.items() if len(group)}
    n_columns = min(_IN_A_ROW, len(shown["surest"]))
    rows = [-(-len(group) // n_columns) for group in shown.values()]
    titles = [_title({name: values[number] for name, values in arrays.items()}) for number in range(len(is_sure))]
    height = 1.9 + 0.1 * max(title.count("\n") for title in titles)
    figure = plt.figure(figsize=(TWO_COLUMNS / _IN_A_ROW * (n_columns + 0.4), height * sum(rows) + 0.3))
    parts = figure.subfigures(len(shown), 1, height_ratios=rows, squeeze=False)
    for part, n_rows, (heading, group) in zip(parts[:, 0], rows, shown.items()):
        axes = part.subplots(n_rows, n_columns, squeeze=False)
        axes[0, 0].set_ylabel(heading, fontweight="bold")
        for ax in axes.flat[len(group) :]:
            ax.set_visible(False)
        for ax, number in zip(axes.flat, group):
            drawn = _draw_image(ax, {name: values[number] for name, values in arrays.items()})
            ax.set_title(titles[number], fontsize=6.5)
        part.colorbar(drawn, ax=axes, pad=0.01).set_label("counts / largest\ncount of the image")
    return figure


def _draw_image(ax: Axes, one: dict[str, np.ndarray]) -> AxesImage:
    """Draw one image of the arrays ``classified_examples``."""
    drawn = draw_counts(ax, one["image"], one["mask"])
    if one["activation"].any():
        ax.contourf(one["activation"], levels=_LEVELS, colors=_SHADES)
    return drawn


def _title(one: dict[str, np.ndarray]) -> str:
    """Name an image and its labels, on lines of limited length."""
    name = str(one["title"])
    lines = [name if len(name) <= _LINE else f"…{name[1 - _LINE :]}", *wrap(_words_of(one["labels"]), _LINE)]
    lines += [f"{_words_of(one['decides'])}: p = {one['probability']:.2f}"]
    return "\n".join(map(plain, lines))


def _words_of(labels: np.ndarray) -> str:
    return str(labels)[:200].replace("_", " ")
