"""The structure of a solution: built and refined, and what it says about the verdict."""

from dataclasses import replace

import numpy as np
import torch
from numpy.linalg import LinAlgError

from rephase.crystal.density import density_of
from rephase.crystal.reflections import Reflections
from rephase.errors import RephaseError
from rephase.refinement.atoms.building import Builder
from rephase.refinement.build import build_model
from rephase.solvers.claims import COARSEST_CLAIM, judged_by_model
from rephase.solvers.problem import PhaseProblem
from rephase.solvers.solution import Solution

_LIMIT = [1.2, 1.5], [0.18, 0.17]  # d_min in Å, and R of atoms without elements in the map of a right trial
_N_REBUILT = 4  # cycles of building in a test
_LARGEST_TEST = 3e7  # reflections times atoms times operations; a larger test takes longer than the trials
_COARSEST = 2.5  # Å; beyond it the peaks of a map are not atoms


class AtomTest:
    """Test whether atoms placed in the map of a trial explain the amplitudes.

    Of 30 crystals at 1.2 and 1.5 Å, some with noise, atoms in the maps of right trials reached R of at most 0.13, in
    those of wrong ones at least 0.21.

    Parameters
    ----------
    data
        Merged reflections.
    amplitude
        [n_refl], |F| in electrons.
    problem
        Their phase problem, whose lists are tested.
    """

    def __init__(self, data: Reflections, amplitude: np.ndarray, problem: PhaseProblem):
        self._data, self._amplitude, self._problem = data, amplitude, problem
        self._builder = Builder(data, amplitude, np.random.default_rng(0))
        size = len(data) * self._builder.n_expected * len(data.group.point_group)
        self._is_small = size <= _LARGEST_TEST and data.d_min <= COARSEST_CLAIM
        self._limit = float(np.interp(data.d_min, *_LIMIT))

    def __call__(self, F: torch.Tensor) -> bool:
        """Whether the atoms that a list F [n_refl] shows explain the amplitudes."""
        if not self._is_small:
            return False
        data, phi = self._data, self._problem.phases_for(F[None], self._data.hkl)[0]
        density = density_of(data.hkl, self._amplitude * np.exp(1j * phi), data.cell, data.group)
        return self._builder.explains(density, limit=self._limit, n_cycles=_N_REBUILT)


def with_model(solution: Solution, *, formula: str | None, seed: int = 0) -> Solution:
    """Return the solution with its refined structure, and the verdict that this supports.

    If no structure can be built, the phases are kept, and `Solution.model_note` says why.
    """
    data = solution.reflections
    if data.d_min > _COARSEST:
        return replace(solution, model_note=f"no atoms were built: the data end at {data.d_min:.2f} Å")
    try:
        model = build_model(
            data, solution.amplitude, solution.density, formula=formula, measured=solution.measured, seed=seed
        )
    except (RephaseError, LinAlgError) as error:
        return replace(solution, model_note=f"no model: {error}; the phases are kept")
    is_open = solution.n_rivals > 0 or bool(solution.group_doubt)
    verdict = judged_by_model(solution.verdict, model, d_min=data.d_min, is_open=is_open)
    return replace(solution, model=model, verdict=verdict)
