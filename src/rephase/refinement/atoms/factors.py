"""Atoms of the asymmetric unit, their structure factors for a list of reflections, and the derivatives of these."""

from dataclasses import dataclass

import numpy as np

from rephase.crystal.cell import Cell
from rephase.crystal.scattering import form_factor_coefficients
from rephase.crystal.symmetry import Symmetry

# Form factors are interpolated in the number of electrons between these; below carbon, that of carbon is scaled.
_ELEMENTS = {
    6: "C",
    7: "N",
    8: "O",
    9: "F",
    14: "Si",
    15: "P",
    16: "S",
    17: "Cl",
    22: "Ti",
    24: "Cr",
    25: "Mn",
    26: "Fe",
    27: "Co",
    28: "Ni",
    29: "Cu",
    30: "Zn",
    33: "As",
    34: "Se",
    35: "Br",
    42: "Mo",
    44: "Ru",
    46: "Pd",
    50: "Sn",
    53: "I",
    74: "W",
    78: "Pt",
    82: "Pb",
    92: "U",
}
SAME_SITE = 0.05  # Å; closer images are one atom on a special position
N_PARAMETERS = 5  # of an atom: x, y, z, electrons, U


@dataclass(frozen=True)
class AtomList:
    """Atoms of the asymmetric unit.

    Parameters
    ----------
    xyz_frac
        [n, 3], fractional.
    electrons
        [n], number of electrons of each atom, not necessarily whole; a carbon atom has 6.
    u_iso
        [n], mean-square displacement in Å^2.
    """

    xyz_frac: np.ndarray
    electrons: np.ndarray
    u_iso: np.ndarray

    def __len__(self) -> int:
        return len(self.electrons)

    def take(self, index: np.ndarray) -> "AtomList":
        """Return the atoms at `index`, positions or a boolean [n]."""
        return AtomList(self.xyz_frac[index], self.electrons[index], self.u_iso[index])

    def joined(self, other: "AtomList") -> "AtomList":
        """Return these atoms followed by the others."""
        return AtomList(
            np.concatenate([self.xyz_frac, other.xyz_frac]),
            np.concatenate([self.electrons, other.electrons]),
            np.concatenate([self.u_iso, other.u_iso]),
        )


class AtomFactors:
    """``F(h) = sum_j f_j(s) exp(-8 pi^2 U_j s^2) sum_operations exp(2 pi i h.(R x_j + t))`` for a list of reflections.

    Parameters
    ----------
    hkl
        [n_refl, 3] integers.
    cell, symmetry
        Cell and space group of the reflections.
    """

    def __init__(self, hkl: np.ndarray, cell: Cell, symmetry: Symmetry):
        self.cell, self.symmetry = cell, symmetry
        self.d_hkl = cell.d_spacing(hkl)
        self.s_squared = 1 / (4 * self.d_hkl**2)
        images, shifts = symmetry.equivalents(hkl)
        summed = self._summed()
        self._images, self._shifts = images[summed].astype(float), -shifts[summed]  # F(hR) = F(h) exp(-2 pi i h.t)
        self._inversion = self._phase_of_inversion(hkl)
        self._is_present = ~symmetry.is_absent(hkl)
        self.centring = len(symmetry.triplets) // len(symmetry.point_group)  # lattice points that add up in phase
        self._knots = np.array([0.0, *_ELEMENTS])
        table = form_factor_coefficients(list(_ELEMENTS.values()))
        gaussians = np.exp(-table[:, 1:8:2, None] * self.s_squared)
        form_factors = (table[:, 0:8:2, None] * gaussians).sum(1) + table[:, 8:]
        self._form_factors = np.concatenate([np.zeros((1, len(self.d_hkl))), form_factors])

    def F(self, atoms: AtomList) -> np.ndarray:
        """Return F, complex [n_refl], in electrons per cell."""
        return (self.sizes(atoms) * self._with_inverted(self._each_image(atoms.xyz_frac).sum(0))).sum(0)

    def sizes(self, atoms: AtomList) -> np.ndarray:
        """Contribution of one image of each atom to |F|, summed over the lattice points: [n_atoms, n_refl]."""
        return self._form_factor(atoms.electrons)[0] * self._damping(atoms)

    def derivatives(self, atoms: AtomList) -> tuple[np.ndarray, np.ndarray]:
        """Return F [n_refl] and its derivatives [5, n_atoms, n_refl] by x, y, z (fractional), electrons and U."""
        form_factor, slope = self._form_factor(atoms.electrons)
        damping, each = self._damping(atoms), self._each_image(atoms.xyz_frac)
        total, size = self._with_inverted(each.sum(0)), form_factor * damping
        out = np.empty((N_PARAMETERS, *total.shape), complex)
        for axis in range(3):
            slope_of_images = 2j * np.pi * np.einsum("onr,or->nr", each, self._images[..., axis])
            out[axis] = size * self._with_inverted(slope_of_images)
        out[3] = damping * slope * total
        out[4] = -8 * np.pi**2 * self.s_squared * size * total
        return (size * total).sum(0), out

    def _summed(self) -> np.ndarray:
        """Choose the point-group operations to sum over: with an inversion centre only the proper ones, half of all."""
        rotations = self.symmetry.rotations[self.symmetry.point_group]
        every = np.ones(len(rotations), bool)
        return np.linalg.det(rotations) > 0 if self.symmetry.is_centrosymmetric else every

    def _phase_of_inversion(self, hkl: np.ndarray) -> np.ndarray | None:
        """Return ``exp(2 pi i h.t)`` [n_refl] of the inversion -x + t; None if there is none."""
        if not self.symmetry.is_centrosymmetric:
            return None
        inversion = (self.symmetry.rotations == -np.eye(3)).all((1, 2)).argmax()
        return np.exp(2j * np.pi * (hkl @ self.symmetry.translations[inversion]))

    def _with_inverted(self, half: np.ndarray) -> np.ndarray:
        """Add the improper operations to sums, or their derivatives, [n_atoms, n_refl] over the proper ones."""
        return half if self._inversion is None else half + self._inversion * half.conj()

    def _each_image(self, xyz_frac: np.ndarray) -> np.ndarray:
        """Return exp(2 pi i h.(R x + t)) for each summed operation: [n_summed, n_atoms, n_refl]."""
        angle = 2 * np.pi * np.einsum("ork,nk->onr", self._images, xyz_frac) + self._shifts[:, None]
        out = np.empty(angle.shape, complex)
        np.cos(angle, out=out.real)
        np.sin(angle, out=out.imag)
        return out

    def _form_factor(self, electrons: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return f(s) [n_atoms, n_refl] and its derivative by the number of electrons."""
        place = np.clip(np.searchsorted(self._knots, electrons, side="right") - 1, 0, len(self._knots) - 2)
        rise = self._form_factors[place + 1] - self._form_factors[place]
        slope = rise / (self._knots[place + 1] - self._knots[place])[:, None]
        return self._form_factors[place] + (electrons - self._knots[place])[:, None] * slope, slope

    def _damping(self, atoms: AtomList) -> np.ndarray:
        share = self.centring / n_keeping(atoms.xyz_frac, self.cell, self.symmetry)
        return self._is_present * share[:, None] * np.exp(-8 * np.pi**2 * atoms.u_iso[:, None] * self.s_squared)


def keeping(xyz_frac: np.ndarray, cell: Cell, symmetry: Symmetry) -> np.ndarray:
    """Return which operations leave each position [n, 3] unchanged: [n, n_operations]."""
    steps = np.einsum("oij,nj->noi", symmetry.rotations, xyz_frac) + symmetry.translations - xyz_frac[:, None]
    return lengths(steps, cell) < SAME_SITE


def n_keeping(xyz_frac: np.ndarray, cell: Cell, symmetry: Symmetry) -> np.ndarray:
    """Return the order of the site symmetry of each position [n, 3]: 1 for a general position."""
    return keeping(xyz_frac, cell, symmetry).sum(1)


def lengths(steps: np.ndarray, cell: Cell) -> np.ndarray:
    """Return the lengths in Å of fractional steps [..., 3], modulo whole cells."""
    return np.linalg.norm((steps - np.rint(steps)) @ cell.orthogonalisation.T, axis=-1)
