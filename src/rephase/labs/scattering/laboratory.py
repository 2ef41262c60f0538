"""The laboratory of scattering as an entry of the table of laboratories."""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pandas as pd

from rephase.config import Config
from rephase.files.inputs import with_neighbours
from rephase.inference.patterns import BoundedSimulator, PatternBatch, fill_patterns
from rephase.labs.laboratory import DataSet, Laboratory, saved
from rephase.labs.scattering import figures, flow, out_of_distribution
from rephase.labs.scattering.calibration import calibration_by_parameter, flow_scores
from rephase.labs.scattering.cards import POSTERIORS
from rephase.labs.scattering.data.simulators import SIMULATORS
from rephase.labs.scattering.flow import flow_name, patterns_folder, section_of, simulator_of
from rephase.labs.scattering.models.flows import ParameterFlow
from rephase.labs.scattering.out_of_distribution import c2st_by_case, narrower_simulator
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


_NOT_SHOWN = "gisaxs_peaks", "oriented_scores_by_counts"  # no notebook computes them


def _scores(run: Run) -> pd.DataFrame:
    """Scores of every flow of every kind so far."""
    results = run.results("posterior_results")
    return results[results["split"] == "new"].pivot_table(
        index=["experiment", "model"], columns="metric", values="value", sort=False
    )


def _flow_scores(run: Run, kind: str) -> pd.DataFrame:
    return flow_scores(run, kind, flow_name(section_of(run.config, kind))).set_index("flow").T


def _by_counts(run: Run, kind: str) -> pd.DataFrame:
    return run.table(f"posterior_quarters_{kind}_{flow_name(section_of(run.config, kind))}")


def _methods(run: Run, kind: str) -> pd.DataFrame:
    return run.table(f"posterior_methods_{kind}").set_index("method").T


def _tables_of(kind: str) -> dict[str, Callable[[Run], pd.DataFrame]]:
    return {
        f"{kind}_flow_scores": partial(_flow_scores, kind=kind),
        f"{kind}_calibration_by_parameter": partial(calibration_by_parameter, kind=kind),
        f"{kind}_scores_by_counts": partial(_by_counts, kind=kind),
        f"{kind}_methods": partial(_methods, kind=kind),
        f"{kind}_peaks": saved(f"posterior_peaks_{kind}"),
    }


LABORATORY = Laboratory(
    package="rephase.labs.scattering",
    notebooks=("31", "32", "35"),
    check=check,
    files=files,
    data_sets=data_sets,
    tables={
        "flow_scores": _scores,
        **{name: made for kind in SIMULATORS for name, made in _tables_of(kind).items() if name not in _NOT_SHOWN},
        "saxs_loss_scores": saved("posterior_losses_saxs"),
        "saxs_loss_c2st": partial(c2st_by_case, kind="saxs"),
    },
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
