"""rephase: learned and classical recovery of the phases lost in X-ray diffraction."""

TYPE_CHECKING = False  # stands in for typing.TYPE_CHECKING: importing typing takes longer than all of this module

if TYPE_CHECKING:
    from rephase.crystal.reflections import Reflections
    from rephase.crystal.reflections.files import read_reflections
    from rephase.crystal.reflections.phase_lists import PhaseList, read_phases
    from rephase.crystal.structure_factors import structure_factors
    from rephase.crystal.structures import Crystal, read_crystal
    from rephase.labs.completion.complete import Completion, complete
    from rephase.solvers.solution import Solution
    from rephase.solvers.solve import solve

__all__ = [
    "Completion",
    "Crystal",
    "PhaseList",
    "Reflections",
    "Solution",
    "complete",
    "read_crystal",
    "read_phases",
    "read_reflections",
    "solve",
    "structure_factors",
]
__version__ = "0.1.0"

# Imported on first use, so that the command line responds, and can be interrupted, before torch is loaded.
_HOMES = {
    "Completion": "labs.completion.complete",
    "Crystal": "crystal.structures",
    "PhaseList": "crystal.reflections.phase_lists",
    "Reflections": "crystal.reflections",
    "Solution": "solvers.solution",
    "complete": "labs.completion.complete",
    "read_crystal": "crystal.structures",
    "read_phases": "crystal.reflections.phase_lists",
    "read_reflections": "crystal.reflections.files",
    "solve": "solvers.solve",
    "structure_factors": "crystal.structure_factors",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'rephase' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"rephase.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
