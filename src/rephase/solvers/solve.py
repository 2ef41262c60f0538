"""`solve`: from measured intensities to phases, in the space group and setting of the data."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch

from rephase.crystal.reflections import Reflections
from rephase.crystal.reflections.phase_lists import PhaseList
from rephase.crystal.reflections.pseudo_translations import PseudoTranslations, find_pseudo_translations
from rephase.crystal.reflections.statistics import absolute_amplitude
from rephase.crystal.structures import Crystal
from rephase.devices import pick_device
from rephase.errors import ConfigError, check_effort, nearest_name
from rephase.solvers import RECIPES, recipes_for
from rephase.solvers.claims import capped, verdict
from rephase.solvers.cost import plan_trials, warn_of_cost
from rephase.solvers.doubts import doubt, is_contradicted, larger_group
from rephase.solvers.found_group import Found, in_group
from rephase.solvers.grids import check_memory
from rephase.solvers.known import known_phasors
from rephase.solvers.lattices import without_group
from rephase.solvers.modelling import AtomTest, with_model
from rephase.solvers.problem import PhaseProblem, working_problem, working_reach
from rephase.solvers.rivals import Settled, settle_rivals
from rephase.solvers.settings import in_setting, standard_setting
from rephase.solvers.solution import KeptTrials, Solution
from rephase.solvers.space_groups import GroupFit, fitting_groups
from rephase.solvers.strategy import N_KEPT, Outcome, Recipe, pursue

_EFFORT_WITHOUT_GROUP = 0.1  # of a search that only looks for a better group
_AS_GOOD = 1.1  # ratio of the misfit in a larger group to that in the stated one
_SETTLED = 10 * N_KEPT  # trials after which the search stops if all the kept ones agree


def solve(
    data: Reflections,
    *,
    d_min: float | None = None,
    solver: str = "raar",
    effort: float = 1.0,
    seed: int = 0,
    phases: PhaseList | None = None,
    fragment: Crystal | None = None,
    standard: bool = False,
    model: bool = True,
    formula: str | None = None,
    device: str = "auto",
    report: Callable[[int, int, int], None] = lambda n_trials, n_agree, max_trials: None,
) -> Solution:
    """Solve a crystal: recover the phases of its reflections.

    Many random starts run without symmetry in the reduced primitive cell. Each converged trial is moved to the origin
    of the space group, averaged and finished there. The trials with the smallest misfit are compared, and their
    agreement shows how reliable the solution is.

    Parameters
    ----------
    data
        Reflections from `read_reflections`, merged or not. Without a space group they are solved in P 1, and the
        solution is then moved to the likeliest group in the axes of the data, see `fitting_groups`; with known phases
        it stays in P 1, at their origin.
    d_min
        Resolution limit, Å; finer reflections are ignored.
    solver
        Search algorithm, one of `RECIPES`.
    effort
        Upper limit of the search, in units of 6e9 voxel cycles; the number of trials is the same on every machine. At
        least one trial is run, with fewer cycles if the effort does not allow a whole one.
    seed
        Seed of the random starts.
    phases
        Known phases of some reflections, see `read_phases`. They are held while the map settles, and the solution has
        their origin and hand. The trials are then not independent, so only the misfit is evidence, not their agreement.
    fragment
        Known part of the structure, in the cell and at the origin of the data; its phases are used in the same way.
    standard
        Whether to change axes and origin to the standard setting of the group.
    model
        Whether to build and refine the structure, see `build_model`; its R1 is evidence for the verdict.
    formula
        Formula unit, such as ``C20 H22 N2 O3``, for the elements of the model.
    device
        ``auto``, ``cpu`` or ``cuda``.
    report
        Function called after each batch with the number of trials run, the number that agree, and the largest number.

    Strong violations of systematic absences, which indicate another group or setting, raise a warning, and the verdict
    is then ``unsure``. If the data or the map contradict a stated group, `Solution.better_group` names the better one.

    Warns
    -----
    UserWarning
        The cell is large: the message states the voxels, time and memory needed, and what would be cheaper.

    Raises
    ------
    ReflectionError
        There are fewer than 30 reflections, or none above zero, or the phases have another cell, group or sphere.
    GridError
        The cell is so large that the map at this resolution would not fit in memory.
    ConfigError
        The solver is unknown, the effort is not positive, or the standard setting is wanted with known phases.
    CifError
        The fragment has another cell than the data.

    Examples
    --------
    >>> solution = solve(read_reflections("sample.hkl"), d_min=1.0)  # doctest: +SKIP
    """
    if solver not in RECIPES:
        raise ConfigError(f"solver {solver!r} is not known; {nearest_name(solver, RECIPES)}")
    check_effort(effort)
    if standard and not (phases is None and fragment is None):
        raise ConfigError(
            "standard = True (--standard) moves the origin, but phases or a fragment fix it: leave one out"
        )
    cut = data if d_min is None else data.cut(d_min)
    if standard and cut.symmetry is not None:
        cut = in_setting(cut, standard_setting(cut.symmetry))
    reach, on = working_reach(cut.d_min), pick_device(device)
    check_memory(cut, reach=reach, device=on)
    warn_of_cost(cut, recipes_for(solver, cut.d_min), reach=reach, effort=effort, device=on)
    merged = without_group(cut) if cut.symmetry is None else cut.merge()
    amplitude, recipes = absolute_amplitude(merged.reflections), recipes_for(solver, merged.reflections.d_min)
    known = known_phasors(merged.reflections, phases, fragment)
    problem, is_free = working_problem(merged.reflections, amplitude, device=on, known=known), known is None
    max_trials, recipes = plan_trials(problem, recipes, effort)
    outcome = pursue(
        problem,
        recipes,
        torch.Generator().manual_seed(seed),
        max_trials=max_trials,
        is_enough=lambda outcome: _is_enough(outcome, verdict(problem.d_min, outcome, is_free=is_free)),
        is_confirmed=AtomTest(merged.reflections, amplitude, problem) if model else None,
        report=lambda n_trials, n_agree: report(n_trials, n_agree, max_trials),
    )
    found = Found(cut, merged, amplitude, problem, outcome)
    space_groups: tuple[GroupFit, ...] = ()
    if cut.symmetry is None:
        space_groups = fitting_groups(merged.reflections, problem, outcome.F)
    if space_groups and is_free:  # known phases fix the origin of the data
        found = in_group(cut, space_groups[0].symmetry, problem, outcome, recipes[0], standard=standard)
    solution = _settled_solution(found, recipes[0], is_free=is_free)
    better = None if cut.symmetry is None else _better_group(cut, found, solution, solver, effort, seed, device)
    doubts = doubt(found.merged.reflections.group, found.merged, better)
    solution = replace(solution, space_groups=space_groups, better_group=better, group_doubt=doubts)
    return with_model(solution, formula=formula, seed=seed, keeps_hand=not is_free) if model else solution


def _settled_solution(found: Found, recipe: Recipe, *, is_free: bool) -> Solution:
    """Compare the outcome of the trials with its rivals, judge it, and describe it in the axes of the data."""
    merged, problem = found.merged, found.problem
    data = merged.reflections
    pseudo = find_pseudo_translations(data)
    outcome, rivals = _settled(problem, found.outcome, pseudo if is_free else None, recipe)
    is_open = len(rivals) > 0 or (pseudo is not None and not is_free)
    phi, fom = _in_setting_of_data(problem, outcome, data.hkl)
    # rivals share the strong reflections, so trials that reached one of them support all
    answer = verdict(problem.d_min, found.outcome if len(rivals) else outcome, is_free=is_free)
    answer = capped(answer, fom=fom if is_free else None, is_open=is_open)
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
        r_int=merged.r_int,
        n_absent=merged.n_absent,
        absent_i_over_sigma=merged.absent_i_over_sigma,
        pseudo_translations=pseudo,
        rival_phi=problem.phases_for(rivals, data.hkl) if is_free else None,
        trials=_kept(found.outcome),
        measured=found.measured,
    )


def _better_group(
    data: Reflections, found: Found, solution: Solution, solver: str, effort: float, seed: int, device: str
) -> GroupFit | None:
    """Find a group that fits better than the stated one: in the map, or by solving again without a group."""
    if not is_contradicted(found.merged, solution.verdict):
        return _larger_group(data, found) if solution.verdict != "unsure" else None
    free = replace(data, symmetry=None, is_merged=False)
    again = solve(free, model=False, solver=solver, effort=min(effort, _EFFORT_WITHOUT_GROUP), seed=seed, device=device)
    is_same = set(again.reflections.group.triplets) == set(data.group.triplets)
    return again.space_groups[0] if again.space_groups and again.verdict != "unsure" and not is_same else None


def _larger_group(data: Reflections, found: Found) -> GroupFit | None:
    """Find a group with more operations in which the density explains the amplitudes as well."""
    fit = larger_group(data, found.problem, found.outcome.F)
    if fit is None:
        return None
    best = found.outcome._replace(kept=None)
    there = in_group(data, fit.symmetry, found.problem, best, RECIPES["raar"][0])
    return fit if there.outcome.misfit <= _AS_GOOD * found.outcome.misfit else None


def _is_enough(outcome: Outcome, verdict_so_far: str) -> bool:
    """Whether more trials would change nothing."""
    return verdict_so_far == "solved" or (outcome.n_agree == N_KEPT and outcome.n_trials >= _SETTLED)


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
