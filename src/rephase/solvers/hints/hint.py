"""`Hint`: one finding about data or a model."""

from typing import NamedTuple

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
