"""Simulators of patterns by kind, the section of ``scattering`` that configures them."""

from collections.abc import Callable
from typing import Any

from rephase.inference.patterns import BoundedSimulator
from rephase.labs.scattering.data.gisaxs import GisaxsSimulator
from rephase.labs.scattering.data.oriented import OrientedSimulator
from rephase.labs.scattering.data.saxs import SaxsSimulator

SIMULATORS: dict[str, Callable[[Any], BoundedSimulator]] = {
    "saxs": SaxsSimulator,
    "oriented": OrientedSimulator,
    "gisaxs": GisaxsSimulator,
}


"""Simulators whose unknowns are parameters; each takes its configuration."""
