"""The laboratory of completion as an entry of the table of laboratories."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

from rephase.config import Config
from rephase.files.inputs import with_neighbours
from rephase.files.reading import cif_files
from rephase.labs.completion import figures
from rephase.labs.completion.cards import AMPLITUDES
from rephase.labs.completion.comparison import check_comparison
from rephase.labs.completion.models import AMPLITUDE_MODELS, MONOCLINIC_PHASE_MODELS
from rephase.labs.completion.shipping import trained_weights
from rephase.labs.completion.steps import (
    check_crystals,
    crystal_ranges,
    data_sets,
    phase_summary,
    summary,
    trainings,
)
from rephase.labs.laboratory import Laboratory, saved
from rephase.learning.models import check_models
from rephase.learning.weights import shipped_files


def check(config: Config) -> None:
    """Raise an error if a crystal, a file, a route, a model or its training is invalid."""
    check_models(AMPLITUDE_MODELS, config.completion, "completion")
    check_models(MONOCLINIC_PHASE_MODELS, config.completion.phases, "completion.phases")
    check_crystals(config)
    check_comparison(config)


def files(config: Config) -> Iterator[Path]:
    """Input files: the CIFs, the reflections to complete, and weights."""
    comparison = config.completion.comparison
    if config.completion.data.folder is not None:
        yield from cif_files(config.completion.data.folder)
    yield from with_neighbours(comparison.file, *(comparison.models or ()))
    yield from shipped_files(AMPLITUDES)


LABORATORY = Laboratory(
    package="rephase.labs.completion",
    notebooks=("11", "12", "13", "14"),
    check=check,
    files=files,
    data_sets=data_sets,
    tables={
        "amplitude_scores": summary,
        "amplitude_scores_by_group": partial(summary, per_group=True),
        "monoclinic_phase_scores": phase_summary,
        "monoclinic_ranges": crystal_ranges,
        "completed_example": saved("inference"),
    },
    figures={
        "monoclinic_crystals": figures.monoclinic_crystals,
        "completion_loss_curves": figures.completion_loss_curves,
        "completion_by_resolution": figures.completion_by_resolution,
        "completion_layers": figures.completion_layers,
        "monoclinic_phases_by_resolution": figures.monoclinic_phases_by_resolution,
        "comparison_by_resolution": figures.comparison_by_resolution,
        "comparison_maps": figures.comparison_maps,
    },
    weights=trained_weights,
    trainings=trainings,
)
