"""A solution without symmetry moved into a space group: merged there, averaged and finished."""

from dataclasses import replace
from functools import partial
from typing import NamedTuple

import numpy as np
import torch

from rephase.crystal.reflections import Merged, Reflections
from rephase.crystal.reflections.statistics import absolute_amplitude
from rephase.crystal.symmetry import Symmetry, rows_of
from rephase.solvers.lattices import merged_in_spite_of_absences
from rephase.solvers.problem import PhaseProblem, working_problem
from rephase.solvers.settings import Setting, in_setting, standard_setting
from rephase.solvers.strategy import Search
from rephase.solvers.trials import Outcome, best_of, compared


class Found(NamedTuple):
    """Reflections merged in a group, their |F| [n_refl], the phase problem and the outcome of the trials.

    ``measured`` are the reflections before merging, in the same axes; ``search`` is the kind that finishes trials.
    """

    measured: Reflections
    merged: Merged
    amplitude: np.ndarray
    problem: PhaseProblem
    outcome: Outcome
    search: Search

    @property
    def is_free(self) -> bool:
        """Whether no phases were known, so that the agreement of trials is evidence."""
        return self.problem.known is None


def in_group(found: Found, symmetry: Symmetry, *, standard: bool = False) -> Found:
    """Move the kept trials to the origin of a group, and finish them there: by low-density elimination, or a network.

    A network ranks them anew. Its lead is not kept, because it was measured only for trials that were chosen in the
    group. Other trials keep their order: the group is that of the first.

    Parameters
    ----------
    found
        Reflections in the axes of the group, and the outcome of a search in its lattice or in a subgroup.
    symmetry
        Any group in these axes that has the lattice of the problem; see `fitting_groups`.
    standard
        Whether to change to the standard setting of the group.
    """
    setting = standard_setting(symmetry, found.measured.cell) if standard else Setting(symmetry, np.eye(3), np.zeros(3))
    measured = in_setting(found.measured, setting) if standard else replace(found.measured, symmetry=symmetry)
    merged = merged_in_spite_of_absences(measured)
    amplitude, outcome = absolute_amplitude(merged.reflections), found.outcome
    there = working_problem(merged.reflections, amplitude, device=found.problem.device)
    convert = partial(_converted, found.problem, there, basis=setting.basis)
    kept = found.search.finished(there, convert(outcome.kept.F if outcome.kept else outcome.F[None]))
    ranked = kept if kept.confidence is None else best_of(kept)[0]
    moved = compared(there, ranked, outcome.n_trials)._replace(lead=None)
    return Found(measured, merged, amplitude, there, moved, found.search)


def _converted(problem: PhaseProblem, other: PhaseProblem, F: torch.Tensor, *, basis: np.ndarray) -> torch.Tensor:
    """Convert lists [n, n_refl] to the hemisphere of another problem in axes `basis` [3, 3]; 0 where there is none."""
    hkl = other.reduced.hkl(np.rint(problem.reduced.hkl_back(problem.hkl_numpy) @ basis).astype(int))
    place = rows_of(other.hkl_numpy, np.concatenate([hkl, -hkl]))
    both = torch.cat([F, F.conj(), torch.zeros_like(F[:, :1])], 1)
    return both[:, torch.as_tensor(place, device=F.device)]
