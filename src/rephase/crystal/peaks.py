"""Peaks of a density: its symmetry-distinct maxima, and the assignment of a formula's elements to them."""

import re
from collections.abc import Mapping
from typing import NamedTuple

import gemmi
import numpy as np
import scipy

from rephase.crystal.cell import Cell
from rephase.crystal.symmetry import Symmetry
from rephase.errors import CifError, GridError

UNASSIGNED = "Q"  # as SHELX names a peak without an element
HIGH = 3.0  # σ of the map; higher peaks are shown
_MOST_ATOMS = 100_000  # largest count of an element in a formula
_SHOWN = 200  # letters of a formula in a message
_ABOVE_NOISE = 3.0  # σ of the map between the atoms; at true phases, atoms of 13 real crystals to 1.2 Å are above 3.5
_CLOSEST = 0.5  # Å; closer maxima are one atom
VOLUME_PER_ATOM = 18.0  # Å^3 per non-hydrogen atom (Kempster & Lipson 1972, Acta Cryst. B28, 3674)
_WHOLE = 0.02  # of a set of equivalent atoms
_MISFIT = 0.5  # what it costs in the logarithm of Z that no element has a whole number of such sets
_NEAR_TOP = 0.7  # of the highest grid point; interpolation raises a lower maximum less than this
_EARLIER = np.array([step for step in np.ndindex(3, 3, 3) if step < (1, 1, 1)]) - 1  # half of the neighbours of a point


class Peaks(NamedTuple):
    """Peaks by descending height: ``xyz_frac`` [n, 3] in [0, 1), ``height`` [n] in e/Å^3, ``elements`` (Q: none)."""

    xyz_frac: np.ndarray
    height: np.ndarray
    elements: tuple[str, ...]


def find_peaks(density: np.ndarray, cell: Cell, symmetry: Symmetry, n: int) -> Peaks:
    """Return the `n` highest maxima of a map, one per set of equivalents, interpolated between grid points.

    A parabola through the 27 points around a maximum gives its position and height. A peak within 0.5 Å of its own
    image lies on a special position and is moved there; one within 0.5 Å of a higher peak is left out.

    Parameters
    ----------
    density
        Map [x, y, z] of the whole cell in e/Å^3, at least three points along each axis.
    n
        Largest number of peaks; only maxima above zero count.

    Raises
    ------
    GridError
        The map is not three-dimensional, is too small or is not finite.
    """
    density = np.asarray(density, float)
    if density.ndim != 3 or min(density.shape) < 3 or not np.isfinite(density).all():
        raise GridError(
            f"density {density.shape}: expected a finite map [x, y, z] with at least 3 points along an axis"
        )
    positions, heights = _interpolated(density, _maxima(density))
    order = np.argsort(-heights, kind="stable")
    candidates, heights = positions[order], heights[order]
    near = _Neighbourhood(candidates, cell)
    left = np.ones(len(candidates), bool)
    found: list[tuple[np.ndarray, float]] = []
    for first in range(len(candidates)):
        if len(found) == n:
            break
        if left[first]:
            xyz = _on_special_position(candidates[first], cell, symmetry)
            found.append((xyz, heights[first]))
            left[near(symmetry.rotations @ xyz + symmetry.translations)] = False
    xyz_frac = np.array([xyz for xyz, _ in found]).reshape(-1, 3)
    return Peaks(xyz_frac, np.array([height for _, height in found]), (UNASSIGNED,) * len(found))


def highest_peak(density: np.ndarray) -> float:
    """Return the height in e/Å^3 of the first of `find_peaks`, from the highest grid points only; 0 for no peak."""
    points = np.argwhere(density > max(_NEAR_TOP * density.max(), 0.0))
    value = density[tuple(points.T)]
    around = [density[tuple(((points + step) % density.shape).T)] for step in (*_EARLIER, *-_EARLIER)]
    return float(_interpolated(density, points[(value >= around).all(0)])[1].max(initial=0.0))


class _Neighbourhood:
    """Find which of the points [n, 3], fractional in [0, 1), lie within 0.5 Å of others in the periodic crystal."""

    def __init__(self, points: np.ndarray, cell: Cell):
        self._cell = cell
        margin = _CLOSEST * np.linalg.norm(np.linalg.inv(cell.orthogonalisation), axis=1)  # in fractions of the axes
        rows, places = np.arange(len(points)), points
        for axis, width in zip(np.eye(3), margin):  # points near a face are repeated beside the opposite face
            along = places @ axis
            low, high = along < width, along > 1 - width
            rows = np.concatenate([rows, rows[low], rows[high]])
            places = np.concatenate([places, places[low] + axis, places[high] - axis])
        self._rows, self._tree = rows, scipy.spatial.cKDTree(places @ cell.orthogonalisation.T)

    def __call__(self, xyz_frac: np.ndarray) -> np.ndarray:
        """Rows of the points that lie near any of ``xyz_frac [k, 3]``."""
        found = self._tree.query_ball_point((xyz_frac % 1.0) @ self._cell.orthogonalisation.T, _CLOSEST)
        return self._rows[np.array([row for rows in found for row in rows], dtype=int)]


def without_noise(peaks: Peaks, density: np.ndarray) -> Peaks:
    """Keep the peaks above 3 σ of the map between the atoms, and always the highest peak.

    This σ is 1.48 times the median absolute deviation, to which the few grid points at atoms hardly contribute: beside
    heavy atoms, light ones are below 3 σ of the whole map.
    """
    sigma = 1.4826 * np.median(np.abs(density - np.median(density)))
    n = max(1, int((peaks.height > _ABOVE_NOISE * sigma).sum()))
    return Peaks(peaks.xyz_frac[:n], peaks.height[:n], peaks.elements[:n])


def assign_elements(peaks: Peaks, formula: str, symmetry: Symmetry, cell: Cell) -> Peaks:
    """Assign the elements of a formula to the highest peaks, heaviest first, without hydrogen; other peaks stay Q.

    The number of formula units in the cell is the one that the group allows and that comes closest to 18 Å^3 per
    non-hydrogen atom. A peak on a special position counts as fewer atoms.

    Raises
    ------
    CifError
        The formula does not consist of element symbols and counts.
    """
    counts = parse_formula(formula)
    images = len(symmetry.triplets) // site_order(peaks.xyz_frac, cell, symmetry)
    n_units = units_in_cell(counts, symmetry, cell, unit=common_images(images))
    budget = [
        (element, count * n_units)
        for element, count in sorted(counts.items(), key=lambda item: -gemmi.Element(item[0]).atomic_number)
        if element not in ("H", "D")
    ]
    elements = []
    for n_images in images:
        while budget and budget[0][1] < n_images / 2:
            budget.pop(0)
        elements.append(budget[0][0] if budget else UNASSIGNED)
        if budget:
            budget[0] = (budget[0][0], budget[0][1] - n_images)
    return peaks._replace(elements=tuple(elements))


def parse_formula(formula: str) -> dict[str, float]:
    """Return the count of each element in a formula.

    Raises
    ------
    CifError
        The formula has brackets, charges, separators, unknown elements, or counts that are not positive or not finite.

    >>> parse_formula("C20 H22 N2 O")
    {'C': 20.0, 'H': 22.0, 'N': 2.0, 'O': 1.0}
    """
    words = re.findall(r"([A-Z][a-z]?)\s*(\d+(?:\.\d*)?)?", formula)
    counts: dict[str, float] = {}
    for element, count in words:
        counts[element] = counts.get(element, 0.0) + float(count or 1)
    rebuilt = "".join(element + count for element, count in words)
    reason = _fault(formula, counts)
    if reason or not counts or rebuilt != re.sub(r"\s", "", formula):
        raise CifError(
            f"formula {formula[:_SHOWN]!r}: expected element symbols and counts above 0, "
            f"such as 'C20 H22 N2 O3'{reason}"
        )
    return counts


def _fault(formula: str, counts: dict[str, float]) -> str:
    """Say what is wrong with a formula, with a remedy; "" if that is unknown."""
    if sign := re.search(r"[^A-Za-z\d.\s]", formula):
        return f"; {sign[0]!r} is neither: multiply brackets out, add parts up, leave charges out"
    if unknown := [element for element in counts if gemmi.Element(element).atomic_number == 0]:
        return f"; {unknown[0]} is not an element"
    if wrong := [element for element, count in counts.items() if not 0 < count <= _MOST_ATOMS]:
        return f"; the count of {wrong[0]} is 0 or more than {_MOST_ATOMS:,}"
    return ""


def units_in_cell(counts: dict[str, float], symmetry: Symmetry, cell: Cell, *, unit: int = 1) -> int:
    """Estimate the number Z of formula units in the cell: a multiple or a divisor of the number of operations.

    The volume of 18 Å^3 per atom is exceeded or not reached where elements would otherwise have other numbers of atoms
    than multiples of `unit`, the greatest common divisor of the images of the atoms that were found.
    """
    heavy = {element: count for element, count in counts.items() if element not in ("H", "D")} or counts
    order = len(symmetry.triplets)
    allowed = np.array([k for k in range(1, order) if order % k == 0] + [order * k for k in range(1, 33)])
    expected = cell.volume / (VOLUME_PER_ATOM * sum(heavy.values()))
    return likeliest_units(allowed, expected, heavy, unit)


def likeliest_units(allowed: np.ndarray, expected: float, counts: Mapping[str, float], unit: int) -> int:
    """Return the Z among `allowed` that is closest to the expected one, if it gives elements multiples of `unit`."""
    n_sets = allowed[:, None] * np.array(list(counts.values())) / unit
    misfits = (np.abs(n_sets - np.rint(n_sets)) > _WHOLE).mean(1)
    return int(allowed[np.argmin(np.abs(np.log(allowed / expected)) + _MISFIT * misfits)])


def common_images(n_images: np.ndarray) -> int:
    """Return the greatest common divisor of the numbers of images [n] of atoms in the cell; 1 if there are none."""
    return int(np.gcd.reduce(n_images, initial=0)) or 1


def site_order(xyz_frac: np.ndarray, cell: Cell, symmetry: Symmetry) -> np.ndarray:
    """Count the operations that map each position [n, 3] onto itself (to 0.05 Å): 1 for a general position."""
    moved = np.einsum("oij,nj->noi", symmetry.rotations, xyz_frac) + symmetry.translations
    return (distances(moved - np.asarray(xyz_frac)[:, None], cell) < 0.05).sum(1)


def _maxima(density: np.ndarray) -> np.ndarray:
    """Grid points [m, 3] above zero that no neighbour exceeds; the first of equal neighbours."""
    points = np.argwhere((density == scipy.ndimage.maximum_filter(density, 3, mode="wrap")) & (density > 0))
    height, is_first = density[tuple(points.T)], np.ones(len(points), bool)
    for step in _EARLIER:
        is_first &= height > density[tuple(((points + step) % density.shape).T)]
    return points[is_first]


def _interpolated(density: np.ndarray, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Position [m, 3] (fractional) and height [m] of the maximum of a paraboloid through each point's neighbours."""
    shape = np.array(density.shape)

    def value(step: np.ndarray) -> np.ndarray:
        return density[tuple(((points + step) % shape).T)]

    axes = np.eye(3, dtype=int)
    centre = value(np.zeros(3, int))
    gradient = np.stack([(value(a) - value(-a)) / 2 for a in axes], axis=-1)
    curvature = np.empty((len(points), 3, 3))
    for i, a in enumerate(axes):
        curvature[:, i, i] = value(a) - 2 * centre + value(-a) - 1e-9 * np.abs(centre)
        for j, b in enumerate(axes[:i]):
            mixed = value(a + b) - value(a - b) - value(b - a) + value(-a - b)
            curvature[:, i, j] = curvature[:, j, i] = mixed / 4
    is_cap = np.linalg.eigvalsh(curvature).max(-1) < 0 if len(points) else np.zeros(0, bool)
    curvature[~is_cap] *= np.eye(3)  # without the mixed terms, the paraboloid always has a maximum
    offset = np.clip(-np.linalg.solve(curvature, gradient[..., None])[..., 0], -0.5, 0.5)
    height = centre + (gradient * offset).sum(-1) + np.einsum("ni,nij,nj->n", offset, curvature, offset) / 2
    return (points + offset) / shape % 1.0, height


def high_images(peaks: Peaks, density: np.ndarray, symmetry: Symmetry) -> np.ndarray:
    """Fractional positions [n, 3] in one cell of the peaks above 3 σ of the map and of all their images."""
    high = peaks.xyz_frac[peaks.height >= HIGH * density.std()]
    images = np.einsum("oij,aj->aoi", symmetry.rotations, high) + symmetry.translations
    return images.reshape(-1, 3) % 1.0


def _on_special_position(xyz: np.ndarray, cell: Cell, symmetry: Symmetry) -> np.ndarray:
    """Average a position with its images that are closer than 0.5 Å."""
    steps = symmetry.rotations @ xyz + symmetry.translations - xyz
    steps -= np.rint(steps)
    return (xyz + steps[distances(steps, cell) < _CLOSEST].mean(0)) % 1.0


def distances(steps: np.ndarray, cell: Cell) -> np.ndarray:
    """Lengths in Å of fractional steps [..., 3] modulo whole cells; exact below half of the shortest plane spacing."""
    return np.linalg.norm((steps - np.rint(steps)) @ cell.orthogonalisation.T, axis=-1)
