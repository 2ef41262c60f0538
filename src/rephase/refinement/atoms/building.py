"""Model building: between refinements, atoms are added from difference maps and removed if they fade."""

import math

import numpy as np
import torch

from rephase.crystal.density import density_of
from rephase.crystal.peaks import VOLUME_PER_ATOM, find_peaks
from rephase.crystal.reflections import Reflections
from rephase.crystal.reflections.statistics import wilson
from rephase.crystal.shells import smooth_mean
from rephase.refinement.atoms.factors import N_PARAMETERS, AtomFactors, AtomList, lengths, n_keeping
from rephase.refinement.atoms.refinement import Amplitudes, Fit, refine
from rephase.refinement.atoms.restraints import USUAL, close_pairs, usual_restraints

_ELECTRONS_SD = 2.5  # wide enough for a false atom to fade
_WEAKEST = 3.0  # electrons; an atom with fewer is removed
_FRESH = 5.0  # initial electrons of a new atom
_CLOSEST = 1.05  # Å; of two atoms that are closer the lighter is removed
_HIGH = 3.0  # smallest peak that is added, in σ of the difference map
_AT_ONCE, _ROOM = 0.15, 1.25  # new atoms per cycle, and all atoms, relative to the expected number
_MOST_PEAKS = 4.0  # times the expected number of atoms: more peaks than atoms where many lie on special positions
_FEWEST_PEAKS = 8  # in a small cubic cell all atoms together are less than one of general position
_PENALTY = 12.0  # decrease of -2 ln L that an atom must achieve
_OMITTED, _AFTER_SHAKE, _HEAVIEST = 0.3, 1.1, 20.0  # fraction left out; peaks / expected; height / median height
_PATIENCE = 4  # cycles without gain before stopping or shaking
EXPLAINED = 0.10  # R; a larger R means that part of the model is wrong
_BUDGET = 3e6  # reflections times atoms times operations, over all cycles: some seconds
_CYCLES = 25, 100  # smallest and largest number for an effort of 1
_LEAST_U = 0.003, 0.01  # Å^2, of a new atom, and of the first atoms


class Builder:
    """Amplitudes of merged data, and the steps from one atomic model to the next.

    Parameters
    ----------
    data
        Merged reflections.
    amplitude
        [n_refl], |F| in electrons, on the scale of the Wilson plot.
    rng
        Generator that chooses which atoms are left out when a model is shaken.
    room
        Largest number of atoms relative to one for each 18 Å^3.
    """

    def __init__(self, data: Reflections, amplitude: np.ndarray, rng: np.random.Generator, *, room: float = _ROOM):
        self.data, self._rng, self._room = data, rng, room
        size, sigma = data.amplitudes()
        self.observed = Amplitudes(amplitude, sigma * amplitude.sum() / size.sum())
        self.factors = AtomFactors(data.hkl, data.cell, data.group)
        self.n_expected = data.cell.volume / VOLUME_PER_ATOM / len(data.group.triplets)

    def likeliest(
        self, density: np.ndarray, *, effort: float = 1.0, patience: int = _PATIENCE, explained: float = EXPLAINED
    ) -> Fit:
        """Return the best model of many building cycles that start from the peaks of a map.

        After `patience` cycles without gain the search ends or, if R is above `explained`, the best model is shaken.
        """
        size = len(self.data) * self.n_expected * len(self.data.group.point_group)
        n_cycles = math.ceil(effort * float(np.clip(_BUDGET / size, *_CYCLES)))
        best = fit = self.first(density)
        least, n_idle = self.criterion(fit), 0
        for _ in range(n_cycles):
            fit = self.rebuilt(fit)
            value = self.criterion(fit)
            n_idle = n_idle + 1 if value >= least else 0
            if value < least:
                best, least = fit, value
            if n_idle >= patience:
                if best.r_factor < explained:
                    break
                fit, n_idle = self.shaken(best), 0
        return best

    def explains(self, density: np.ndarray, *, limit: float, n_cycles: int) -> bool:
        """Whether a few building cycles that start from the peaks of a map reach a small R.

        `limit` holds for many reflections; p parameters lower the R of any model by (1 - p / n)^½.
        """
        fit = self.first(density)
        for _ in range(n_cycles):
            if self._is_explained(fit, limit):
                return True
            fit = self.rebuilt(fit)
        return self._is_explained(fit, limit)

    def _is_explained(self, fit: Fit, limit: float) -> bool:
        n_parameters = (N_PARAMETERS - 1) * len(fit.atoms)  # electrons are held by restraints
        return fit.r_factor <= limit * math.sqrt(max(0.0, 1 - n_parameters / len(self.data)))

    def first(self, density: np.ndarray) -> Fit:
        """Place atoms at the highest peaks of a map, one for each 18 Å^3, and refine them."""
        u_iso = max(wilson(self.data).b_iso / (8 * math.pi**2), _LEAST_U[1])
        return self._refined(self._atoms_of(density, self.n_expected, u_iso))

    def rebuilt(self, fit: Fit) -> Fit:
        """Remove the atoms that faded, add the highest peaks of the difference map, and refine."""
        electrons = fit.atoms.electrons
        atoms = self._clear(fit.atoms.take(electrons > min(_WEAKEST, electrons.max() / 2)))
        if len(atoms) < len(fit.atoms):
            fit = self._refined(atoms, n_steps=3)
        return self._refined(self._clear(fit.atoms.joined(self._new_atoms(fit))))

    def shaken(self, fit: Fit) -> Fit:
        """Pick all atoms again from the map of two thirds of them, drawn at random, to escape from a wrong model."""
        kept = self._rng.random(len(fit.atoms)) > _OMITTED
        kept[fit.atoms.electrons.argmax()] = True
        part = self._refined(fit.atoms.take(kept), n_steps=3)
        n, u_iso = _AFTER_SHAKE * self.n_expected, max(float(part.atoms.u_iso.mean()), _LEAST_U[0])
        return self._refined(self._atoms_of(self._map(part, is_difference=False), n, u_iso))

    def criterion(self, fit: Fit) -> float:
        """Return -2 ln L for normal errors plus a penalty for each atom; smaller is better."""
        left = fit.scale * np.abs(self.factors.F(fit.atoms)) - self.observed.size
        return len(left) * math.log((left**2).mean()) + _PENALTY * len(fit.atoms)

    def without(self, fit: Fit, left_out: np.ndarray) -> tuple[Fit, AtomFactors]:
        """Refine without the reflections `left_out`, boolean [n_refl]; return the fit and the factors for them."""
        data, seen = self.data, ~left_out
        observed = Amplitudes(self.observed.size[seen], self.observed.sigma[seen])
        restraints = usual_restraints(fit.atoms, data.cell, data.group, electrons_sd=_ELECTRONS_SD)
        part = refine(AtomFactors(data.hkl[seen], data.cell, data.group), observed, fit.atoms, restraints)
        return part, AtomFactors(data.hkl[left_out], data.cell, data.group)

    def _refined(self, atoms: AtomList, n_steps: int = 8) -> Fit:
        restraints = usual_restraints(atoms, self.data.cell, self.data.group, electrons_sd=_ELECTRONS_SD)
        return refine(self.factors, self.observed, atoms, restraints, n_steps=n_steps)

    def _atoms_of(self, density: np.ndarray, n: float, u_iso: float) -> AtomList:
        """Place atoms at the highest peaks of a map, with electrons in proportion to the peak height.

        There are `n` in an asymmetric unit; one on a special position counts as the share of it that lies in the unit.
        """
        peaks = find_peaks(density, self.data.cell, self.data.group, max(_FEWEST_PEAKS, math.ceil(_MOST_PEAKS * n)))
        share = self._shares(peaks.xyz_frac)
        kept = np.cumsum(share) - share / 2 < n
        height = peaks.height[kept]
        height = np.minimum(height / np.median(height), _HEAVIEST)
        return self._clear(AtomList(peaks.xyz_frac[kept], USUAL * height, np.full(len(height), u_iso)))

    def _new_atoms(self, fit: Fit) -> AtomList:
        """Place atoms at peaks of the difference map that are far enough from all atoms."""
        group, cell = self.data.group, self.data.cell
        density = self._map(fit, is_difference=True)
        room = math.ceil(self._room * self.n_expected + 1 - self._shares(fit.atoms.xyz_frac).sum())
        peaks = find_peaks(density, cell, group, max(2, math.ceil(_AT_ONCE * self.n_expected)))
        images = np.einsum("oij,nj->oni", group.rotations, fit.atoms.xyz_frac) + group.translations[:, None]
        apart = lengths(peaks.xyz_frac[:, None, None] - images, cell).min((1, 2))
        xyz = peaks.xyz_frac[(apart > _CLOSEST) & (peaks.height > _HIGH * density.std())][: max(room, 0)]
        u_iso = max(float(fit.atoms.u_iso.mean()), _LEAST_U[0])
        return AtomList(xyz, np.full(len(xyz), _FRESH), np.full(len(xyz), u_iso))

    def _shares(self, xyz_frac: np.ndarray) -> np.ndarray:
        """Return the share of each atom [n] that lies in one asymmetric unit: 1 for a general position."""
        return 1 / n_keeping(xyz_frac, self.data.cell, self.data.group)

    def _map(self, fit: Fit, *, is_difference: bool) -> np.ndarray:
        """Map of ``m |F| - |F_calc|`` with the phases of the model, plus the model's own map unless `is_difference`.

        ``m`` is the mean cosine of the phase error that the misfit of each shell suggests (Sim, 1959). Acentric
        differences count twice, because half is lost when missing density gets the phases of the model.
        """
        F, centric = self.factors.F(fit.atoms), self.data.group.is_centric(self.data.hkl)
        size, observed = fit.scale * np.maximum(np.abs(F), 1e-9), self.observed.size
        variance = smooth_mean(self.data.d_hkl, (observed - size) ** 2 * np.where(centric, 1, 2))
        X = torch.as_tensor(2 * observed * size / variance)
        acentric = torch.special.i1e(X) / torch.special.i0e(X)
        m = torch.where(torch.as_tensor(centric), torch.tanh(X / 2), acentric).numpy()
        difference = np.where(centric, 1, 2) * (m * observed - size)
        coefficients = (difference + (not is_difference) * size) * F / np.maximum(np.abs(F), 1e-9)
        return density_of(self.data.hkl, coefficients, self.data.cell, self.data.group)

    def _clear(self, atoms: AtomList) -> AtomList:
        """Remove atoms that are too close to a heavier one."""
        near = close_pairs(atoms.xyz_frac, self.data.cell, self.data.group, _CLOSEST)
        is_near = np.zeros((len(atoms), len(atoms)), bool)
        is_near[near.first, near.second] = is_near[near.second, near.first] = True
        kept: list[int] = []
        for atom in np.argsort(-atoms.electrons, kind="stable"):
            if not is_near[atom, kept].any():
                kept.append(int(atom))
        return atoms.take(np.sort(kept))
