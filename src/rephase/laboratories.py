"""The laboratories by name: those of rephase, and those that other programs register."""

from collections.abc import Callable, Iterable
from importlib.metadata import entry_points

import pandas as pd
from matplotlib.figure import Figure

from rephase.config import Config
from rephase.labs.completion.laboratory import LABORATORY as completion
from rephase.labs.crystals.laboratory import LABORATORY as crystals
from rephase.labs.images.laboratory import LABORATORY as images
from rephase.labs.laboratory import Laboratory
from rephase.labs.paper.laboratory import LABORATORY as paper
from rephase.labs.phasing.laboratory import LABORATORY as phasing
from rephase.labs.scattering.laboratory import LABORATORY as scattering
from rephase.labs.solving.laboratory import LABORATORY as solving
from rephase.labs.waves.laboratory import LABORATORY as waves
from rephase.runs import Run

LABORATORIES: dict[str, Laboratory] = {
    "crystals": crystals,
    "solving": solving,
    "completion": completion,
    "phasing": phasing,
    "images": images,
    "scattering": scattering,
    "waves": waves,
    "paper": paper,
}
MAIN_JOB = ("01", "02", "03", "04", "05", "06", "08")  # numbers of the notebooks that run by default


def load_installed() -> None:
    """Import what is installed with an entry point in the group ``rephase.laboratories``, so that it can register."""
    for installed in entry_points(group="rephase.laboratories"):
        installed.load()


def check_work(config: Config, names: Iterable[str] | None = None) -> None:
    """Let the named laboratories, or all, check a configuration and raise their errors before anything runs."""
    for name in LABORATORIES if names is None else names:
        LABORATORIES[name].check(config)


def all_figures() -> dict[str, Callable[[Run], Figure]]:
    """Return the figures of every laboratory by name."""
    return {name: draw for laboratory in LABORATORIES.values() for name, draw in laboratory.figures.items()}


def all_tables() -> dict[str, Callable[[Run], pd.DataFrame]]:
    """Return the tables of every laboratory by name."""
    return {name: make for laboratory in LABORATORIES.values() for name, make in laboratory.tables.items()}
