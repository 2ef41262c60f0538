"""Models of phases, amplitudes, images and posteriors: one file per family, one table of each kind."""

import inspect
from collections.abc import Mapping
from typing import Any, TypeVar

import torch
from torch import nn

from rephase.config_sections import ModelConfig
from rephase.errors import ConfigError, nearest_name
from rephase.models.amplitude_gan import AmplitudeGAN
from rephase.models.amplitude_linear import AmplitudeLinear
from rephase.models.amplitude_unets import AmplitudeUNet, FourierUNet
from rephase.models.amplitudes import AmplitudeModel
from rephase.models.cnn3d import CNN3D
from rephase.models.flows import ParameterFlow
from rephase.models.image_flows import ImageFlow
from rephase.models.image_networks import VGG16, VGG19, ImageClassifier, ResNet18, ResNet34, ResNet50
from rephase.models.layers import PhaseModel
from rephase.models.linear import Linear
from rephase.models.mlp import MLP
from rephase.models.monoclinic_phases import (
    FourierUNetPhases,
    LinearPhases,
    MonoclinicPhases,
    TransformerPhases,
    UNetPhases,
)
from rephase.models.reflection_transformer import ReflectionTransformer
from rephase.models.unet3d import UNet3D

MODELS: dict[str, type[PhaseModel]] = {"linear": Linear, "mlp": MLP, "cnn3d": CNN3D, "unet3d": UNet3D}
AMPLITUDE_MODELS: dict[str, type[AmplitudeModel]] = {
    "linear": AmplitudeLinear,
    "unet": AmplitudeUNet,
    "fourier_unet": FourierUNet,
    "transformer": ReflectionTransformer,
    "gan": AmplitudeGAN,
}
MONOCLINIC_PHASE_MODELS: dict[str, type[MonoclinicPhases]] = {
    "linear": LinearPhases,
    "unet": UNetPhases,
    "fourier_unet": FourierUNetPhases,
    "transformer": TransformerPhases,
}
IMAGE_MODELS: dict[str, type[ImageClassifier]] = {
    "resnet18": ResNet18,
    "resnet34": ResNet34,
    "resnet50": ResNet50,
    "vgg16": VGG16,
    "vgg19": VGG19,
}
POSTERIOR_MODELS: dict[str, type[ParameterFlow]] = {"nsf": ParameterFlow}
IMAGE_POSTERIOR_MODELS: dict[str, type[ImageFlow]] = {"image_flow": ImageFlow}

Model = TypeVar("Model", bound=nn.Module)


def build_model(
    table: Mapping[str, type[Model]], name: str, shape: tuple[int, ...], config: ModelConfig | None = None, *,
    loss: str | None = None, seed: int = 0, **built_with: Any,
) -> Model:  # fmt: skip
    """Make a model of a table with weights that depend on the seed alone; `loss` where it is not the model's own.

    ``built_with`` is what models of a kind need to know besides the shape: `SplitData.built_with` of their data set.

    Raises
    ------
    ConfigError
        An unknown model or an option that it does not have (the nearest known one is named).
    """
    options: dict[str, Any] = (config or ModelConfig()).options
    check_names(table, name, options)
    given = built_with if loss is None else built_with | {"loss": loss}
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return table[name](shape, **given, **options)


def check_model(
    table: Mapping[str, type[nn.Module]], name: str, config: ModelConfig, shape: tuple[int, ...] = (5, 5, 5),
    **built_with: Any,
) -> None:  # fmt: skip
    """Raise unless the model can be built: by its name, its options and their values, tried on a small shape."""
    try:
        build_model(table, name, shape, config, **built_with)
    except (TypeError, ValueError, RuntimeError, IndexError, ZeroDivisionError) as error:
        if isinstance(error, ConfigError):
            raise
        given = ", ".join(f"{key} = {value!r}" for key, value in config.options.items())
        raise ConfigError(f"models.{name}.options: {given} cannot be built ({error}); check type and range") from error


def check_names(table: Mapping[str, type[nn.Module]], name: str, options: dict[str, Any]) -> None:
    """Raise on an unknown model or option, naming the nearest known one."""
    if name not in table:
        raise ConfigError(f"unknown model {name!r}; {nearest_name(name, table)}")
    known = [p.name for p in inspect.signature(table[name]).parameters.values() if p.kind is p.KEYWORD_ONLY]
    for option in options:
        if option not in known:
            raise ConfigError(f"models.{name}.options: unknown option {option!r}; {nearest_name(option, known)}")
