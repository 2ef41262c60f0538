"""rephase: the lost phases of X-ray diffraction, learned and classical."""

from rephase.crystal.structure import Crystal, read_crystal
from rephase.crystal.structure_factors import structure_factors

__all__ = ["Crystal", "read_crystal", "structure_factors"]
__version__ = "0.1.0"
