"""Doubts about a stated space group: more symmetry in the solved map, equivalents that differ, strong absences."""

import numpy as np
import torch

from rephase.crystal.reflections import Merged, Reflections
from rephase.crystal.symmetry import Symmetry
from rephase.solvers.lattices import without_group
from rephase.solvers.problem import PhaseProblem
from rephase.solvers.space_groups import GroupFit, fitting_groups, groups_of_lattice

_LARGEST_R_INT = 0.25  # of equivalents that agree
_SMALLEST_AGREEMENT = 0.7  # of the map with every operation of a larger group
_COARSEST = 1.2  # Å; at coarser resolution most unsure solutions lack data, not the right group


def is_contradicted(merged: Merged, verdict: str) -> bool:
    """Whether a stated group of more than lattice translations should be compared with the groups that the map has."""
    data = merged.reflections
    if len(data.group.point_group) == 1:
        return False
    no_solution = verdict == "unsure" and data.d_min <= _COARSEST
    return bool(merged.absences_are_strong or merged.r_int > _LARGEST_R_INT or no_solution)


def larger_group(data: Reflections, problem: PhaseProblem, F: torch.Tensor) -> GroupFit | None:
    """Return the likeliest group that contains more operations than the stated one and that the map obeys, if any.

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
        return None
    fits = fitting_groups(without_group(data).reflections, problem, F, larger)
    good = (fit for fit in fits if fit.agreement >= _SMALLEST_AGREEMENT and not fit.r_int > _LARGEST_R_INT)
    return next(good, None)


def doubt(stated: Symmetry, merged: Merged, better: GroupFit | None) -> str:
    """Describe why another group is better than the stated one; empty if there is none."""
    if better is None:
        return ""
    if len(better.symmetry.point_group) > len(stated.point_group):
        return (
            f"the map has more symmetry than {stated.symbol}: it obeys every operation of {better.name} "
            f"(agreement {better.agreement:.2f}); solve again with --space-group '{better.symmetry.symbol}'"
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
