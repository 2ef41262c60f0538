"""Pictures of time against size, one for each kind of size."""

from collections.abc import Iterable

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from measuring.tables import shown
from measuring.timing import OURS, Row
from rephase.plots import STYLE, TWO_COLUMNS, colour

_MOST_PANELS = 4  # side by side
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
    """Draw time against size: a panel for each benchmark, a line for each program, the range of the rounds shaded."""
    with plt.style.context(STYLE):
        n_columns = min(len(panels), _MOST_PANELS)
        n_rows = -(-len(panels) // n_columns)
        width = TWO_COLUMNS if n_columns > 1 else 0.6 * TWO_COLUMNS
        figure, axes = plt.subplots(n_rows, n_columns, figsize=(width, 2.5 * n_rows), squeeze=False)
        for ax in axes.flat[len(panels) :]:
            ax.set_visible(False)
        for ax, (name, rows) in zip(axes.flat, panels.items()):
            _panel(ax, rows)
            ax.set_title(name, loc="left")
            ax.set_xlabel(axis)
    return figure


def _panel(ax: Axes, rows: list[Row]) -> None:
    """Draw the lines of one benchmark, and name each at its right end."""
    ends: dict[str, tuple[float, float]] = {}
    for name in dict.fromkeys(name for row in rows for name in row["values"]):
        of_program = [(row["size"], np.array(row["values"][name])) for row in rows if name in row["values"]]
        sizes, values = zip(*of_program)
        medians = [np.median(v) for v in values]
        tint = colour(name)
        ax.fill_between(sizes, [v.min() for v in values], [v.max() for v in values], color=tint, alpha=0.2, lw=0)
        ax.plot(sizes, medians, marker=_MARKS.get(name, "s"), color=tint, zorder=3 if name == OURS else 2)
        ends[name] = sizes[-1], float(medians[-1])
    ax.set(xscale="log", yscale="log", ylabel=f"time per {rows[0]['per']}")
    _frame(ax, [row["size"] for row in rows])
    _label(ax, ends)


def _frame(ax: Axes, sizes: list[int]) -> None:
    """Set limits with room for labels, and ticks in words: grids as n³, times with their units."""
    ax.minorticks_off()
    low, high = (np.log10(limit) for limit in ax.get_ylim())
    low, high = np.floor(low), np.ceil(high)
    decades = np.arange(low, high + 1, max(1, np.ceil((high - low) / 6)))
    ax.set_ylim(10**low, 10**high)
    ax.set_yticks(10.0**decades, [shown(10.0**d * (1 + 1e-9), "s") for d in decades])
    roots = [round(size ** (1 / 3)) for size in sizes]
    if len(sizes) > 1 and all(root**3 == size for root, size in zip(roots, sizes)) and roots[0] > 1:
        ax.set_xticks(sizes, [f"{root}³" for root in roots])
    elif max(sizes) <= 1000 * min(sizes) and len(sizes) <= 5:
        ax.set_xticks(sizes, [f"{size:g}" for size in sizes])


def _label(ax: Axes, ends: dict[str, tuple[float, float]]) -> None:
    """Name each line beside its end, moved up where names would overlap."""
    span = np.log10(ax.get_ylim())
    place, last = {}, -np.inf
    for name, (_, y) in sorted(ends.items(), key=lambda item: item[1][1]):
        last = max((np.log10(y) - span[0]) / (span[1] - span[0]), last + _GAP)
        place[name] = last
    for name, (x, _) in ends.items():
        height = 10 ** (span[0] + place[name] * (span[1] - span[0]))
        words, tint = name.replace("_", " "), colour(name)
        ax.annotate(words, (x, height), (5, 0), textcoords="offset points", color=tint, size=7, va="center")
