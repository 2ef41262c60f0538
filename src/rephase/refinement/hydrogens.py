"""Hydrogen atoms: placed on a model of the other atoms, and idealised again after these have moved."""

from dataclasses import replace
from string import ascii_uppercase

import numpy as np

from rephase.crystal.cell import Cell
from rephase.crystal.symmetry import Symmetry
from rephase.refinement.hydrogen_candidates import Candidates, compatible, find_candidates, supported, within_formula
from rephase.refinement.hydrogen_evidence import Evidence
from rephase.refinement.hydrogen_geometry import N_NEIGHBOURS, ROTATING, directions, torsions
from rephase.refinement.parameters import riding_u
from rephase.refinement.sites import Sites
from rephase.refinement.surroundings import Surroundings, find_surroundings


def place_hydrogens(
    sites: Sites,
    cell: Cell,
    symmetry: Symmetry,
    *,
    difference_density: np.ndarray | None = None,
    formula: str | None = None,
    temperature: float | None = None,
) -> Sites:
    """Add riding hydrogen atoms to a model, each listed after its parent; those that it has are replaced.

    Lengths and angles of the bonds say what carbon carries. Nitrogen and oxygen carry what the difference density
    shows, or, without a map, what the formula leaves for them. Boron carries none.

    Parameters
    ----------
    difference_density
        [x, y, z], map of the cell in e/Å^3 of the model without hydrogen atoms. It gives the torsions of CH3 and OH,
        and water; without it CH3 is staggered, OH points to the closest acceptor, and water is left as it is.
    formula
        Formula unit, such as ``C6 H6 O``; no more hydrogen atoms are placed than it has.
    temperature
        In K; above 203 K, bonds to hydrogen are 0.01 Å shorter, and above 253 K 0.02 Å. None: a cold crystal.

    Warns
    -----
    UserWarning
        An atom lies on a special position whose symmetry its hydrogen atoms would break: they are left out.
    """
    heavy = sites.take(~sites.is_hydrogen)
    around = find_surroundings(heavy, cell, symmetry)
    evidence = None if difference_density is None else Evidence(difference_density)
    found = find_candidates(around, heavy, cell, symmetry, evidence, temperature)
    found, score = supported(found, around, heavy, evidence, has_formula=formula is not None)
    fits = compatible(found, around, heavy, cell, symmetry)
    found, score = found.take(fits), score[fits]
    if formula is not None:
        found = found.take(within_formula(found, score, around, heavy, cell, symmetry, formula))
    return _joined(heavy, found, around, cell)


def ride(sites: Sites, cell: Cell, symmetry: Symmetry) -> Sites:
    """Return the sites with riding hydrogen atoms idealised again: angles, and U, by the parents as they are now.

    Distances to the parents, torsions and the directions of water (AFIX 3) stay.
    """
    riding = np.flatnonzero(sites.parent >= 0)
    if not len(riding):
        return sites
    parent, afix = sites.parent[riding], sites.afix[riding]
    around = find_surroundings(sites.take(~sites.is_hydrogen), cell, symmetry)
    number = np.cumsum(~sites.is_hydrogen) - 1  # of each atom among those that are not hydrogen
    around = around.take(_row_of(around, number[parent], sites.part[riding]))
    step = (sites.xyz_frac[riding] - sites.xyz_frac[parent]) @ cell.orthogonalisation.T
    for code, n_neighbours in N_NEIGHBOURS.items():
        chosen = (afix == code) & (around.n_bonds >= n_neighbours)
        step[chosen] = _idealised(around.take(chosen), code, step[chosen])
    xyz_frac = sites.xyz_frac.copy()
    xyz_frac[riding] = sites.xyz_frac[parent] + step @ np.linalg.inv(cell.orthogonalisation).T
    return riding_u(replace(sites, xyz_frac=xyz_frac), cell)


def _idealised(around: Surroundings, afix: int, step: np.ndarray) -> np.ndarray:
    """Return the ideal vectors [m, 3] from the parents, in Å, that are closest to those given."""
    ideal = directions(around, afix, torsions(around, step)) if afix in ROTATING else directions(around, afix)
    nearest = (ideal * step[:, None]).sum(-1).argmax(1)
    return ideal[np.arange(len(step)), nearest] * np.linalg.norm(step, axis=1, keepdims=True)


def _row_of(around: Surroundings, atom: np.ndarray, part: np.ndarray) -> np.ndarray:
    """Return the row [m] of the surroundings of each atom in each part."""
    fits = (around.atom == atom[:, None]) & ((around.part == part[:, None]) | (around.part == 0))
    return fits.argmax(1)


def _joined(heavy: Sites, found: Candidates, around: Surroundings, cell: Cell) -> Sites:
    """Return the model with its hydrogen atoms, each after its parent."""
    parent = around.atom[found.row]
    n = len(parent)
    part = around.part[found.row]
    hydrogens = Sites(
        labels=_labels(heavy, parent),
        elements=("H",) * n,
        xyz_frac=found.xyz_frac,
        U=np.zeros((n, 6)),
        is_anisotropic=np.zeros(n, bool),
        occupancy=_occupancy(heavy, around, found.row),
        parent=np.full(n, -1),
        afix=found.afix,
        part=part,
    )
    both = heavy.joined(hydrogens)
    both = riding_u(replace(both, parent=np.concatenate([heavy.parent, parent])), cell)
    return both.take(np.argsort(np.concatenate([np.arange(len(heavy)), parent]), kind="stable"))


def _occupancy(heavy: Sites, around: Surroundings, row: np.ndarray) -> np.ndarray:
    """Return the occupancy [m] of hydrogen atoms: of the parent, or of the part that it is bonded to."""
    own, neighbours = around.atom[row], around.neighbour[row]
    in_part = (neighbours >= 0) & (heavy.part[neighbours] != 0) & (heavy.part[own] == 0)[:, None]
    occupancy = np.where(in_part, heavy.occupancy[neighbours], np.inf).min(1, initial=np.inf)
    return np.minimum(occupancy, heavy.occupancy[own])


def _labels(heavy: Sites, parent: np.ndarray) -> tuple[str, ...]:
    """Name hydrogen atoms by the digits of the parent's label and a letter if these digits occur more than once.

    SHELXL reads four characters: where that is too short, hydrogen atoms are numbered.
    """
    digits = ["".join(c for c in heavy.labels[i] if c.isdigit()) for i in parent]
    seen: dict[str, int] = {}
    letters = []
    for number in digits:
        letters.append(seen.get(number, 0))
        seen[number] = letters[-1] + 1
    fits = all(n <= len(ascii_uppercase) for n in seen.values())
    labels = [
        f"H{number}{ascii_uppercase[k % 26] if seen[number] > 1 or not number else ''}"
        for number, k in zip(digits, letters)
    ]
    if fits and all(len(label) <= 4 for label in labels):
        return tuple(labels)
    return tuple(f"H{k}" for k in range(1, len(parent) + 1))
