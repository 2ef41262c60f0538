"""Building blocks of every configuration: sections in which an unknown key is an error, splits, training options."""

import hashlib
import json
import os
import re
from collections.abc import Iterable
from types import NoneType
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from rephase.errors import ConfigError, nearest_name

_LONGEST_NAME = 100  # bytes; file systems allow 255, and file names add words to it


class Section(BaseModel):
    """A part of a configuration: plain, immutable values."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


SectionType = TypeVar("SectionType", bound=Section)


def checked_name(name: str) -> str:
    """Return a name that may become part of a path: letters, digits, blanks inside, ``_`` and ``-``.

    Raises
    ------
    ValueError
        It is empty, too long or has other characters.
    """
    if not re.fullmatch(r"\w([\w -]*[\w-])?", name) or len(name.encode(errors="replace")) > _LONGEST_NAME:
        raise ValueError(
            f"name {name!r}: expected letters, digits, blanks inside, _ and -, at most {_LONGEST_NAME} in all, since "
            "files are named after it"
        )
    return name


def absolute_path(path: str | None) -> str | None:
    """Return the absolute path, because notebooks run in a folder of their own."""
    return None if path is None else os.path.realpath(os.path.expanduser(path))


def _absolute_file(name: str) -> str:
    path = os.path.expanduser(name)
    return os.path.realpath(path) if os.path.isfile(path) else checked_name(name)


Name = Annotated[str, AfterValidator(checked_name)]


"""A user's name for a model or an experiment; files are named after it."""


NameOrFile = Annotated[str, AfterValidator(_absolute_file)]


"""A name, or the path of a file, which is made absolute."""


Seed = Annotated[int, Field(ge=0, lt=2**63, description="seed of the random numbers")]


"""A seed of random numbers, within the range of the generators and with room for the offsets that rephase adds."""


def added_field(default: Any, **options: Any) -> Any:
    """Return the `Field` of a value that its section did not have at first.

    At its default it is not shown, so that what was made before it existed keeps its fingerprint.
    """
    return Field(default, exclude_if=lambda value: value == default, **options)


class SplitConfig(Section):
    """Fractions of the samples for training and validation; the rest is the test set."""

    train: float = Field(0.8, gt=0, lt=1, description="share of the training set")
    validation: float = Field(0.1, gt=0, lt=1, description="share of the validation set, which chooses the best epoch")

    def shares(self) -> dict[str, float]:
        """Fraction of the samples in each split."""
        return {"train": self.train, "validation": self.validation, "test": 1 - self.train - self.validation}

    def check(self, n: int, counted: str) -> None:
        """Raise `ValueError` if a split of `n` samples would be empty; the message calls `n` by `counted`."""
        for name, share in self.shares().items():
            if round(share * n) < 1:
                raise ValueError(
                    f"the {name} split would be empty: {share:.3f} of {counted} = {n}; "
                    "train + validation must be below 1, and each split must have at least one sample"
                )


class TrainingConfig(Section):
    """Training options; a model's own section may override any of them."""

    loss: str = Field(description="loss that is minimised")
    epochs: int = Field(20, ge=1, description="passes through the training samples, at most")
    batch_size: int = Field(64, ge=1, description="samples in one optimiser step")
    optimiser: Literal["adamw", "sgd"] = Field("adamw", description="sgd uses Nesterov momentum")
    learning_rate: float = Field(1e-3, gt=0, description="step size of the optimiser")
    weight_decay: float = Field(
        1e-4, ge=0, description="decay of the weights in each step, relative to the learning rate"
    )
    gradient_norm: float | None = Field(
        None, gt=0, description="largest norm of the gradient; larger ones are scaled down to it; null: no limit"
    )
    patience: int = Field(10, ge=1, description="epochs without a better validation loss before stopping")
    precision: Literal["32-true", "64-true", "bf16-mixed", "auto"] = Field(
        "32-true",
        description="arithmetic of the training, as lightning names it; auto: bf16-mixed where the processor has it",
    )
    n_streamed: int = Field(0, ge=0, description="samples generated on the fly for training; 0: the stored samples")


class ModelConfig(Section):
    """One model: the options of its constructor, and the training options that differ from the common ones."""

    options: dict[str, Any] = Field({}, description="keyword arguments of the model's constructor")
    training: dict[str, Any] = Field({}, description="values that replace those of the common training for this model")


class LearningConfig(Section):
    """Models by their names in the table of models, and their training options."""

    models: dict[Name, ModelConfig] = {}
    training: TrainingConfig

    def training_of(self, model: str) -> TrainingConfig:
        """Return the training options of one model: the common section, overridden by the model's own."""
        own = self.models[model].training
        return validate(type(self.training), self.training.model_dump() | own, f"models.{model}.training")


def validate(model: type[SectionType], values: dict[str, Any], origin: str) -> SectionType:
    """Build a section from plain values; a `ConfigError` names each wrong value and its place."""
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise ConfigError(f"{origin}: " + "; ".join(_explain(model, item) for item in error.errors())) from error


def _explain(model: type[Section], item: Any) -> str:
    where = ".".join(map(str, item["loc"]))
    if item["type"] == "extra_forbidden":
        return f"unknown key {where!r}; {nearest_name(str(item['loc'][-1]), _keys_at(model, item['loc'][:-1]))}"
    if item["type"] == "missing":
        return f"{where}: missing; give a value"
    return f"{where} = {item.get('input')!r}: {item['msg'][0].lower()}{item['msg'][1:]}"


def is_text(model: type[Section], key: str) -> bool:
    """Whether the value of a key, given by its path, is a text: a path, a name, a formula."""
    return _without_none(_annotation_at(model, key.split("."))) is str


def may_be_null(model: type[Section], key: str) -> bool:
    """Whether the value of a key, given by its path, may be null."""
    return NoneType in get_args(_annotation_at(model, key.split(".")))


def _keys_at(model: Any, loc: tuple[int | str, ...]) -> list[str]:
    """Known keys of the section at a location in the configuration."""
    found = _without_none(_annotation_at(model, loc))
    return list(found.model_fields) if _is_section(found) else []


def _annotation_at(model: Any, loc: Iterable[int | str]) -> Any:
    """Type of the value at a location in the configuration; `Any` where none is declared."""
    for part in loc:
        model = _without_none(model)
        if _is_section(model):
            model = model.model_fields[str(part)].annotation if str(part) in model.model_fields else Any
        elif get_origin(model) in (dict, Union, tuple):
            model = next((kind for kind in reversed(get_args(model)) if kind is not Ellipsis), Any)
        else:
            model = Any
    return model


def _is_section(model: Any) -> bool:
    return isinstance(model, type) and issubclass(model, Section)


def _without_none(annotation: Any) -> Any:
    """Return the type inside an optional annotation, without its constraints; any other annotation unchanged."""
    kinds = [kind for kind in get_args(annotation) if kind is not NoneType]
    kind = kinds[0] if len(kinds) == 1 and NoneType in get_args(annotation) else annotation
    return get_args(kind)[0] if get_origin(kind) is Annotated else kind


def fingerprint(values: Any) -> str:
    """Eight hex digits of the canonical JSON of plain values."""
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:8]
