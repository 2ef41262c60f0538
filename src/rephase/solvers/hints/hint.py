"""`Hint`: one finding about data or a model, and the model that is good enough to be the reason of one."""

from typing import NamedTuple

from rephase.refinement.model import Model
from rephase.solvers.solution import Solution

_GOOD = 0.12  # R1 of a model that is complete enough to judge single reflections


class Hint(NamedTuple):
    """What was found and what to do: ``name`` of the kind, ``values`` by name, ``text`` with the figure, ``remedy``."""

    name: str
    values: dict[str, float]
    text: str
    remedy: str

    def __str__(self) -> str:
        """The finding and the remedy as one paragraph."""
        return f"{self.text} {self.remedy}"


def good_model(solution: Solution) -> Model | None:
    """Return the model if its R1 is low; otherwise most deviations are its own."""
    return solution.model if solution.model is not None and solution.model.r1 < _GOOD else None
