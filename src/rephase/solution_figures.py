"""What a solved crystal looks like: projections for print, and a density to turn in the hand."""

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import plotly.graph_objects as go
from matplotlib.figure import Figure
from skimage.measure import marching_cubes

from rephase.crystal.peaks import Peaks
from rephase.plots import STYLE, TWO_COLUMNS, save_figure
from rephase.solvers.solution import Solution

_CELL_EDGES = "000 100 110 010 000 001 101 100 101 111 110 111 011 010 011 001"  # a path along all twelve
_LEVEL = 3.0  # surfaces of equal density are drawn at so many σ of the map


def density_projections(solution: Solution) -> Figure:
    """The largest density along each cell axis, in e/Å^3, and the peaks; axes in Å, angles as in the cell."""
    density, cell = solution.density, solution.reflections.cell
    lengths = cell.parameters[:3]
    angles = np.radians(cell.parameters[3:])
    peaks = _in_whole_cell(solution, solution.peaks())
    with plt.style.context(STYLE):
        figure, axes = plt.subplots(1, 3, figsize=(TWO_COLUMNS, 2.8), layout="constrained")
        for ax, along, (across, up) in zip(axes, range(3), ((1, 2), (0, 2), (0, 1))):
            place = lambda u, v: (  # noqa: E731
                lengths[across] * u + lengths[up] * v * np.cos(angles[along]),  # noqa: B023
                lengths[up] * v * np.sin(angles[along]),  # noqa: B023
            )
            highest = np.pad(density.max(axis=along), [(0, 1)] * 2, mode="wrap")
            u, v = np.meshgrid(*(np.linspace(0, 1, n) for n in highest.shape), indexing="ij")
            mesh = ax.pcolormesh(*place(u, v), highest, cmap="magma", vmin=0, shading="gouraud", rasterized=True)
            ax.plot(*place(peaks[:, across], peaks[:, up]), "o", ms=2.5, mfc="none", mec="#56B4E9", mew=0.5)
            names = "abc"
            ax.set(aspect="equal", title=f"along {names[along]}", xlabel=f"{names[across]} (Å)", ylabel="Å")
        figure.colorbar(mesh, ax=axes, shrink=0.7, label="largest ρ − ⟨ρ⟩ (e/Å³)")
        r = solution.reflections
        figure.suptitle(f"{r.name}, {r.group.symbol}, d ≥ {r.d_min:.2f} Å: {solution.verdict}", fontsize="medium")
    return figure


def density_in_hand(solution: Solution) -> go.Figure:
    """The density as a surface in Å, with the cell and the peaks, to turn in a browser."""
    density, cell = solution.density, solution.reflections.cell
    level = _LEVEL * float(density.std())
    closed = np.pad(density, [(0, 1)] * 3, mode="wrap")
    vertices, faces, _, _ = marching_cubes(closed, level)
    to_cartesian = cell.orthogonalisation.T
    x, y, z = (vertices / density.shape @ to_cartesian).T
    surface = go.Mesh3d(x=x.round(2), y=y.round(2), z=z.round(2), i=faces[:, 0], j=faces[:, 1], k=faces[:, 2],
                        color="#0072B2", opacity=0.5, name="density", showlegend=True)  # fmt: skip
    places = _in_whole_cell(solution, solution.peaks()) @ to_cartesian
    atoms = go.Scatter3d(x=places[:, 0], y=places[:, 1], z=places[:, 2], mode="markers", name="peaks",
                         marker={"size": 2.5, "color": "#D55E00"})  # fmt: skip
    path = np.array([int(corner, 2) for corner in _CELL_EDGES.split()])
    path = path[:, None] // (4, 2, 1) % 2  # corners as bits x, y, z
    edges = go.Scatter3d(**dict(zip("xyz", (path @ to_cartesian).T)), mode="lines", name="cell",
                         line={"color": "#777777"})  # fmt: skip
    figure = go.Figure([surface, atoms, edges])
    figure.update_layout(
        title=f"{solution.reflections.name}: ρ − ⟨ρ⟩ = {level:.2f} e/Å³, {_LEVEL:g} σ ({solution.verdict})",
        scene={"aspectmode": "data", "xaxis_title": "Å", "yaxis_title": "Å", "zaxis_title": "Å"},
        margin={"l": 0, "r": 0, "b": 0, "t": 40},
    )
    return figure


def write_figures(solution: Solution, folder: Path) -> None:
    """Write ``density.png``, ``density.pdf`` and ``density.html``."""
    save_figure(density_projections(solution), folder, "density")
    density_in_hand(solution).write_html(folder / "density.html", include_plotlyjs=True)


def _in_whole_cell(solution: Solution, peaks: Peaks) -> np.ndarray:
    """Positions [n, 3] of the peaks above the level of the surface, and of all their images in one cell."""
    group = solution.reflections.group
    high = peaks.xyz_frac[peaks.height >= _LEVEL * solution.density.std()]
    images = np.einsum("oij,aj->aoi", group.rotations, high) + group.translations
    return images.reshape(-1, 3) % 1.0
