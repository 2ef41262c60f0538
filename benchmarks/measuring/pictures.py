"""Pictures of time against size, one for each kind of size."""

from collections.abc import Iterable

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from measuring.tables import shown
from measuring.timing import OURS, Row
from rephase.plots import STYLE, TWO_COLUMNS, colour, label

_MOST_PANELS = 3  # side by side
_GAP = 0.075  # smallest distance of two labels, as a fraction of the height of a panel
_MARKS = {OURS: "o", "gemmi": "s", "numpy": "^", "Dans_Diffraction": "D"}


def draw_costs(rows: Iterable[Row]) -> dict[str, Figure]:
    """Draw the time of all rows with at least three sizes; return figures by name."""
    kinds: dict[str, dict[str, list[Row]]] = {}
    for row in rows:
        if row["unit"] == "s" and row["axis"]:
            kinds.setdefault(str(row["axis"]), {}).setdefault(str(row["name"]), []).append(row)
    chosen = {axis: {n: r for n, r in panels.items() if len(r) >= 3} for axis, panels in kinds.items()}
    return {f"cost_of_{axis.replace(' ', '_')}": draw_cost(axis, panels) for axis, panels in chosen.items() if panels}


def draw_cost(axis: str, panels: dict[str, list[Row]]) -> Figure:
    """Draw time against size: a panel for each benchmark, a line for each program, between its quartiles."""
    with plt.style.context(STYLE):
        n_columns = min(len(panels), _MOST_PANELS)
        n_rows = -(-len(panels) // n_columns)
        width = TWO_COLUMNS if n_columns > 1 else 0.6 * TWO_COLUMNS
        figure, axes = plt.subplots(n_rows, n_columns, figsize=(width, 2.4 * n_rows), sharey=True, squeeze=False)
        for ax in axes.flat[len(panels) :]:
            ax.set_visible(False)
        for place, (ax, (name, rows)) in enumerate(zip(axes.flat, panels.items())):
            _lines(ax, rows)
            _ticks(ax, [row["size"] for row in rows], room=0.45 if n_columns > 1 else 0.3)
            ax.set_title(name, loc="left")
            ax.set(xlabel=axis, ylabel="" if place % n_columns else f"time per {rows[0]['per']}")
        _times(axes[0, 0])
        for ax, rows in zip(axes.flat, panels.values()):
            _names(ax, rows)
    return figure


def _by_program(rows: list[Row]) -> dict[str, list[tuple[int, np.ndarray]]]:
    """Return the sizes of each program, and the values of their rounds."""
    names = dict.fromkeys(name for row in rows for name in row["values"])
    return {n: [(row["size"], np.array(row["values"][n])) for row in rows if n in row["values"]] for n in names}


def _lines(ax: Axes, rows: list[Row]) -> None:
    """Draw the median of each program, and the quartiles of its rounds."""
    for name, points in _by_program(rows).items():
        sizes, values = zip(*points)
        tint, mark = colour(name), _MARKS.get(name, "s")
        low, middle, high = np.transpose([np.percentile(v, [25, 50, 75]) for v in values])
        ax.fill_between(sizes, low, high, color=tint, alpha=0.2, lw=0)
        ax.plot(sizes, middle, marker=mark, color=tint, zorder=3 if name == OURS else 2)
    ax.set(xscale="log", yscale="log")
    ax.minorticks_off()


def _ticks(ax: Axes, sizes: list[int], *, room: float) -> None:
    """Put ticks at sizes, those of grids as n³, many as powers of ten; leave room for names, relative to the lines."""
    first, last = np.log10(sizes[0]), np.log10(sizes[-1])
    width = last - first
    ax.set_xlim(10 ** (first - 0.06 * width), 10 ** (last + room * width))
    roots = [round(size ** (1 / 3)) for size in sizes]
    is_grid = roots[0] > 1 and all(root**3 == size for root, size in zip(roots, sizes))
    if is_grid:
        ax.set_xticks(sizes, [f"{root}³" for root in roots])
    elif width < 3:
        ax.set_xticks(sizes, [f"{size:g}" for size in sizes])
    else:
        ax.set_xticks([10.0**power for power in range(round(first), round(last) + 1, 2 if width > 6 else 1)])


def _times(ax: Axes) -> None:
    """Set the limits and the ticks of the time axis, which the panels share, in s, ms and µs."""
    low, high = (np.log10(limit) for limit in ax.get_ylim())
    low, high = np.floor(low), np.ceil(high)
    decades = np.arange(low, high + 1)
    ax.set_ylim(10**low, 10**high)
    ax.set_yticks(10.0**decades, [shown(10.0**d * (1 + 1e-9), "s") for d in decades])


def _names(ax: Axes, rows: list[Row]) -> None:
    """Name each line: on the right of the longest ones, apart from each other, and above or below a shorter one."""
    low, high = np.log10(ax.get_ylim())
    programs = _by_program(rows)
    ends = {name: (points[-1][0], np.log10(np.median(points[-1][1]))) for name, points in programs.items()}
    long = {name: (y - low) / (high - low) for name, (size, y) in ends.items() if size == rows[-1]["size"]}
    for name, height in zip(long, _apart(list(long.values()))):
        _name(ax, name, rows[-1]["size"], 10 ** (low + height * (high - low)), (6, 0))
    for name, (size, y) in ends.items():
        if name not in long:
            ours = next(values for at, values in programs[OURS] if at == size)
            _name(ax, name, size, 10**y, (0, 8 if 10**y > np.median(ours) else -8))


def _name(ax: Axes, name: str, size: float, seconds: float, offset: tuple[float, float]) -> None:
    ax.annotate(
        label(name),
        (size, seconds),
        offset,
        textcoords="offset points",
        color=colour(name),
        size=7,
        va="center",
    )


def _apart(heights: list[float]) -> list[float]:
    """Move heights apart until none are closer than the smallest distance."""
    order, moved = np.argsort(heights), np.sort(heights)
    for _ in range(100):
        for i in range(len(moved) - 1):
            overlap = max(0.0, _GAP - (moved[i + 1] - moved[i]))
            moved[i], moved[i + 1] = moved[i] - overlap / 2, moved[i + 1] + overlap / 2
    found = np.empty(len(moved))
    found[order] = moved
    return found.tolist()
