"""Space that the atoms of a model leave empty, and the electrons of the difference map in it."""

from typing import NamedTuple

import gemmi
import numpy as np
import scipy

from rephase.crystal.cell import Cell
from rephase.crystal.density import density_of
from rephase.crystal.symmetry import Symmetry
from rephase.refinement.model import Model
from rephase.refinement.sites import Sites

_PROBE = 1.2  # Å, radius of a sphere that has to fit between the atoms
_SPACING = 0.5  # Å between grid points
_LARGEST_RADIUS = 3.0  # Å


class Voids(NamedTuple):
    """``volume`` of the voids of the cell in Å^3, its ``share`` of the cell, and their ``electrons``."""

    volume: float
    share: float
    electrons: float


def find_voids(model: Model) -> Voids:
    """Find the space where a sphere of 1.2 Å fits between the van der Waals spheres, and what the data see in it.

    The electrons are the difference density in the voids above its mean elsewhere, which is known without F(000).

    References
    ----------
    van der Sluis & Spek (1990), doi:10.1107/S0108767389011189.
    """
    grid = _grid(model.cell)
    is_void = void_mask(model.sites, model.cell, model.symmetry, grid)
    volume = model.cell.volume * float(is_void.mean())
    if not is_void.any():
        return Voids(0.0, 0.0, 0.0)
    density = _difference_density(model)
    places = (grid * density.shape).T
    values = scipy.ndimage.map_coordinates(density, places, order=1, mode="grid-wrap")
    contrast = float(values[is_void].mean() - values[~is_void].mean()) if not is_void.all() else 0.0
    return Voids(volume, volume / model.cell.volume, contrast * volume)


def void_mask(sites: Sites, cell: Cell, symmetry: Symmetry, grid: np.ndarray) -> np.ndarray:
    """Return whether each fractional point [n, 3] of a periodic grid is in a void, [n]."""
    to_cartesian = cell.orthogonalisation.T
    points = grid @ to_cartesian
    gap = np.full(len(grid), np.inf)
    elements = np.array(sites.elements)
    for element in set(sites.elements):
        positions = sites.xyz_frac[elements == element]
        images = np.einsum("oij,aj->oai", symmetry.rotations, positions) + symmetry.translations[:, None]
        around = _around(images.reshape(-1, 3) % 1.0, cell, _LARGEST_RADIUS + 2 * _PROBE) @ to_cartesian
        np.minimum(gap, scipy.spatial.cKDTree(around).query(points)[0] - gemmi.Element(element).vdw_r, out=gap)
    centres = grid[gap > _PROBE]
    if not len(centres):
        return np.zeros(len(grid), bool)
    around = _around(centres, cell, _PROBE) @ to_cartesian
    return scipy.spatial.cKDTree(around).query(points, distance_upper_bound=_PROBE)[0] <= _PROBE


def _grid(cell: Cell) -> np.ndarray:
    """Fractional points [n, 3] of a grid of the cell."""
    shape = tuple(int(np.ceil(length / _SPACING)) for length in cell.parameters[:3])
    return np.indices(shape).reshape(3, -1).T / shape


def _around(xyz_frac: np.ndarray, cell: Cell, margin: float) -> np.ndarray:
    """Repeat positions [n, 3] in [0, 1) by the lattice as far as `margin` (Å) beyond the cell."""
    beyond = margin * np.sqrt(np.diag(cell.reciprocal_metric))
    reach = np.ceil(beyond).astype(int)
    steps = np.indices(tuple(2 * reach + 1)).reshape(3, -1).T - reach
    images = (xyz_frac + steps[:, None]).reshape(-1, 3)
    return images[((images >= -beyond) & (images <= 1 + beyond)).all(1)]


def _difference_density(model: Model) -> np.ndarray:
    observed = np.sqrt(np.maximum(model.data.intensity, 0)) / model.scale
    difference = (observed - np.sqrt(model.intensity_calc) / model.scale) * np.exp(1j * np.angle(model.F))
    return density_of(model.data.hkl, difference, model.cell, model.symmetry)
