"""The laboratory of waves as an entry of the table of laboratories."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

from rephase.config import Config
from rephase.files.inputs import with_neighbours
from rephase.labs.laboratory import Laboratory, saved
from rephase.labs.waves.cards import IMAGE_POSTERIORS
from rephase.labs.waves.figures import WAVE_FIGURES
from rephase.labs.waves.shipping import trained_weights
from rephase.labs.waves.steps import (
    all_route_scores,
    check_waves,
    coverage_summary,
    data_sets,
    route_scores,
    trainings,
)
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
    tables={
        "wave_scores": all_route_scores,
        **{f"{kind}_route_scores": partial(route_scores, kind=kind) for kind in ("ptychography", "holography")},
        **{f"{kind}_coverage": partial(coverage_summary, kind=kind) for kind in ("ptychography", "holography")},
        "reconstructed_scan": saved("measured_scan"),
    },
    figures=WAVE_FIGURES,
    weights=trained_weights,
    trainings=trainings,
)
