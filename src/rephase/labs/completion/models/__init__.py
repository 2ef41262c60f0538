"""Models of amplitudes or phases on monoclinic grids: one file per family, one table per task."""

from rephase.labs.completion.models.amplitudes import AmplitudeModel
from rephase.labs.completion.models.gan import AmplitudeGAN
from rephase.labs.completion.models.linear import AmplitudeLinear
from rephase.labs.completion.models.phases import (
    FourierUNetPhases,
    LinearPhases,
    MonoclinicPhases,
    TransformerPhases,
    UNetPhases,
)
from rephase.labs.completion.models.transformer import ReflectionTransformer
from rephase.labs.completion.models.unets import AmplitudeUNet, FourierUNet

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
