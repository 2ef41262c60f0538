"""Pictures of a solved crystal: projections of its density, its molecule, and the page that shows everything."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from rephase.crystal.cell import Cell
from rephase.crystal.peaks import high_images
from rephase.labs.solving.molecule import sites_to_draw
from rephase.labs.solving.molecule_print import draw_molecule
from rephase.labs.solving.page import write_page
from rephase.plots import STYLE, TWO_COLUMNS, Frame, cell_plane, plain, save_figure
from rephase.solvers.solution import Solution

_MANY = 3000  # peaks; more than these are rasterised in the print


def density_projections(solution: Solution) -> Figure:
    """Draw the projections of a solution; see `draw_projections`."""
    r = solution.reflections
    title = f"{r.name}, {r.group.symbol}, d ≥ {r.d_min:.2f} Å: {solution.verdict}"
    with plt.style.context(STYLE):
        return draw_projections(solution.density, r.cell, _peaks(solution), title)


def draw_projections(density: np.ndarray, cell: Cell, peaks: np.ndarray, title: str) -> Figure:
    """Draw maximum projections along each cell axis in e/Å^3, and peaks [n, 3]; axes in Å, angles as in the cell."""
    frames = [Frame.along(axis, cell.parameters) for axis in range(3)]
    widths, heights = np.array([frame.extent() for frame in frames]).T
    height = min(5.0, 0.9 + (TWO_COLUMNS - 2.2) * heights.max() / widths.sum())
    engine = ConstrainedLayoutEngine(w_pad=0.1)  # inches: it takes the label of the colour bar as narrower than it is
    figure, axes = plt.subplots(1, 3, figsize=(TWO_COLUMNS, height), width_ratios=widths, layout=engine)
    norm = PowerNorm(0.5, vmin=0, vmax=float(density.max()))  # makes light atoms visible beside heavy ones
    for along, (ax, frame) in enumerate(zip(axes, frames)):
        mesh = cell_plane(ax, density.max(axis=along), frame, norm)
        places = frame.place(*np.delete(peaks, along, axis=1).T)
        ax.plot(*places, "o", ms=2.5, mfc="none", mec="#56B4E9", mew=0.5, rasterized=len(peaks) > _MANY)
        ax.set(title=f"along {'abc'[along]}", anchor="S")
    figure.colorbar(mesh, ax=axes, shrink=0.7, panchor=False, label="ρ − ⟨ρ⟩ (e/Å³)")
    figure.suptitle(plain(title, longest=120), fontsize="medium")
    return figure


def write_figures(solution: Solution, folder: Path, *, command: Sequence[str] = ()) -> None:
    """Write the pictures ``density`` and ``molecule`` as PNG and PDF, and ``solve.html``, into a staging folder.

    The page links the files that the folder already holds; for `command` see `write_page`.
    """
    r = solution.reflections
    save_figure(density_projections(solution), folder, "density")
    save_figure(draw_molecule(sites_to_draw(solution), r.cell, r.group), folder, "molecule")
    write_page(solution, folder, command=command)


def _peaks(solution: Solution) -> np.ndarray:
    """Fractional positions [n, 3] of the high peaks and of all their symmetry images in one cell."""
    return high_images(solution.peaks(), solution.density, solution.reflections.group)
