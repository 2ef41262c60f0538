"""Doubts about a stated space group: more symmetry in the solved map, equivalents that differ, strong absences."""

import warnings
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace

import numpy as np
import torch

from rephase.crystal.reflections import Merged, Reflections
from rephase.crystal.symmetry import Symmetry
from rephase.errors import ReflectionError
from rephase.solvers.claims import capped
from rephase.solvers.found_group import Found, in_group
from rephase.solvers.group_choice import is_worth_its_parameters
from rephase.solvers.lattices import without_group
from rephase.solvers.problem import PhaseProblem
from rephase.solvers.solution import Solution
from rephase.solvers.space_groups import GroupFit, fitting_groups, groups_of_lattice

_LARGEST_R_INT = 0.25  # of equivalents that agree
_SMALLEST_AGREEMENT = 0.7  # of the map with every operation of a larger group
_AS_GOOD = 1.2  # ratio of the misfit in another group to that in the stated one
_CONVINCING_R1 = 0.15  # of a model in the stated group
_CONVINCING_MISFIT = 0.2  # of the density in the stated group, if there is no model
_WRONG_R1 = 0.35  # of a model in the larger group that confirms nothing
_COARSEST = 1.2  # Å; at coarser resolution most poor solutions lack data, not the right group


def with_doubts(
    solution: Solution, found: Found, describe: Callable[[Found], Solution], solve_again: Callable[..., Solution]
) -> Solution:
    """Return the solution with the group that fits better than the stated one, and why, if there is one.

    The verdict is then at most ``possible``.

    Parameters
    ----------
    solution, found
        Solution in the stated group, and what it was made from.
    describe
        Makes a solution of what was found in another group, with a model.
    solve_again
        Solves reflections without a group, with little effort.
    """
    better = None
    with suppress(ReflectionError):  # too few without the equivalents of the stated group: no other one is compared
        if is_contradicted(found.merged, solution):
            better = _other_group(found.measured, solution, solve_again)
        elif solution.verdict != "unsure":
            better = _confirmed_larger_group(solution, found, describe)
    if better is None:
        return solution
    why, answer = doubt(found.merged.reflections.group, found.merged, better), solution.verdict
    return replace(solution, better_group=better, group_doubt=why, verdict=capped(answer, fom=None, is_open=True))


def is_contradicted(merged: Merged, solution: Solution) -> bool:
    """Whether a stated group of more than lattice translations should be compared with the groups that the map has."""
    data = merged.reflections
    if len(data.group.point_group) == 1:
        return False
    if merged.absences_are_strong:
        return True
    if solution.model is not None:
        is_poor = solution.model.r1 > _CONVINCING_R1 and solution.twin is None
    else:
        is_poor = solution.verdict == "unsure" or solution.r_factor > _CONVINCING_MISFIT
    return is_poor and bool(merged.r_int > _LARGEST_R_INT or data.d_min <= _COARSEST)


def _other_group(data: Reflections, solution: Solution, solve_again: Callable[..., Solution]) -> GroupFit | None:
    """Find a group by solving again without one; its density has to explain the amplitudes as well."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the user did not ask for this search
        again = solve_again(replace(data, symmetry=None, is_merged=False))
    is_other = set(again.reflections.group.triplets) != set(data.group.triplets)
    is_other &= len(again.reflections.group.point_group) > 1  # all data fit P 1
    is_as_good = again.verdict != "unsure" and again.r_factor <= _AS_GOOD * solution.r_factor
    return again.space_groups[0] if again.space_groups and is_as_good and is_other else None


def _confirmed_larger_group(solution: Solution, found: Found, describe: Callable[[Found], Solution]) -> GroupFit | None:
    """Find a group with more operations in which density and model explain the amplitudes as well."""
    fits = larger_groups(found.measured, found.problem, found.outcome.F)
    fits = [fit for fit in fits if solution.twin is None or not fit.symmetry.has_in_laue_group(solution.twin.law)]
    return next(filter(None, (_confirmed(fit, solution, found, describe) for fit in fits)), None)


def _confirmed(
    fit: GroupFit, solution: Solution, found: Found, describe: Callable[[Found], Solution]
) -> GroupFit | None:
    there = in_group(found._replace(outcome=found.outcome._replace(kept=None)), fit.symmetry)
    if there.outcome.misfit > _AS_GOOD * found.outcome.misfit:
        return None
    larger = describe(there)
    r1 = larger.model.r1 if larger.model else np.nan
    is_wrong = r1 > _WRONG_R1 or is_worth_its_parameters(solution, larger)
    return None if is_wrong else fit._replace(r1=r1)


def larger_groups(data: Reflections, problem: PhaseProblem, F: torch.Tensor) -> list[GroupFit]:
    """List at most two groups that contain more operations than the stated one, the likeliest first.

    The map obeys the last. The first contains it and fits better still: a map in a small group obeys the operations of
    a much larger one only roughly.

    Parameters
    ----------
    data
        Reflections as measured, with the stated group.
    problem
        Phase problem in that group.
    F
        [n_refl], its solution.
    """
    stated = data.group
    larger = [group for group in groups_of_lattice(data, _lattice(stated)) if _is_larger(group, stated)]
    if not larger:
        return []
    fits = fitting_groups(without_group(data).reflections, problem, F, larger)
    agreeing = [fit for fit in fits if not fit.r_int > _LARGEST_R_INT]
    obeyed = next((fit for fit in agreeing if fit.agreement >= _SMALLEST_AGREEMENT), None)
    if obeyed is None:
        return []
    likeliest = next(fit for fit in agreeing if fit is obeyed or _is_larger(fit.symmetry, obeyed.symmetry))
    return [likeliest] if likeliest is obeyed else [likeliest, obeyed]


def doubt(stated: Symmetry, merged: Merged, better: GroupFit) -> str:
    """Describe why another group is better than the stated one."""
    if len(better.symmetry.point_group) > len(stated.point_group):
        return (
            f"the map has more symmetry than {stated.symbol}: it obeys every operation of {better.name} "
            f"(agreement at least {better.agreement:.2f}); solve again with --space-group '{better.symmetry.symbol}'"
        )
    reasons = {
        f"<I/σ> of its absences is {merged.absent_i_over_sigma:.1f}": merged.absences_are_strong,
        f"R_int is {merged.r_int:.2f}": merged.r_int > _LARGEST_R_INT,
    }
    why = " and ".join(reason for reason, holds in reasons.items() if holds) or "no map in this group is convincing"
    return (
        f"{stated.symbol} is contradicted: {why}; solved without a group, the map obeys {better.name} "
        f"(agreement {better.agreement:.2f}): solve again with --space-group '{better.symmetry.symbol}'"
    )


def _lattice(symmetry: Symmetry) -> str:
    """Letter of the centring."""
    return str(symmetry.group_ops.find_centering())


def _is_larger(group: Symmetry, stated: Symmetry) -> bool:
    """Whether the rotations of a group include those of the stated one, and others."""
    ours, theirs = (set(map(bytes, each.rotations.astype(np.int8))) for each in (stated, group))
    return ours < theirs
