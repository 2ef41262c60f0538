"""Pictures of a solved crystal: projections for print, and an interactive density."""

import html
import math
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import plotly.graph_objects as go
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from skimage.measure import marching_cubes

from rephase.crystal.cell import Cell
from rephase.crystal.peaks import HIGH, high_images
from rephase.files.writing import write_whole
from rephase.plots import STYLE, TWO_COLUMNS, Frame, cell_plane, plain, save_figure
from rephase.solvers.solution import Solution

_LARGEST_SURFACE = 8_000_000  # grid points; the surface of a larger density is drawn more coarsely
_MANY = 3000  # peaks; more than these are rasterised in the print
_CELL_EDGES = "000 100 110 010 000 001 101 100 101 111 110 111 011 010 011 001"  # a path along all twelve


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
    figure, axes = plt.subplots(1, 3, figsize=(TWO_COLUMNS, height), width_ratios=widths, layout="constrained")
    norm = PowerNorm(0.5, vmin=0, vmax=float(density.max()))  # makes light atoms visible beside heavy ones
    for along, (ax, frame) in enumerate(zip(axes, frames)):
        mesh = cell_plane(ax, density.max(axis=along), frame, norm)
        places = frame.place(*np.delete(peaks, along, axis=1).T)
        ax.plot(*places, "o", ms=2.5, mfc="none", mec="#56B4E9", mew=0.5, rasterized=len(peaks) > _MANY)
        ax.set(title=f"along {'abc'[along]}", anchor="S")
    figure.colorbar(mesh, ax=axes, shrink=0.7, panchor=False, label="largest ρ − ⟨ρ⟩ (e/Å³)")
    figure.suptitle(plain(title, longest=120), fontsize="medium")
    return figure


def solution_in_hand(solution: Solution) -> go.Figure:
    """Draw the density as an interactive surface in Å, with the cell and the peaks."""
    density, cell = solution.density, solution.reflections.cell
    level = HIGH * float(density.std())
    step = math.ceil((density.size / _LARGEST_SURFACE) ** (1 / 3))  # coarser if a browser could not rotate it
    closed = np.pad(density, [(0, 1)] * 3, mode="wrap")
    vertices, faces, _, _ = marching_cubes(closed, level, step_size=step)
    to_cartesian = cell.orthogonalisation.T
    x, y, z = (vertices / density.shape @ to_cartesian).T
    surface = go.Mesh3d(
        x=x.round(2),
        y=y.round(2),
        z=z.round(2),
        i=faces[:, 0],
        j=faces[:, 1],
        k=faces[:, 2],
        color="#0072B2",
        opacity=0.5,
        name="density",
        showlegend=True,
    )
    places = _peaks(solution) @ to_cartesian
    atoms = go.Scatter3d(
        x=places[:, 0],
        y=places[:, 1],
        z=places[:, 2],
        mode="markers",
        name="peaks",
        marker={"size": 2.5, "color": "#D55E00"},
    )
    path = np.array([int(corner, 2) for corner in _CELL_EDGES.split()])
    path = path[:, None] // (4, 2, 1) % 2  # corners as bits x, y, z
    edges = go.Scatter3d(
        **dict(zip("xyz", (path @ to_cartesian).T)), mode="lines", name="cell", line={"color": "#777777"}
    )
    figure = go.Figure([surface, atoms, edges])
    figure.update_layout(
        title=f"{html.escape(solution.reflections.name)}: ρ − ⟨ρ⟩ = {level:.2f} e/Å³, {HIGH:g} σ ({solution.verdict})",
        scene={"aspectmode": "data", "xaxis_title": "Å", "yaxis_title": "Å", "zaxis_title": "Å"},
        margin={"l": 0, "r": 0, "b": 0, "t": 40},
    )
    return figure


def write_figures(solution: Solution, folder: Path) -> None:
    """Write ``density.png``, ``density.pdf`` and ``density.html`` into the staging folder of a set of results."""
    save_figure(density_projections(solution), folder, "density")
    write_whole(folder / "density.html", solution_in_hand(solution).to_html(include_plotlyjs=True, div_id="density"))


def _peaks(solution: Solution) -> np.ndarray:
    """Fractional positions [n, 3] of the high peaks and of all their symmetry images in one cell."""
    return high_images(solution.peaks(), solution.density, solution.reflections.group)
