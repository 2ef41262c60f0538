"""rephase: the lost phases of X-ray diffraction, learned and classical."""

from rephase.crystal.phase_lists import PhaseList, read_phases
from rephase.crystal.reflection_files import read_reflections
from rephase.crystal.reflections import Reflections
from rephase.crystal.structure import Crystal, read_crystal
from rephase.crystal.structure_factors import structure_factors
from rephase.solvers.solution import Solution
from rephase.solvers.solve import solve

__all__ = [
    "Crystal", "PhaseList", "Reflections", "Solution", "read_crystal", "read_phases", "read_reflections", "solve",
    "structure_factors",
]  # fmt: skip
__version__ = "0.1.0"
