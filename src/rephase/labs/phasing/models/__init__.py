"""Networks that find phases, by name."""

from torch import nn

from rephase.labs.phasing.models.recurrent import RecurrentNetwork

PHASING_MODELS: dict[str, type[nn.Module]] = {"recurrent": RecurrentNetwork}
