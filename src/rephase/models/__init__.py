"""Models of phases and of amplitudes: one file per family, one table of each kind."""

import inspect

import torch

from rephase.config import ModelConfig
from rephase.errors import ConfigError, nearest_name
from rephase.models.amplitude_unets import AmplitudeUNet, FourierUNet
from rephase.models.amplitudes import AmplitudeModel
from rephase.models.cnn3d import CNN3D
from rephase.models.layers import PhaseModel
from rephase.models.linear import Linear
from rephase.models.mlp import MLP
from rephase.models.unet3d import UNet3D

MODELS: dict[str, type[PhaseModel]] = {"linear": Linear, "mlp": MLP, "cnn3d": CNN3D, "unet3d": UNet3D}
AMPLITUDE_MODELS: dict[str, type[AmplitudeModel]] = {"unet": AmplitudeUNet, "fourier_unet": FourierUNet}


def build_model(
    name: str, shape: tuple[int, ...], config: ModelConfig | None = None, *, loss: str = "aligned", seed: int = 0
) -> PhaseModel:
    """Make a model of the table with weights that depend on the seed alone.

    Raises
    ------
    ConfigError
        An unknown model or an option that it does not have (the nearest known one is named).
    """
    check_names(name, config or ModelConfig())
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return MODELS[name](shape, loss, **(config or ModelConfig()).options)


def check_model(name: str, config: ModelConfig) -> None:
    """Raise unless the model can be built: by its name, its options and their values, tried on a small grid."""
    try:
        build_model(name, (5, 5, 5), config)
    except (TypeError, ValueError, RuntimeError, IndexError, ZeroDivisionError) as error:
        if isinstance(error, ConfigError):
            raise
        given = ", ".join(f"{key} = {value!r}" for key, value in config.options.items())
        raise ConfigError(f"models.{name}.options: {given} cannot be built ({error}); check type and range") from error


def check_names(name: str, config: ModelConfig) -> None:
    """Raise on an unknown model or option, naming the nearest known one."""
    if name not in MODELS:
        raise ConfigError(f"unknown model {name!r}; {nearest_name(name, MODELS)}")
    known = [p.name for p in inspect.signature(MODELS[name]).parameters.values() if p.kind is p.KEYWORD_ONLY]
    for option in config.options:
        if option not in known:
            raise ConfigError(f"models.{name}.options: unknown option {option!r}; {nearest_name(option, known)}")
