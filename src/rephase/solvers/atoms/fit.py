"""`fit_atoms`: from phases to atoms that explain the amplitudes, and the amplitudes that these atoms predict."""

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from rephase.crystal.cell import Cell
from rephase.crystal.reflections import Reflections
from rephase.crystal.reflections.statistics import expected_intensity, wilson
from rephase.crystal.symmetry import Symmetry
from rephase.errors import GridError, ReflectionError
from rephase.solvers.atoms.building import Builder
from rephase.solvers.atoms.errors import INFLATIONS, Errors, Trust, blurred, calibrated, errors_of
from rephase.solvers.atoms.factors import AtomFactors, AtomList
from rephase.solvers.atoms.refinement import Fit
from rephase.solvers.atoms.rice import amplitude_moments
from rephase.solvers.cost import check_effort
from rephase.solvers.solution import Solution

_PATIENCE = 4  # cycles without gain
_EXPLAINED = 0.10  # R; where more is left, a part of the model is wrong
_BUDGET = 3e6  # reflections times atoms times operations, over all cycles: seconds
_CYCLES = 25, 100  # fewest and most for an effort of 1
_N_FOLDS = 5
# Reflections that are left out were seen when the model was built: so much more variance, and the share of the
# correlation that is left at such R of them. Chosen on random crystals and on wrong models of real ones.
_OPTIMISM, _UNTRUE = 1.6, ([0.2, 0.5], [1.0, 0.0])


@dataclass(frozen=True, eq=False)
class AtomModel:
    """Atoms that explain amplitudes, up to an allowed origin and hand those of the crystal.

    Parameters
    ----------
    atoms
        Of the asymmetric unit: positions, electrons, U.
    scale
        Of F in electrons to the scale of ``sqrt(intensity)`` of the data.
    r_factor
        sum |scale |F_calc| - |F|| / sum |F| over the data.
    r_free
        The same of reflections that were left out of the last steps, a fifth at a time.
    errors
        Of the atoms, by the normal matrix.
    trust
        What the reflections that were left out say of these errors.
    cell, symmetry
        Of the data.
    """

    atoms: AtomList
    scale: float
    r_factor: float
    r_free: float
    errors: Errors
    trust: Trust
    cell: Cell
    symmetry: Symmetry

    def structure_factors(self, hkl: np.ndarray) -> np.ndarray:
        """Complex [n_refl] of reflections [n_refl, 3], in electrons per cell.

        Raises
        ------
        GridError
            Reflections that are not integers of shape [n_refl, 3].
        """
        return AtomFactors(_checked(hkl), self.cell, self.symmetry).F(self.atoms)


def fit_atoms(solution: Solution, *, effort: float = 1.0, seed: int = 0) -> AtomModel:
    """Place atoms at the peaks of a solution and refine them against its amplitudes.

    The highest peaks are refined; then in each cycle atoms that faded or came too close are given up, the highest peaks
    of the difference map are taken up, and all are refined again. Where that ends with much unexplained, a third of the
    atoms is left out at random and all are picked anew. Of all models that were reached the likeliest is returned, each
    atom having to be worth its parameters. Elements need not be known: the number of electrons is refined, and form
    factors are interpolated between elements. Hydrogen atoms are left out, or stand as atoms of few electrons.

    Parameters
    ----------
    solution
        As `solve` gives it.
    effort
        How much to try, at most: 1 is some seconds.
    seed
        Of the atoms that are left out.

    Raises
    ------
    ConfigError
        An effort that is not positive.
    """
    check_effort(effort)
    data, rng = solution.reflections, np.random.default_rng(seed)
    builder = Builder(data, solution.amplitude, rng)
    fit = _likeliest(builder, builder.first(solution.density), effort)
    r_free, trust = _cross_validated(builder, fit, rng)
    return AtomModel(
        atoms=fit.atoms,
        scale=fit.scale * math.sqrt(wilson(data).scale),
        r_factor=fit.r_factor,
        r_free=r_free,
        errors=errors_of(fit.atoms, fit.covariance, data.cell),
        trust=trust,
        cell=data.cell,
        symmetry=data.group,
    )


class Expected(NamedTuple):
    """Structure factors expected from atoms: the mean ``F``, complex [n_refl], and ``variance`` of its normal error.

    On the scale of ``sqrt(intensity)`` of the data. ``is_centric [n_refl]``: the error is real, along F.
    """

    F: np.ndarray
    variance: np.ndarray
    is_centric: np.ndarray

    def amplitudes(self) -> tuple[np.ndarray, np.ndarray]:
        """Expected |F| and its standard deviation, [n_refl] each; see `amplitude_moments`."""
        mean, sigma = amplitude_moments(self.F, self.variance, self.is_centric)
        is_there = (self.F != 0) | (self.variance > 0)
        return np.where(is_there, mean, 0.0), np.where(is_there, sigma, 0.0)


def expected_amplitudes(model: AtomModel, data: Reflections, hkl: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Expected |F| of any reflections and its standard deviation, on the scale of ``sqrt(intensity)`` of the data.

    |F| follows Rice's distribution, or a folded normal one where it is centric, whose mean and deviation are returned
    (Read, 1986); parameters and errors as in `expected_structure_factors`.

    Returns
    -------
    amplitude, sigma
        [n_refl] each; systematic absences are 0 with certainty.
    """
    return expected_structure_factors(model, data, hkl).amplitudes()


def expected_structure_factors(model: AtomModel, data: Reflections, hkl: np.ndarray) -> Expected:
    """Expected F of any reflections, and how far from it the true one is.

    F_calc has a normal error: that of its atoms, and a part of Wilson's intensity where it is not to be trusted. An
    untrue model falls back to what Wilson's line, extrapolated, lets expect.

    Parameters
    ----------
    model
        As `fit_atoms` gives it.
    data
        The merged reflections that it was fitted to.
    hkl
        [n_refl, 3], observed or not; systematic absences are 0 with certainty.

    Raises
    ------
    GridError
        Reflections that are not integers of shape [n_refl, 3].
    ReflectionError
        Data of another cell or space group than the model.
    """
    if (data.cell, data.group.triplets) != (model.cell, model.symmetry.triplets):
        raise ReflectionError(
            f"{data.name}: cell {data.cell.parameters} in {data.group.symbol}, but the model has "
            f"{model.cell.parameters} in {model.symmetry.symbol}; give the data that it was fitted to"
        )
    hkl, group, (p, inflation) = _checked(hkl), model.symmetry, model.trust
    F, variance = blurred(AtomFactors(hkl, model.cell, group), model.atoms, model.errors, inflation, group.epsilon(hkl))
    variance = (p * model.scale) ** 2 * variance + (1 - p**2) * expected_intensity(data, hkl)
    present = ~group.is_absent(hkl)
    return Expected(p * model.scale * F * present, variance * present, group.is_centric(hkl))


def _likeliest(builder: Builder, fit: Fit, effort: float) -> Fit:
    """The best model of many cycles of building."""
    size = len(builder.data) * builder.n_expected * len(builder.data.group.point_group)
    n_cycles = math.ceil(effort * float(np.clip(_BUDGET / size, *_CYCLES)))
    best, least, n_idle = fit, builder.criterion(fit), 0
    for _ in range(n_cycles):
        fit = builder.rebuilt(fit)
        value = builder.criterion(fit)
        n_idle = n_idle + 1 if value >= least else 0
        if value < least:
            best, least = fit, value
        if n_idle >= _PATIENCE:
            if best.r_factor < _EXPLAINED:
                break
            fit, n_idle = builder.shaken(best), 0
    return best


def _cross_validated(builder: Builder, fit: Fit, rng: np.random.Generator) -> tuple[float, Trust]:
    """R of reflections that were left out of a refinement that started from the fit, and the trust they justify."""
    data, n = builder.data, len(builder.data)
    fold, epsilon = rng.permutation(n) % _N_FOLDS, data.group.epsilon(data.hkl)
    plain = np.zeros(n)
    F, variance = np.zeros((len(INFLATIONS), n)), np.zeros((len(INFLATIONS), n))
    for free in (fold == i for i in range(_N_FOLDS)):
        part, factors = builder.without(fit, free)
        errors = errors_of(part.atoms, part.covariance, data.cell)
        plain[free] = part.scale * np.abs(factors.F(part.atoms))
        for row, inflation in enumerate(INFLATIONS):
            expected, spread = blurred(factors, part.atoms, errors, inflation, epsilon[free])
            F[row, free], variance[row, free] = part.scale * np.abs(expected), part.scale**2 * spread
    intensity = expected_intensity(data, data.hkl) / wilson(data).scale
    observed = builder.observed.size
    trust = calibrated(observed, F, variance, intensity, data.group.is_centric(data.hkl))
    r_free = float(np.abs(plain - observed).sum() / observed.sum())
    return r_free, Trust(trust.correlation * float(np.interp(r_free, *_UNTRUE)), _OPTIMISM * trust.inflation)


def _checked(hkl: np.ndarray) -> np.ndarray:
    """``hkl [n_refl, 3]`` as integers."""
    array = np.asarray(hkl)
    if array.ndim != 2 or array.shape[1] != 3 or not np.array_equal(array, np.rint(array)):
        raise GridError(f"hkl of shape {array.shape}: expected integers [n_refl, 3]; give a row for each reflection")
    return array.astype(int)
