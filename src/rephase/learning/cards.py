"""Cards of weights: the model, its training data and its reliability. They are checked when they are read."""

import hashlib
import json
import os
import shlex
from abc import abstractmethod
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from pydantic import (
    BaseModel,
    ConfigDict,
    NonNegativeInt,
    ValidationError,
)

from rephase.config.sections import LearningConfig, Name, Section
from rephase.errors import WeightsError
from rephase.files.reading import decoded, file_bytes
from rephase.runs import Run, environment

_LARGEST = 1_000_000  # bytes; a card has some thousands


class CardPart(BaseModel):
    """A part of a card: unknown keys and numbers that are not finite are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Card(CardPart):
    """Description of a weights file.

    Parameters
    ----------
    kind
        Name of the `Kind` of weights.
    model, options, loss
        Model, its options and its loss, as in a configuration.
    data
        Training data.
    training, seed, figures, command, made_with
        Training options and seed, scores (split: metric: value), the command that trains it again, and versions.
    sha256
        Checksum of the weights file.
    card_sha256
        Checksum of the card without this key, keys sorted; the oldest cards have none.
    """

    kind: str
    model: Name
    options: dict[str, Any]
    loss: str
    data: Section
    training: dict[str, Any]
    seed: NonNegativeInt
    figures: dict[str, dict[str, float]]
    command: str
    made_with: dict[str, Any]
    sha256: str = ""
    card_sha256: str = ""

    @property
    def name(self) -> str:
        """Name of its files."""
        return self.model

    @property
    @abstractmethod
    def shape(self) -> tuple[int, ...]:
        """Shape of the data for which the model was built."""

    @property
    def built_with(self) -> dict[str, Any]:
        """Arguments besides the shape with which the model was built, as in `SplitData.built_with`."""
        return {}


CardType = TypeVar("CardType", bound=Card)


def read_card_values(path: Path) -> dict[str, Any]:
    """Read the contents of a card; the oldest cards, all for amplitudes, have no kind.

    Raises
    ------
    WeightsError
        There is no card, or it is not JSON, or it has numbers that are not finite.
    """
    if not os.path.isfile(path):
        raise WeightsError(f"{path}: no such card; expected it beside the weights; `rephase weights` writes both")
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
    """Compute the SHA-256 of the contents of a card, except this checksum."""
    values = {key: value for key, value in said.items() if key != "card_sha256"}
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def read_card(path: Path, said: dict[str, Any], card: type[CardType]) -> CardType:
    """Make a card from its contents.

    Raises
    ------
    WeightsError
        A value is missing, unknown or impossible.
    """
    try:
        return card.model_validate_json(json.dumps(said))
    except ValidationError as error:
        first, *others = error.errors(include_input=False, include_url=False, include_context=False)
        where = ".".join(map(str, first["loc"])) or "card"
        more = f", and {len(others)} more errors" if others else ""
        raise WeightsError(
            f"{path}: no card of weights ({where}: {first['msg']}{more}); get both files again"
        ) from error


def training_facts(run: Run, config: LearningConfig, name: str, figures: dict[str, dict[str, float]]) -> dict[str, Any]:
    """Return the entries that cards of every kind have."""
    training = config.training_of(name)
    return {
        "model": name,
        "options": config.models[name].options,
        "loss": training.loss,
        "training": training.model_dump(mode="json"),
        "seed": run.config.seed,
        "figures": figures,
        "made_with": environment(),
    }


def training_command(only: str, shown: dict[str, Any], *, command: str = "run") -> str:
    """Return the command that trains the model again, starting from any configuration: ``run`` or ``train``."""
    changes = [part for key, value in shown.items() for part in ("--set", f"{key}={json.dumps(value)}")]
    return shlex.join(["rephase", command, "--only", only, *changes])


def training_figures(run: Run, name: str, results: str) -> dict[str, dict[str, float]]:
    """Return the scores of a model by split and metric, as far as the run has them."""
    if not run.has_results(results):
        return {}
    table = run.results(results)
    own = table[(table["model"] == name) & ~table["split"].str.contains(":")]
    own = own[np.isfinite(own["value"])]
    return {split: dict(zip(part["metric"], part["value"].round(5))) for split, part in own.groupby("split")}
