"""The laboratory of scattering as an entry of the table of laboratories."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

from rephase.config import Config
from rephase.files.inputs import with_neighbours
from rephase.inference.patterns import PatternBatch
from rephase.labs.laboratory import Laboratory
from rephase.labs.scattering import figures, flow, out_of_distribution
from rephase.labs.scattering.cards import POSTERIORS
from rephase.labs.scattering.data.simulators import SIMULATORS
from rephase.labs.scattering.models.flows import ParameterFlow
from rephase.labs.scattering.shipping import trained_weights
from rephase.labs.scattering.steps import check_posteriors
from rephase.learning.training import Training
from rephase.learning.weights import shipped_files
from rephase.runs import Run


def check(config: Config) -> None:
    """Raise if a simulator, a flow, weights, MCMC settings, a file or the experiment of notebook 35 is invalid."""
    check_posteriors(config)
    out_of_distribution.check_losses(config)


def files(config: Config) -> Iterator[Path]:
    """Yield the files of the measured curve and of weights."""
    sections = (config.scattering.saxs, config.scattering.oriented, config.scattering.gisaxs)
    yield from with_neighbours(config.scattering.saxs.file.path, *(each.inference.weights for each in sections))
    yield from shipped_files(POSTERIORS)


def trainings(run: Run) -> Iterator[Training[ParameterFlow, PatternBatch]]:
    """Yield the trainings of all kinds, and those of the experiment of notebook 35."""
    for kind in SIMULATORS:
        yield from flow.trainings(run, kind)
        yield from out_of_distribution.trainings(run, kind)


LABORATORY = Laboratory(
    package="rephase.labs.scattering",
    notebooks=("31", "32", "35"),
    check=check,
    files=files,
    figures={
        "saxs_calibration": partial(figures.posterior_calibration, kind="saxs"),
        "saxs_posterior": partial(figures.posterior_corner, kind="saxs"),
        "saxs_prediction": partial(figures.posterior_prediction, kind="saxs"),
        "saxs_losses": partial(figures.posterior_losses, kind="saxs"),
        "oriented_calibration": partial(figures.posterior_calibration, kind="oriented"),
        "oriented_posterior": partial(figures.posterior_corner, kind="oriented"),
        "oriented_prediction": partial(figures.pattern_prediction, kind="oriented"),
        "gisaxs_loss_curves": partial(figures.posterior_loss_curves, kind="gisaxs"),
        "gisaxs_calibration": partial(figures.posterior_calibration, kind="gisaxs"),
        "gisaxs_posterior": partial(figures.posterior_corner, kind="gisaxs"),
        "gisaxs_prediction": partial(figures.pattern_prediction, kind="gisaxs"),
    },
    weights=trained_weights,
    trainings=trainings,
)
