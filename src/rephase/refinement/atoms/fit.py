"""`fit_atoms`: from phases to atoms that explain the amplitudes; predictions of unobserved amplitudes from them."""

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from rephase.crystal.cell import Cell
from rephase.crystal.reflections import Reflections
from rephase.crystal.reflections.statistics import expected_intensity, wilson
from rephase.crystal.symmetry import Symmetry
from rephase.errors import GridError, ReflectionError, check_effort
from rephase.refinement.atoms.building import Builder
from rephase.refinement.atoms.errors import INFLATIONS, Errors, Trust, blurred, calibrated, errors_of
from rephase.refinement.atoms.factors import AtomFactors, AtomList
from rephase.refinement.atoms.refinement import Fit
from rephase.refinement.atoms.rice import amplitude_moments

_N_FOLDS = 5
# The reflections left out had already been used to build the model. Therefore the variance is inflated by this factor,
# and the correlation is multiplied by a factor, 1 to 0, that falls with their R. Chosen on random crystals and on
# wrong models of real ones.
_OPTIMISM, _UNTRUE = 1.6, ([0.2, 0.5], [1.0, 0.0])


@dataclass(frozen=True, eq=False)
class AtomModel:
    """Atoms that explain the amplitudes: those of the crystal, up to an allowed origin and hand.

    Parameters
    ----------
    atoms
        Positions, electrons and U of the asymmetric unit.
    scale
        Factor from F in electrons to the scale of ``sqrt(intensity)`` of the data.
    r_factor
        sum |scale |F_calc| - |F|| / sum |F| over the data.
    r_free
        R factor over reflections left out of the last steps, a fifth at a time.
    errors
        Errors of the atoms from the normal matrix.
    trust
        Calibration of these errors by the reflections that were left out.
    cell, symmetry
        Cell and space group of the data.
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
        """Return F, complex [n_refl] in electrons per cell, of reflections [n_refl, 3].

        Raises
        ------
        GridError
            The reflections are not integers of shape [n_refl, 3].
        """
        return AtomFactors(_checked(hkl), self.cell, self.symmetry).F(self.atoms)


def fit_atoms(
    data: Reflections, amplitude: np.ndarray, density: np.ndarray, *, effort: float = 1.0, seed: int = 0
) -> AtomModel:
    """Place atoms at the peaks of a map and refine them against amplitudes.

    The highest peaks are refined first. Then each cycle removes atoms that faded or are too close, adds the highest
    peaks of the difference map, and refines all atoms again. If much remains unexplained at the end, a third of the
    atoms is left out at random and all are picked again. The likeliest of all models is returned, with a penalty for
    the parameters of each atom. Elements need not be known: the number of electrons is refined, and form factors are
    interpolated between elements. Hydrogen atoms are left out, or appear as atoms of few electrons.

    Parameters
    ----------
    data
        Merged reflections.
    amplitude
        [n_refl], |F| in electrons per cell, on the absolute scale of the Wilson plot.
    density
        Map [x, y, z] of the cell in e/Å^3.
    effort
        Upper limit of the search; 1 takes some seconds.
    seed
        Seed of the choice of atoms to leave out.

    Raises
    ------
    ConfigError
        The effort is not positive.
    """
    check_effort(effort)
    rng = np.random.default_rng(seed)
    builder = Builder(data, amplitude, rng)
    fit = builder.likeliest(density, effort=effort)
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
    """Structure factors predicted by atoms: the mean ``F``, complex [n_refl], and the ``variance`` of its normal error.

    They are on the scale of ``sqrt(intensity)`` of the data. If ``is_centric`` [n_refl], the error is real, along F.
    """

    F: np.ndarray
    variance: np.ndarray
    is_centric: np.ndarray

    def amplitudes(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the expected |F| and its standard deviation, [n_refl] each; see `amplitude_moments`."""
        mean, sigma = amplitude_moments(self.F, self.variance, self.is_centric)
        is_there = (self.F != 0) | (self.variance > 0)
        return np.where(is_there, mean, 0.0), np.where(is_there, sigma, 0.0)


def expected_structure_factors(model: AtomModel, data: Reflections, hkl: np.ndarray) -> Expected:
    """Predict F of any reflections, with the variance of its error.

    The error of F_calc is normal: that of the atoms, plus a part of Wilson's intensity as far as the model is not
    trusted. The prediction of a wrong model falls back to the extrapolated Wilson line.

    Parameters
    ----------
    model
        Model from `fit_atoms`.
    data
        Merged reflections to which it was fitted.
    hkl
        [n_refl, 3], observed or not; systematic absences are 0 with certainty.

    Raises
    ------
    GridError
        The reflections are not integers of shape [n_refl, 3].
    ReflectionError
        The data have another cell or space group than the model.
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


def _cross_validated(builder: Builder, fit: Fit, rng: np.random.Generator) -> tuple[float, Trust]:
    """Return R over reflections left out of a refinement that starts from the fit, and the trust that they justify."""
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
    """Return ``hkl [n_refl, 3]`` as integers."""
    array = np.asarray(hkl)
    if array.ndim != 2 or array.shape[1] != 3 or not np.array_equal(array, np.rint(array)):
        raise GridError(f"hkl of shape {array.shape}: expected integers [n_refl, 3]; give a row for each reflection")
    return array.astype(int)
