"""The molecule to turn: ellipsoids and bonds in the map, with the cell and its contents."""

from base64 import b64encode
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.spatial import cKDTree
from skimage.measure import marching_cubes

from rephase.crystal.cell import Cell
from rephase.crystal.symmetry import Symmetry
from rephase.labs.solving.packing import Packing, pack
from rephase.labs.solving.solids import Solid, cylinders, element_colour, ellipsoids
from rephase.refinement.sites import Sites
from rephase.solvers.solution import Solution

if TYPE_CHECKING:
    import plotly.graph_objects as go

Trace = dict[str, Any]  # of plotly; its classes are slow to load and to fill
_U_OF_PEAKS = 0.03  # Å^2, only for their size in the picture
_BOND, _HYDROGEN = 0.07, 0.17  # radii in Å
_AROUND = 1.6  # Å: the map is shown this far from atoms
_ENCLOSED, _PART = 0.1, 0.5  # the surface is at half of the height that nine atoms in ten exceed
_MOST_VERTICES = 25_000  # of all spheres; for more atoms they are drawn more coarsely
_LARGEST_BOX = 3_000_000  # grid points around the molecule
_EDGES = "000 100 110 010 000 001 101 100 101 111 110 111 011 010 011 001"  # a path along all twelve
_FIELD = np.tan(np.pi / 8) * np.array([1.2, 1.0])  # half of what is seen at distance 1 in a box of the page: across, up
_MARGIN = 1.0  # Å around atoms and cell
_CLOSEST_VIEW = 0.6  # distance of the camera relative to the one from which the whole cell is in sight
_SHINE = {"ambient": 0.65, "diffuse": 0.7, "specular": 0.3, "roughness": 0.5, "fresnel": 0.1}
_MINOR = 0.4  # opacity of a minor disorder part
_BLUE, _STICK, _GREY = "#56B4E9", "#B8B8B8", "#777777"


def solution_in_hand(solution: Solution) -> "go.Figure":
    """Draw the molecule of a solution, or the peaks of its map, to turn in a notebook; see `molecule_in_hand`."""
    from plotly.graph_objects import Figure

    r = solution.reflections
    return Figure(molecule_in_hand(sites_to_draw(solution), r.cell, r.group, solution.density))


def sites_to_draw(solution: Solution) -> Sites:
    """Return the atoms of the model, or the peaks of the map as atoms with one U, if there is no model."""
    if solution.model is not None:
        return solution.model.sites
    peaks = solution.peaks()
    labels = [f"{element}{number}" for number, element in enumerate(peaks.elements, 1)]
    u_iso = np.full(len(labels), _U_OF_PEAKS)
    return Sites.isotropic(labels, peaks.elements, peaks.xyz_frac, u_iso, solution.reflections.cell)


def molecule_in_hand(sites: Sites, cell: Cell, symmetry: Symmetry, density: np.ndarray) -> dict[str, Any]:
    """Draw the atoms of the asymmetric unit, with the molecules that they belong to, in their map, as plotly's JSON.

    Each entry of the legend shows or hides a layer: atoms as ellipsoids of half the probability, bonds, hydrogen atoms,
    names, the map `density` [x, y, z] in e/Å^3, the cell, and all molecules of the cell.
    """
    molecule, contents = pack(sites, cell, symmetry)
    elements = np.array(sites.elements)
    surface = _surface(density, cell, molecule, elements)
    traces = [*_atoms(molecule, elements, sites.part), _names(molecule, sites), *surface]
    traces += [_cell(cell), *_contents(contents, elements)]
    middle, size = _extent(traces)
    axes = {
        f"{axis}axis": {"visible": False, "range": [m - s / 2, m + s / 2]} for axis, m, s in zip("xyz", middle, size)
    }
    layout = {
        "scene": {"aspectmode": "data", "dragmode": "orbit", "camera": _camera(molecule, cell, middle, size), **axes},
        "margin": {"l": 0, "r": 0, "b": 0, "t": 0},
        "legend": {
            **{"orientation": "h", "groupclick": "togglegroup", "itemsizing": "constant"},
            **{"y": 0, "yanchor": "top"},
        },
    }
    return {"data": [_packed(trace) for trace in traces], "layout": layout}


def _packed(trace: Trace) -> Trace:
    """Encode the arrays of a trace as plotly.js reads them fastest."""
    return {
        key: {"dtype": value.dtype.str[1:], "bdata": b64encode(value.tobytes()).decode()}
        if isinstance(value, np.ndarray)
        else value
        for key, value in trace.items()
    }


def _extent(traces: list[Trace]) -> tuple[np.ndarray, np.ndarray]:
    """Middle and size [3] in Å of a box around all layers, so that none moves the others when it appears."""
    low, high = (
        np.array([limit([limit(trace[axis]) for trace in traces if len(trace[axis])]) for axis in "xyz"])
        for limit in (np.min, np.max)
    )
    return (low + high) / 2, high - low + 1


def _camera(packing: Packing, cell: Cell, middle: np.ndarray, size: np.ndarray) -> dict[str, object]:
    """A camera that looks at a molecule at its widest, and at a good part of the cell around a small one.

    plotly scales the box to the volume 1.
    """
    view, scale = principal_axes(packing.xyz), np.prod(size) ** (1 / 3)
    seen = packing.xyz @ view.T
    centre, distance = _framed(seen)
    distance = max(distance, _CLOSEST_VIEW * _framed(np.concatenate([seen, _corners(cell) @ view.T]))[1])
    target = (centre @ view - middle) / scale
    places = {"center": target, "eye": target + distance / scale * view[2], "up": view[1]}
    return {name: dict(zip("xyz", place.tolist())) for name, place in places.items()}


def _framed(seen: np.ndarray) -> tuple[np.ndarray, float]:
    """Centre [3] of points [n, 3] along the axes of a view, and the distance in Å from which all are in sight."""
    centre = (seen.min(0) + seen.max(0)) / 2
    aside = (np.abs(seen - centre)[:, :2] + _MARGIN) / _FIELD
    return centre, float((aside.max(1) + (seen - centre)[:, 2]).max())


def _atoms(packing: Packing, elements: np.ndarray, part: np.ndarray) -> Iterator[Trace]:
    """Meshes of the atoms, one for each element, and of the bonds; those of hydrogen are a layer of their own.

    Atoms of a minor disorder part are pale, and their bonds thin.
    """
    of_atom, level, is_first = elements[packing.site], _level(len(packing)), True
    is_minor = part[packing.site] > 1
    for element in sorted(set(of_atom) - {"H"}):
        for minor in (False, True):
            rows = (of_atom == element) & (is_minor == minor)
            if rows.any():
                solid = ellipsoids(packing.xyz[rows], packing.U[rows], None, level=level)
                options = {"opacity": _MINOR} if minor else {}
                yield _mesh(solid, element_colour(element), "atoms", is_first=is_first, **options)
                is_first = False
    is_hydrogen = of_atom == "H"
    with_hydrogen = is_hydrogen[packing.bonds].any(1)
    for name, chosen in (("bonds", ~with_hydrogen), ("hydrogen atoms", with_hydrogen)):
        for thin, radius in ((False, _BOND), (True, _BOND / 2)):
            ends = packing.bonds[chosen & (is_minor[packing.bonds].any(1) == thin)]
            is_first = name == "bonds" and not thin
            yield _mesh(cylinders(packing.xyz[ends], radius), _STICK, name, is_first=is_first)
    radii = np.full(is_hydrogen.sum(), _HYDROGEN)
    solid = ellipsoids(packing.xyz[is_hydrogen], packing.U[is_hydrogen], radii, level=min(level, 1))
    yield _mesh(solid, element_colour("H"), "hydrogen atoms", is_first=True)


def _contents(packing: Packing, elements: np.ndarray) -> Iterator[Trace]:
    """Meshes of all atoms of the cell as equal balls, and of their bonds; hidden at first."""
    of_atom, level, is_first = elements[packing.site], min(1, _level(len(packing))), True
    for element in sorted(set(of_atom)):
        rows = of_atom == element
        radii = np.full(rows.sum(), _HYDROGEN if element == "H" else 0.28)
        solid = ellipsoids(packing.xyz[rows], packing.U[rows], radii, level=level)
        yield _mesh(solid, element_colour(element), "cell contents", is_first=is_first, visible="legendonly")
        is_first = False
    sticks = cylinders(packing.xyz[packing.bonds], _BOND, n_sides=5)
    yield _mesh(sticks, _STICK, "cell contents", is_first=is_first, visible="legendonly")


def _level(n_atoms: int) -> int:
    """How often the faces of each sphere are divided."""
    return max((level for level in (0, 1, 2) if n_atoms * (10 * 4**level + 2) <= _MOST_VERTICES), default=0)


def _mesh(solid: Solid, tint: str, layer: str, *, is_first: bool, **options: object) -> Trace:
    x, y, z = solid.vertices.T.astype(np.float32)
    i, j, k = solid.faces.T.astype(np.min_scalar_type(len(x)))
    return {
        **{"type": "mesh3d", "x": x, "y": y, "z": z, "i": i, "j": j, "k": k},
        **{"color": tint, "name": layer, "legendgroup": layer, "showlegend": is_first, "hoverinfo": "skip"},
        **{"lighting": _SHINE, "lightposition": {"x": 1e4, "y": 1e4, "z": 2e4}, "flatshading": False},
        **options,
    }


def _names(packing: Packing, sites: Sites) -> Trace:
    """Labels of the atoms of the asymmetric unit except hydrogen and minor disorder parts."""
    is_named = ~sites.is_hydrogen & (sites.part < 2)
    rows = np.flatnonzero(packing.is_own & is_named[packing.site])
    x, y, z = packing.xyz[rows].T
    words = [sites.labels[site] for site in packing.site[rows]]
    return {
        **{"type": "scatter3d", "mode": "text", "x": x, "y": y, "z": z, "text": words, "textposition": "top right"},
        **{"name": "names", "legendgroup": "names", "showlegend": True, "hoverinfo": "skip", "textfont": {"size": 12}},
    }


def _surface(density: np.ndarray, cell: Cell, packing: Packing, elements: np.ndarray) -> list[Trace]:
    """Surface of the map around the atoms; none if the map is nowhere high enough."""
    shape, inverse = np.array(density.shape), np.linalg.inv(cell.orthogonalisation)
    heavy = packing.xyz[elements[packing.site] != "H"]
    places = heavy @ inverse.T * shape
    at_atoms = density[tuple((np.rint(places).astype(int) % shape).T)]
    level = _PART * float(np.quantile(at_atoms, _ENCLOSED))
    margin = _AROUND * np.linalg.norm(inverse, axis=1) * shape
    low, high = np.floor(places.min(0) - margin).astype(int), np.ceil(places.max(0) + margin).astype(int)
    step = int(np.ceil((np.prod(high - low + 1) / _LARGEST_BOX) ** (1 / 3)))
    axes = [np.arange(a, b + step, step) for a, b in zip(low, high)]
    box = density[np.ix_(*(axis % n for axis, n in zip(axes, shape)))]
    above = np.argwhere(box > level)
    points = (low + step * above) / shape @ cell.orthogonalisation.T
    far = cKDTree(heavy).query(points, distance_upper_bound=_AROUND)[0] > _AROUND
    box[tuple(above[far].T)] = 0.0
    if not 0 < level < box.max():
        return []
    vertices, faces, _, _ = marching_cubes(box, level)
    solid = Solid((low + step * vertices) / shape @ cell.orthogonalisation.T, faces)
    return [_mesh(solid, _BLUE, f"map, {level:.2f} e/Å³", is_first=True, opacity=0.25)]


def _cell(cell: Cell) -> Trace:
    """Edges of the cell, with the names of its axes at their ends."""
    x, y, z = _corners(cell).T
    words = ["0", "a", "", "b", "", "c"] + [""] * (len(x) - 6)
    return {
        **{"type": "scatter3d", "mode": "lines+text", "x": x, "y": y, "z": z, "text": words, "hoverinfo": "skip"},
        **{"line": {"color": _GREY, "width": 2}, "textfont": {"size": 13, "color": _GREY}},
        **{"name": "cell", "legendgroup": "cell", "showlegend": True},
    }


def _corners(cell: Cell) -> np.ndarray:
    """Corners [16, 3] in Å along the path of the edges."""
    path = np.array([int(corner, 2) for corner in _EDGES.split()])[:, None] // (4, 2, 1) % 2
    return np.asarray(path @ cell.orthogonalisation.T)


def principal_axes(xyz: np.ndarray) -> np.ndarray:
    """Return right-handed unit vectors [3, 3] as rows along which points [n, 3] extend most, second and least."""
    axes = np.linalg.eigh((xyz - xyz.mean(0)).T @ (xyz - xyz.mean(0)))[1].T[::-1].copy()
    axes[2] = np.cross(axes[0], axes[1])
    return axes
