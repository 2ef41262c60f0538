"""The laboratory of the learned solver as an entry of the table of laboratories."""

from collections.abc import Iterator
from pathlib import Path

from rephase.config import Config
from rephase.files.inputs import with_neighbours
from rephase.labs.laboratory import Laboratory, saved
from rephase.labs.phasing import figures
from rephase.labs.phasing.models import PHASING_MODELS, check_starts
from rephase.labs.phasing.shipping import trained_weights
from rephase.labs.phasing.steps import check_crystals, learning_curves, network_scores, trainings
from rephase.learning.models import check_models
from rephase.learning.weights import shipped_files
from rephase.solvers.learned.cards import PHASES


def check(config: Config) -> None:
    """Raise an error if the crystals, a model or its training, or the weights are invalid."""
    check_models(PHASING_MODELS, config.phasing, "phasing")
    check_starts(config.phasing)
    check_crystals(config)


def files(config: Config) -> Iterator[Path]:
    """Yield the files of weights."""
    yield from with_neighbours(config.phasing.example.weights, *config.phasing.starts.values())
    yield from shipped_files(PHASES)


LABORATORY = Laboratory(
    package="rephase.labs.phasing",
    notebooks=("10",),
    check=check,
    files=files,
    tables={
        "network_scores": network_scores,
        "learning_curves": learning_curves,
        "ranked_starts": saved("phasing_ranking"),
    },
    figures={
        "phasing_learning_curve": figures.learning_curve,
        "phasing_film": figures.phasing_film,
        "phasing_starts": figures.phasing_starts,
    },
    weights=trained_weights,
    trainings=trainings,
)
