"""The molecule for print: ellipsoids with their principal ellipses, bonds and labels, seen at its widest."""

from itertools import combinations

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Polygon

from rephase.crystal.cell import Cell
from rephase.crystal.symmetry import Symmetry
from rephase.labs.solving.molecule import principal_axes
from rephase.labs.solving.packing import Packing, pack
from rephase.labs.solving.solids import HALF, element_colour
from rephase.plots import STYLE, TWO_COLUMNS, plain
from rephase.refinement.sites import Sites

_HYDROGEN, _BOND = 0.12, 0.055  # radii in Å
_TURN = np.linspace(0, 2 * np.pi, 49)
_CIRCLE = np.stack([np.cos(_TURN), np.sin(_TURN)])
_FLAT = 1e-6  # Å^2, smallest displacement that a bond meets
_PALE = 0.35  # of the element's colour in the fill


def draw_molecule(sites: Sites, cell: Cell, symmetry: Symmetry) -> Figure:
    """Draw the molecules of the asymmetric unit in parallel projection, atoms as ellipsoids of half the probability.

    Names are those of atoms of the asymmetric unit; images by symmetry have none.
    """
    molecule = pack(sites, cell, symmetry)[0]
    view = principal_axes(molecule.xyz)
    xyz, U = molecule.xyz @ view.T, view @ molecule.U @ view.T
    is_hydrogen = sites.is_hydrogen[molecule.site]
    U[is_hydrogen] = (_HYDROGEN / HALF) ** 2 * np.eye(3)
    width, height = np.ptp(xyz[:, :2], axis=0) + 2.0
    with plt.style.context(STYLE):
        figure, ax = plt.subplots(figsize=(TWO_COLUMNS, TWO_COLUMNS * float(np.clip(height / width, 0.3, 1.2))))
        for ends in _trimmed(xyz[molecule.bonds], U[molecule.bonds]):
            _draw_bond(ax, ends)
        for atom, site in enumerate(molecule.site):
            _draw_atom(ax, xyz[atom], U[atom], _tint(sites, site))
        _draw_names(ax, molecule, xyz, U, sites)
        ax.set(aspect="equal", xlim=_limits(xyz[:, 0]), ylim=_limits(xyz[:, 1]))
        ax.axis("off")
    return figure


def _tint(sites: Sites, site: int) -> str:
    """Colour of an atom: that of its element, paler in a minor disorder part."""
    tint = element_colour(sites.elements[site])
    return to_hex(tuple((_PALE * np.array(to_rgb(tint)) + 1 - _PALE).tolist())) if sites.part[site] > 1 else tint


def _trimmed(ends: np.ndarray, U: np.ndarray) -> np.ndarray:
    """Shorten bonds [n, 2, 3] in Å to the part between the ellipsoids of their atoms, with tensors [n, 2, 3, 3]."""
    along = ends[:, 1] - ends[:, 0]
    size, axes = np.linalg.eigh(U)
    in_axes = np.einsum("nekj,nk->nej", axes, along)  # along the principal axes of both ends
    reach = HALF / np.sqrt((in_axes**2 / np.maximum(size, _FLAT)).sum(-1))
    return ends + np.stack([reach[:, 0], -reach[:, 1]], axis=1).clip(-0.5, 0.5)[..., None] * along[:, None]


def _draw_bond(ax: Axes, ends: np.ndarray) -> None:
    """Draw a stick between two atoms at [2, 3] in Å."""
    along = (ends[1] - ends[0])[:2]
    length = np.linalg.norm(along)
    if length > 0:
        side = _BOND * np.array([-along[1], along[0]]) / length
        corners = [ends[0, :2] + side, ends[1, :2] + side, ends[1, :2] - side, ends[0, :2] - side]
        ax.add_patch(Polygon(corners, fc="white", ec="0.2", lw=0.5, zorder=ends[:, 2].mean()))


def _draw_atom(ax: Axes, xyz: np.ndarray, U: np.ndarray, tint: str) -> None:
    """Draw the outline of an ellipsoid and the visible halves of its three principal ellipses."""
    outline = xyz[:2, None] + HALF * _root(U[:2, :2]) @ _CIRCLE
    pale = _PALE * np.array(to_rgb(tint)) + 1 - _PALE
    ax.add_patch(Polygon(outline.T, fc=pale, ec=tint, lw=0.8, zorder=xyz[2]))
    axes = HALF * _principal(U)
    ellipses = [xyz[:, None] + axes[:, pair] @ _CIRCLE for pair in combinations(range(3), 2)]
    visible = [np.where(ellipse[2] >= xyz[2], ellipse[:2], np.nan) for ellipse in ellipses]
    line = np.concatenate([np.pad(each, [(0, 0), (0, 1)], constant_values=np.nan) for each in visible], axis=1)
    ax.add_line(Line2D(*line, color=tint, lw=0.5, zorder=xyz[2]))


def _root(U: np.ndarray) -> np.ndarray:
    """Symmetric square root of a tensor; directions without displacement have none."""
    size, axes = np.linalg.eigh(U)
    return axes * np.sqrt(np.maximum(size, 0)) @ axes.T


def _principal(U: np.ndarray) -> np.ndarray:
    """Principal displacements of a tensor [3, 3] in Å as columns."""
    size, axes = np.linalg.eigh(U)
    return axes * np.sqrt(np.maximum(size, 0))


def _draw_names(ax: Axes, molecule: Packing, xyz: np.ndarray, U: np.ndarray, sites: Sites) -> None:
    """Write the labels of the asymmetric unit away from bonds, without hydrogen and minor disorder parts."""
    away = np.zeros((len(molecule), 2))
    for here, there in (molecule.bonds.T, molecule.bonds.T[::-1]):
        np.add.at(away, here, xyz[here, :2] - xyz[there, :2])
    away /= np.maximum(np.linalg.norm(away, axis=1, keepdims=True), 1e-6)
    reach = HALF * np.sqrt(np.trace(U, axis1=1, axis2=2) / 3) + 0.25
    is_named = ~sites.is_hydrogen & (sites.part < 2)
    for atom in np.flatnonzero(molecule.is_own & is_named[molecule.site]):
        x, y = xyz[atom, :2] + reach[atom] * away[atom]
        name = plain(sites.labels[molecule.site[atom]], longest=12)
        ax.text(x, y, name, ha="center", va="center", fontsize=6.5, zorder=xyz[:, 2].max() + 1)


def _limits(values: np.ndarray) -> tuple[float, float]:
    return float(values.min()) - 1, float(values.max()) + 1
