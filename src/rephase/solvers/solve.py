"""`solve`: from measured intensities to phases, in the space group and setting of the data."""

from collections.abc import Callable

import numpy as np
import torch

from rephase.crystal.phases import wrap
from rephase.crystal.reflections import Reflections
from rephase.crystal.reflections.phase_lists import PhaseList
from rephase.crystal.reflections.pseudo_translations import PseudoTranslations, find_pseudo_translations
from rephase.crystal.reflections.statistics import absolute_amplitude
from rephase.crystal.structures import Crystal
from rephase.crystal.symmetry import rows_of
from rephase.devices import pick_device
from rephase.errors import ConfigError, check_effort, nearest_name
from rephase.solvers import RECIPES, recipes_for
from rephase.solvers.claims import capped, verdict
from rephase.solvers.cost import plan_trials, warn_of_cost
from rephase.solvers.grids import check_memory
from rephase.solvers.known import known_phasors
from rephase.solvers.problem import PhaseProblem
from rephase.solvers.rivals import Settled, settle_rivals
from rephase.solvers.solution import KeptTrials, Solution
from rephase.solvers.space_groups import fitting_groups, without_group
from rephase.solvers.strategy import N_KEPT, Outcome, Recipe, pursue

_REACH = [1.0, 1.2, 1.5], [1.1, 1.2, 1.3]  # d_min in Å, and relative radius of the working sphere
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
        Reflections from `read_reflections`, merged or not. Without a space group they are solved in P 1.
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
    device
        ``auto``, ``cpu`` or ``cuda``.
    report
        Function called after each batch with the number of trials run, the number that agree, and the largest number.

    Strong violations of systematic absences, which indicate another group or setting, raise a warning, and the verdict
    is then ``unsure``.

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
        The solver is unknown, or the effort is not positive.
    CifError
        The fragment has another cell than the data.

    Examples
    --------
    >>> solution = solve(read_reflections("sample.hkl"), d_min=1.0)  # doctest: +SKIP
    """
    if solver not in RECIPES:
        raise ConfigError(f"solver {solver!r} is not known; {nearest_name(solver, RECIPES)}")
    check_effort(effort)
    cut = data if d_min is None else data.cut(d_min)
    reach, on = _reach(cut.d_min), pick_device(device)
    check_memory(cut, reach=reach, device=on)
    warn_of_cost(cut, recipes_for(solver, cut.d_min), reach=reach, effort=effort, device=on)
    is_unknown = data.symmetry is None
    found = without_group(cut) if is_unknown else cut.merge()
    merged = found.reflections
    amplitude, recipes = absolute_amplitude(merged), recipes_for(solver, merged.d_min)
    known = known_phasors(merged, phases, fragment)
    problem = working_problem(merged, amplitude, device=on, known=known)
    (max_trials, recipes), is_free = plan_trials(problem, recipes, effort), known is None
    outcome = pursue(
        problem,
        recipes,
        torch.Generator().manual_seed(seed),
        max_trials=max_trials,
        is_enough=lambda outcome: _is_enough(outcome, verdict(problem.d_min, outcome, is_free=is_free)),
        report=lambda n_trials, n_agree: report(n_trials, n_agree, max_trials),
    )
    pseudo = find_pseudo_translations(merged)
    found_by_trials, (outcome, rivals) = outcome, _settled(problem, outcome, pseudo if is_free else None, recipes[0])
    is_open = len(rivals) > 0 or (pseudo is not None and not is_free)
    phi, fom = _in_setting_of_data(problem, outcome, merged.hkl)
    # rivals share the strong reflections, so trials that reached one of them support all
    answer = verdict(problem.d_min, found_by_trials if len(rivals) else outcome, is_free=is_free)
    answer = capped(answer, fom=fom if is_free else None, is_open=is_open)
    return Solution(
        reflections=merged,
        amplitude=amplitude,
        phi=phi,
        fom=fom,
        r_factor=outcome.misfit,
        rival_r_factor=outcome.rival,
        n_agree=outcome.n_agree,
        n_trials=outcome.n_trials,
        verdict="unsure" if found.absences_are_strong else answer,
        r_int=found.r_int,
        n_absent=found.n_absent,
        absent_i_over_sigma=found.absent_i_over_sigma,
        pseudo_translations=pseudo,
        rival_phi=_phases_in_setting_of_data(problem, rivals, merged.hkl) if is_free else None,
        trials=_kept(found_by_trials),
        space_groups=fitting_groups(merged, merged.group, problem, outcome.F) if is_unknown else (),
    )


def working_problem(
    merged: Reflections, amplitude: np.ndarray, *, device: torch.device | str = "cpu", known: np.ndarray | None = None
) -> PhaseProblem:
    """Return the phase problem of merged reflections and their |F| [n]; its working sphere grows with d_min."""
    reach = _reach(merged.d_min)
    return PhaseProblem(merged.hkl, amplitude, merged.cell, merged.group, reach=reach, device=device, known=known)


def _reach(d_min: float) -> float:
    """Return the radius of the working sphere relative to that of data to `d_min` in Å."""
    return float(np.interp(d_min, *_REACH))


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
    phi = _phases_in_setting_of_data(problem, outcome.F[None], hkl)[0]
    return phi, np.concatenate([fom, fom])[_rows_in_setting_of_data(problem, hkl)]


def _phases_in_setting_of_data(problem: PhaseProblem, F: torch.Tensor, hkl: np.ndarray) -> np.ndarray:
    """Return the phases [k, n] in radians of lists [k, n_refl] for indices in the axes of the data."""
    phi = wrap(F.angle()[:, : problem.n_known]).cpu().numpy()
    return np.concatenate([phi, -phi], axis=1)[:, _rows_in_setting_of_data(problem, hkl)]


def _rows_in_setting_of_data(problem: PhaseProblem, hkl: np.ndarray) -> np.ndarray:
    """Find the rows of indices, in the axes of the data, in a problem's known list followed by its Friedel mates."""
    listed = problem.hkl_numpy[: problem.n_known]
    return rows_of(problem.reduced.hkl(hkl), np.concatenate([listed, -listed]))
