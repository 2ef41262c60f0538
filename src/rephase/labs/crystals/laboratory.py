"""The laboratory of perturbed crystals as an entry of the table of laboratories."""

from collections.abc import Iterator
from pathlib import Path

from rephase.config import Config
from rephase.files.inputs import with_neighbours
from rephase.labs.crystals import figures
from rephase.labs.crystals.data import read_parents
from rephase.labs.crystals.models import MODELS
from rephase.labs.crystals.steps import (
    data_sets,
    main_scores,
    model_layers,
    perturbation_changes,
    scores_by_crystal,
    summary,
    trainings,
)
from rephase.labs.laboratory import Laboratory, saved
from rephase.learning.models import check_models


def check(config: Config) -> None:
    """Raise an error if a crystal, the energy, a model or its training is invalid."""
    read_parents(config.crystals.data).kernels  # noqa: B018  reads the crystals and checks the energy
    check_models(MODELS, config.crystals, "crystals")


def files(config: Config) -> Iterator[Path]:
    """CIF files of the configuration."""
    return with_neighbours(config.crystals.example, *config.crystals.data.crystals, *config.crystals.data.unseen)


LABORATORY = Laboratory(
    package="rephase.labs.crystals",
    notebooks=("01", "02", "03", "04", "05", "06"),
    check=check,
    files=files,
    data_sets=data_sets,
    tables={
        "phase_scores": main_scores,
        "all_phase_scores": summary,
        "phase_scores_by_crystal": scores_by_crystal,
        "strongest_reflections": saved("example"),
        "perturbed_crystals": saved("crystals"),
        "perturbation_changes": perturbation_changes,
        "model_layers": model_layers,
    },
    figures={
        "reciprocal_space": figures.reciprocal_space,
        "perturbation_tiles": figures.perturbation_tiles,
        "perturbation_comparison": figures.perturbation_comparison,
        "loss_curves": figures.loss_curves,
        "model_comparison": figures.model_comparison,
        "phase_error_by_resolution": figures.phase_error_by_resolution,
        "density_slices": figures.density_slices,
        "density_isosurface": figures.density_isosurface,
    },
    learning_curve=figures.learning_curve,
    trainings=trainings,
)
