"""The laboratories by name. A new one is a line here, or one in a program of one's own."""

from collections.abc import Callable, Iterable

from matplotlib.figure import Figure

from rephase.config import Config
from rephase.labs.completion.laboratory import LABORATORY as completion
from rephase.labs.crystals.laboratory import LABORATORY as crystals
from rephase.labs.images.laboratory import LABORATORY as images
from rephase.labs.laboratory import Laboratory
from rephase.labs.scattering.laboratory import LABORATORY as scattering
from rephase.labs.solving.laboratory import LABORATORY as solving
from rephase.labs.waves.laboratory import LABORATORY as waves
from rephase.runs import Run

LABORATORIES: dict[str, Laboratory] = {
    "crystals": crystals,
    "solving": solving,
    "completion": completion,
    "images": images,
    "scattering": scattering,
    "waves": waves,
}
MAIN_JOB = ("01", "02", "03", "04", "05", "06", "08")  # numbers of the notebooks that run where none are named


def check_work(config: Config, names: Iterable[str] | None = None) -> None:
    """Raise before anything runs whatever the laboratories of these names, or all, find wrong in a configuration."""
    for name in LABORATORIES if names is None else names:
        LABORATORIES[name].check(config)


def all_figures() -> dict[str, Callable[[Run], Figure]]:
    """The figures of every laboratory, by name."""
    return {name: draw for laboratory in LABORATORIES.values() for name, draw in laboratory.figures.items()}
