"""Possible hydrogen atoms of a model, and those of them that its symmetry, a map and the formula support."""

import warnings
from typing import NamedTuple

import numpy as np

from rephase.crystal.cell import Cell
from rephase.crystal.peaks import common_images, distances, parse_formula, units_in_cell
from rephase.crystal.symmetry import Symmetry
from rephase.refinement.atoms.factors import keeping
from rephase.refinement.hydrogen_evidence import Evidence, torsion_in_map, torsion_to_acceptor, water_directions
from rephase.refinement.hydrogen_geometry import ROTATING, directions
from rephase.refinement.hydrogen_kinds import WATER, distance_to_hydrogen, free_valence, kinds
from rephase.refinement.sites import Sites, multiplicity
from rephase.refinement.surroundings import Surroundings

_SAME = 0.35  # Å; images of hydrogen atoms of an atom on a special position that are one atom
_CARBON_FIRST = 100.0  # hydrogen atoms on carbon are surer than those on nitrogen and oxygen
_LEAST_VALENCE = 0.3  # free valence of N or O that speaks for a hydrogen atom where there is no map
_LEAST_DENSITY = 0.45  # of a hydrogen atom on N or O, relative to the median of those on carbon
_UNSEEN = {137: 33, 147: 83}  # AFIX codes of rotating groups whose torsion no map has shown
_LEAST_SIGMA = 3.0  # the same in σ of the map


class Candidates(NamedTuple):
    """Possible hydrogen atoms: ``row`` [m] of the surroundings, ``afix`` [m], ``xyz_frac`` [m, 3]."""

    row: np.ndarray
    afix: np.ndarray
    xyz_frac: np.ndarray

    def take(self, index: np.ndarray) -> "Candidates":
        """Return the hydrogen atoms at `index`."""
        return Candidates(*(column[index] for column in self))


def find_candidates(
    around: Surroundings,
    heavy: Sites,
    cell: Cell,
    symmetry: Symmetry,
    evidence: Evidence | None,
    temperature: float | None,
) -> Candidates:
    """Return the hydrogen atoms that the bonds of each atom allow; water only if there is a map."""
    codes, found = kinds(around, heavy), []
    for afix in sorted(set(codes.tolist()) - ({0} if evidence else {0, WATER})):
        (rows,) = np.nonzero(codes == afix)
        own = around.take(rows)
        distance = np.array([distance_to_hydrogen(heavy.elements[i], afix, temperature) for i in own.atom])
        if evidence is None:
            unit = _unseen_directions(own, afix, distance, heavy, cell, symmetry)
        else:
            unit = _seen_directions(own, afix, distance, heavy, cell, evidence)
        steps = unit * distance[:, None, None] @ np.linalg.inv(cell.orthogonalisation).T
        xyz_frac = (heavy.xyz_frac[own.atom][:, None] + steps).reshape(-1, 3)
        code = afix if evidence else _UNSEEN.get(afix, afix)
        found.append(Candidates(np.repeat(rows, unit.shape[1]), np.full(len(xyz_frac), code), xyz_frac))
    empty = Candidates(np.zeros(0, int), np.zeros(0, int), np.zeros((0, 3)))
    return Candidates(*(np.concatenate(columns) for columns in zip(empty, *found)))


def _seen_directions(
    around: Surroundings, afix: int, distance: np.ndarray, heavy: Sites, cell: Cell, evidence: Evidence
) -> np.ndarray:
    if afix == WATER:
        return water_directions(around, distance, heavy, cell, evidence)
    if afix in ROTATING:
        return directions(around, afix, torsion_in_map(around, afix, distance, heavy, cell, evidence))
    return directions(around, afix)


def _unseen_directions(
    around: Surroundings, afix: int, distance: np.ndarray, heavy: Sites, cell: Cell, symmetry: Symmetry
) -> np.ndarray:
    if afix == 147:
        return directions(around, afix, torsion_to_acceptor(around, afix, distance, heavy, cell, symmetry))
    return directions(around, afix)


def compatible(found: Candidates, around: Surroundings, heavy: Sites, cell: Cell, symmetry: Symmetry) -> np.ndarray:
    """Return which [m] to keep: one of each set of images, and no group that breaks the symmetry of its site."""
    keeps = keeping(heavy.xyz_frac, cell, symmetry)[around.atom[found.row]]  # [m, operation]
    (special,) = np.nonzero(keeps.sum(1) > 1)
    xyz, row = found.xyz_frac[special], found.row[special]
    images = np.einsum("oij,mj->moi", symmetry.rotations, xyz) + symmetry.translations
    apart = distances(images[:, :, None] - xyz, cell)  # [m, operation, m]
    meets = (apart < _SAME) & (row[:, None, None] == row)
    is_broken = (keeps[special] & ~meets.any(2)).any(1)
    earlier = np.tril(np.ones((len(special), len(special)), bool), -1)
    repeats = ((meets & keeps[special][:, :, None]).any(1) & earlier).any(1)
    broken = np.isin(found.row, row[is_broken])
    if broken.any():
        names = ", ".join(heavy.labels[i] for i in np.unique(around.atom[found.row[broken]]))
        warnings.warn(f"no hydrogen atoms on {names}: they would break the symmetry of the site", stacklevel=3)
    kept = ~broken
    kept[special[repeats]] = False
    return kept


def supported(
    found: Candidates, around: Surroundings, heavy: Sites, evidence: Evidence | None, *, has_formula: bool
) -> tuple[Candidates, np.ndarray]:
    """Keep the hydrogen atoms for which there is evidence; return a score [m] too, higher for surer ones."""
    on_carbon = np.array([heavy.elements[i] == "C" for i in around.atom[found.row]], bool)
    valence = free_valence(around, heavy)[found.row]
    if evidence is None:
        kept = on_carbon | ((valence > _LEAST_VALENCE) & has_formula)
        return found.take(kept), np.where(on_carbon, _CARBON_FIRST, valence)[kept]
    density = evidence(found.xyz_frac)
    signal = float(np.median(density[on_carbon])) if on_carbon.any() else 0.0
    kept = on_carbon | (density > max(_LEAST_DENSITY * signal, _LEAST_SIGMA * evidence.sigma))
    lost = np.isin(found.row, found.row[~kept]) & ~on_carbon
    afix = np.where(lost, WATER, found.afix)
    return found._replace(afix=afix).take(kept), np.where(on_carbon, _CARBON_FIRST, density)[kept]


def within_formula(
    found: Candidates,
    score: np.ndarray,
    around: Surroundings,
    heavy: Sites,
    cell: Cell,
    symmetry: Symmetry,
    formula: str,
) -> np.ndarray:
    """Return which hydrogen atoms [m] fit into the formula, the surest groups first."""
    counts = parse_formula(formula)
    unit = common_images(multiplicity(heavy.xyz_frac, cell, symmetry))
    budget = (counts.get("H", 0.0) + counts.get("D", 0.0)) * units_in_cell(counts, symmetry, cell, unit=unit)
    atom = around.atom[found.row]
    weight = heavy.occupancy[atom] * multiplicity(found.xyz_frac, cell, symmetry)
    groups, group = np.unique(found.row, return_inverse=True)
    group_weight = np.bincount(group, weight, len(groups))
    group_score = np.bincount(group, score, len(groups)) / np.maximum(np.bincount(group, minlength=len(groups)), 1)
    order = np.argsort(-group_score, kind="stable")
    fits = np.empty(len(groups), bool)
    fits[order] = np.cumsum(group_weight[order]) <= budget + 0.5
    return fits[group]
