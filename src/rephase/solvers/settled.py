"""The outcome of a search as a `Solution`: compared with its rivals, judged, in the axes of the data."""

import numpy as np

from rephase.crystal.reflections.pseudo_translations import PseudoTranslations, find_pseudo_translations
from rephase.solvers.claims import capped, verdict
from rephase.solvers.found_group import Found
from rephase.solvers.problem import PhaseProblem
from rephase.solvers.rivals import Settled, settle_rivals
from rephase.solvers.solution import KeptTrials, Solution
from rephase.solvers.strategy import Recipe
from rephase.solvers.trials import Outcome


def settled_solution(found: Found) -> Solution:
    """Compare the outcome of the trials with its rivals, judge it, and describe it in the axes of the data."""
    merged, problem, is_free = found.merged, found.problem, found.is_free
    data = merged.reflections
    pseudo = find_pseudo_translations(data)
    outcome, rivals = _settled(problem, found.outcome, pseudo if is_free else None, found.search.recipe)
    is_open = len(rivals) > 0 or (pseudo is not None and not is_free) or bool(data.radiation)
    phi, fom = _in_setting_of_data(problem, outcome, data.hkl)
    # rivals share the strong reflections, so trials that reached one of them support all
    answer = verdict(problem.d_min, found.outcome if len(rivals) else outcome, is_free=is_free)
    by_agreement = is_free and outcome.probability is None
    answer = capped(answer, fom=fom if by_agreement else None, is_open=is_open)
    return Solution(
        reflections=data,
        amplitude=found.amplitude,
        phi=phi,
        fom=fom,
        r_factor=outcome.misfit,
        rival_r_factor=outcome.rival,
        n_agree=outcome.n_agree,
        n_trials=outcome.n_trials,
        verdict="unsure" if merged.absences_are_strong else answer,
        lead=outcome.lead,
        probability=outcome.probability,
        r_int=merged.r_int,
        n_absent=merged.n_absent,
        absent_i_over_sigma=merged.absent_i_over_sigma,
        pseudo_translations=pseudo,
        rival_phi=problem.phases_for(rivals, data.hkl) if is_free else None,
        trials=_kept(found.outcome),
        measured=found.measured,
    )


def _settled(problem: PhaseProblem, outcome: Outcome, pseudo: PseudoTranslations | None, recipe: Recipe) -> Settled:
    """Move the outcome to the origin of known phases, or compare it with rivals if there are pseudo-translations."""
    if pseudo is not None:
        return settle_rivals(problem, outcome, pseudo, recipe)
    return Settled(outcome._replace(F=problem.at_known_origin(outcome.F)), outcome.F[None][:0])


def _kept(outcome: Outcome) -> KeptTrials | None:
    """Return the figures of the trials that were compared."""
    if outcome.kept is None or outcome.agrees is None:
        return None
    return KeptTrials(outcome.kept.misfit.cpu().numpy(), outcome.agrees.cpu().numpy())


def _in_setting_of_data(problem: PhaseProblem, outcome: Outcome, hkl: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return phases [n] in radians and figures of merit [n] for indices in the axes of the data."""
    fom = outcome.fom.cpu().numpy()
    phi = problem.phases_for(outcome.F[None], hkl)[0]
    return phi, np.concatenate([fom, fom])[problem.rows_for(hkl)]
