"""Simulators of wave patterns by kind."""

from collections.abc import Callable
from typing import Any

from rephase.labs.waves.data.holograms import HologramSimulator
from rephase.labs.waves.data.patterns import WaveSimulator
from rephase.labs.waves.data.ptychograms import PtychogramSimulator

WAVE_SIMULATORS: dict[str, Callable[[Any], WaveSimulator]] = {
    "holography": HologramSimulator,
    "ptychography": PtychogramSimulator,
}
