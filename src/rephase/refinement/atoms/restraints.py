"""Restraints on the atoms of a molecule: electrons, displacements and distances, as rows of least squares."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from rephase.crystal.cell import Cell
from rephase.crystal.symmetry import Symmetry
from rephase.refinement.atoms.factors import N_PARAMETERS, AtomList, keeping

HEAVY = 10.0  # electrons; distances are restrained among lighter atoms, those of a molecule
USUAL = 6.6  # electrons of a light atom: mostly carbon, some nitrogen and oxygen
_HEAVY_SD = 0.3  # relative standard deviation of the electrons of a heavy atom
_BONDED = 1.75  # Å; light atoms that are closer are bonded
_BOND, _BOND_SD = (1.20, 1.54), 0.03  # Å; Allen et al. (1987), doi:10.1039/p298700000s1
_APART, _APART_SD, _NEAR = 2.15, 0.06, 2.4  # Å; shortest distance without a bond; range of restrained distances
_U_SPREAD, _U_LIKENESS = 0.4, 0.25  # standard deviation relative to the mean U: of all atoms, between bonded ones
_U_FLOOR = 0.002  # Å^2, added to both


class Pairs(NamedTuple):
    """Close pairs: indices ``first`` and ``second`` [m]; the second atom is moved to ``rotation @ xyz + shift``.

    ``distance`` [m] in Å is the distance when the list was made.
    """

    first: np.ndarray
    second: np.ndarray
    rotation: np.ndarray
    shift: np.ndarray
    distance: np.ndarray

    def take(self, index: np.ndarray) -> "Pairs":
        """Return the pairs at `index`."""
        return Pairs(*(column[index] for column in self))


def close_pairs(xyz_frac: np.ndarray, cell: Cell, symmetry: Symmetry, reach: float) -> Pairs:
    """Find every pair of different atoms, or images of these, closer than `reach` (Å, less than half an axis)."""
    images = np.einsum("oij,nj->oni", symmetry.rotations, xyz_frac) + symmetry.translations[:, None]
    steps = xyz_frac[:, None, None] - images  # [first, operation, second, 3]
    whole = np.rint(steps)
    distance = np.linalg.norm((steps - whole) @ cell.orthogonalisation.T, axis=-1)
    first, operation, second = np.nonzero(distance < reach)
    once = first < second
    found = first[once], operation[once], second[once]
    shift = symmetry.translations[found[1]] + whole[found]
    return Pairs(found[0], found[2], symmetry.rotations[found[1]], shift, distance[found])


def site_projectors(xyz_frac: np.ndarray, cell: Cell, symmetry: Symmetry) -> np.ndarray:
    """Return projectors [n, 3, 3] of fractional shifts onto those that keep each atom on its special position."""
    keeps = keeping(xyz_frac, cell, symmetry)
    return np.einsum("no,oij->nij", keeps, symmetry.rotations) / keeps.sum(1)[:, None, None]


@dataclass(frozen=True)
class Restraints:
    """Normal distributions that the atoms are expected to follow.

    Parameters
    ----------
    electrons, electrons_sd
        [n], expected number of electrons of each atom, and its standard deviation.
    u_mean
        Mean U of all atoms, Å^2.
    pairs
        Light atoms closer than 2.4 Å: bonded ones are kept at 1.20 to 1.54 Å with similar U, others above 2.15 Å.
    cell
        Unit cell of the crystal.
    """

    electrons: np.ndarray
    electrons_sd: np.ndarray
    u_mean: float
    pairs: Pairs
    cell: Cell

    def residuals(self, atoms: AtomList) -> np.ndarray:
        """Return the residuals [m] in standard deviations."""
        _, distance = self._steps(atoms)
        u_sd, likeness_sd = self._u_sd()
        bonded = self._bonded()
        return np.concatenate(
            [
                (atoms.electrons - self.electrons) / self.electrons_sd,
                (atoms.u_iso - self.u_mean) / u_sd,
                self._off(distance),
                (atoms.u_iso[bonded.first] - atoms.u_iso[bonded.second]) / likeness_sd,
            ]
        )

    def derivatives(self, atoms: AtomList) -> np.ndarray:
        """Return the derivatives [m, 5, n] of the residuals by x, y, z, electrons and U of each atom."""
        n, (u_sd, likeness_sd), bonded = len(atoms), self._u_sd(), self._bonded()
        n_pairs = len(self.pairs.first)
        out = np.zeros((2 * n + n_pairs + len(bonded.first), N_PARAMETERS, n))
        at, row = np.arange(n), 2 * n + np.arange(n_pairs)
        out[at, 3, at], out[n + at, 4, at] = 1 / self.electrons_sd, 1 / u_sd
        steps, distance = self._steps(atoms)
        off = self._off(distance)
        along = (steps / (distance * self._distance_sd())[:, None]) @ self.cell.orthogonalisation * (off != 0)[:, None]
        axes = np.arange(3)
        out[row[:, None], axes, self.pairs.first[:, None]] += along
        out[row[:, None], axes, self.pairs.second[:, None]] -= np.einsum("mi,mij->mj", along, self.pairs.rotation)
        row = 2 * n + n_pairs + np.arange(len(bonded.first))
        out[row, 4, bonded.first], out[row, 4, bonded.second] = 1 / likeness_sd, -1 / likeness_sd
        return out

    def _steps(self, atoms: AtomList) -> tuple[np.ndarray, np.ndarray]:
        """Return vectors [m, 3] and distances [m] in Å from the second atom of each pair to the first."""
        second = np.einsum("mij,mj->mi", self.pairs.rotation, atoms.xyz_frac[self.pairs.second]) + self.pairs.shift
        steps = (atoms.xyz_frac[self.pairs.first] - second) @ self.cell.orthogonalisation.T
        return steps, np.maximum(np.linalg.norm(steps, axis=1), 0.1)

    def _off(self, distance: np.ndarray) -> np.ndarray:
        """Return how far distances are outside their range, in standard deviations."""
        is_bond = self.pairs.distance < _BONDED
        low, high = np.where(is_bond, _BOND[0], _APART), np.where(is_bond, _BOND[1], np.inf)
        return (distance - np.clip(distance, low, high)) / self._distance_sd()

    def _distance_sd(self) -> np.ndarray:
        return np.where(self.pairs.distance < _BONDED, _BOND_SD, _APART_SD)

    def _bonded(self) -> Pairs:
        return self.pairs.take(self.pairs.distance < _BONDED)

    def _u_sd(self) -> tuple[float, float]:
        return _U_SPREAD * self.u_mean + _U_FLOOR, _U_LIKENESS * self.u_mean + _U_FLOOR


def usual_restraints(atoms: AtomList, cell: Cell, symmetry: Symmetry, *, electrons_sd: float) -> Restraints:
    """Return the restraints of an organic molecule; heavy atoms are held near their present number of electrons."""
    heavy = atoms.electrons > HEAVY
    pairs = close_pairs(atoms.xyz_frac, cell, symmetry, _NEAR)
    return Restraints(
        electrons=np.where(heavy, atoms.electrons, USUAL),
        electrons_sd=np.where(heavy, _HEAVY_SD * atoms.electrons, electrons_sd),
        u_mean=float(np.average(atoms.u_iso, weights=atoms.electrons)),
        pairs=pairs.take(~(heavy[pairs.first] | heavy[pairs.second])),
        cell=cell,
    )
