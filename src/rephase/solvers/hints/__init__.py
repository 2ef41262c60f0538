"""Hints: in words, what is unusual about the data or the model of a solution, and what to do."""

from rephase.solvers.hints import coverage, fit, measurement, refinement, structure, twins
from rephase.solvers.hints.hint import Hint
from rephase.solvers.solution import Solution

__all__ = ["HINTS", "Hint", "hints_of"]

HINTS = (
    measurement.radiation,
    measurement.wavelength,
    measurement.no_sigma,
    twins.twinning,
    twins.higher_symmetry,
    coverage.large_cell,
    coverage.pseudo_translation,
    coverage.weak_limit,
    coverage.coarse_limit,
    coverage.few_reflections,
    coverage.gaps,
    coverage.low_angles,
    coverage.falloff,
    refinement.isotropic,
    refinement.displacements,
    refinement.unconverged,
    refinement.occupancies,
    structure.formula,
    structure.missing_hydrogen,
    structure.guessed_elements,
    structure.chemistry,
    structure.bond_lengths,
    structure.volume_per_atom,
    structure.voids,
    structure.hand,
    fit.missing_strong,
    fit.strongest,
    fit.weakest,
    fit.half_wavelength,
    fit.misfits,
)


def hints_of(solution: Solution) -> tuple[Hint, ...]:
    """Return what is unusual about the merged data of a solution, and about its model if there is one."""
    found = (hint(solution) for hint in HINTS)
    return tuple(hint for hint in found if hint is not None)
