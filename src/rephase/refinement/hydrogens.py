"""Hydrogen atoms: placed on a model of the other atoms, and idealised again after these have moved."""

import warnings
from dataclasses import replace
from string import ascii_uppercase
from typing import NamedTuple

import numpy as np

from rephase.crystal.cell import Cell
from rephase.crystal.peaks import distances, parse_formula, units_in_cell
from rephase.crystal.symmetry import Symmetry
from rephase.refinement.atoms.factors import keeping
from rephase.refinement.hydrogen_evidence import Evidence, torsion_in_map, torsion_to_acceptor, water_directions
from rephase.refinement.hydrogen_geometry import ROTATING, directions, torsions
from rephase.refinement.hydrogen_kinds import WATER, distance_to_hydrogen, free_valence, kinds
from rephase.refinement.sites import Sites, isotropic_u, multiplicity
from rephase.refinement.surroundings import Surroundings, find_surroundings

_LOOSE = (3, 33, 83, 137, 147)  # AFIX codes with U = 1.5 U_eq of the parent, others with 1.2 U_eq
_SAME = 0.35  # Å; images of hydrogen atoms of an atom on a special position that are one atom
_CARBON_FIRST = 100.0  # hydrogen atoms on carbon are surer than those on nitrogen and oxygen
_LEAST_VALENCE = 0.3  # free valence of N or O that speaks for a hydrogen atom where there is no map
_LEAST_DENSITY = 0.45  # of a hydrogen atom on N or O, relative to the median of those on carbon
_LEAST_SIGMA = 3.0  # the same in σ of the map


class _Candidates(NamedTuple):
    """Possible hydrogen atoms: ``row`` [m] of the surroundings, ``afix`` [m], ``xyz_frac`` [m, 3]."""

    row: np.ndarray
    afix: np.ndarray
    xyz_frac: np.ndarray

    def take(self, index: np.ndarray) -> "_Candidates":
        return _Candidates(*(column[index] for column in self))


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
        In K; distances are longer below 253 K and again below 203 K. None: a cold crystal.

    Warns
    -----
    UserWarning
        An atom lies on a special position whose symmetry its hydrogen atoms would break: they are left out.
    """
    heavy = sites.take(~sites.is_hydrogen)
    around = find_surroundings(heavy, cell, symmetry)
    evidence = None if difference_density is None else Evidence(difference_density)
    found = _candidates(around, heavy, cell, symmetry, evidence, temperature)
    found = _compatible(found, around, heavy, cell, symmetry)
    found, score = _shown(found, around, heavy, evidence, has_formula=formula is not None)
    if formula is not None:
        found = found.take(_within_formula(found, score, around, heavy, cell, symmetry, formula))
    return _joined(heavy, found, around, cell)


def ride(sites: Sites, cell: Cell, symmetry: Symmetry) -> Sites:
    """Return the sites with riding hydrogen atoms idealised again: angles, and U, by the parents as they are now.

    Distances to the parents, torsions and the directions of water stay.
    """
    riding = np.flatnonzero(sites.parent >= 0)
    heavy = sites.take(~sites.is_hydrogen)
    around = find_surroundings(heavy, cell, symmetry)
    place = np.cumsum(~sites.is_hydrogen) - 1
    row = _row_of(around, place[sites.parent[riding]], sites.part[riding])
    xyz_frac = sites.xyz_frac.copy()
    step = (xyz_frac[riding] - xyz_frac[sites.parent[riding]]) @ cell.orthogonalisation.T
    length = np.linalg.norm(step, axis=1, keepdims=True)
    for afix in set(sites.afix[riding].tolist()) - {WATER}:
        (chosen,) = np.nonzero(sites.afix[riding] == afix)
        own = around.take(row[chosen])
        if (own.count < _N_NEIGHBOURS[afix]).any():
            continue
        ideal = directions(own, afix, torsions(own, step[chosen])) if afix in ROTATING else directions(own, afix)
        nearest = (ideal * step[chosen][:, None]).sum(-1).argmax(1)
        moved = ideal[np.arange(len(chosen)), nearest] * length[chosen]
        xyz_frac[riding[chosen]] = xyz_frac[sites.parent[riding[chosen]]] + _to_frac(moved, cell)
    U = sites.U.copy()
    U[riding] = _riding_u(sites, sites.parent[riding], sites.afix[riding], cell)
    return replace(sites, xyz_frac=xyz_frac, U=U)


_N_NEIGHBOURS = {13: 3, 23: 2, 33: 1, 43: 2, 83: 1, 93: 1, 137: 1, 147: 1, 163: 1}


def _row_of(around: Surroundings, atom: np.ndarray, part: np.ndarray) -> np.ndarray:
    """Return the row [m] of the surroundings of each atom in each part."""
    fits = (around.atom == atom[:, None]) & ((around.part == part[:, None]) | (around.part == 0))
    return fits.argmax(1)


def _to_frac(steps: np.ndarray, cell: Cell) -> np.ndarray:
    return steps @ np.linalg.inv(cell.orthogonalisation).T


def _candidates(
    around: Surroundings,
    heavy: Sites,
    cell: Cell,
    symmetry: Symmetry,
    evidence: Evidence | None,
    temperature: float | None,
) -> _Candidates:
    codes = kinds(around, heavy)
    if evidence is None:
        codes = np.where(codes == WATER, 0, codes)
    parts = [_Candidates(np.zeros(0, int), np.zeros(0, int), np.zeros((0, 3)))]
    for afix in sorted(set(codes.tolist()) - {0}):
        rows = np.flatnonzero(codes == afix)
        own = around.take(rows)
        distance = np.array([distance_to_hydrogen(heavy.elements[i], afix, temperature) for i in own.atom])
        if afix == WATER and evidence is not None:
            unit = water_directions(own, distance, heavy, cell, evidence)
        elif afix in ROTATING and evidence is not None:
            unit = directions(own, afix, torsion_in_map(own, afix, distance, heavy, cell, evidence))
        elif afix == 147:
            unit = directions(own, afix, torsion_to_acceptor(own, afix, distance, heavy, cell, symmetry))
        else:
            unit = directions(own, afix)
        xyz = heavy.xyz_frac[own.atom][:, None] + _to_frac(unit * distance[:, None, None], cell)
        code = _code_without_map(afix) if evidence is None else afix
        k = unit.shape[1]
        parts.append(_Candidates(np.repeat(rows, k), np.full(k * len(rows), code), xyz.reshape(-1, 3)))
    return _Candidates(*(np.concatenate(columns) for columns in zip(*parts)))


def _code_without_map(afix: int) -> int:
    """Return the AFIX code of a group whose torsion no map has shown: SHELXL does not refine it."""
    return {137: 33, 147: 83}.get(afix, afix)


def _compatible(
    found: _Candidates, around: Surroundings, heavy: Sites, cell: Cell, symmetry: Symmetry
) -> _Candidates:
    """Keep one of each set of images of hydrogen atoms on special positions; leave out groups that break the symmetry."""
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
    return found.take(kept)


def _shown(
    found: _Candidates, around: Surroundings, heavy: Sites, evidence: Evidence | None, *, has_formula: bool
) -> tuple[_Candidates, np.ndarray]:
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


def _within_formula(
    found: _Candidates,
    score: np.ndarray,
    around: Surroundings,
    heavy: Sites,
    cell: Cell,
    symmetry: Symmetry,
    formula: str,
) -> np.ndarray:
    """Return which hydrogen atoms [m] fit into the formula, the surest groups first."""
    counts = parse_formula(formula)
    budget = (counts.get("H", 0.0) + counts.get("D", 0.0)) * units_in_cell(counts, symmetry, cell)
    atom = around.atom[found.row]
    weight = heavy.occupancy[atom] * multiplicity(found.xyz_frac, cell, symmetry)
    groups, group = np.unique(found.row, return_inverse=True)
    group_weight = np.bincount(group, weight, len(groups))
    group_score = np.bincount(group, score, len(groups)) / np.maximum(np.bincount(group, minlength=len(groups)), 1)
    order = np.argsort(-group_score, kind="stable")
    fits = np.empty(len(groups), bool)
    fits[order] = np.cumsum(group_weight[order]) <= budget + 0.5
    return fits[group]


def _joined(heavy: Sites, found: _Candidates, around: Surroundings, cell: Cell) -> Sites:
    """Return the model with its hydrogen atoms, each after its parent."""
    parent = around.atom[found.row]
    n = len(parent)
    part = around.part[found.row]
    hydrogens = Sites(
        labels=_labels(heavy, parent),
        elements=("H",) * n,
        xyz_frac=found.xyz_frac,
        U=_riding_u(heavy, parent, found.afix, cell),
        is_anisotropic=np.zeros(n, bool),
        occupancy=_occupancy(heavy, around, found.row),
        parent=np.full(n, -1),
        afix=found.afix,
        part=part,
    )
    both = heavy.joined(hydrogens)
    both = replace(both, parent=np.concatenate([heavy.parent, parent]))
    return both.take(np.argsort(np.concatenate([np.arange(len(heavy)), parent]), kind="stable"))


def _occupancy(heavy: Sites, around: Surroundings, row: np.ndarray) -> np.ndarray:
    """Return the occupancy [m] of hydrogen atoms: of the parent, or of the part that it is bonded to."""
    own, neighbours = around.atom[row], around.neighbour[row]
    in_part = (neighbours >= 0) & (heavy.part[neighbours] != 0) & (heavy.part[own] == 0)[:, None]
    occupancy = np.where(in_part, heavy.occupancy[neighbours], np.inf).min(1, initial=np.inf)
    return np.minimum(occupancy, heavy.occupancy[own])


def _riding_u(sites: Sites, parent: np.ndarray, afix: np.ndarray, cell: Cell) -> np.ndarray:
    return isotropic_u(np.where(np.isin(afix, _LOOSE), 1.5, 1.2) * sites.u_equivalent(cell)[parent], cell)


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
    labels = [f"H{number}{ascii_uppercase[k % 26] if seen[number] > 1 or not number else ''}" for number, k in zip(digits, letters)]
    if fits and all(len(label) <= 4 for label in labels):
        return tuple(labels)
    return tuple(f"H{k}" for k in range(1, len(parent) + 1))
