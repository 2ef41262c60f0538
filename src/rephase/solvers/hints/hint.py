"""`Hint`: one finding about data or a model, and the model that is good enough to be the reason of one."""

from typing import NamedTuple

from rephase.refinement.model import Model
from rephase.solvers.solution import Solution

_GOOD = 0.12  # R1 of a model that is complete enough to judge single reflections
_TITLES = {  # where the name of the kind does not say enough
    "weak_limit": "weak data at the resolution limit",
    "coarse_limit": "data that end before atoms are resolved",
    "gaps": "gaps in the data",
    "low_angles": "missing reflections at low angles",
    "falloff": "fall-off of the intensities",
    "strongest": "strongest reflections too weak",
    "missing_strong": "missing strong reflections",
    "weakest": "weakest reflections too strong",
    "half_wavelength": "radiation of half the wavelength",
    "misfits": "reflections that do not fit",
    "wavelength": "impossible wavelength",
    "no_sigma": "no σ in the data",
    "isotropic": "isotropic displacements",
    "displacements": "unusual displacements",
    "occupancies": "partial occupancies",
    "hand": "absolute structure",
    "voids": "density outside the model",
}


class Hint(NamedTuple):
    """What was found and what to do: ``name`` of the kind, ``values`` by name, ``text`` with the figure, ``remedy``."""

    name: str
    values: dict[str, float]
    text: str
    remedy: str

    @property
    def title(self) -> str:
        """The kind in plain words."""
        words = _TITLES.get(self.name, self.name.replace("_", " "))
        return words[0].upper() + words[1:]

    def __str__(self) -> str:
        """The finding and the remedy as one paragraph."""
        return f"{self.text} {self.remedy}"


def good_model(solution: Solution) -> Model | None:
    """Return the model if its R1 is low; otherwise most deviations are its own."""
    return solution.model if solution.model is not None and solution.model.r1 < _GOOD else None
