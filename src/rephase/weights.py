"""Weights of models in files: safetensors, and a card that says what they are and what they know."""

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Generic, Literal, NamedTuple, Self, TypeVar, cast

import safetensors
import safetensors.torch
import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator
from torch import nn

from rephase.config import MonoclinicConfig
from rephase.config_sections import ModelConfig, Name
from rephase.datasets.patterns import Simulator
from rephase.datasets.simulators import SIMULATORS, WAVE_SIMULATORS
from rephase.errors import ConfigError, WeightsError, nearest_name
from rephase.image_config import ImageDataConfig
from rephase.models import (
    AMPLITUDE_MODELS,
    IMAGE_MODELS,
    IMAGE_POSTERIOR_MODELS,
    POSTERIOR_MODELS,
    Model,
    build_model,
)
from rephase.models.amplitudes import AmplitudeModel
from rephase.models.flows import ParameterFlow
from rephase.models.image_flows import ImageFlow
from rephase.models.image_networks import ImageClassifier
from rephase.paths import NEEDED, WEIGHTS
from rephase.posterior_config import (
    FlowLearning,
    GisaxsSimulation,
    HologramSimulation,
    OrientedSimulation,
    PosteriorsConfig,
    PtychogramSimulation,
    SaxsSimulation,
    SimulatorConfig,
)
from rephase.writing import write_whole

_SUFFIX = ".safetensors"
_LARGEST = torch.finfo(torch.float16).max
_SIMULATORS: dict[str, Callable[[Any], Simulator]] = {**SIMULATORS, **WAVE_SIMULATORS}


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class RelativeErrors(_Part):
    """Root mean square of the error over that of the amplitude, in shells of equal width in 1/d^2 from 0."""

    acentric: tuple[float, ...] = Field(min_length=1)
    centric: tuple[float, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _of_the_same_shells(self) -> Self:
        if len(self.acentric) != len(self.centric):
            raise ValueError(f"{len(self.acentric)} acentric and {len(self.centric)} centric shells: expected as many")
        return self


class Ranges(_Part):
    """Smallest and largest a, b, c (Å), β (degrees) and volume (Å^3) of crystals."""

    a: tuple[float, float]
    b: tuple[float, float]
    c: tuple[float, float]
    beta: tuple[float, float]
    volume: tuple[float, float]


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
        Of the file.
    """

    kind: str
    model: Name
    options: dict[str, Any]
    loss: str
    data: MonoclinicConfig | ImageDataConfig | SimulatorConfig
    training: dict[str, Any]
    seed: int
    figures: dict[str, dict[str, float]]
    command: str
    made_with: dict[str, Any]
    sha256: str = ""

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


class Weights(NamedTuple, Generic[Model, CardType]):
    """A model with its weights, and their card."""

    model: Model
    card: CardType


class Kind(NamedTuple, Generic[Model, CardType]):
    """What weights can be of: a table of models, and the card of their files."""

    name: str
    models: Mapping[str, type[Model]]
    card: type[CardType]


AMPLITUDES: Kind[AmplitudeModel, AmplitudeCard] = Kind("amplitudes", AMPLITUDE_MODELS, AmplitudeCard)
IMAGES: Kind[ImageClassifier, ImageCard] = Kind("images", IMAGE_MODELS, ImageCard)
POSTERIORS: Kind[ParameterFlow, PosteriorCard] = Kind("posteriors", POSTERIOR_MODELS, PosteriorCard)
IMAGE_POSTERIORS: Kind[ImageFlow, PosteriorCard] = Kind("image posteriors", IMAGE_POSTERIOR_MODELS, PosteriorCard)
KINDS = {kind.name: kind for kind in (AMPLITUDES, IMAGES, POSTERIORS, IMAGE_POSTERIORS)}


def save_weights(path: Path, model: nn.Module, card: Card) -> Path:
    """Write weights in half precision, whole or not at all, and their card with the checksum beside them; the path.

    Raises
    ------
    WeightsError
        A weight that half precision cannot hold.
    """
    tensors = {name: value.detach().cpu() for name, value in model.state_dict().items()}
    for name, value in tensors.items():
        if value.is_floating_point() and not (value.abs() < _LARGEST).all():
            raise WeightsError(f"{path}: {name} has values of {float(value.abs().max())}: half precision ends at 65504")
    content = safetensors.torch.save({name: _halved(value).contiguous() for name, value in tensors.items()})
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, content)
    signed = card.model_copy(update={"sha256": hashlib.sha256(content).hexdigest()})
    write_whole(path.with_suffix(".json"), signed.model_dump_json(indent=1) + "\n")
    return path


def load_weights(
    source: str | Path, kind: Kind[Model, CardType], *, device: torch.device | str = "cpu"
) -> Weights[Model, CardType]:
    """Read the weights of a model that `save_weights` wrote.

    Parameters
    ----------
    source
        Path of a file, or the name of shipped weights.
    kind
        What they must be of: `AMPLITUDES`, `IMAGES`, `POSTERIORS` or `IMAGE_POSTERIORS`.
    device
        Where the model goes.

    Raises
    ------
    WeightsError
        No such file; weights of another kind; a card that is missing or wrong; another checksum than the card's;
        tensors of other names or shapes than the model's.
    """
    path = _find(source, kind)
    card, content = _read_card(path.with_suffix(".json"), kind), path.read_bytes()
    if (found := hashlib.sha256(content).hexdigest()) != card.sha256:
        raise WeightsError(f"{path}: its SHA-256 is {found}, the card says {card.sha256}; get both files again")
    model, tensors = _build(path, card, kind), _tensors(path, content)
    own, given = ({name: list(value.shape) for name, value in each.items()} for each in (model.state_dict(), tensors))
    for name in sorted(own.keys() | given.keys()):
        if own.get(name) != given.get(name):
            raise WeightsError(
                f"{path}: {name} has shape {given.get(name, 'none')}, but {card.model!r} on the grid {card.shape} "
                f"with options {card.options} expects {own.get(name, 'none')}; the card belongs to other weights"
            )
    model.load_state_dict(tensors)
    return Weights(model.eval().to(device), card)


def load_flow(
    section: FlowLearning, kind: Kind[Model, PosteriorCard], experiment: str, *, device: torch.device | str = "cpu"
) -> Model:
    """Read the flow of the weights that a section of one kind of experiment names.

    Raises
    ------
    WeightsError
        As `load_weights`, and weights of another kind of experiment.
    ConfigError
        The section has patterns of another law than those that the flow was trained on.
    """
    source, where = str(section.inference.weights), f"posteriors.{experiment}"
    flow, card = load_weights(source, kind, device=device)
    if card.experiment != experiment:
        raise WeightsError(
            f"{where}.inference.weights = {source}: a flow of {card.experiment}; name weights of this kind, or "
            "null for the flow of this run"
        )
    own, trained = (data.model_dump(exclude=set(SimulatorConfig.model_fields)) for data in (section.data, card.data))
    for name, value in own.items():
        if value != trained[name]:
            raise ConfigError(
                f"{where}.data.{name} = {value}: the weights {source} were trained with {trained[name]}; set it so, or "
                f"{where}.inference.weights to null and a flow of {where}.models is trained"
            )
    return flow


def shipped_weights(kind: Kind, folder: Path = WEIGHTS) -> list[str]:
    """Names of the weights of a kind in a folder, by default of those that come with the project.

    Weights whose card does not tell are of every kind: who loads them is told what is wrong.
    """
    found = sorted(folder.glob(f"*{_SUFFIX}"))
    return [path.stem for path in found if _kind_of(path.with_suffix(".json")) in (kind.name, None)]


def _halved(value: torch.Tensor) -> torch.Tensor:
    return value.half() if value.is_floating_point() else value


def _find(source: str | Path, kind: Kind) -> Path:
    for path in (Path(source), WEIGHTS / f"{source}{_SUFFIX}"):
        if path.is_file():
            return path
    known = shipped_weights(kind)
    hint = nearest_name(str(source), known) if known else f"none of {kind.name} are; `rephase weights` makes some"
    raise WeightsError(f"no weights {str(source)!r}: neither a file nor shipped; {hint}{NEEDED}")


def _kind_of(path: Path) -> str | None:
    """What a card says that its weights are of; the first cards, of amplitudes all, said nothing."""
    try:
        card = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return card.get("kind", AMPLITUDES.name) if isinstance(card, dict) else None


def _read_card(path: Path, kind: Kind[Model, CardType]) -> CardType:
    if (found := _kind_of(path)) in KINDS and found != kind.name:
        raise WeightsError(
            f"{path.with_suffix(_SUFFIX)}: weights of a model of {found}, expected one of {kind.name}; "
            "its card says what it is for"
        )
    try:
        return kind.card.model_validate_json(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise WeightsError(
            f"{path}: no such card; expected it beside the weights, `rephase weights` writes both"
        ) from error
    except (ValidationError, UnicodeDecodeError) as error:
        raise WeightsError(
            f"{path}: no card of weights ({' '.join(str(error).split())}); get both files again"
        ) from error


def _build(path: Path, card: Card, kind: Kind[Model, CardType]) -> Model:
    config = ModelConfig(options=card.options)
    try:
        return build_model(kind.models, card.model, card.shape, config, loss=card.loss, **card.built_with)
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise WeightsError(f"{path.with_suffix('.json')}: no such model can be built ({error})") from error


def _tensors(path: Path, content: bytes) -> dict[str, torch.Tensor]:
    try:
        return safetensors.torch.load(content)
    except safetensors.SafetensorError as error:
        raise WeightsError(f"{path}: no safetensors file ({error}); get it again") from error
