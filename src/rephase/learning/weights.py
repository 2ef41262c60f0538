"""Weights files of models: safetensors, with a card that describes the model and its reliability."""

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Generic, NamedTuple

import safetensors
import safetensors.torch
import torch
from torch import nn

from rephase.config.sections import ModelConfig
from rephase.errors import ExtraError, WeightsError, nearest_name
from rephase.files.writing import disk_errors, write_whole
from rephase.learning.cards import Card, CardType, card_checksum, read_card, read_card_values
from rephase.learning.models import Model, build_model
from rephase.paths import WEIGHTS, weights_file

_SUFFIX = ".safetensors"


_LARGEST = torch.finfo(torch.float16).max


class Weights(NamedTuple, Generic[Model, CardType]):
    """A model with its weights, and their card."""

    model: Model
    card: CardType


class Kind(NamedTuple, Generic[Model, CardType]):
    """A kind of weights: a table of models, and the card of their files."""

    name: str
    models: Mapping[str, type[Model]]
    card: type[CardType]


def save_weights(path: Path, model: nn.Module, card: Card) -> Path:
    """Write weights in half precision, entirely or not at all, and their card with both checksums; return the path.

    A process that is killed between the two files leaves a card that does not match the weights: both are then refused
    until they are written again.

    Raises
    ------
    WeightsError
        Half precision cannot represent a weight.
    DiskError
        The disk refuses the files.
    """
    tensors = {name: value.detach().cpu() for name, value in model.state_dict().items()}
    for name, value in tensors.items():
        if value.is_floating_point() and not (value.abs() < _LARGEST).all():
            raise WeightsError(f"{path}: {name} has values of {float(value.abs().max())}: half precision ends at 65504")
    content = safetensors.torch.save({name: _halved(value).contiguous() for name, value in tensors.items()})
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    said = card.model_dump(mode="json") | {"sha256": hashlib.sha256(content).hexdigest()}
    signed = json.dumps(said | {"card_sha256": card_checksum(said)}, indent=1, ensure_ascii=False)
    write_whole(path.with_suffix(".json"), signed + "\n")
    write_whole(path, content)
    return path


def has_card(path: Path) -> bool:
    """Return whether `save_weights` wrote the card beside weights."""
    try:
        return {"model", "sha256"} <= read_card_values(path.with_suffix(".json")).keys()
    except WeightsError:
        return False


def load_weights(
    source: str | Path, kind: Kind[Model, CardType], *, device: torch.device | str = "cpu"
) -> Weights[Model, CardType]:
    """Load a model from weights that `save_weights` wrote.

    Parameters
    ----------
    source
        Path of a file, or the name of shipped weights.
    kind
        Required kind of weights.
    device
        Device of the model.

    Raises
    ------
    WeightsError
        There is no such file; the weights are of another kind; the card is missing, wrong or damaged; the checksum
        differs from the card's; tensors have other names or shapes than the model's, or values that are not finite.
    """
    path = _find(source, kind)
    said = read_card_values(path.with_suffix(".json"))
    card, content = _card(path.with_suffix(".json"), said, kind), _bytes(path)
    if (found := hashlib.sha256(content).hexdigest()) != card.sha256:
        raise WeightsError(
            f"{path}: its SHA-256 is {found}, but that in the card is {card.sha256}; get both files again, or write "
            "them again with `rephase weights`"
        )
    model, tensors = _build(path, card, kind), _tensors(path, content)
    own, given = ({name: list(value.shape) for name, value in each.items()} for each in (model.state_dict(), tensors))
    for name in sorted(own.keys() | given.keys()):
        if own.get(name) != given.get(name):
            raise WeightsError(
                f"{path}: {name} has shape {given.get(name, 'none')}, but {card.model!r} on the grid {card.shape} "
                f"with options {card.options} expects {own.get(name, 'none')}; the card belongs to other weights"
            )
    for name, value in tensors.items():
        if not torch.isfinite(value).all():
            raise WeightsError(f"{path}: {name} has values that are not finite; get both files again")
    if card.card_sha256 not in ("", found := card_checksum(said)):
        raise WeightsError(
            f"{path.with_suffix('.json')}: its values have the SHA-256 {found}, expected {card.card_sha256}: damaged "
            "or changed by hand; get it again"
        )
    model.load_state_dict(tensors)
    return Weights(model.eval().to(device), card)


def shipped_weights(kind: Kind[Model, CardType], folder: Path = WEIGHTS) -> list[str]:
    """List the names of the weights of a kind in a folder, by default those shipped with the project.

    Weights whose card has no readable kind are listed for every kind; loading them then explains what is wrong.
    """
    found = sorted(folder.glob(f"*{_SUFFIX}"))
    return [path.stem for path in found if _kind_of(path.with_suffix(".json")) in (kind.name, None)]


def shipped_files(kind: Kind[Model, CardType]) -> Iterator[Path]:
    """List the files of the shipped weights of a kind, and their cards."""
    for name in shipped_weights(kind):
        yield from (WEIGHTS / f"{name}{suffix}" for suffix in (_SUFFIX, ".json"))


def _halved(value: torch.Tensor) -> torch.Tensor:
    return value.half() if value.is_floating_point() else value


def _find(source: str | Path, kind: Kind[Model, CardType]) -> Path:
    if os.path.isfile(path := weights_file(source)):
        return path
    known = shipped_weights(kind)
    hint = nearest_name(str(source), known) if known else f"none of {kind.name} are; `rephase weights` makes some"
    raise WeightsError(f"no weights {str(source)!r}: neither a file nor shipped; {hint}")


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise WeightsError(f"{path}: cannot be read ({error.strerror}); check the path and its permissions") from error


def _kind_of(path: Path) -> str | None:
    """Return the kind of weights stated in a card, if any."""
    try:
        kind = read_card_values(path)["kind"]
    except WeightsError:
        return None
    return kind if isinstance(kind, str) else None


def _card(path: Path, said: dict[str, Any], kind: Kind[Model, CardType]) -> CardType:
    if said["kind"] != kind.name:
        raise WeightsError(
            f"{path.with_suffix(_SUFFIX)}: weights of a model of {said['kind']}, expected one of {kind.name}; "
            "its card says what it is for"
        )
    return read_card(path, said, kind.card)


def _build(path: Path, card: Card, kind: Kind[Model, CardType]) -> Model:
    config = ModelConfig(options=card.options)
    try:
        return build_model(kind.models, card.model, card.shape, config, loss=card.loss, **card.built_with)
    except ExtraError:
        raise
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise WeightsError(f"{path.with_suffix('.json')}: no such model can be built ({error})") from error


def _tensors(path: Path, content: bytes) -> dict[str, torch.Tensor]:
    try:
        return safetensors.torch.load(content)
    except safetensors.SafetensorError as error:
        raise WeightsError(f"{path}: not a safetensors file ({error}); get it again") from error
