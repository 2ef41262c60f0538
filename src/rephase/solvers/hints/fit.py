"""Hints from reflections that fit a model badly: the strongest, the weakest, λ/2, single ones."""

import numpy as np

from rephase.crystal.reflections.statistics import unique_hkl
from rephase.crystal.symmetry import rows_of
from rephase.refinement.agreement import deviations, half_wavelength_share, strength_table
from rephase.refinement.factors import SiteFactors
from rephase.solvers.hints.hint import Hint, good_model
from rephase.solvers.solution import Solution

_FAR = 10.0  # deviation in units of the weights
_N_STRONG, _N_SHOWN = 20, 5
_LOST = 0.8  # median of Io/Ic of the strongest reflections without extinction
_K, _EXCESS = 3.0, 0.02  # <Io>/<Ic> of the weakest tenth, and its excess relative to the mean intensity
_IN_SU = 5.0
_FEWEST_MISSING, _TIMES_CHANCE = 3, 4.0  # strong reflections, and how many times more than any are missing
_HALF = 0.005  # share of λ/2; errors of a model imitate smaller ones


def strongest(solution: Solution) -> Hint | None:
    """Strong reflections that are measured too weak."""
    model = good_model(solution)
    if model is None:
        return None
    rows = np.argsort(-model.intensity_calc)[:_N_STRONG]
    ratio = float(np.median(model.data.intensity[rows] / model.intensity_calc[rows]))
    if ratio >= _LOST:
        return None
    return Hint(
        "strongest",
        {"ratio": ratio},
        f"The {len(rows)} strongest reflections have {ratio:.0%} of their calculated intensity.",
        "If the loss grows with the intensity and falls with the angle, refine extinction (EXTI); if a few are far too "
        "weak, they are overloaded or behind the beam stop: leave them out.",
    )


def missing_strong(solution: Solution) -> Hint | None:
    """Strong reflections that are not in the list."""
    model = good_model(solution)
    if model is None:
        return None
    data = model.data
    possible = unique_hkl(data.cell, data.group, data.d_min)
    missing = possible[rows_of(possible, data.group.representative(data.hkl)) < 0]
    if len(missing) < _FEWEST_MISSING:
        return None
    factors = SiteFactors(missing, data.cell, data.group, model.sites.elements, wavelength=model.wavelength)
    intensity = np.abs(factors.F(model.sites)) ** 2 * model.scale**2
    strong = missing[intensity > np.sort(model.intensity_calc)[-_N_STRONG:].min()]
    if len(strong) < max(_FEWEST_MISSING, _TIMES_CHANCE * _N_STRONG * len(missing) / len(possible)):
        return None
    listed = ", ".join(" ".join(map(str, hkl)) for hkl in strong[:_N_SHOWN].tolist())
    return Hint(
        "missing_strong",
        {"n": len(strong), "n_missing": len(missing)},
        f"{len(strong)} of the {len(missing)} missing reflections are as strong as the {_N_STRONG} strongest measured "
        f"ones: {listed}{', ...' if len(strong) > _N_SHOWN else ''}.",
        "They are probably overloaded or behind the beam stop: measure them with a shorter exposure.",
    )


def weakest(solution: Solution) -> Hint | None:
    """Weak reflections that are measured too strong."""
    model = good_model(solution)
    if model is None:
        return None
    table = strength_table(model)
    k, excess, su = float(table.k[0]), float(table.excess[0]), float(table.su[0])
    if k < _K or excess < max(_EXCESS, _IN_SU * su):
        return None
    return Hint(
        "weakest",
        {"k": k, "excess": excess},
        f"The weakest tenth of the reflections is measured {k:.1f} times as strong as calculated, an excess of "
        f"{excess:.1%} of the mean intensity.",
        "Look for a twin (reflections of a second lattice add to weak ones), λ/2, or a background that is too low.",
    )


def half_wavelength(solution: Solution) -> Hint | None:
    """Radiation of half the wavelength in the beam."""
    model = good_model(solution)
    found = None if model is None else half_wavelength_share(model)
    if found is None or found.fraction < max(_HALF, _IN_SU * found.su):
        return None
    return Hint(
        "half_wavelength",
        {"share": found.fraction, "su": found.su},
        f"Reflections h, k, l gain {found.fraction:.2%} ± {found.su:.2%} of the intensity of 2h, 2k, 2l, as with λ/2 "
        "in the beam.",
        "Lower the voltage of the source, or correct for it; absences that it violates do not count.",
    )


def misfits(solution: Solution) -> Hint | None:
    """Single reflections that no model of this kind explains."""
    model = good_model(solution)
    if model is None:
        return None
    deviation = deviations(model)
    far = np.argsort(-np.abs(deviation))[: int((np.abs(deviation) > _FAR).sum())]
    if not len(far):
        return None
    listed = ", ".join(
        f"{' '.join(map(str, model.data.hkl[row].tolist()))} ({deviation[row]:+.0f})" for row in far[:_N_SHOWN]
    )
    return Hint(
        "misfits",
        {"n": len(far), "largest": float(np.abs(deviation[far]).max())},
        f"{len(far)} reflection(s) deviate from the model by more than {_FAR:g} times their uncertainty: {listed}"
        f"{', ...' if len(far) > _N_SHOWN else ''}.",
        "Look at them on the frames; leave out those behind the beam stop or under ice (OMIT h k l), not others.",
    )
