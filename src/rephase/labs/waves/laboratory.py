"""The laboratory of waves as an entry of the table of laboratories."""

from collections.abc import Iterator
from pathlib import Path

from rephase.config import Config
from rephase.files.inputs import with_neighbours
from rephase.labs.laboratory import Laboratory
from rephase.labs.waves.cards import IMAGE_POSTERIORS
from rephase.labs.waves.figures import WAVE_FIGURES
from rephase.labs.waves.shipping import trained_weights
from rephase.labs.waves.steps import check_waves, data_sets, trainings
from rephase.learning.weights import shipped_files


def files(config: Config) -> Iterator[Path]:
    """Yield the files of weights."""
    waves = config.waves
    yield from with_neighbours(waves.holography.inference.weights, waves.ptychography.inference.weights)
    yield from shipped_files(IMAGE_POSTERIORS)


def large_files(config: Config) -> Iterator[Path]:
    """Yield the file of the measured scan."""
    return with_neighbours(config.waves.ptychography.measured.path)


LABORATORY = Laboratory(
    package="rephase.labs.waves",
    notebooks=("33", "34"),
    check=check_waves,
    files=files,
    large_files=large_files,
    data_sets=data_sets,
    figures=WAVE_FIGURES,
    weights=trained_weights,
    trainings=trainings,
)
