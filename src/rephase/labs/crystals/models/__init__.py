"""Models that predict phases of perturbed crystals: one file per model, and the table `MODELS`."""

from rephase.labs.crystals.models.cnn3d import CNN3D
from rephase.labs.crystals.models.layers import PhaseModel
from rephase.labs.crystals.models.linear import Linear
from rephase.labs.crystals.models.mlp import MLP
from rephase.labs.crystals.models.unet3d import UNet3D

MODELS: dict[str, type[PhaseModel]] = {"linear": Linear, "mlp": MLP, "cnn3d": CNN3D, "unet3d": UNet3D}
