"""Models selected by name from a table: checked, and built from a configuration."""

import inspect
from collections.abc import Mapping
from functools import partial
from typing import Any, TypeVar

import pandas as pd
import torch
from torch import nn

from rephase.config.sections import LearningConfig, ModelConfig
from rephase.devices import seeded
from rephase.errors import ConfigError, ExtraError, blamed_on, nearest_name

Model = TypeVar("Model", bound=nn.Module)


def build_model(
    table: Mapping[str, type[Model]],
    name: str,
    shape: tuple[int, ...],
    config: ModelConfig | None = None,
    *,
    loss: str | None = None,
    seed: int = 0,
    **built_with: Any,
) -> Model:
    """Build a model of a table with weights that depend only on the seed; `loss` replaces the model's own loss.

    ``built_with`` has the arguments besides the shape that models of a kind need: `SplitData.built_with` of their
    dataset.

    Raises
    ------
    ConfigError
        The model is unknown or does not have an option; the message names the nearest known one.
    """
    options: dict[str, Any] = (config or ModelConfig()).options
    check_names(table, name, options)
    given = built_with if loss is None else built_with | {"loss": loss}
    with seeded(seed):
        return table[name](shape, **given, **options)


def check_model(
    table: Mapping[str, type[nn.Module]],
    name: str,
    config: ModelConfig,
    shape: tuple[int, ...] = (5, 5, 5),
    **built_with: Any,
) -> None:
    """Raise unless the model can be built: check its name and its options, and build it for a small shape."""
    try:
        build_model(table, name, shape, config, **built_with)
    except (TypeError, ValueError, RuntimeError, IndexError, ZeroDivisionError) as error:
        if isinstance(error, (ConfigError, ExtraError)):
            raise
        given = ", ".join(f"{key} = {value!r}" for key, value in config.options.items())
        raise ConfigError(f"models.{name}.options: {given} cannot be built ({error}); check type and range") from error


def check_models(
    table: Mapping[str, type[nn.Module]], config: LearningConfig, where: str, shape: tuple[int, ...] = (5, 5, 5)
) -> None:
    """Raise unless every model of the section at `where` can be built, and its training options are valid."""
    with blamed_on(where):
        for name, model in config.models.items():
            check_model(table, name, model, shape)
            config.training_of(name)


def check_names(table: Mapping[str, type[nn.Module]], name: str, options: dict[str, Any]) -> None:
    """Raise if the model or an option is unknown, and name the nearest known one."""
    if name not in table:
        raise ConfigError(f"unknown model {name!r}; {nearest_name(name, table)}")
    known = [p.name for p in inspect.signature(table[name]).parameters.values() if p.kind is p.KEYWORD_ONLY]
    for option in options:
        if option not in known:
            raise ConfigError(f"models.{name}.options: unknown option {option!r}; {nearest_name(option, known)}")


@torch.no_grad()
def layer_table(model: nn.Module, batch: tuple[torch.Tensor, ...]) -> pd.DataFrame:
    """List the layers that a batch passes through, in this order, and the whole model in the last row.

    Returns
    -------
    pandas.DataFrame
        ``layer`` (its name in the model), ``type``, ``input`` and ``output`` (shapes without the batch axis, of the
        first tensor where there are several), ``parameters`` (how many it learns).
    """
    rows: list[dict[str, str | int]] = []

    def note(name: str, layer: nn.Module, given: Any, returned: Any) -> None:
        row = {"layer": name, "type": type(layer).__name__, "input": _shape(given), "output": _shape(returned)}
        rows.append({**row, "parameters": sum(parameter.numel() for parameter in layer.parameters())})

    shown = {name: layer for name, layer in model.named_modules() if not list(layer.children())}
    shown["whole model"] = model
    hooks = [layer.register_forward_hook(partial(note, name)) for name, layer in shown.items()]
    try:
        model(batch)
    finally:
        for hook in hooks:
            hook.remove()
    return pd.DataFrame(rows)


def _shape(values: Any) -> str:
    """Shape of a tensor, or of the first of several, without its first axis."""
    return " × ".join(map(str, values.shape[1:])) if isinstance(values, torch.Tensor) else _shape(values[0])
