"""Cards of the weights of models that complete amplitudes."""

from typing import Annotated, Literal, Self

from pydantic import (
    AfterValidator,
    Field,
    NonNegativeFloat,
    PositiveFloat,
    model_validator,
)

from rephase.config.completion import MonoclinicConfig
from rephase.labs.completion.models import AMPLITUDE_MODELS
from rephase.labs.completion.models.amplitudes import AmplitudeModel
from rephase.learning.cards import Card, CardPart
from rephase.learning.weights import Kind


class RelativeErrors(CardPart):
    """RMS error divided by RMS amplitude, in shells of equal width in 1/d^2 from 0."""

    acentric: tuple[NonNegativeFloat, ...] = Field(min_length=1)
    centric: tuple[NonNegativeFloat, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _of_the_same_shells(self) -> Self:
        if len(self.acentric) != len(self.centric):
            raise ValueError(
                f"{len(self.acentric)} acentric and {len(self.centric)} centric shells: expected equal numbers"
            )
        return self


def _in_order(ends: tuple[float, float]) -> tuple[float, float]:
    if ends[0] > ends[1]:
        raise ValueError(f"from {ends[0]} to {ends[1]}: expected the smaller value first")
    return ends


_Angle = Annotated[float, Field(gt=0, lt=180)]


_Range = Annotated[tuple[PositiveFloat, PositiveFloat], AfterValidator(_in_order)]


class Ranges(CardPart):
    """Smallest and largest a, b, c (Å), β (degrees) and cell volume (Å^3) of the training crystals."""

    a: _Range
    b: _Range
    c: _Range
    beta: Annotated[tuple[_Angle, _Angle], AfterValidator(_in_order)]
    volume: _Range


class AmplitudeCard(Card):
    """Description of the weights of a model that completes amplitudes.

    Parameters
    ----------
    data
        The training crystals: grid, resolution limit, space groups, measured part.
    trained_on
        Ranges of their cells and volumes.
    relative_error
        Errors on crystals that were not used in training.
    """

    kind: Literal["amplitudes"] = "amplitudes"
    data: MonoclinicConfig
    trained_on: Ranges
    relative_error: RelativeErrors

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the grid."""
        return self.data.shape


AMPLITUDES: Kind[AmplitudeModel, AmplitudeCard] = Kind("amplitudes", AMPLITUDE_MODELS, AmplitudeCard)
