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
    """Fit the share of λ/2 in the beam: ``Io(h) = p Ic(h) + q Ic(2h) + c``; None if few 2h are in the list.

    The constant c takes a general excess of intensity, which Ic(2h) would otherwise imitate.
    """
    constant = np.ones(len(model.data))
    return _added_share(model, _calculated(model, 2 * model.data.hkl), constant, relative=0.0)


def _calculated(model: Model, hkl: np.ndarray) -> np.ndarray:
    """Calculated intensities [n] of any indices [n, 3], NaN where no equivalent is in the list."""
    group = model.symmetry
    rows = rows_of(group.representative(hkl), group.representative(model.data.hkl))
    return np.where(rows >= 0, model.intensity_calc[rows], np.nan)


def _added_share(model: Model, other: np.ndarray, *more: np.ndarray, relative: float) -> Share | None:
    """Fit ``Io = p Ic + q other + ...`` over the rows [n] where `other` is finite; q / (p + q) with its uncertainty.

    Each of `more` [n] is one more term. Errors in proportion to the intensity are expected: 5 % of Ic, and `relative`
    of the other intensity; the uncertainty includes the misfit.
    """
    known = np.isfinite(other)
    if known.sum() < 30:
        return None
    data, calculated = model.data, model.intensity_calc
    misfit = _MISFIT * calculated + relative * np.nan_to_num(other)
    weight = 1 / np.hypot(data.sigma, misfit)[known]
    terms = np.column_stack([calculated, other, *more])
    design = terms[known] * weight[:, None]
    length = np.linalg.norm(design, axis=0)
    if not length.all() or np.linalg.cond(design / length) > 1e5:
        return None
    target = data.intensity[known] * weight
    values = np.linalg.lstsq(design, target, rcond=None)[0]
    p, q = values[:2]
    slope = np.array([-q, p, *np.zeros(len(more))]) / (p + q) ** 2
    su = _propagated(slope, design, target - design @ values)
    strong = known & (data.intensity > 2 * data.sigma)
    observed = np.sqrt(data.intensity[strong])
    mixed = np.sqrt(np.maximum(terms[strong] @ values, 0))
    r1, r1_without = (
        float(np.abs(observed - modelled).sum() / max(observed.sum(), 1e-30))
        for modelled in (mixed, np.sqrt(calculated[strong]))
    )
    return Share(float(q / (p + q)), su, r1, r1_without)


def _propagated(slope: np.ndarray, design: np.ndarray, residuals: np.ndarray) -> float:
    """Uncertainty of a quantity with the derivatives `slope` [k], from a weighted design [n, k] and residuals [n].

    The larger of two estimates, because few reflections with a large misfit can decide a fit: the usual one, from the
    mean square of all residuals, and one that takes each residual as it is (HC2 of MacKinnon & White 1985,
    doi:10.1016/0304-4076(85)90158-7).
    """
    inverse = np.linalg.pinv(design)
    leverage = np.einsum("nk,kn->n", design, inverse)
    effect = slope @ inverse
    usual = (effect**2).sum() * (residuals**2).sum() / (len(residuals) - design.shape[1])
    single = (effect**2 * residuals**2 / np.maximum(1 - leverage, 1e-6)).sum()
    return float(np.sqrt(max(usual, single)))
