"""`Hint`: one finding about data or a model."""

from typing import NamedTuple


class Hint(NamedTuple):
    """What was found and what to do: ``name`` of the kind, ``values`` by name, ``text`` with the figure, ``remedy``."""

    name: str
    values: dict[str, float]
    text: str
    remedy: str

    def __str__(self) -> str:
        """The finding and the remedy as one paragraph."""
        return f"{self.text} {self.remedy}"
