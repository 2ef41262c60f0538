"""Moieties: the molecules, ions and networks of a crystal, how often each occurs in the cell, and hence Z."""

import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from rephase.crystal.cell import HC_KEV_ANGSTROM, Cell
from rephase.crystal.formulas import DALTON_PER_A3, HYDROGEN, mass, n_heavy, written
from rephase.crystal.peaks import distances, likeliest_units, units_in_cell
from rephase.crystal.scattering import mass_attenuation
from rephase.crystal.symmetry import Symmetry
from rephase.refinement.atoms.factors import SAME_SITE
from rephase.refinement.atoms.restraints import Pairs
from rephase.refinement.bonds import find_bonds, in_one_piece, molecule_of
from rephase.refinement.sites import Sites

_MATCH = 0.15  # relative difference between the atoms of a model and those of a whole number of formula units
_WHOLE = 0.02  # of an atom


class Moiety(NamedTuple):
    """Atoms of each element in one molecule, ion or repeat unit of a network, and their number in the cell.

    The counts are weighted by occupancy relative to the best occupied atom, the number by the occupancy of that one.
    """

    counts: dict[str, float]
    n_in_cell: float

    @property
    def without_hydrogen(self) -> dict[str, float]:
        """Atoms of each element other than hydrogen."""
        return {element: n for element, n in self.counts.items() if element not in HYDROGEN}

    @property
    def rank(self) -> tuple[float, int, float]:
        """Complexity: atoms other than hydrogen, then elements, then all atoms."""
        return sum(self.without_hydrogen.values()), len(self.counts), sum(self.counts.values())


def find_moieties(sites: Sites, cell: Cell, symmetry: Symmetry) -> tuple[Moiety, ...]:
    """Find the molecules in the cell, the most complex first; those of equal composition are counted together.

    A network that bonds extend over the crystal is divided into as many equal parts as its whole counts allow.
    """
    if not len(sites):
        return ()
    atoms, _, bonds = bonds_in_cell(sites, cell, symmetry)
    molecule, is_network = molecule_of(bonds, len(atoms)), are_networks(bonds, len(atoms))
    found: dict[tuple[tuple[str, float], ...], float] = {}
    for number, endless in enumerate(is_network):
        counts, n = _composition(sites.take(atoms[molecule == number]), endless)
        key = tuple((element, round(count, 2)) for element, count in counts.items())
        found[key] = found.get(key, 0.0) + n
    return tuple(sorted((Moiety(dict(key), n) for key, n in found.items()), key=lambda each: each.rank, reverse=True))


def bonds_in_cell(sites: Sites, cell: Cell, symmetry: Symmetry) -> tuple[np.ndarray, np.ndarray, Pairs]:
    """Expand to all atoms of one cell.

    Returns the site [n_cell] of each atom, the operation [n_cell] that puts it there (the first of those that do), and
    the bonds between these places, over whole cells.
    """
    rotations, translations = symmetry.rotations, symmetry.translations
    images = np.einsum("oij,nj->oni", rotations, sites.xyz_frac) + translations[:, None]
    first_image = (distances(images[:, None] - images[None], cell) < SAME_SITE).argmax(1)  # [n_operations, n]
    is_first = first_image == np.arange(len(images))[:, None]
    number = np.full(is_first.shape, -1)
    number[is_first] = np.arange(is_first.sum())
    operation, atoms = np.nonzero(is_first)
    bonds = find_bonds(sites, cell, symmetry)
    of, bond = np.nonzero(is_first[:, bonds.first])  # each bond of an atom recurs at each of its images
    place = np.einsum("mij,mj->mi", bonds.rotation, sites.xyz_frac[bonds.second]) + bonds.shift
    there = np.einsum("mij,mj->mi", rotations[of], place[bond]) + translations[of]
    away = distances(there[:, None] - images.transpose(1, 0, 2)[bonds.second[bond]], cell)  # [m, n_operations]
    second = number[first_image[away.argmin(1), bonds.second[bond]], bonds.second[bond]]
    shift = np.rint(there - images[operation[second], atoms[second]])
    rotation = np.broadcast_to(np.eye(3), (len(bond), 3, 3))
    return atoms, operation, Pairs(number[of, bonds.first[bond]], second, rotation, shift, bonds.distance[bond])


def are_networks(bonds: Pairs, n: int) -> np.ndarray:
    """Return whether each molecule [n_molecules] of the `bonds_in_cell` goes on over whole cells without end."""
    molecule, shift = molecule_of(bonds, n), in_one_piece(n, bonds).shift
    leads_on = np.abs(shift[bonds.first] + bonds.shift - shift[bonds.second]).max(1) > 0.5
    return np.bincount(molecule[bonds.first], leads_on, molecule.max(initial=-1) + 1) > 0


def _composition(members: Sites, is_network: bool) -> tuple[dict[str, float], float]:
    """Return the counts of one moiety, and how many of it the atoms are."""
    most = float(members.occupancy.max())
    counts = in_hill_order(members.elements, members.occupancy / most)
    parts = 1
    if is_network:
        whole = [round(n) for n in counts.values() if abs(n - round(n)) < _WHOLE]
        parts = int(np.gcd.reduce(whole)) if whole else 1
    return {element: n / parts for element, n in counts.items()}, most * parts


def in_hill_order(elements: tuple[str, ...], weights: np.ndarray) -> dict[str, float]:
    """Sum the weights [n] of each element: C and H first if there is carbon, then the others by name."""
    names, of = np.unique(np.array(elements, dtype=str), return_inverse=True)
    counts = dict(zip(names.tolist(), np.bincount(of, weights, len(names)).tolist()))
    first = [element for element in ("C", "H") if element in counts and "C" in counts]
    return {element: counts[element] for element in [*first, *sorted(set(counts) - set(first))]}


def count_units(
    moieties: tuple[Moiety, ...],
    contents: Mapping[str, float],
    cell: Cell,
    symmetry: Symmetry,
    formula: Mapping[str, float] | None = None,
    *,
    unit: int = 1,
) -> int:
    """Return the number Z of formula units in the cell.

    With a formula it is the number that its atoms other than hydrogen need to make up `contents`, by preference one
    that gives each element a multiple of `unit`, the greatest common divisor of the images of the atoms; if none does
    to 15 %, it is estimated from the volume. Without one it is the number of the most complex moiety, whose
    independent molecules may differ in hydrogen.
    """
    if formula is None:
        alike = (each for each in moieties if each.without_hydrogen == moieties[0].without_hydrogen)
        return max(1, round(sum(each.n_in_cell for each in alike)))
    ratio = max(n_heavy(contents) / n_heavy(formula), 1e-9)
    heavy = {element: n for element, n in formula.items() if element not in HYDROGEN} or formula
    nearest = likeliest_units(np.arange(1, math.ceil(2 * ratio) + 2), ratio, heavy, unit)
    return nearest if abs(ratio / nearest - 1) < _MATCH else units_in_cell(dict(formula), symmetry, cell, unit=unit)


def moiety_text(moieties: tuple[Moiety, ...], n_units: int) -> str:
    """Write the moieties of one formula unit as CIF does, without charges: ``C12 H16 N2 O6, 2(H2 O)``."""
    numbers = (each.n_in_cell / n_units for each in moieties)
    parts = ((written(each.counts), round(n, 2)) for each, n in zip(moieties, numbers))
    return ", ".join(text if n == 1 else f"{n:g}({text})" for text, n in parts)


def absorption(contents: Mapping[str, float], cell: Cell, wavelength: float) -> float:
    """Return the linear absorption coefficient μ in mm^-1 of the atoms in the cell; NaN where no table has it.

    Parameters
    ----------
    wavelength
        Wavelength of X-rays in Å.
    """
    coefficients = mass_attenuation(list(contents), HC_KEV_ANGSTROM / wavelength)
    masses = [mass({element: n}) for element, n in contents.items()]
    return float(coefficients @ masses) / cell.volume / DALTON_PER_A3 / 10


def heavy_difference(contents: Mapping[str, float], expected: Mapping[str, float]) -> float:
    """Return the atoms other than hydrogen by which two contents differ, relative to the expected ones."""
    heavy = {*contents, *expected} - {*HYDROGEN}
    off = sum(abs(contents.get(element, 0.0) - expected.get(element, 0.0)) for element in heavy)
    return off / n_heavy(expected)
