"""The space group of a solution without one: the likeliest, or one near it in which a model fits better."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import NamedTuple

import numpy as np

from rephase.solvers.found_group import Found, in_group
from rephase.solvers.solution import Solution
from rephase.solvers.space_groups import GroupFit, fitting_groups

_CONVINCING_R1 = 0.12  # of a model; no other group is tried
_NEAR = 30.0  # largest difference of the evidence of two groups that are compared
_TRIED, _MODELS = 6, 2  # groups that the trials are moved to, and groups that get a model, besides the likeliest
_LOWER = 0.85  # ratio of the misfit to that in the likeliest group, below which a model is built


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

    If the model in the likeliest group is poor, models are built in near groups where the density explains the
    amplitudes better, and the best of them decides, see `is_worth_its_parameters`.

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
    if best.solution.model is not None and best.r1 > _CONVINCING_R1:
        compared += [Candidate(fit, each, describe(each, fits)) for fit, each in _near(fits, moved, there)]
    for other in compared[1:]:
        best = _better(best, other)
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


def _near(fits: tuple[GroupFit, ...], moved: Found, there: Callable[..., Found]) -> list[tuple[GroupFit, Found]]:
    """Choose the groups of similar evidence in which the misfit is lowest, if it is lower than in the likeliest."""
    near = [fit for fit in fits[1 : _TRIED + 1] if fit.evidence > fits[0].evidence - _NEAR]
    tried = [(fit, there(fit.symmetry)) for fit in near]
    better = [each for each in tried if each[1].outcome.misfit < _LOWER * moved.outcome.misfit]
    return sorted(better, key=lambda each: each[1].outcome.misfit)[:_MODELS]


def _better(one: Candidate, other: Candidate) -> Candidate:
    """Return the candidate whose model is better; if their groups have the same order, that of the lower R1."""
    higher, lower = sorted((one, other), key=lambda each: -_order(each.solution))
    if _order(higher.solution) == _order(lower.solution):
        return min(one, other, key=lambda each: each.r1)
    return lower if is_worth_its_parameters(lower.solution, higher.solution) else higher


def _order(solution: Solution) -> int:
    return len(solution.reflections.group.point_group)


def _listed(fits: tuple[GroupFit, ...], best: Candidate, compared: list[Candidate]) -> tuple[GroupFit, ...]:
    """List the fits with the R1 of their models, the chosen one first."""
    r1 = {each.fit.symmetry.symbol: each.r1 for each in compared if each.solution.model}
    with_r1 = (fit._replace(r1=r1.get(fit.symmetry.symbol, np.nan)) for fit in fits)
    return tuple(sorted(with_r1, key=lambda fit: fit.symmetry != best.fit.symmetry))
