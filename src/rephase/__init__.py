"""rephase: the lost phases of X-ray diffraction, learned and classical."""

from rephase.crystal.reflection_files import read_reflections
from rephase.crystal.reflections import Reflections
from rephase.crystal.structure import Crystal, read_crystal
from rephase.crystal.structure_factors import structure_factors

__all__ = ["Crystal", "Reflections", "read_crystal", "read_reflections", "structure_factors"]
__version__ = "0.1.0"
