"""Cards of weights: what a model is, what it was trained on, how far it can be trusted; checked as they are read."""

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar, cast

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    ValidationError,
    field_validator,
    model_validator,
)

from rephase.config import MonoclinicConfig
from rephase.config_sections import Name
from rephase.datasets.patterns import Simulator
from rephase.datasets.simulators import SIMULATORS, WAVE_SIMULATORS
from rephase.errors import WeightsError, nearest_name
from rephase.image_config import ImageDataConfig
from rephase.posterior_config import (
    GisaxsSimulation,
    HologramSimulation,
    OrientedSimulation,
    PosteriorsConfig,
    PtychogramSimulation,
    SaxsSimulation,
    SimulatorConfig,
)
from rephase.reading import decoded, file_bytes

_LARGEST = 1_000_000  # bytes; cards have some thousands
_SIMULATORS: dict[str, Callable[[Any], Simulator]] = {**SIMULATORS, **WAVE_SIMULATORS}


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class RelativeErrors(_Part):
    """Root mean square of the error over that of the amplitude, in shells of equal width in 1/d^2 from 0."""

    acentric: tuple[NonNegativeFloat, ...] = Field(min_length=1)
    centric: tuple[NonNegativeFloat, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _of_the_same_shells(self) -> Self:
        if len(self.acentric) != len(self.centric):
            raise ValueError(f"{len(self.acentric)} acentric and {len(self.centric)} centric shells: expected as many")
        return self


def _in_order(ends: tuple[float, float]) -> tuple[float, float]:
    if ends[0] > ends[1]:
        raise ValueError(f"from {ends[0]} to {ends[1]}: expected the smaller one first")
    return ends


_Angle = Annotated[float, Field(gt=0, lt=180)]
_Range = Annotated[tuple[PositiveFloat, PositiveFloat], AfterValidator(_in_order)]


class Ranges(_Part):
    """Smallest and largest a, b, c (Å), β (degrees) and volume (Å^3) of crystals."""

    a: _Range
    b: _Range
    c: _Range
    beta: Annotated[tuple[_Angle, _Angle], AfterValidator(_in_order)]
    volume: _Range


class Card(_Part):
    """What a file of weights is.

    Parameters
    ----------
    kind
        Name in `KINDS`.
    model, options, loss
        As in a configuration.
    data
        What it was trained on.
    training, seed, figures, command, made_with
        How it was trained, what it scored (split: metric: value), the command that does it again, versions.
    sha256
        Of the file of weights.
    card_sha256
        Of the card, its keys sorted, without this one; the first cards have none.
    """

    kind: str
    model: Name
    options: dict[str, Any]
    loss: str
    data: MonoclinicConfig | ImageDataConfig | SimulatorConfig
    training: dict[str, Any]
    seed: NonNegativeInt
    figures: dict[str, dict[str, float]]
    command: str
    made_with: dict[str, Any]
    sha256: str = ""
    card_sha256: str = ""

    @property
    def name(self) -> str:
        """What files of it are called."""
        return self.model

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the data that the model was built for."""
        return cast(MonoclinicConfig | ImageDataConfig, self.data).shape

    @property
    def built_with(self) -> dict[str, Any]:
        """What the model was built with besides the shape of its data, as `SplitData.built_with`."""
        return {}


class AmplitudeCard(Card):
    """What the weights of a model of amplitudes are.

    Parameters
    ----------
    data
        The crystals that it was trained on: grid, sphere, space groups, what was measured.
    trained_on
        Cells and volumes among them.
    relative_error
        Of crystals that were not trained on.
    """

    kind: Literal["amplitudes"] = "amplitudes"
    data: MonoclinicConfig
    trained_on: Ranges
    relative_error: RelativeErrors


class ImageCard(Card):
    """What the weights of a classifier of diffraction images are.

    Parameters
    ----------
    data
        The images that it was trained on, and what it is given of them: their size, or that of correlation maps.
    labels
        Names of the labels in order.
    thresholds
        A label is given where its probability is not below; chosen on images that were not trained on.
    """

    kind: Literal["images"] = "images"
    data: ImageDataConfig
    labels: tuple[str, ...] = Field(min_length=1)
    thresholds: tuple[Annotated[float, Field(ge=0, le=1)], ...]

    @model_validator(mode="after")
    def _one_threshold_each(self) -> Self:
        if len(self.labels) != len(self.thresholds):
            raise ValueError(f"{len(self.labels)} labels and {len(self.thresholds)} thresholds: expected as many")
        return self

    @property
    def built_with(self) -> dict[str, Any]:
        """How many labels the model gives."""
        return {"n_labels": len(self.labels)}


class PosteriorCard(Card):
    """What the weights of a flow of parameters or of images are.

    Parameters
    ----------
    experiment
        Kind of the simulator, in `SIMULATORS` or `WAVE_SIMULATORS`.
    data
        What the simulator is made from that the flow was trained with: unknowns, bounds, exposures.
    """

    kind: Literal["posteriors", "image posteriors"] = "posteriors"
    experiment: str
    data: SaxsSimulation | OrientedSimulation | GisaxsSimulation | HologramSimulation | PtychogramSimulation

    @field_validator("experiment")
    @classmethod
    def _is_known(cls, experiment: str) -> str:
        if experiment not in _SIMULATORS:
            raise ValueError(f"experiment = {experiment!r}: {nearest_name(experiment, _SIMULATORS)}")
        return experiment

    @model_validator(mode="after")
    def _of_its_experiment(self) -> Self:
        expected = type(getattr(PosteriorsConfig(), self.experiment).data)
        if type(self.data) is not expected:
            raise ValueError(f"data of a {type(self.data).__name__}: {self.experiment} has a {expected.__name__}")
        return self

    @property
    def name(self) -> str:
        """Of the model and its experiment."""
        return f"{self.model}_{self.experiment}"

    @property
    def shape(self) -> tuple[int, ...]:
        """Of a pattern."""
        return self._simulator.pattern_shape

    @property
    def built_with(self) -> dict[str, Any]:
        """The simulator."""
        return {"simulator": self._simulator}

    @property
    def _simulator(self) -> Simulator:
        return _SIMULATORS[self.experiment](self.data)


CardType = TypeVar("CardType", bound=Card)


def said_by(path: Path) -> dict[str, Any]:
    """What a card says; the first cards, of amplitudes all, did not say their kind.

    Raises
    ------
    WeightsError
        There is no card, or no JSON, or it has numbers that are not finite.
    """
    if not os.path.isfile(path):
        raise WeightsError(f"{path}: no such card; expected it beside the weights, `rephase weights` writes both")
    content = file_bytes(path, WeightsError)
    try:
        if len(content) > _LARGEST:
            raise ValueError(f"{len(content):,} bytes, expected at most {_LARGEST:,}")
        said = json.loads(decoded(content))
        json.dumps(said, allow_nan=False)
        return {"kind": "amplitudes"} | said
    except (ValueError, TypeError, RecursionError) as error:
        raise WeightsError(f"{path}: no card of weights ({error}); get both files again") from error


def card_checksum(said: dict[str, Any]) -> str:
    """SHA-256 of what a card says, but for this one."""
    values = {key: value for key, value in said.items() if key != "card_sha256"}
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def read_card(path: Path, said: dict[str, Any], card: type[CardType]) -> CardType:
    """The card that says this.

    Raises
    ------
    WeightsError
        A value that is missing, unknown or cannot be.
    """
    try:
        return card.model_validate_json(json.dumps(said))
    except ValidationError as error:
        first, *others = error.errors(include_input=False, include_url=False, include_context=False)
        where = ".".join(map(str, first["loc"])) or "card"
        more = f", and {len(others)} more faults" if others else ""
        raise WeightsError(
            f"{path}: no card of weights ({where}: {first['msg']}{more}); get both files again"
        ) from error
