"""Cards of the weights of flows of images."""

from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Literal

from rephase.config.sections import Section
from rephase.config.waves import HologramSimulation, PtychogramSimulation, WavesConfig
from rephase.inference.cards import PosteriorCard
from rephase.inference.patterns import Simulator
from rephase.labs.waves.data.simulators import WAVE_SIMULATORS
from rephase.labs.waves.models import IMAGE_POSTERIOR_MODELS
from rephase.labs.waves.models.flows import ImageFlow
from rephase.learning.weights import Kind


class ImageFlowCard(PosteriorCard):
    """Card of the weights of a flow of images; ``experiment`` is a name in `WAVE_SIMULATORS`."""

    laboratory: ClassVar[str] = "waves"
    sections: ClassVar[type[Section]] = WavesConfig
    simulators: ClassVar[Mapping[str, Callable[[Any], Simulator]]] = WAVE_SIMULATORS

    kind: Literal["image posteriors"] = "image posteriors"
    data: HologramSimulation | PtychogramSimulation


IMAGE_POSTERIORS: Kind[ImageFlow, ImageFlowCard] = Kind("image posteriors", IMAGE_POSTERIOR_MODELS, ImageFlowCard)
