"""Models of phases: one file per family, one table."""

import inspect

import torch

from rephase.config import ModelConfig
from rephase.errors import ConfigError, nearest_name
from rephase.models.cnn3d import CNN3D
from rephase.models.layers import PhaseModel
from rephase.models.linear import Linear
from rephase.models.mlp import MLP
from rephase.models.unet3d import UNet3D

MODELS: dict[str, type[PhaseModel]] = {"linear": Linear, "mlp": MLP, "cnn3d": CNN3D, "unet3d": UNet3D}


def build_model(
    name: str, shape: tuple[int, ...], config: ModelConfig | None = None, *, loss: str = "aligned", seed: int = 0
) -> PhaseModel:
    """Make a model of the table with weights that depend on the seed alone.

    Raises
    ------
    ConfigError
        An unknown model or an option that it does not have (the nearest known one is named).
    """
    options = check_model(name, config or ModelConfig())
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return MODELS[name](shape, loss, **options)


def check_model(name: str, config: ModelConfig) -> dict:
    """Return the options of a model after checking its name and theirs."""
    if name not in MODELS:
        raise ConfigError(f"unknown model {name!r}; {nearest_name(name, MODELS)}")
    known = [p.name for p in inspect.signature(MODELS[name]).parameters.values() if p.kind is p.KEYWORD_ONLY]
    for option in config.options:
        if option not in known:
            raise ConfigError(f"models.{name}.options: unknown option {option!r}; {nearest_name(option, known)}")
    return config.options
