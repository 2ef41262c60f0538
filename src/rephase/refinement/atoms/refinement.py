"""Restrained least squares of atoms against amplitudes, by Levenberg-Marquardt steps with analytic derivatives."""

from typing import NamedTuple

import numpy as np

from rephase.crystal.shells import smooth_mean
from rephase.refinement.atoms.factors import N_PARAMETERS, AtomFactors, AtomList
from rephase.refinement.atoms.restraints import Restraints, site_projectors

_U_RANGE = 1e-4, 0.4  # Å^2
_FEWEST_ELECTRONS = 0.3
_LARGEST_SHIFT = 0.25  # Å in one step
_FIRST_DAMPING, _LEAST_DAMPING, _DAMPING_STEP, _N_TRIES = 1e-3, 1e-6, 6.0, 6
_ENOUGH = 1e-3  # gain in the sum of squares per reflection below which the refinement stops
_LEAST_FREEDOM = 0.1  # smallest number of degrees of freedom, as a fraction of the reflections
_RIDGE = 1e-9  # added to the diagonal of the normal matrix, relative to its largest element


class Fit(NamedTuple):
    """Refined atoms.

    ``scale`` from their |F| to the amplitudes; ``r_factor`` = sum |scale |F_calc| - |F|| / sum |F|; ``covariance``
    [5n, 5n] of all x, then all y, z (fractional), electrons and U.
    """

    atoms: AtomList
    scale: float
    r_factor: float
    covariance: np.ndarray


class Amplitudes(NamedTuple):
    """Observed |F| [n_refl] and their standard uncertainties [n_refl]."""

    size: np.ndarray
    sigma: np.ndarray


def refine(
    factors: AtomFactors, observed: Amplitudes, atoms: AtomList, restraints: Restraints, *, n_steps: int = 8
) -> Fit:
    """Refine position, electrons and U of each atom, and one scale, against amplitudes.

    The weight of each shell follows from the model's misfit there, corrected for the number of refined parameters, so
    that restraints are weighted correctly against data of that quality. In polar groups the origin is fixed (Flack &
    Schwarzenbach, 1988, Acta Cryst. A44, 499-506).
    """
    problem = _Problem(factors, observed, restraints, site_projectors(atoms.xyz_frac, factors.cell, factors.symmetry))
    F = np.abs(factors.F(atoms))
    state = _State(atoms, float(observed.size @ F / (F @ F)), F)
    weight = problem.weight(state, used=0.0)
    damping = _FIRST_DAMPING
    equations = problem.equations(state, weight)
    for _ in range(n_steps):
        cost = problem.cost(state, weight)
        better, damping = problem.step(state, equations, weight, damping)
        if better is None:
            break
        state, gain = better, cost - problem.cost(better, weight)
        weight = problem.weight(state, used=equations.n_used())
        equations = problem.equations(state, weight)
        if gain < _ENOUGH * len(observed.size):
            break
    misfit = np.abs(problem.difference(state)).sum()
    return Fit(state.atoms, state.scale, float(misfit / observed.size.sum()), problem.covariance(equations))


class _State(NamedTuple):
    """Atoms, the scale of their amplitudes, and the amplitudes [n_refl] in electrons."""

    atoms: AtomList
    scale: float
    size: np.ndarray


class _Equations(NamedTuple):
    """Normal matrix of the data alone and with the restraints, and half the gradient of the sum of squares."""

    of_data: np.ndarray
    matrix: np.ndarray
    gradient: np.ndarray

    def covariance(self) -> np.ndarray:
        return np.linalg.inv(self.matrix + _RIDGE * np.diag(self.matrix).max() * np.eye(len(self.matrix)))

    def n_used(self) -> float:
        """Return the number of parameters determined by the data, without those determined by restraints."""
        return float((self.of_data * self.covariance()).sum())

    def step(self, damping: float) -> np.ndarray:
        diagonal = np.diag(self.matrix)
        return -np.linalg.solve(self.matrix + np.diag(damping * diagonal + _RIDGE * diagonal.max()), self.gradient)


class _Problem(NamedTuple):
    """The least-squares problem: reflections, then restraints."""

    factors: AtomFactors
    observed: Amplitudes
    restraints: Restraints
    projectors: np.ndarray

    def difference(self, state: _State) -> np.ndarray:
        return state.scale * state.size - self.observed.size

    def cost(self, state: _State, weight: np.ndarray) -> float:
        data = (self.difference(state) ** 2 * weight).sum()
        return float(data + (self.restraints.residuals(state.atoms) ** 2).sum())

    def weight(self, state: _State, *, used: float) -> np.ndarray:
        """Return 1/σ^2 [n_refl], where σ combines the measurement and the misfit of the model in each shell."""
        n, size, sigma = len(self.observed.size), *self.observed
        left = np.maximum(self.difference(state) ** 2 - sigma**2, 0)
        freedom = max(n - used, _LEAST_FREEDOM * n) / n
        return 1 / (smooth_mean(self.factors.d_hkl, left) / freedom + sigma**2 + (1e-4 * size.mean()) ** 2)

    def equations(self, state: _State, weight: np.ndarray) -> _Equations:
        n = len(state.atoms)
        F, dF = self.factors.derivatives(state.atoms)
        size = np.abs(F)
        rows = state.scale * (dF * (F.conj() / np.maximum(size, 1e-9))).real
        rows[:3] = np.einsum("knr,nkj->jnr", rows[:3], self.projectors)
        J = np.concatenate([rows.reshape(N_PARAMETERS * n, -1), size[None]])
        of_data = (J * weight) @ J.T
        prior = self.restraints.residuals(state.atoms)
        dprior = self.restraints.derivatives(state.atoms)
        dprior[:, :3] = np.einsum("mkn,nkj->mjn", dprior[:, :3], self.projectors)
        P = dprior.reshape(len(prior), -1)
        matrix = of_data.copy()
        matrix[:-1, :-1] += P.T @ P
        gradient = J @ (weight * (state.scale * size - self.observed.size))
        gradient[:-1] += P.T @ prior
        held = self._origin_rows(state.atoms) * np.sqrt(np.diag(of_data)[: 3 * n].max())
        matrix[: 3 * n, : 3 * n] += held.T @ held
        return _Equations(of_data, matrix, gradient)

    def moved(self, state: _State, step: np.ndarray) -> _State:
        """Return the state after a step, in which shifts that are too long are shortened."""
        atoms, cell = state.atoms, self.factors.cell
        change = step[:-1].reshape(N_PARAMETERS, -1)
        shift = np.einsum("nij,jn->ni", self.projectors, change[:3])
        length = np.linalg.norm(shift @ cell.orthogonalisation.T, axis=1)
        shift *= np.minimum(1, _LARGEST_SHIFT / np.maximum(length, 1e-9))[:, None]
        electrons = np.maximum(atoms.electrons + change[3], _FEWEST_ELECTRONS)
        u_iso = np.clip(atoms.u_iso + change[4], *_U_RANGE)
        moved = AtomList(atoms.xyz_frac + shift, electrons, u_iso)
        return _State(moved, state.scale + float(step[-1]), np.abs(self.factors.F(moved)))

    def step(
        self, state: _State, equations: _Equations, weight: np.ndarray, damping: float
    ) -> tuple[_State | None, float]:
        """Increase the damping until a step lowers the cost; return the new state and the damping to continue with."""
        cost = self.cost(state, weight)
        for _ in range(_N_TRIES):
            trial = self.moved(state, equations.step(damping))
            if trial.scale > 0 and self.cost(trial, weight) < cost:
                return trial, max(damping / _DAMPING_STEP, _LEAST_DAMPING)
            damping *= _DAMPING_STEP
        return None, damping

    def covariance(self, equations: _Equations) -> np.ndarray:
        """Return the covariance [5n, 5n]; positions have no error along directions that site symmetry fixes."""
        n = len(self.projectors)
        C = equations.covariance()[:-1, :-1].reshape(N_PARAMETERS, n, N_PARAMETERS, n)
        C[:3] = np.einsum("nij,jnkm->inkm", self.projectors, C[:3])
        C[:, :, :3] = np.einsum("mij,knjm->knim", self.projectors, C[:, :, :3])
        return C.reshape(N_PARAMETERS * n, -1)

    def _origin_rows(self, atoms: AtomList) -> np.ndarray:
        """Return the common shift of all atoms along each polar direction, [k, 3n]."""
        share = atoms.electrons / np.linalg.norm(atoms.electrons)
        polar = self.factors.symmetry.origins.polar
        return (polar[:, :, None] * share).reshape(len(polar), 3 * len(atoms))
