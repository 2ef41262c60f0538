"""`solve`: from measured intensities to phases and a model, in the space group and setting of the data."""

import warnings
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch

from rephase.crystal.peaks import VOLUME_PER_ATOM
from rephase.crystal.reflections import Reflections
from rephase.crystal.reflections.phase_lists import PhaseList
from rephase.crystal.reflections.statistics import absolute_amplitude
from rephase.crystal.structures import Crystal
from rephase.devices import pick_device
from rephase.errors import ConfigError, check_effort
from rephase.processes import one_blas_thread
from rephase.solvers import RECIPES
from rephase.solvers.choice import Solver, solver_for
from rephase.solvers.claims import Calibration, verdict
from rephase.solvers.cost import check_memory, plan_trials, warn_of_cost
from rephase.solvers.doubts import with_doubts
from rephase.solvers.found_group import Found
from rephase.solvers.group_choice import in_likeliest_group
from rephase.solvers.known import known_phasors
from rephase.solvers.lattices import without_group
from rephase.solvers.modelling import AtomTest, with_model
from rephase.solvers.problem import working_problem, working_reach
from rephase.solvers.settings import in_obverse_setting, in_setting, standard_setting
from rephase.solvers.settled import settled_solution
from rephase.solvers.solution import Solution
from rephase.solvers.space_groups import GroupFit, fitting_groups
from rephase.solvers.strategy import MOST_DIRECT, Search, pursue, suited
from rephase.solvers.trials import N_KEPT, Outcome, pooled

_EFFORT_WITHOUT_GROUP = 0.1  # of a search that only looks for a better group
_CLASSICAL_SHARE = 0.1  # of the effort of ``auto``, for classical trials alone
_VERDICTS = ("unsure", "possible", "solved")
_SETTLED = 10 * N_KEPT  # trials after which the search stops if all the kept ones agree


@one_blas_thread()
def solve(
    data: Reflections,
    *,
    d_min: float | None = None,
    solver: str = "auto",
    weights: str | Path | None = None,
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
    of the space group, averaged and finished there. The agreement of the trials with the smallest misfit shows how
    reliable the solution is. If the data or the map contradict a stated group, `Solution.better_group` names a better
    one; strong violations of its absences also warn, and the verdict is then ``unsure``.

    Parameters
    ----------
    data
        Reflections from `read_reflections`, merged or not. Without a space group they are solved in P 1, and then moved
        to the likeliest group in the axes of the data, see `in_likeliest_group`, unless there are known phases.
    d_min
        Resolution limit, Å; finer reflections are ignored.
    solver
        ``auto``; ``classical``; ``learned``, a trained network that improves and ranks classical trials; or one of the
        searches in `RECIPES` alone. ``auto`` is ``learned`` at the resolutions that the network was trained for, if the
        space group is known and no phases are; else ``classical``. It begins with a tenth of the effort for classical
        trials alone, which may convince to 1.75 Å. The result of all classical trials, those given to the network
        among them, is then kept if its verdict is better than that of the network. Without a space group the network of
        ``learned`` ranks the trials, in P 1 and then in the likeliest group, but the verdict does not depend on its
        confidence.
    weights
        Network for ``learned`` and ``auto``: the name of shipped weights, or a file; None: those for the resolution.
    effort
        Upper limit of the search, in units of 6e9 voxel cycles, the same on every machine; at least one trial is run.
    seed
        Seed of the random starts.
    phases, fragment
        Known phases of some reflections, see `read_phases`, or a known part of the structure in the cell and at the
        origin of the data. They are held while the map settles, and the solution has their origin and hand; the trials
        are then not independent, so only the misfit is evidence.
    standard
        Whether to change axes and origin to the standard setting of the group.
    model
        Whether to build and refine the structure, see `build_model`; its R1 is evidence for the verdict.
    formula
        Formula unit, such as ``C20 H22 N2 O3``, for the elements of the model.
    device
        ``auto``, ``cpu`` or ``cuda``.
    report
        Function called after each batch with the number of trials run, the number that agree, and the largest number,
        of each search in turn.

    Warns
    -----
    UserWarning
        The cell is large: the message states the voxels, time and memory needed, and what would be cheaper. Or the
        indices of a rhombohedral lattice are changed to its obverse setting. Or a network has not learned such data.

    Raises
    ------
    ReflectionError
        There are fewer than 30 reflections, or none above zero, or the phases have another cell, group or sphere.
    GridError
        The cell is so large that the map, or a network on it, would not fit in memory.
    ConfigError
        The solver is unknown, or a network that is given known phases; the effort is not positive; or the standard
        setting is wanted with known phases.
    WeightsError
        The weights of the network are missing or damaged.
    CifError
        The fragment has another cell than the data.

    Examples
    --------
    >>> solution = solve(read_reflections("sample.hkl"), d_min=1.0)  # doctest: +SKIP
    """
    has_phases = not (phases is None and fragment is None)
    _check_request(solver, weights, effort, standard, has_origin=has_phases)
    on = pick_device(device)
    cut = _prepared(data, d_min, standard=standard)
    suits_network = not has_phases and cut.symmetry is not None
    name = "classical" if solver == "auto" and not suits_network else solver
    chosen = solver_for(name, weights, d_min=cut.d_min, device=on)
    _warn_of_unused(weights, chosen)
    generator = torch.Generator().manual_seed(seed)  # one, so that no search repeats the starts of another
    search = partial(_searched, cut, phases, fragment, generator=generator, on=on, model=model, report=report)
    _check_cost(cut, chosen, is_free=not has_phases, effort=effort, on=on)
    several: list[Found] = []
    for each, share in _stages(chosen):
        several.append(search(solver=each, effort=share * effort))
        if several[-1].outcome.is_confirmed or _verdict(several[-1]) == "solved":
            break
    found = preferred(several)
    describe = partial(_described, model=model, formula=formula, seed=seed)
    if cut.symmetry is not None:
        effort = min(effort, _EFFORT_WITHOUT_GROUP)
        again = partial(solve, model=False, solver=solver, weights=weights, effort=effort, seed=seed, device=device)
        return with_doubts(describe(found), found, describe, again)
    if found.is_free:
        return in_likeliest_group(found, describe, standard=standard)
    fits = fitting_groups(found.merged.reflections, found.problem, found.outcome.F)
    return describe(found, fits)  # known phases fix the origin of the data


def _check_request(solver: str, weights: str | Path | None, effort: float, standard: bool, *, has_origin: bool) -> None:
    check_effort(effort)
    if weights is not None and solver in RECIPES:
        raise ConfigError(
            f"weights = {str(weights)!r} (--weights) are of a network, which solver {solver!r} does not ask; leave "
            "them out, or take solver='learned' (--solver learned)"
        )
    if solver in ("learned", "direct_methods") and has_origin:
        raise ConfigError(
            f"solver {solver!r} starts from random phases only; leave out the known phases or fragment, or take "
            "solver='classical' (--solver classical)"
        )
    if standard and has_origin:
        raise ConfigError(
            "standard = True (--standard) moves the origin, but phases or a fragment fix it: leave one out"
        )


def _warn_of_unused(weights: str | Path | None, chosen: Solver) -> None:
    if weights is not None and chosen.network is None:
        warnings.warn(
            f"weights = {str(weights)!r} (--weights) are not used: solver 'auto' asks no network without a space "
            "group, with known phases, or at a resolution that it was not trained for; take solver='learned' "
            "(--solver learned)",
            stacklevel=3,
        )


def _prepared(data: Reflections, d_min: float | None, *, standard: bool) -> Reflections:
    """Cut the reflections at `d_min`, and transform them to the obverse and, if wanted, the standard setting."""
    cut = in_obverse_setting(data if d_min is None else data.cut(d_min))
    return in_setting(cut, standard_setting(cut.symmetry, cut.cell)) if standard and cut.symmetry is not None else cut


def _searches(solver: Solver, data: Reflections, *, is_free: bool) -> tuple[Search, ...]:
    """Return the searches of a solver that suit reflections; `is_free` means that no phases are known."""
    n_atoms = data.cell.volume / VOLUME_PER_ATOM / len(data.group.rotations)
    return suited(solver.searches(data.d_min, data.group), n_atoms, is_free=is_free)


def _check_cost(data: Reflections, solver: Solver, *, is_free: bool, effort: float, on: torch.device) -> None:
    """Raise `GridError` if the maps do not fit in memory; warn if they are large, or too many atoms are expected."""
    reach = working_reach(data.d_min)
    expected = _searches(solver, data, is_free=is_free)
    if solver.name == "direct_methods" and not any(search.recipe.n_direct for search in expected):
        warnings.warn(
            f"{data.name}: more than {MOST_DIRECT} atoms are expected in the asymmetric unit, too many for direct "
            "methods: trials start from random phases; take solver='classical' (--solver classical)",
            stacklevel=3,
        )
    check_memory(data, expected, reach=reach, device=on)
    warn_of_cost(data, expected, reach=reach, effort=effort, device=on)


def _stages(solver: Solver) -> tuple[tuple[Solver, float], ...]:
    """Return the searches to make until one convinces, each with its share of the effort.

    If ``auto`` has a network, it begins with classical trials alone. They solve easy crystals in less time, and at 2 Å
    more crystals with heavy atoms.
    """
    if solver.name == "auto":
        return (Solver("classical"), _CLASSICAL_SHARE), (solver, 1 - _CLASSICAL_SHARE)
    return ((solver, 1.0),)


def _searched(
    data: Reflections,
    phases: PhaseList | None,
    fragment: Crystal | None,
    *,
    solver: Solver,
    effort: float,
    generator: torch.Generator,
    on: torch.device,
    model: bool,
    report: Callable[[int, int, int], None],
) -> Found:
    """Merge the reflections and run trials until the best of them is convincing or the effort is spent."""
    merged = without_group(data) if data.symmetry is None else data.merge()
    amplitude = absolute_amplitude(merged.reflections)
    known = known_phasors(merged.reflections, phases, fragment)
    searches = _searches(solver, merged.reflections, is_free=known is None)
    problem = working_problem(merged.reflections, amplitude, device=on, known=known)
    is_unknown = solver.warn_of_the_unknown(problem, merged.reflections.group)
    has_group = data.symmetry is not None  # calibrations were measured in known groups
    n_unique = len(merged.reflections)
    calibration = solver.calibration_for(problem, n_unique, is_unknown=is_unknown) if has_group else None
    max_trials, searches = plan_trials(problem, searches, effort)
    outcome = pursue(
        problem,
        searches,
        generator,
        max_trials=max_trials,
        is_enough=lambda outcome: _is_enough(
            outcome, verdict(problem.d_min, _judged(outcome, calibration), is_free=known is None)
        ),
        is_confirmed=AtomTest(merged.reflections, amplitude, problem) if model else None,
        report=lambda n_trials, n_agree: report(n_trials, n_agree, max_trials),
    )
    return Found(data, merged, amplitude, problem, _judged(outcome, calibration), searches[0])


def _judged(outcome: Outcome, calibration: Calibration | None) -> Outcome:
    """Return an outcome with the probability that it is right, if a calibrated network leads with it."""
    if calibration is None or outcome.lead is None or outcome.n_trials < calibration.n_trials:
        return outcome
    figures = outcome.lead, outcome.n_agree, outcome.misfit
    return outcome._replace(probability=calibration.probability(*figures))


def _described(
    found: Found, fits: tuple[GroupFit, ...] = (), *, model: bool, formula: str | None, seed: int
) -> Solution:
    """Return the solution that a search found, with the groups that fit, and with its model if that is wanted."""
    solution = replace(settled_solution(found), space_groups=fits, formula=formula or "")
    return with_model(solution, formula=formula, seed=seed, keeps_hand=not found.is_free) if model else solution


def preferred(several: list[Found]) -> Found:
    """Return the result of the last search, or that of all classical trials together where it has a better verdict.

    Trials that a network was given are evidence without it too: they may agree where the network is not sure. Of equal
    verdicts, that of a network whose probability is stated counts more than agreement; otherwise the result on which
    more trials agree.
    """
    first, last = several[0], several[-1]
    if first is last or last.outcome.is_confirmed or last.outcome.proposed is None:
        return last
    all_classical = first._replace(outcome=pooled(last.problem, first.outcome, last.outcome.proposed))
    is_calibrated = last.outcome.probability is not None

    def evidence(found: Found) -> tuple[int, int]:
        return _VERDICTS.index(_verdict(found)), 0 if is_calibrated else found.outcome.n_agree

    return max(last, all_classical, key=evidence)  # the last, if they are equal


def _verdict(found: Found) -> str:
    return verdict(found.problem.d_min, found.outcome, is_free=found.is_free)


def _is_enough(outcome: Outcome, verdict_so_far: str) -> bool:
    """Whether more trials would change nothing."""
    return verdict_so_far == "solved" or (outcome.n_agree == N_KEPT and outcome.n_trials >= _SETTLED)
