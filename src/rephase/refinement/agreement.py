"""Where measured and calculated intensities of a model disagree: by strength, under twin laws, from half wavelength."""

from typing import NamedTuple

import numpy as np

from rephase.crystal.symmetry import rows_of
from rephase.refinement.model import Model

_N_GROUPS = 10
_MISFIT = 0.05  # of the intensity: the model is not complete yet


class StrengthTable(NamedTuple):
    """Groups [10] of reflections by calculated intensity, the weakest first.

    ``k`` = <Io>/<Ic>, and ``excess`` = <Io - Ic> with its uncertainty ``su`` from the σ, relative to <Io> of all.
    """

    k: np.ndarray
    excess: np.ndarray
    su: np.ndarray


class Share(NamedTuple):
    """A fraction of the intensity with its uncertainty; R1 over the reflections with I > 2σ with it and without it."""

    fraction: float
    su: float
    r1: float
    r1_without: float


def deviations(model: Model) -> np.ndarray:
    """Return (Io - Ic) w^½ [n_refl], in units of the model's own weights and goodness of fit."""
    return model.weighted_residuals / max(model.statistics.goof, 1.0)


def strength_table(model: Model) -> StrengthTable:
    """Compare intensities in ten groups of equal size, sorted by the calculated ones."""
    groups = np.array_split(np.argsort(model.intensity_calc, kind="stable"), _N_GROUPS)
    observed, calculated, mean = model.data.intensity, model.intensity_calc, model.data.intensity.mean()
    k = np.array([observed[group].mean() / max(calculated[group].mean(), 1e-12 * mean) for group in groups])
    excess = np.array([(observed - calculated)[group].mean() for group in groups])
    su = np.array([np.sqrt((model.data.sigma[group] ** 2).sum()) / len(group) for group in groups])
    return StrengthTable(k, excess / mean, su / mean)


def twin_fraction(model: Model, law: np.ndarray) -> Share | None:
    """Fit α of ``Io = k ((1 - α) Ic(h) + α Ic(h'))`` with h' = law h [3, 3]; None if no pairs are in the list."""
    other = _calculated(model, model.data.hkl @ law.T)
    return _added_share(model, other, relative=_MISFIT)


def half_wavelength_share(model: Model) -> Share | None:
    """Fit the share of λ/2 in the beam: ``Io(h) - Ic(h)`` against Ic(2h); None if no 2h is in the list."""
    return _added_share(model, _calculated(model, 2 * model.data.hkl), relative=0.0)


def _calculated(model: Model, hkl: np.ndarray) -> np.ndarray:
    """Calculated intensities [n] of any indices [n, 3], NaN where no equivalent is in the list."""
    group = model.symmetry
    rows = rows_of(group.representative(hkl), group.representative(model.data.hkl))
    return np.where(rows >= 0, model.intensity_calc[rows], np.nan)


def _added_share(model: Model, other: np.ndarray, *, relative: float) -> Share | None:
    """Fit ``Io = p Ic + q other`` over the rows [n] where `other` is finite; q / (p + q) with its uncertainty.

    Errors in proportion to the intensity are expected: 5 % of Ic, and `relative` of the other intensity; the
    uncertainty includes the misfit.
    """
    known = np.isfinite(other)
    if known.sum() < 30:
        return None
    data, calculated = model.data, model.intensity_calc
    misfit = _MISFIT * calculated + relative * np.nan_to_num(other)
    weight = 1 / np.hypot(data.sigma, misfit)[known]
    design = np.column_stack([calculated[known], other[known]]) * weight[:, None]
    target = data.intensity[known] * weight
    normal = design.T @ design
    if np.linalg.cond(normal) > 1e10:
        return None
    p, q = np.linalg.solve(normal, design.T @ target)
    variance = ((target - design @ (p, q)) ** 2).sum() / (known.sum() - 2)
    covariance = np.linalg.inv(normal) * variance
    slope = np.array([-q, p]) / (p + q) ** 2
    strong = known & (data.intensity > 2 * data.sigma)
    observed = np.sqrt(data.intensity[strong])
    mixed = np.sqrt(np.maximum(p * calculated[strong] + q * other[strong], 0))
    r1, r1_without = (
        float(np.abs(observed - modelled).sum() / max(observed.sum(), 1e-30))
        for modelled in (mixed, np.sqrt(calculated[strong]))
    )
    return Share(float(q / (p + q)), float(np.sqrt(slope @ covariance @ slope)), r1, r1_without)
