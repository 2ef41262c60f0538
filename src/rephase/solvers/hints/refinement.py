"""Hints about what was refined and what was not: displacements, occupancies."""

import numpy as np

from rephase.crystal.cif_head import bracketed
from rephase.refinement.build import PER_PARAMETER, WRONG, reflections_per_parameter
from rephase.refinement.least_squares import is_positive
from rephase.refinement.model import Model
from rephase.solvers.hints.hint import Hint
from rephase.solvers.solution import Solution

_SHOWN = 5  # labels in a sentence
_MOVES = 0.1  # shift over su of a refinement that has not converged


def isotropic(solution: Solution) -> Hint | None:
    """Atoms without anisotropic displacements, because there are few data or the model is wrong."""
    model = solution.model
    if model is None:
        return None
    s, heavy = model.statistics, ~model.sites.is_hydrogen
    n_isotropic = int((heavy & ~model.sites.is_anisotropic).sum())
    ratio = reflections_per_parameter(model, heavy)
    is_few, is_wrong = ratio <= PER_PARAMETER, s.r1 >= WRONG
    if not n_isotropic or not (is_few or is_wrong):
        return None
    reason = (
        f"{s.n_observed} reflections above 2σ are {ratio:.1f} for each parameter of a fully anisotropic model"
        if is_few
        else f"R1 = {s.r1:.2f} shows that many atoms are wrong"
    )
    return Hint(
        "isotropic",
        {"n": n_isotropic, "per_parameter": ratio, "n_parameters": s.n_parameters},
        f"{n_isotropic} of {heavy.sum()} atoms, without hydrogen, were refined with isotropic displacements only: "
        f"{reason}; there are {s.n_observed / s.n_parameters:.1f} for each of the {s.n_parameters} that were refined.",
        f"Measure more reflections, at least {PER_PARAMETER:g} for each parameter, or restrain displacements (RIGU, "
        "SIMU) where you refine more."
        if is_few
        else "Refine displacements when the atoms are right.",
    )


def displacements(solution: Solution) -> Hint | None:
    """Atoms whose displacements would be negative."""
    model = solution.model
    low = [] if model is None else np.flatnonzero(~is_positive(model.sites, model.cell)).tolist()
    if model is None or not low:
        return None
    return Hint(
        "displacements",
        {"n": len(low)},
        f"Displacements of {len(low)} atom(s) would be negative in some direction and are kept at 0.001 Å²: "
        f"{_listed([model.sites.labels[i] for i in low])}.",
        "The element may be too light, the atom wrong, or absorption uncorrected.",
    )


def unconverged(solution: Solution) -> Hint | None:
    """A refinement whose last cycle still moved parameters."""
    model = solution.model
    if model is None or model.statistics.shift < _MOVES:
        return None
    is_low = bool((~is_positive(model.sites, model.cell)).any())
    return Hint(
        "unconverged",
        {"shift": model.statistics.shift},
        f"The refinement has not converged: its last cycle moved a parameter by {model.statistics.shift:.2g} su.",
        "The displacements that would be negative cannot follow; settle these atoms first."
        if is_low
        else "Look for atoms that are wrong or overlap, restrain them, and refine further.",
    )


def occupancies(solution: Solution) -> Hint | None:
    """Atoms on several sites, or at places that only a part of the cells fill."""
    model = solution.model
    partial = [] if model is None else np.flatnonzero((model.sites.occupancy < 1) & ~model.sites.is_hydrogen).tolist()
    if model is None or not partial:
        return None
    is_split = model.sites.part > 0
    parts = {
        "of split atoms": [_with_occupancy(model, i) for i in partial if is_split[i]],
        "of single atoms": [_with_occupancy(model, i) for i in partial if not is_split[i]],
    }
    said = "; ".join(f"{what}: {_listed(names)}" for what, names in parts.items() if names)
    return Hint(
        "occupancies",
        {"n": len(partial)},
        f"The density asks for partial occupancy of {len(partial)} site(s), {said}.",
        "Check them in the difference map: a whole atom of a lighter element looks alike; hold split atoms with SADI "
        "and SIMU. In the .res each refined occupancy is a free variable.",
    )


def _with_occupancy(model: Model, atom: int) -> str:
    occupancy, su = model.sites.occupancy[atom], model.uncertainties.occupancy[atom]
    return f"{model.sites.labels[atom]} {bracketed(occupancy, su, 2)}"


def _listed(names: list[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (", ..." if len(names) > _SHOWN else "")
