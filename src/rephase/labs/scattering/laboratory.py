"""The laboratory of scattering as an entry of the table of laboratories."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

from rephase.config import Config
from rephase.files.inputs import with_neighbours
from rephase.inference.patterns import BoundedSimulator, PatternBatch, fill_patterns
from rephase.labs.laboratory import DataSet, Laboratory
from rephase.labs.scattering import figures, flow, out_of_distribution
from rephase.labs.scattering.cards import POSTERIORS
from rephase.labs.scattering.data.simulators import SIMULATORS
from rephase.labs.scattering.flow import patterns_folder, section_of, simulator_of
from rephase.labs.scattering.models.flows import ParameterFlow
from rephase.labs.scattering.out_of_distribution import narrower_simulator
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


def data_sets(run: Run) -> Iterator[DataSet]:
    """Yield the patterns of each kind with a flow to train, and the narrower ones of notebook 35."""
    for kind in SIMULATORS:
        section = section_of(run.config, kind)
        if section.models:
            yield _patterns(run, kind, simulator_of(section, kind))
        if (narrower := narrower_simulator(run.config, kind)) is not None:
            yield _patterns(run, f"{kind}_losses", narrower)


def _patterns(run: Run, name: str, simulator: BoundedSimulator) -> DataSet:
    return DataSet(
        name, lambda shard: fill_patterns(patterns_folder(run, name), simulator, workers=run.workers, shard=shard)
    )


LABORATORY = Laboratory(
    package="rephase.labs.scattering",
    notebooks=("31", "32", "35"),
    check=check,
    files=files,
    data_sets=data_sets,
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
