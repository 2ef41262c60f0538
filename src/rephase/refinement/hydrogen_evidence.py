"""Where hydrogen atoms point: by the difference density, or else by the closest acceptor of a hydrogen bond."""

import gemmi
import numpy as np
import scipy

from rephase.crystal.cell import Cell
from rephase.crystal.symmetry import Symmetry
from rephase.refinement.bonds import find_bonds
from rephase.refinement.contacts import find_contacts
from rephase.refinement.hydrogen_geometry import directions
from rephase.refinement.sites import Sites
from rephase.refinement.surroundings import Surroundings

_MOST_BONDS = {"N": 3, "O": 3, "S": 2, "F": 1, "Cl": 1, "Br": 1, "I": 1}  # of an acceptor
_TURNS = np.radians(np.arange(0, 360, 5))
_REACH = 3.6  # Å from donor to acceptor
_BONDED = 2.5  # Å; closer atoms belong to the donor's own group
_N_DIRECTIONS = 400
_WATER_COSINES = np.cos(np.radians([118.0, 92.0]))  # range of the angle H-O-H
_APART_FROM_BOND = np.cos(np.radians(75.0))


def are_acceptors(sites: Sites, cell: Cell, symmetry: Symmetry) -> np.ndarray:
    """Return which atoms [n] can accept a hydrogen bond: they have a lone pair, so the centre of an ion is none.

    N has at most three bonds, O three, S two and a halogen one; those to metals count for N only.
    """
    bonds = find_bonds(sites, cell, symmetry)
    is_metal = np.array([gemmi.Element(element).is_metal for element in sites.elements], bool)
    elements = np.array(sites.elements, dtype=object)
    counted = ~is_metal[bonds.second] | (elements[bonds.first] == "N")
    most = np.array([_MOST_BONDS.get(element, -1) for element in sites.elements], int)
    return np.bincount(bonds.first[counted], minlength=len(sites)) <= most


class Evidence:
    """A difference map [x, y, z] of one cell in e/Å^3, interpolated by cubic splines; ``sigma`` is its rms."""

    def __init__(self, density: np.ndarray):
        self.sigma = float(np.std(density))
        self._shape = np.array(density.shape)
        self._coefficients = scipy.ndimage.spline_filter(np.asarray(density, float), order=3, mode="grid-wrap")

    def __call__(self, xyz_frac: np.ndarray) -> np.ndarray:
        """Return the density [...] at ``xyz_frac [..., 3]``."""
        points = np.moveaxis(xyz_frac * self._shape, -1, 0)
        return scipy.ndimage.map_coordinates(self._coefficients, points, order=3, mode="grid-wrap", prefilter=False)


def torsion_in_map(
    around: Surroundings, afix: int, distance: np.ndarray, sites: Sites, cell: Cell, evidence: Evidence
) -> np.ndarray:
    """Return the torsion [m] at which the density at the hydrogen atoms of a rotating group is highest."""
    turned = np.stack(
        [directions(around, afix, turn) for turn in np.full((len(_TURNS), len(distance)), _TURNS[:, None])]
    )
    steps = turned * distance[:, None, None] @ np.linalg.inv(cell.orthogonalisation).T  # [turn, m, k, 3]
    density = evidence(sites.xyz_frac[around.atom][:, None] + steps).sum(-1)
    return _TURNS[density.argmax(0)]


def torsion_to_acceptor(
    around: Surroundings, afix: int, distance: np.ndarray, sites: Sites, cell: Cell, symmetry: Symmetry
) -> np.ndarray:
    """Return the torsion [m] that brings a hydrogen atom closest to an acceptor; staggered if there is none."""
    contacts = find_contacts(sites.xyz_frac, cell, symmetry, _REACH)
    accepts = are_acceptors(sites, cell, symmetry)
    contacts = contacts.take(accepts[contacts.second] & (contacts.distance > _BONDED))
    places = np.einsum("pij,pj->pi", contacts.rotation, sites.xyz_frac[contacts.second]) + contacts.shift
    vectors = (places - sites.xyz_frac[contacts.first]) @ cell.orthogonalisation.T
    turned = np.stack([directions(around, afix, np.full(len(distance), turn))[:, 0] for turn in _TURNS])
    steps = (turned * distance[:, None])[:, :, None] - vectors  # [turn, m, contact, 3]
    far = np.where(contacts.first == around.atom[:, None], np.linalg.norm(steps, axis=-1), np.inf).min(
        -1, initial=np.inf
    )
    return np.where(np.isfinite(far).any(0), _TURNS[far.argmin(0)], np.pi)


def water_directions(
    around: Surroundings, distance: np.ndarray, sites: Sites, cell: Cell, evidence: Evidence
) -> np.ndarray:
    """Return the two directions [m, 2, 3] at an angle of 92 to 118° with the highest density, apart from bonds."""
    sphere = _sphere()
    steps = sphere * distance[:, None, None] @ np.linalg.inv(cell.orthogonalisation).T
    density = evidence(sites.xyz_frac[around.atom][:, None] + steps)  # [m, direction]
    length = np.maximum(np.linalg.norm(around.vector, axis=-1, keepdims=True), 1e-12)
    along = np.einsum("mki,di->mkd", around.vector / length, sphere).max(1)
    density = np.where(along > _APART_FROM_BOND, -1e3, density)
    cosines = sphere @ sphere.T
    fits = (cosines > _WATER_COSINES[0]) & (cosines < _WATER_COSINES[1])
    both = np.stack([np.where(fits, np.minimum(row[:, None], row), -1e6).ravel().argmax() for row in density])
    return sphere[np.stack(np.divmod(both, len(sphere)), axis=1)]


def _sphere() -> np.ndarray:
    """Return directions [n, 3] spread evenly by the golden angle."""
    steps = np.arange(_N_DIRECTIONS)
    z, turn = 1 - (2 * steps + 1) / _N_DIRECTIONS, np.pi * (3 - np.sqrt(5)) * steps
    across = np.sqrt(1 - z**2)
    return np.stack([across * np.cos(turn), across * np.sin(turn), z], axis=1)
