"""Full-matrix least squares on F^2: cycles of Gauss-Newton steps, damped where they do not lower the residual."""

from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import scipy

from rephase.crystal.cell import Cell
from rephase.crystal.reflections import Reflections
from rephase.refinement.extinction import extinction_path, extinguished
from rephase.refinement.factors import Chunk, SiteFactors
from rephase.refinement.hydrogens import ride
from rephase.refinement.parameters import Parameters, applied, riding_u
from rephase.refinement.restraints import Rows, displacement_rows, origin_rows
from rephase.refinement.sites import Sites, cartesian_u, components
from rephase.refinement.weights import fitted_weighting, weighing_sigma, weights

_SMALLEST_U = 0.001  # Å^2; displacements below are raised to it
_DAMPED = 10.0  # the damping rises and falls by this factor
_LEAST_DAMPING, _FIRST_DAMPING, _MOST_DAMPING = 1e-9, 1e-3, 1e3
_RISE = 1.02  # a larger rise of the residual takes a step back; weights depend on the model, so small ones occur
_CONVERGED = 0.01  # shift over su


@dataclass(frozen=True)
class State:
    """What is refined: sites, the square of the scale, extinction x and whether it is refined."""

    sites: Sites
    scale_squared: float
    extinction: float
    refines_extinction: bool


class Calculated(NamedTuple):
    """F [n_refl], and scaled |F|^2 with extinction [n_refl] on the scale of the data."""

    F: np.ndarray
    intensity: np.ndarray


class Normal(NamedTuple):
    """Normal matrix and vector of one cycle, with the weighted sums of squares of the residuals and of the data."""

    matrix: np.ndarray
    vector: np.ndarray
    misfit: float
    total: float


class LeastSquares:
    """The residual of merged reflections for one choice of parameters.

    Parameters
    ----------
    data
        Merged reflections.
    factors
        Structure factors of their list.
    wavelength
        Wavelength in Å of the extinction.
    """

    def __init__(self, data: Reflections, factors: SiteFactors, wavelength: float | None):
        self.data, self.factors = data, factors
        self.sigma = weighing_sigma(data)
        self.path = extinction_path(data.d_hkl, wavelength)

    def calculated(self, state: State) -> Calculated:
        """Return F and the intensities that the state gives."""
        F = self.factors.F(state.sites)
        intensity = extinguished(np.abs(F) ** 2, state.extinction, self.path).intensity
        return Calculated(F, state.scale_squared * intensity)

    def weights(
        self, rows: slice, intensity_calc: np.ndarray, scale_squared: float, weighting: tuple[float, float]
    ) -> np.ndarray:
        """Return the weights of a slice of the intensities on the scale of the data."""
        intensity, sigma = self.data.intensity[rows] / scale_squared, self.sigma[rows] / scale_squared
        return weights(intensity, sigma, intensity_calc / scale_squared, weighting) / scale_squared**2

    def fitted_weighting(self, state: State, n_parameters: int) -> tuple[float, float]:
        """Return a and b that make the variance even."""
        intensity, sigma = self.data.intensity / state.scale_squared, self.sigma / state.scale_squared
        return fitted_weighting(intensity, sigma, self.calculated(state).intensity / state.scale_squared, n_parameters)

    def scaled(self, state: State, weighting: tuple[float, float], n_rounds: int = 5) -> State:
        """Return the state with the scale that fits best."""
        unscaled = self.calculated(replace(state, scale_squared=1.0)).intensity
        scale_squared = max(float(self.data.intensity.sum() / unscaled.sum()), 1e-12)
        for _ in range(n_rounds):
            w = self.weights(slice(None), scale_squared * unscaled, scale_squared, weighting)
            scale_squared = float((w * unscaled * self.data.intensity).sum() / (w * unscaled**2).sum())
        return replace(state, scale_squared=scale_squared)

    def normal(self, state: State, parameters: Parameters, weighting: tuple[float, float]) -> Normal:
        """Return normal matrix and vector by scale, extinction (if refined) and the free parameters of the sites."""
        size = 1 + state.refines_extinction + len(parameters)
        matrix, vector = np.zeros((size, size), order="F"), np.zeros(size)
        misfit = total = 0.0
        for chunk in self.factors.chunks(state.sites):
            calculated, slopes = self._slopes(chunk, state, parameters)
            observed = self.data.intensity[chunk.rows]
            root = np.sqrt(self.weights(chunk.rows, calculated, state.scale_squared, weighting))
            slopes *= root
            residual = root * (observed - calculated)
            scipy.linalg.blas.dsyrk(
                1.0, slopes.T, trans=1, beta=1.0, c=matrix, overwrite_c=True
            )  # a sum over chunks, upper triangle
            vector += slopes @ residual
            misfit += float(residual @ residual)
            total += float(((root * observed) ** 2).sum())
        return Normal(np.triu(matrix) + np.triu(matrix, 1).T, vector, misfit, total)

    def _slopes(self, chunk: Chunk, state: State, parameters: Parameters) -> tuple[np.ndarray, np.ndarray]:
        """Return scaled intensities [n] and their derivatives [n_parameters + 1 or 2, n]."""
        squared = np.abs(chunk.F) ** 2
        corrected = extinguished(squared, state.extinction, self.path[chunk.rows])
        by_slots = chunk.slopes.reshape(-1, len(squared))
        by_sites = (parameters.matrix @ by_slots) * (state.scale_squared * corrected.by_intensity)
        own = [corrected.intensity, state.scale_squared * corrected.by_x][: 1 + state.refines_extinction]
        return state.scale_squared * corrected.intensity, np.concatenate([own, by_sites])


class Refined(NamedTuple):
    """The final state, the covariance of the parameters (not yet scaled by GooF) and the last largest shift over su.

    ``restrained_goof`` counts the restraints as observations.
    """

    state: State
    covariance: np.ndarray
    shift: float
    n_restraints: int
    goof: float
    restrained_goof: float


def refined(
    problem: LeastSquares,
    state: State,
    parameters: Parameters,
    weighting: tuple[float, float],
    n_cycles: int,
    *,
    restrains: bool = True,
    idealises: bool = False,
) -> Refined:
    """Refine up to `n_cycles` times; a step that raises the residual is taken back and repeated with more damping.

    Riding hydrogen atoms are idealised before, and with `idealises` after every cycle, which takes longer for small
    crystals; in between they follow their parents. With `restrains` False there are no restraints on displacements.
    """
    if len(parameters):
        state = _idealised(state, problem.factors)
    best, (normal, n_restraints) = state, _restrained(problem, state, parameters, weighting, restrains)
    damping, shift = _LEAST_DAMPING, np.inf
    for _ in range(n_cycles):
        changes, shift = _step(normal, damping, len(problem.data))
        state = moved(best, parameters, changes, problem.factors.cell)
        if idealises:
            state = _idealised(state, problem.factors)
        found, _ = _restrained(problem, state, parameters, weighting, restrains)
        if found.misfit > _RISE * normal.misfit:
            damping = min(max(damping, _FIRST_DAMPING) * _DAMPED, _MOST_DAMPING)
            continue
        best, normal, damping = state, found, max(damping / _DAMPED, _LEAST_DAMPING)
        if shift < _CONVERGED:
            break
    goof, restrained_goof = (_goof(normal, len(problem.data) + n) for n in (0, n_restraints))
    return Refined(best, _inverse(normal.matrix), shift, n_restraints, goof, restrained_goof)


def _idealised(state: State, factors: SiteFactors) -> State:
    return replace(state, sites=ride(state.sites, factors.cell, factors.symmetry))


def moved(state: State, parameters: Parameters, changes: np.ndarray, cell: Cell) -> State:
    """Return the state after changes of all parameters, limited to what one cycle may change."""
    n_own = len(changes) - len(parameters)
    limit = np.abs(changes[n_own:]) / parameters.steps
    slots = parameters.slot_changes(changes[n_own:] / np.maximum(limit, 1.0))
    sites = riding_u(positive(applied(state.sites, slots), cell), cell) if len(parameters) else state.sites
    scale_squared = max(state.scale_squared + changes[0], state.scale_squared / 4)
    extinction = max(state.extinction + (changes[1] if state.refines_extinction else 0.0), 0.0)
    return replace(state, sites=sites, scale_squared=scale_squared, extinction=extinction)


def is_positive(sites: Sites, cell: Cell) -> np.ndarray:
    """Return whether the smallest mean-square displacement of each atom [n] is above the smallest that is allowed."""
    return np.asarray(np.linalg.eigvalsh(cartesian_u(sites.U, cell))[:, 0] > _SMALLEST_U * (1 + 1e-6))


def positive(sites: Sites, cell: Cell) -> Sites:
    """Return the sites with every principal mean-square displacement raised to at least 0.001 Å^2."""
    size, axes = np.linalg.eigh(cartesian_u(sites.U, cell))
    if (size[:, 0] >= _SMALLEST_U).all():
        return sites
    tensor = np.einsum("nik,nk,njk->nij", axes, np.maximum(size, _SMALLEST_U), axes)
    low = size[:, 0] < _SMALLEST_U
    return replace(sites, U=np.where(low[:, None], components(tensor, cell), sites.U))


def _restrained(
    problem: LeastSquares, state: State, parameters: Parameters, weighting: tuple[float, float], restrains: bool
) -> tuple[Normal, int]:
    """Return normal equations with restraints and their number; one for each polar axis fixes the origin along it."""
    normal = problem.normal(state, parameters, weighting)
    if not len(parameters):
        return normal, 0
    cell, symmetry, sites = problem.factors.cell, problem.factors.symmetry, state.sites
    rows, origin = displacement_rows(sites, cell, symmetry), origin_rows(sites, cell, symmetry)
    if not restrains:
        rows = Rows(rows.coefficients[:0], rows.residuals[:0])
    by_parameters, held = ((parameters.matrix @ each.coefficients.T).T for each in (rows, origin))
    own = slice(len(normal.vector) - len(parameters), None)
    weight = max(_goof(normal, len(problem.data)) ** 2, 1e-9)  # that of the data, whose σ may be on any scale
    stiff = len(parameters) * np.diag(normal.matrix)[own].max() / max((held**2).sum(), 1e-30)
    normal.matrix[own, own] += weight * by_parameters.T @ by_parameters + stiff * held.T @ held
    normal.vector[own] -= weight * by_parameters.T @ rows.residuals
    n_restraints = len(rows.residuals) + len(origin.residuals)
    return normal._replace(misfit=normal.misfit + weight * float((rows.residuals**2).sum())), n_restraints


def _step(normal: Normal, damping: float, n_data: int) -> tuple[np.ndarray, float]:
    """Return the changes of the parameters, and the largest over its standard uncertainty."""
    inverse = _inverse(normal.matrix, damping)
    changes = inverse @ normal.vector
    su = np.sqrt(np.maximum(np.diag(inverse), 0)) * _goof(normal, n_data)
    return changes, float(np.abs(changes / np.maximum(su, 1e-30)).max())


def _goof(normal: Normal, n_data: int) -> float:
    return float(np.sqrt(normal.misfit / max(n_data - len(normal.vector), 1)))


def _inverse(matrix: np.ndarray, damping: float = 0.0) -> np.ndarray:
    """Invert a positive matrix with its diagonal multiplied by 1 + damping; more damping where it is singular."""
    size = np.sqrt(np.diag(matrix))
    size = np.where(size > 0, size, 1.0)
    scaled = matrix / np.outer(size, size)
    while True:
        factor, failed = scipy.linalg.lapack.dpotrf(scaled + max(damping, _LEAST_DAMPING) * np.eye(len(size)), clean=1)
        if not failed:
            break
        damping = max(damping, _LEAST_DAMPING) * _DAMPED
    upper, _ = scipy.linalg.lapack.dpotri(factor)
    return np.asarray((np.triu(upper) + np.triu(upper, 1).T) / np.outer(size, size))
