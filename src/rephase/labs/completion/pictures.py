"""Pictures of a completion: amplitudes and their uncertainty against d, and maps before and after."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure

from rephase.labs.completion.complete import Completion, Sections, sections_of
from rephase.plots import STYLE, TWO_COLUMNS, Frame, cell_plane, plain, resolution_axis, save_figure

UNITS_OF_MAPS = {"density": "ρ − ⟨ρ⟩ (e/Å³)", "patterson": "Patterson map (e²/Å³)"}
_TINTS = {"measured": "#0072B2", "completed": "#D55E00"}


def completion_overview(completion: Completion) -> Figure:
    """Amplitudes against d, and one section through the maps of the measured and of all reflections."""
    r = completion.reflections
    with plt.style.context(STYLE):
        figure, (amplitudes, *sections) = plt.subplots(1, 3, figsize=(TWO_COLUMNS, 2.8), layout="constrained")
        _draw_amplitudes(amplitudes, completion)
        unit = UNITS_OF_MAPS[completion.kind_of_map]
        draw_sections(sections, sections_of(completion.maps, r.cell), r.cell.parameters, unit)
        for ax, title in zip(sections, ("measured", "completed")):
            ax.set_title(f"{completion.kind_of_map}, {title}")
        reach = f"{r.d_min:.2f} → {completion.d_hkl.min():.2f} Å"
        figure.suptitle(plain(f"{r.name}, {r.group.symbol}, {completion.model}: {reach}", longest=120))
    return figure


def _draw_amplitudes(ax: Axes, completion: Completion) -> None:
    """Draw each |F| as a dot, and the mean σ of the completed ones in shells as a line."""
    inverse, is_observed = completion.d_hkl**-2.0, completion.is_observed
    for (name, tint), chosen in zip(_TINTS.items(), (is_observed, ~is_observed)):
        ax.plot(inverse[chosen], completion.amplitude[chosen], ".", ms=1.5, color=tint, alpha=0.5, label=name)
    order = np.flatnonzero(~is_observed)[np.argsort(inverse[~is_observed])]
    shells = np.array_split(order, min(20, len(order)))
    means = np.array([(inverse[shell].mean(), completion.sigma[shell].mean()) for shell in shells])
    ax.plot(*means.T, color="black", label="mean σ of completed |F|")
    resolution_axis(ax, float(completion.d_hkl.min()))
    ax.set(ylabel="|F|, scale of the data", yscale="log", ylim=(0.3 * means[:, 1].min(), None))
    ax.legend(markerscale=4)


def draw_sections(axes: Iterable[Axes], sections: Sections, parameters: Sequence[float], unit: str) -> None:
    """Draw sections of maps on the colour scale of the last one; `parameters` are a, b, c (Å), α, β, γ (degrees)."""
    frame = Frame.along(sections.along, parameters)
    norm = PowerNorm(0.5, vmin=0, vmax=float(sections.values[-1].max()))
    drawn = [(ax, cell_plane(ax, values, frame, norm)) for ax, values in zip(axes, sections.values)]
    last, image = drawn[-1]
    last.figure.colorbar(image, ax=[ax for ax, _ in drawn], label=unit, shrink=0.8, aspect=30)


def write_figures(completion: Completion, folder: Path) -> None:
    """Write ``completion.png`` and ``completion.pdf`` into the staging folder of a set of results."""
    save_figure(completion_overview(completion), folder, "completion")
