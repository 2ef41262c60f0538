"""What the difference map and the displacements of a refined model ask for: second sites, partial and missed atoms."""

from dataclasses import replace
from typing import NamedTuple

import gemmi
import numpy as np
import scipy

from rephase.crystal.cell import Cell
from rephase.crystal.peaks import distances, find_peaks
from rephase.crystal.symmetry import Symmetry
from rephase.refinement.difference_map import difference_map
from rephase.refinement.model import Model
from rephase.refinement.sites import Sites, isotropic_u

_N_PEAKS = 12
_SIGNIFICANT = 5.0  # rms of the difference map
_SPLIT = 0.5, 1.1  # Å, between two sites of one atom
_BESIDE_HYDROGEN = 0.7  # Å; closer peaks belong to it
_SINGLE = 1.15  # Å; a peak that is closer to two atoms is the density of their bond
_SECOND = 0.055  # smallest height of a peak at a second site, in e/Å^3 for each electron of the atom
_MISSED = 2.4  # smallest height in e/Å^3 of a peak at an atom that was missed
_GHOST = 0.35  # Å^2, U_eq of what is no atom
_LOOSE, _NEARBY = 2.0, 4.0  # U_eq relative to the median within 4 Å, above which the occupancy is refined
_ONE_DISORDER = 3.2  # Å; second sites that are closer to each other have one occupancy
_START = 0.3  # occupancy of a second site
_SMALLEST, _WHOLE = 0.1, 0.9  # an atom with less is removed, one with more is full
_SURE = 4.0  # su by which an occupancy differs from 1


class Amended(NamedTuple):
    """Sites without hydrogen, and the variables [n] of their occupancies, see `free_parameters`."""

    sites: Sites
    occupancies: np.ndarray


def amended(model: Model) -> Amended | None:
    """Return the model with second sites, missed atoms, and variables for partial ones; None if it lacks nothing.

    A peak of the difference map that is close to a single atom and to no hydrogen atom is a second site of this atom; a
    high one that is apart from all atoms is another atom, taken as carbon. An atom may be partial if its displacements
    are far larger than those nearby; what has hardly any density is removed.
    """
    cell, symmetry = model.cell, model.symmetry
    sites = model.sites.take(~model.sites.is_hydrogen)
    usual = _usual_u(sites, cell, symmetry)
    u = sites.u_equivalent(cell)
    is_partial = (sites.part == 0) & ((u > _LOOSE * usual) | (sites.occupancy < 1))
    second, missed = _peaks(model)
    if not (is_partial.any() or second.atom.size or len(missed)):
        return None
    occupancies = np.cumsum(is_partial) * is_partial
    sites, occupancies = _split(sites, occupancies, second, usual, cell)
    sites, occupancies = _without(sites, occupancies, np.r_[u > _GHOST, np.zeros(len(second.atom), bool)])
    added = Sites.isotropic(["C"] * len(missed), ["C"] * len(missed), missed, np.full(len(missed), np.median(u)), cell)
    sites, occupancies = sites.joined(added), np.r_[occupancies, np.zeros(len(missed), int)]
    return Amended(sites.relabelled(sites.elements), occupancies)


def settled(model: Model, occupancies: np.ndarray) -> Amended:
    """Return the refined sites: atoms that have faded are removed, and those that are hardly partial are full."""
    sites, su = model.sites, model.uncertainties.occupancy
    is_full = (sites.occupancy > _WHOLE) | ((sites.part == 0) & (1 - sites.occupancy < _SURE * su))
    part = np.where(is_full, 0, sites.part)
    sites = replace(sites, occupancy=np.where(is_full, 1.0, sites.occupancy), part=part)
    fades = (sites.occupancy < _SMALLEST) | (sites.u_equivalent(model.cell) > _GHOST)
    return Amended(*_without(sites, np.where(is_full, 0, occupancies), fades))


class _Second(NamedTuple):
    """Second sites: the atom [m] that each belongs to, and positions [m, 3] beside it."""

    atom: np.ndarray
    xyz_frac: np.ndarray


def _peaks(model: Model) -> tuple[_Second, np.ndarray]:
    """Return second sites of the atoms other than hydrogen, and positions [k, 3] of missed atoms."""
    cell, symmetry = model.cell, model.symmetry
    density = difference_map(model.data, model.sites, model.F, model.intensity_calc)
    peaks = find_peaks(density, cell, symmetry, _N_PEAKS)
    high = peaks.height > _SIGNIFICANT * density.std()
    xyz_frac, height = peaks.xyz_frac[high], peaks.height[high]
    is_hydrogen = model.sites.is_hydrogen
    heavy, hydrogens = (model.sites.take(chosen) for chosen in (~is_hydrogen, is_hydrogen))
    images = np.einsum("oij,pj->poi", symmetry.rotations, xyz_frac) + symmetry.translations
    steps = images[:, :, None] - heavy.xyz_frac
    apart = distances(steps, cell)  # [n_peaks, n_operations, n_atoms]
    nearest = apart.min(1)
    atom = nearest.argmin(1)
    rows = np.arange(len(atom))
    image = apart[rows, :, atom].argmin(1)
    beside = images[rows, image] - np.rint(steps[rows, image, atom])
    from_hydrogen = distances(images[:, :, None] - hydrogens.xyz_frac, cell).min((1, 2), initial=np.inf)
    is_free = from_hydrogen > _BESIDE_HYDROGEN
    closest = np.sort(nearest, axis=1)[:, :2]
    electrons = np.array([gemmi.Element(element).atomic_number for element in heavy.elements])[atom]
    is_second = (closest[:, 0] > _SPLIT[0]) & (closest[:, 0] < _SPLIT[1]) & (closest[:, 1:] > _SINGLE).all(1)
    is_second &= is_free & (height > _SECOND * electrons) & (heavy.part[atom] == 0)
    is_second &= np.array([not (is_second[:row] & (atom[:row] == atom[row])).any() for row in rows], bool)
    is_missed = is_free & (closest[:, 0] > _SINGLE) & (height > _MISSED)
    return _Second(atom[is_second], beside[is_second]), xyz_frac[is_missed]


def _split(
    sites: Sites, occupancies: np.ndarray, second: _Second, usual: np.ndarray, cell: Cell
) -> tuple[Sites, np.ndarray]:
    """Add second sites in part 2, whose occupancies complement those of the first; all become isotropic."""
    atom = second.atom
    steps = (second.xyz_frac[:, None] - second.xyz_frac) @ cell.orthogonalisation.T
    cluster = (
        scipy.sparse.csgraph.connected_components(np.linalg.norm(steps, axis=-1) < _ONE_DISORDER)[1]
        if len(atom)
        else atom
    )
    variable = occupancies.max(initial=0) + 1 + cluster
    u, occupancy, part, is_anisotropic = (
        column.copy() for column in (sites.U, sites.occupancy, sites.part, sites.is_anisotropic)
    )
    u[atom], occupancy[atom], part[atom] = isotropic_u(usual[atom], cell), 1 - _START, 1
    is_anisotropic[atom] = False
    occupancies = occupancies.copy()
    occupancies[atom] = variable
    first = replace(sites, U=u, occupancy=occupancy, part=part, is_anisotropic=is_anisotropic)
    other = replace(
        first.take(atom),
        xyz_frac=second.xyz_frac,
        occupancy=np.full(len(atom), _START),
        part=np.full(len(atom), 2),
    )
    return first.joined(other), np.r_[occupancies, -variable]


def _usual_u(sites: Sites, cell: Cell, symmetry: Symmetry) -> np.ndarray:
    """Return the median U_eq [n] of the atoms within 4 Å of each, itself included."""
    images = np.einsum("oij,nj->oni", symmetry.rotations, sites.xyz_frac) + symmetry.translations[:, None]
    is_near = distances(sites.xyz_frac[:, None, None] - images, cell).min(1) < _NEARBY
    return np.asarray(np.nanmedian(np.where(is_near, sites.u_equivalent(cell), np.nan), axis=1))


def _without(sites: Sites, occupancies: np.ndarray, removed: np.ndarray) -> tuple[Sites, np.ndarray]:
    return sites.take(~removed), occupancies[~removed]
