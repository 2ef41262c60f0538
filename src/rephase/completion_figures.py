"""What a completed crystal looks like: amplitudes and their uncertainty against d, the map before and after."""

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure

from rephase.completion import Completion
from rephase.plots import STYLE, TWO_COLUMNS, cell_plane, resolution_axis, save_figure

_TINTS = {"measured": "#0072B2", "completed": "#D55E00"}
_PLANES = ((1, 2), (0, 2), (0, 1))  # axes to the right and upwards, by the axis that is looked along


def completion_overview(completion: Completion) -> Figure:
    """Amplitudes against d, and one section of the map of the measured reflections and of all."""
    r = completion.reflections
    with plt.style.context(STYLE):
        figure, (amplitudes, *sections) = plt.subplots(1, 3, figsize=(TWO_COLUMNS, 2.8), layout="constrained")
        _draw_amplitudes(amplitudes, completion)
        draw_sections(sections, completion.maps, r.cell.parameters)
        for ax, title in zip(sections, ("measured", "completed")):
            ax.set_title(f"{completion.kind_of_map}, {title}")
        figure.suptitle(
            f"{r.name}, {r.group.symbol}, {completion.model}: {r.d_min:.2f} → {completion.d_hkl.min():.2f} Å"
        )
    return figure


def _draw_amplitudes(ax: Axes, completion: Completion) -> None:
    """Each |F| as a dot, and σ of the completed ones as a line: its mean in shells."""
    inverse, is_observed = completion.d_hkl**-2.0, completion.is_observed
    for (name, tint), chosen in zip(_TINTS.items(), (is_observed, ~is_observed)):
        ax.plot(inverse[chosen], completion.amplitude[chosen], ".", ms=1.5, color=tint, alpha=0.5, label=name)
    order = np.flatnonzero(~is_observed)[np.argsort(inverse[~is_observed])]
    shells = np.array_split(order, min(20, len(order)))
    means = np.array([(inverse[shell].mean(), completion.sigma[shell].mean()) for shell in shells])
    ax.plot(*means.T, color="black", label="mean σ of these")
    resolution_axis(ax, float(completion.d_hkl.min()))
    ax.set(ylabel="|F|, scale of the data", ylim=(0, 1.05 * completion.amplitude.max()))
    ax.legend(markerscale=4)


def draw_sections(
    axes: list[Axes], maps: tuple[np.ndarray, ...], parameters: tuple[float, float, float, float, float, float]
) -> None:
    """Draw the same section of maps [x, y, z] of one cell: along its shortest axis, through the last one's summit."""
    along = int(np.argmin(parameters[:3]))
    across, up = _PLANES[along]
    place = np.unravel_index(maps[-1].argmax(), maps[-1].shape)[along]
    norm = PowerNorm(0.5, vmin=0, vmax=float(maps[-1].max()))
    for ax, values in zip(axes, maps):
        section = np.maximum(values.take(place, axis=along), 0)
        frame = (parameters[across], parameters[up]), parameters[3 + along]
        cell_plane(ax, section, *frame, cmap="magma", norm=norm)
        ax.set(xlabel=f"{'abc'[across]} (Å)", ylabel=f"{'abc'[up]} (Å)")


def write_figures(completion: Completion, folder: Path) -> None:
    """Write ``completion.png`` and ``completion.pdf``."""
    save_figure(completion_overview(completion), folder, "completion")
