"""The structure of a solution: built, refined, put into its hand, and what it says about the verdict."""

import warnings
from dataclasses import replace
from functools import partial

import numpy as np
import torch
from numpy.linalg import LinAlgError

from rephase.crystal.density import density_of
from rephase.crystal.phases import wrap
from rephase.crystal.reflections import Reflections
from rephase.errors import RephaseError
from rephase.refinement.atoms.building import Builder
from rephase.refinement.build import build_model
from rephase.refinement.chemistry import check_chemistry
from rephase.refinement.factors import SiteFactors
from rephase.refinement.hand import Inversion, in_right_hand
from rephase.refinement.model import Model
from rephase.refinement.moieties import heavy_difference
from rephase.solvers.claims import COARSEST_CLAIM, judged_by_model
from rephase.solvers.problem import PhaseProblem
from rephase.solvers.solution import Solution

_LIMIT = [1.2, 1.5], [0.18, 0.17]  # d_min in Å, and R of atoms without elements in the map of a right trial
_N_REBUILT = 4  # cycles of building in a test
_LARGEST_TEST = 3e7  # reflections times atoms times operations; a larger test takes longer than the trials
# A formula is wrong if R1 is larger, the atoms differ by this share, and R1 without it is smaller by the factor
_CONTRADICTED_R1, _CONTRADICTED, _BETTER_WITHOUT = 0.05, 0.1, 0.7
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


def with_model(solution: Solution, *, formula: str | None, seed: int = 0, keeps_hand: bool = False) -> Solution:
    """Return the solution with its refined structure, and the verdict that this supports.

    If no structure can be built, the phases are kept, and `Solution.model_note` says why. If Friedel pairs show that
    the structure is inverted, the phases, the map and, where necessary, the space group change to the other hand,
    unless `keeps_hand`.

    Warns
    -----
    UserWarning
        The structure belongs to the enantiomorphic group of the one that was stated.
    """
    data = solution.reflections
    if data.d_min > _COARSEST:
        return replace(solution, model_note=f"no atoms were built: the data end at {data.d_min:.2f} Å")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the hints say it in their place
            built = _built(solution, formula, seed)
        model, inversion = _in_hand(built, solution, keeps_hand)
    except (RephaseError, LinAlgError) as error:
        return replace(solution, model_note=f"no model: {error}; the phases are kept")
    untested = solution.pseudo_translations is not None and solution.rival_phi is None
    is_open = solution.n_rivals > 0 or untested or bool(data.radiation)
    chemistry = check_chemistry(model.sites, model.cell, model.symmetry)
    verdict = judged_by_model(solution.verdict, model, chemistry, d_min=data.d_min, is_open=is_open)
    moved = solution if inversion is None else inverted(solution, inversion)
    if verdict == "solved":
        moved = replace(moved, phi=_phases_of(model, moved.hkl))
    return replace(moved, model=model, chemistry=chemistry, verdict=verdict)


def _built(solution: Solution, formula: str | None, seed: int) -> Model:
    """Build the model with the formula; without it, if the atoms contradict the formula and fit better without."""
    build = partial(
        build_model, solution.reflections, solution.amplitude, solution.density, measured=solution.measured, seed=seed
    )
    model = replace(build(formula=formula), stated_formula=formula or "")
    if not formula or model.r1 < _CONTRADICTED_R1:
        return model
    if heavy_difference(model.contents(), model.stated_contents()) < _CONTRADICTED:
        return model
    free = replace(build(formula=None), stated_formula=formula)
    return free if free.r1 < _BETTER_WITHOUT * model.r1 else model


def _phases_of(model: Model, hkl: np.ndarray) -> np.ndarray:
    """Return the phases [n_refl] of a model in radians, without dispersion: surer than those of the search."""
    factors = SiteFactors(hkl, model.cell, model.symmetry, model.sites.elements, None)
    return wrap(torch.as_tensor(np.angle(factors.F(model.sites)))).numpy()


def _in_hand(model: Model, solution: Solution, keeps_hand: bool) -> tuple[Model, Inversion | None]:
    if solution.measured is None:
        return model, None
    return in_right_hand(model, solution.measured, keeps_hand=keeps_hand)


def inverted(solution: Solution, inversion: Inversion) -> Solution:
    """Return the solution with the phases, and those of its rivals, of the other hand."""
    stated, rivals, measured = solution.reflections.group.symbol, solution.rival_phi, solution.measured
    if inversion.symmetry.symbol != stated and not solution.space_groups:
        warnings.warn(
            f"{solution.reflections.name}: Friedel pairs show that the group is {inversion.symmetry.symbol}, not its "
            f"mirror image {stated}; the solution is in {inversion.symmetry.symbol}",
            stacklevel=3,
        )
    return replace(
        solution,
        reflections=inversion.moved(solution.reflections),
        phi=inversion.phases(solution.phi, solution.hkl),
        rival_phi=None if rivals is None else inversion.phases(rivals, solution.hkl),
        measured=None if measured is None else inversion.moved(measured),
    )
