"""The flow of one kind of experiment: its section, simulator, patterns, training and reading."""

from collections.abc import Callable, Iterator
from functools import cache, partial
from pathlib import Path
from typing import Any, cast

from rephase.config import Config
from rephase.config.scattering import PosteriorLearning
from rephase.devices import pick_device
from rephase.errors import ConfigError, blamed_on, nearest_name
from rephase.inference.cards import load_flow
from rephase.inference.patterns import BoundedSimulator, PatternBatch, PatternData, store_patterns
from rephase.labs.scattering.cards import POSTERIORS
from rephase.labs.scattering.data.simulators import SIMULATORS
from rephase.labs.scattering.models import POSTERIOR_MODELS
from rephase.labs.scattering.models.flows import ParameterFlow
from rephase.learning.training import Training, train
from rephase.runs import Run


def section_of(config: Config, kind: str) -> PosteriorLearning:
    """Return the section of the configuration for a kind of experiment."""
    if kind not in SIMULATORS:
        raise ConfigError(f"no kind of posterior {kind!r}; {nearest_name(kind, SIMULATORS)}")
    return cast(PosteriorLearning, getattr(config.scattering, kind))


def simulator_of(section: Any, kind: str) -> BoundedSimulator:
    """Make the simulator of a section."""
    with blamed_on(f"scattering.{kind}.data"):
        return SIMULATORS[kind](section.data)


def build_patterns(run: Run, kind: str) -> PatternData[BoundedSimulator]:
    """Build or open the simulated patterns of the run."""
    simulator = simulator_of(section_of(run.config, kind), kind)
    return store_patterns(patterns_folder(run, kind), simulator, workers=run.workers)


def patterns_folder(run: Run, kind: str) -> Path:
    """Return the folder of the store of patterns."""
    return run.folder / "data" / f"{kind}.zarr"


def training_folder(run: Run, kind: str, name: str) -> Path:
    """Return the folder of the checkpoints and logs of a flow."""
    return run.checkpoints("posteriors") / kind / name


def trained_flow(run: Run, data: PatternData[BoundedSimulator], kind: str, name: str) -> ParameterFlow:
    """Return a flow of the configuration, trained if necessary, and save its loss curve as a table."""
    return train(run, _training(run, kind, name, lambda: data))


def trainings(run: Run, kind: str) -> Iterator[Training[ParameterFlow, PatternBatch]]:
    """Yield the trainings of the flows of the configuration, all on the same patterns."""
    data = cache(partial(build_patterns, run, kind))
    return (_training(run, kind, name, data) for name in section_of(run.config, kind).models)


def _training(
    run: Run, kind: str, name: str, data: Callable[[], PatternData[BoundedSimulator]]
) -> Training[ParameterFlow, PatternBatch]:
    section, folder, curve = section_of(run.config, kind), training_folder(run, kind, name), f"posterior_curve_{kind}"
    return Training(POSTERIOR_MODELS, name, section, folder, data, run.config.seed, curve=f"{curve}_{name}")


def flow_name(section: PosteriorLearning) -> str:
    """Return the name of the flow of `open_flow`: that of its weights, or of the first model if there is one."""
    weights = section.inference.weights
    return Path(weights).stem if weights is not None else next(iter(section.models), "flow")


def open_flow(run: Run, kind: str) -> ParameterFlow:
    """Open the flow of the weights that the run names, or its own first flow, trained if necessary.

    Raises
    ------
    ConfigError
        There are neither weights nor a flow to train, or the weights were trained with other data settings.
    WeightsError
        The weights are for another kind of experiment.
    """
    section = section_of(run.config, kind)
    if section.inference.weights is not None:
        return load_flow(section, POSTERIORS, kind, device=pick_device(run.device))
    if not section.models:
        raise ConfigError(f"scattering.{kind}.inference.weights: null, but {kind}.models lists no flow; give weights")
    return trained_flow(run, build_patterns(run, kind), kind, next(iter(section.models)))
