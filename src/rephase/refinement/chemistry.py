"""Whether a finished model makes chemical sense: distances, valences, angles, volume per atom and density."""

from collections.abc import Mapping
from typing import NamedTuple

import gemmi
import numpy as np

from rephase.crystal.cell import Cell
from rephase.crystal.peaks import units_in_cell
from rephase.crystal.symmetry import Symmetry
from rephase.refinement.atoms.restraints import Pairs
from rephase.refinement.bonds import covalent_radii, find_bonds
from rephase.refinement.contacts import find_contacts
from rephase.refinement.geometry import REACH, mean_geometry
from rephase.refinement.sites import Sites, multiplicity

# Most neighbours that are not metals; other elements may have any number.
_MOST_NEIGHBOURS = {"H": 1, "B": 4, "C": 4, "N": 4, "O": 3, "F": 1, "Si": 6, "P": 6, "S": 6, "Cl": 4, "Br": 4, "I": 6}
_CHAIN = ("B", "C", "N")  # elements that do not occur as single atoms, apart from ammonia
_METALLIC = 1.2  # Å; larger covalent radii are those of metals
_TOO_SHORT = 0.78  # shortest bond relative to the sum of covalent radii; the C-N triple bond has 0.79
_SMALLEST_ANGLE = 56.0  # degrees; a three-membered ring has 60
_VOLUME = 9.0, 40.0  # Å^3 per atom that is not hydrogen
_DENSITY = 0.7, 12.0  # g/cm^3
_COUNTS = 0.15  # relative difference between the atoms of the formula and of the model
_SHOWN = 5  # labels in a sentence


class Chemistry(NamedTuple):
    """Figures of a model's chemistry, and sentences on what is odd.

    ``sensible`` is the share of atoms, without hydrogen, that have no odd distance, valence, angle or isolation;
    ``n_short``, ``n_crowded``, ``n_angles`` and ``n_isolated`` count atoms with a distance too short, with too many
    neighbours, with an angle below 56°, and light ones without neighbours; ``volume_per_atom`` in Å^3 without
    hydrogen; ``density`` in g/cm^3; ``geometry`` is the mean log likelihood of the bonds of the light atoms;
    ``n_units`` is Z of the formula, ``found`` the share of its atoms in the model
    (None without a formula).
    """

    sensible: float
    n_short: int
    n_crowded: int
    n_angles: int
    n_isolated: int
    volume_per_atom: float
    density: float
    geometry: float
    n_units: int | None
    found: float | None
    remarks: tuple[str, ...]


def check_chemistry(
    sites: Sites, cell: Cell, symmetry: Symmetry, *, formula: Mapping[str, float] | None = None
) -> Chemistry:
    """Check the chemistry of a model.

    Parameters
    ----------
    sites
        Atoms of the asymmetric unit, with or without hydrogen.
    formula
        Atoms of each element in a formula unit.
    """
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
    n_images = sites.occupancy * multiplicity(sites.xyz_frac, cell, symmetry)
    volume = cell.volume / max(float(n_images[heavy].sum()), 1e-9)
    weights = np.array([gemmi.Element(element).weight for element in sites.elements])
    density = float(n_images @ weights) / cell.volume / 0.602214076
    n_units, found = _compared(formula, float(n_images[heavy].sum()), cell, symmetry)
    n_short, n_crowded, n_angles, n_isolated = (int((fault & heavy).sum()) for fault in faults.values())
    remarks = [_sentence(np.array(sites.labels)[fault & heavy], what) for what, fault in faults.items()]
    return Chemistry(
        1 - float(is_odd.sum()) / max(int(heavy.sum()), 1),
        n_short,
        n_crowded,
        n_angles,
        n_isolated,
        volume,
        density,
        mean_geometry(*_contacts_without_hydrogen(sites, cell, symmetry)),
        n_units,
        found,
        (*filter(None, remarks), *_odd_figures(volume, density, found)),
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


def _compared(
    formula: Mapping[str, float] | None, n_found: float, cell: Cell, symmetry: Symmetry
) -> tuple[int | None, float | None]:
    """Return Z and the atoms of the model relative to those of the formula, without hydrogen."""
    heavy = sum(count for element, count in (formula or {}).items() if element not in ("H", "D"))
    if formula is None or not heavy:
        return None, None
    n_units = units_in_cell(dict(formula), symmetry, cell)
    return n_units, n_found / (heavy * n_units)


def _sentence(labels: np.ndarray, what: str) -> str:
    """Name the atoms with a fault; "" if there are none."""
    if len(labels) == 0:
        return ""
    more = f" and {len(labels) - _SHOWN} more" if len(labels) > _SHOWN else ""
    return f"{len(labels)} atom{'s' if len(labels) > 1 else ''} {what}: {', '.join(labels[:_SHOWN])}{more}"


def _odd_figures(volume: float, density: float, found: float | None) -> list[str]:
    """Say which figures of the whole cell are odd."""
    remarks = []
    if not _VOLUME[0] <= volume <= _VOLUME[1]:
        remarks.append(f"{volume:.1f} Å^3 per atom that is not hydrogen; {_VOLUME[0]:g} to {_VOLUME[1]:g} are expected")
    if not _DENSITY[0] <= density <= _DENSITY[1]:
        remarks.append(f"density of {density:.2f} g/cm^3; {_DENSITY[0]:g} to {_DENSITY[1]:g} are expected")
    if found is not None and abs(found - 1) > _COUNTS:
        remarks.append(f"the model has {100 * found:.0f} % of the atoms of the formula that are not hydrogen")
    return remarks
