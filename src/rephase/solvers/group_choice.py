"""The space group of a solution without one: the likeliest, or one near it in which a model fits better."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import NamedTuple

import numpy as np

from rephase.solvers.found_group import Found, in_group
from rephase.solvers.solution import Solution
from rephase.solvers.space_groups import GroupFit, fitting_groups

_CONVINCING_R1 = 0.08  # of a model; no other group is tried
_NEAR = 30.0  # largest difference of the evidence of two groups that are compared
_TRIED = 6  # groups that the trials are moved to, besides the likeliest
_MUCH_LOWER = 0.85  # ratio of the misfit without a group to that in the likeliest one
_WEIGHT_OF_MISFIT = 20.0  # evidence of a misfit that is lower by a factor e


class Candidate(NamedTuple):
    """A group, the trials moved to it, and the solution there."""

    fit: GroupFit
    found: Found
    solution: Solution

    @property
    def r1(self) -> float:
        """R1 of the model, infinite if there is none."""
        return self.solution.model.r1 if self.solution.model else np.inf


def in_likeliest_group(found: Found, describe: Callable[..., Solution], *, standard: bool) -> Solution:
    """Move a solution in the lattice of its data to the likeliest group, and list those that fit, the chosen one first.

    If its model is poor, or the density explains the amplitudes much better without a group, the near group that
    explains them best is compared with it: by their models, see `is_worth_its_parameters`, or else by their misfits.

    Parameters
    ----------
    found
        What the search without a group found.
    describe
        Makes a solution, with a model, of what was found and the groups that fit.
    standard
        Whether to change to the standard setting of the group.
    """
    fits = fitting_groups(found.merged.reflections, found.problem, found.outcome.F)
    if not fits:
        return describe(found)
    there = partial(in_group, found, standard=standard)
    moved = there(fits[0].symmetry)
    best = Candidate(fits[0], moved, describe(moved, fits))
    compared = [best]
    if _is_doubtful(best, found) and (rival := _rival(fits, moved, there)):
        compared.append(Candidate(*rival, describe(rival[1], fits)))
        best = better(*compared)
    return replace(best.solution, space_groups=_listed(fits, best, compared))


def is_worth_its_parameters(lower: Solution, higher: Solution) -> bool:
    """Whether a model in a group of less symmetry fits so much better that its further parameters are justified.

    The Bayesian information criterion (G. Schwarz, Ann. Stat. 6 (1978) 461, doi:10.1214/aos/1176344136) for errors of
    |F| that are proportional to R1: ``n ln(R1 / R1') > (p' - p) ln(n) / 2``. The number of parameters p' is that in the
    higher group times the ratio of the orders, because models in several groups are not equally complete.
    """
    if lower.model is None or higher.model is None:
        return lower.model is not None
    n, figures = len(higher.reflections), higher.model.statistics
    n_more = figures.n_parameters * (_order(higher) / _order(lower) - 1)
    return bool(n * np.log(higher.model.r1 / lower.model.r1) > n_more * np.log(n) / 2)


def _is_doubtful(likeliest: Candidate, found: Found) -> bool:
    """Whether a group should be compared with others: its model is poor, or the density without a group far better."""
    is_poor = likeliest.solution.model is not None and likeliest.r1 > _CONVINCING_R1
    return is_poor or found.outcome.misfit < _MUCH_LOWER * likeliest.found.outcome.misfit


def _rival(fits: tuple[GroupFit, ...], moved: Found, there: Callable[..., Found]) -> tuple[GroupFit, Found] | None:
    """Choose the group of similar evidence in which the misfit is lowest, if it is lower than in the likeliest."""
    near = [fit for fit in fits[1 : _TRIED + 1] if fit.evidence > fits[0].evidence - _NEAR]
    tried = [(fit, there(fit.symmetry)) for fit in near]
    lower = [each for each in tried if each[1].outcome.misfit < moved.outcome.misfit]
    return min(lower, key=lambda each: each[1].outcome.misfit, default=None)


def better(likeliest: Candidate, rival: Candidate) -> Candidate:
    """Return the rival if its lower misfit outweighs its evidence, or if its model is better.

    If the groups have the same order, the better model is that of the lower R1.
    """
    gain = _WEIGHT_OF_MISFIT * np.log(likeliest.found.outcome.misfit / rival.found.outcome.misfit)
    if rival.fit.evidence + gain > likeliest.fit.evidence:
        return min(rival, likeliest, key=lambda each: each.r1)  # the rival without models, where both are infinite
    if likeliest.solution.model is None:
        return likeliest
    higher, lower = sorted((likeliest, rival), key=lambda each: -_order(each.solution))
    if _order(higher.solution) == _order(lower.solution):
        return min(likeliest, rival, key=lambda each: each.r1)
    return lower if is_worth_its_parameters(lower.solution, higher.solution) else higher


def _order(solution: Solution) -> int:
    return len(solution.reflections.group.point_group)


def _listed(fits: tuple[GroupFit, ...], best: Candidate, compared: list[Candidate]) -> tuple[GroupFit, ...]:
    """List the fits with the R1 of their models, the chosen one first."""
    r1 = {each.fit.symmetry.symbol: each.r1 for each in compared if each.solution.model}
    with_r1 = (fit._replace(r1=r1.get(fit.symmetry.symbol, np.nan)) for fit in fits)
    return tuple(sorted(with_r1, key=lambda fit: fit.symmetry != best.fit.symmetry))
