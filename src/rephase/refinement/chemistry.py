"""Whether a finished model makes chemical sense: distances, valences, angles and isolated atoms."""

from typing import NamedTuple

import numpy as np

from rephase.crystal.cell import Cell
from rephase.crystal.symmetry import Symmetry
from rephase.refinement.atoms.restraints import Pairs
from rephase.refinement.bonds import covalent_radii, find_bonds
from rephase.refinement.contacts import find_contacts
from rephase.refinement.geometry import REACH, mean_geometry
from rephase.refinement.sites import Sites

# Most neighbours that are not metals; other elements may have any number.
_MOST_NEIGHBOURS = {"H": 1, "B": 4, "C": 4, "N": 4, "O": 3, "F": 1, "Si": 6, "P": 6, "S": 6, "Cl": 4, "Br": 4, "I": 6}
_CHAIN = ("B", "C", "N")  # elements that do not occur as single atoms, apart from ammonia
_METALLIC = 1.2  # Å; larger covalent radii are those of metals
_TOO_SHORT = 0.78  # shortest bond relative to the sum of covalent radii; the C-N triple bond has 0.79
_SMALLEST_ANGLE = 56.0  # degrees; a three-membered ring has 60
_SHOWN = 5  # labels in a sentence


class Chemistry(NamedTuple):
    """Figures of a model's chemistry, and sentences on what is odd.

    ``sensible`` is the share of atoms, without hydrogen, that have no odd distance, valence, angle or isolation;
    ``n_short``, ``n_crowded``, ``n_angles`` and ``n_isolated`` count atoms with a distance too short, with too many
    neighbours, with an angle below 56°, and light ones without neighbours; ``geometry`` is the mean log likelihood of
    the bonds of the light atoms.
    """

    sensible: float
    n_short: int
    n_crowded: int
    n_angles: int
    n_isolated: int
    geometry: float
    remarks: tuple[str, ...]


def check_chemistry(sites: Sites, cell: Cell, symmetry: Symmetry) -> Chemistry:
    """Check the chemistry of a model, with or without hydrogen atoms."""
    bonds = find_bonds(sites, cell, symmetry)
    radii = covalent_radii(sites.elements)
    faults = {
        "closer to another atom than any bond": _is_short(sites, radii, cell, symmetry),
        "with more neighbours than the element bonds to": _is_crowded(sites, radii, bonds),
        f"with an angle below {_SMALLEST_ANGLE:g}°": _has_narrow_angle(sites, radii, bonds, cell),
        "without neighbours, though of an element that forms chains": _is_isolated(sites, bonds),
    }
    heavy = ~sites.is_hydrogen
    is_odd = np.any([fault & heavy for fault in faults.values()], axis=0)
    n_short, n_crowded, n_angles, n_isolated = (int((fault & heavy).sum()) for fault in faults.values())
    remarks = [_sentence(np.array(sites.labels)[fault & heavy], what) for what, fault in faults.items()]
    return Chemistry(
        1 - float(is_odd.sum()) / max(int(heavy.sum()), 1),
        n_short,
        n_crowded,
        n_angles,
        n_isolated,
        mean_geometry(*_contacts_without_hydrogen(sites, cell, symmetry)),
        tuple(filter(None, remarks)),
    )


def _is_short(sites: Sites, radii: np.ndarray, cell: Cell, symmetry: Symmetry) -> np.ndarray:
    """Return whether each atom [n] is too close to another; partly occupied and hydrogen atoms are not judged."""
    pairs = find_contacts(sites.xyz_frac, cell, symmetry, _TOO_SHORT * 2 * float(radii.max(initial=0)))
    judged = (sites.occupancy == 1) & ~sites.is_hydrogen
    is_short = pairs.distance < _TOO_SHORT * (radii[pairs.first] + radii[pairs.second])
    return _marked(pairs.first[is_short & judged[pairs.first] & judged[pairs.second]], len(sites))


def _is_crowded(sites: Sites, radii: np.ndarray, bonds: Pairs) -> np.ndarray:
    """Return whether each atom [n] has more neighbours that are not metals than its element bonds to."""
    counted = (radii[bonds.second] < _METALLIC) & (sites.occupancy[bonds.second] == 1)
    n_bonds = np.bincount(bonds.first[counted], minlength=len(sites))
    return n_bonds > np.array([_MOST_NEIGHBOURS.get(element, 99) for element in sites.elements])


def _is_isolated(sites: Sites, bonds: Pairs) -> np.ndarray:
    """Return whether each atom [n] has no neighbour though its element does not occur alone."""
    is_chain = np.isin(sites.elements, _CHAIN)
    return is_chain & ~_marked(bonds.first, len(sites))


def _has_narrow_angle(sites: Sites, radii: np.ndarray, bonds: Pairs, cell: Cell) -> np.ndarray:
    """Return whether an angle at each light atom [n], among full atoms that are not metals, is below 56°."""
    light = (radii < _METALLIC) & ~sites.is_hydrogen & (sites.occupancy == 1)
    kept = bonds.take(light[bonds.first] & light[bonds.second])
    images = np.einsum("mij,mj->mi", kept.rotation, sites.xyz_frac[kept.second]) + kept.shift
    along = (images - sites.xyz_frac[kept.first]) @ cell.orthogonalisation.T / kept.distance[:, None]
    one, other = np.nonzero(np.triu(kept.first[:, None] == kept.first, 1))
    narrow = (along[one] * along[other]).sum(-1) > np.cos(np.radians(_SMALLEST_ANGLE))
    return _marked(kept.first[one[narrow]], len(sites))


def _contacts_without_hydrogen(sites: Sites, cell: Cell, symmetry: Symmetry) -> tuple[Pairs, tuple[str, ...]]:
    """Return the contacts within the reach of bonds, and the elements, of all atoms but hydrogen."""
    heavy = sites.take(~sites.is_hydrogen)
    return find_contacts(heavy.xyz_frac, cell, symmetry, REACH), heavy.elements


def _marked(index: np.ndarray, n: int) -> np.ndarray:
    """Return a boolean [n], true at `index`."""
    marks = np.zeros(n, bool)
    marks[index] = True
    return marks


def _sentence(labels: np.ndarray, what: str) -> str:
    """Name the atoms with a fault; "" if there are none."""
    if len(labels) == 0:
        return ""
    more = f" and {len(labels) - _SHOWN} more" if len(labels) > _SHOWN else ""
    return f"{len(labels)} atom{'s' if len(labels) > 1 else ''} {what}: {', '.join(labels[:_SHOWN])}{more}"
