"""Simulators of patterns by their kind, the section of ``posteriors`` that they are configured in."""

from collections.abc import Callable
from typing import Any

from rephase.datasets.gisaxs_patterns import GisaxsSimulator
from rephase.datasets.holograms import HologramSimulator
from rephase.datasets.oriented_patterns import OrientedSimulator
from rephase.datasets.patterns import BoundedSimulator
from rephase.datasets.ptychograms import PtychogramSimulator
from rephase.datasets.saxs_patterns import SaxsSimulator
from rephase.datasets.wave_patterns import WaveSimulator

SIMULATORS: dict[str, Callable[[Any], BoundedSimulator]] = {
    "saxs": SaxsSimulator,
    "oriented": OrientedSimulator,
    "gisaxs": GisaxsSimulator,
}
"""Those whose unknowns are parameters; each takes its configuration."""
WAVE_SIMULATORS: dict[str, Callable[[Any], WaveSimulator]] = {
    "holography": HologramSimulator,
    "ptychography": PtychogramSimulator,
}
"""Those whose unknowns are images; each takes its configuration."""
