"""Triangles of ellipsoids and bonds, and the colours of the elements, for pictures of structures."""

from typing import NamedTuple

import gemmi
import numpy as np

from rephase.crystal.peaks import UNASSIGNED

HALF = 1.5382  # semi-axes of an ellipsoid that contains its atom half of the time, in units of its displacements
_COLOURS = {  # after Okabe & Ito, as near as they come to the usual colours of models
    "H": "#E0E0E0",
    "C": "#5A5A5A",
    "N": "#0072B2",
    "O": "#D55E00",
    "F": "#8FD3A8",
    "Cl": "#009E73",
    "Br": "#8C510A",
    "I": "#6A3D9A",
    "S": "#F0E442",
    "P": "#E69F00",
    "Si": "#C8B48A",
    "B": "#F2B6A0",
    UNASSIGNED: "#56B4E9",
}
_METAL, _LIGHT_METAL, _OTHER = "#CC79A7", "#9C89D9", "#A6761D"
_S_BLOCK = frozenset(["Li", "Be", "Na", "Mg", "K", "Ca", "Rb", "Sr", "Cs", "Ba"])


class Solid(NamedTuple):
    """A surface of triangles: vertices [n, 3] in Å and faces [m, 3], rows of its vertices."""

    vertices: np.ndarray
    faces: np.ndarray


def element_colour(element: str) -> str:
    """Return the colour of an element; alkali and alkaline-earth metals share one, and all other metals another."""
    if element in _COLOURS:
        return _COLOURS[element]
    if element in _S_BLOCK:
        return _LIGHT_METAL
    return _METAL if gemmi.Element(element).is_metal else _OTHER


def sphere(level: int) -> Solid:
    """Return a unit sphere of 12, 42 or 162 vertices: an icosahedron whose faces are divided `level` times."""
    golden = (1 + 5**0.5) / 2
    corners = [np.roll([0, x, y * golden], turn) for turn in range(3) for x in (-1, 1) for y in (-1, 1)]
    vertices = np.array(corners) / np.hypot(1, golden)
    near = np.linalg.norm(vertices[:, None] - vertices, axis=-1) < 1.2
    faces = np.argwhere(near[:, :, None] & near[:, None] & near[None])
    faces = _outwards(vertices, faces[(np.diff(faces) > 0).all(1)])
    for _ in range(level):
        edges = np.sort(faces[:, [[0, 1], [1, 2], [2, 0]]].reshape(-1, 2), axis=1)
        unique, inverse = np.unique(edges, axis=0, return_inverse=True)
        middle = vertices[unique].sum(1)
        a, b, c = (len(vertices) + inverse.reshape(-1, 3)).T
        corner = faces.T
        faces = np.stack([[corner[0], a, c], [corner[1], b, a], [corner[2], c, b], [a, b, c]]).transpose(0, 2, 1)
        faces = faces.reshape(-1, 3)
        vertices = np.concatenate([vertices, middle / np.linalg.norm(middle, axis=1, keepdims=True)])
    return Solid(vertices, faces)


def _outwards(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Order the corners of each face of a convex solid around the origin so that its normal points outwards."""
    is_inwards = np.linalg.det(vertices[faces]) < 0
    return np.where(is_inwards[:, None], faces[:, ::-1], faces)


def ellipsoids(centres: np.ndarray, U: np.ndarray, radii: np.ndarray | None, *, level: int) -> Solid:
    """Return ellipsoids of half the probability for tensors [n, 3, 3] in Å^2, or spheres of the `radii` [n] in Å."""
    unit = sphere(level)
    size, axes = np.linalg.eigh(U)
    length = HALF * np.sqrt(np.maximum(size, 0)) if radii is None else np.broadcast_to(radii[:, None], size.shape)
    shape = axes * length[:, None] @ np.swapaxes(axes, 1, 2)
    return _repeated(unit.vertices @ shape + centres[:, None], unit.faces)


def cylinders(ends: np.ndarray, radius: float, *, n_sides: int = 8) -> Solid:
    """Return open cylinders around line segments [n, 2, 3] in Å."""
    axis = ends[:, 1] - ends[:, 0]
    axis = axis / np.linalg.norm(axis, axis=1, keepdims=True)
    across = np.cross(axis, np.eye(3)[np.abs(axis).argmin(1)])
    across /= np.linalg.norm(across, axis=1, keepdims=True)
    angle = 2 * np.pi * np.arange(n_sides) / n_sides
    ring = np.cos(angle)[:, None] * across[:, None] + np.sin(angle)[:, None] * np.cross(axis, across)[:, None]
    vertices = np.concatenate([ends[:, :1] + radius * ring, ends[:, 1:] + radius * ring], axis=1)
    here = np.arange(n_sides)
    after = (here + 1) % n_sides
    sides = np.concatenate([[here, after, here + n_sides], [after, after + n_sides, here + n_sides]], axis=1).T
    return _repeated(vertices, sides)


def _repeated(vertices: np.ndarray, faces: np.ndarray) -> Solid:
    """Join copies [n, m, 3] of a solid, all with the same faces."""
    n, m, _ = vertices.shape
    return Solid(vertices.reshape(-1, 3), (faces + m * np.arange(n)[:, None, None]).reshape(-1, 3))
