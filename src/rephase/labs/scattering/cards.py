"""Cards of the weights of flows of parameters."""

from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Literal

from rephase.config.scattering import GisaxsSimulation, OrientedSimulation, SaxsSimulation, ScatteringConfig
from rephase.config.sections import Section
from rephase.inference.cards import PosteriorCard
from rephase.inference.patterns import Simulator
from rephase.labs.scattering.data.simulators import SIMULATORS
from rephase.labs.scattering.models import POSTERIOR_MODELS
from rephase.labs.scattering.models.flows import ParameterFlow
from rephase.learning.weights import Kind


class ParameterCard(PosteriorCard):
    """Card of the weights of a flow of parameters; ``experiment`` is a name in `SIMULATORS`."""

    laboratory: ClassVar[str] = "scattering"
    sections: ClassVar[type[Section]] = ScatteringConfig
    simulators: ClassVar[Mapping[str, Callable[[Any], Simulator]]] = SIMULATORS

    kind: Literal["posteriors"] = "posteriors"
    data: SaxsSimulation | OrientedSimulation | GisaxsSimulation


POSTERIORS: Kind[ParameterFlow, ParameterCard] = Kind("posteriors", POSTERIOR_MODELS, ParameterCard)
