"""The experiment of notebook 35: flows with likelihood, physics and adaptation on familiar and unfamiliar patterns."""

import time
from collections.abc import Callable, Iterator
from functools import cache, partial
from typing import Any

import numpy as np
import pandas as pd
import torch

from rephase.config import Config
from rephase.config.scattering import LossExperiment, PosteriorLearning
from rephase.config.sections import Section, validate
from rephase.devices import seeded
from rephase.errors import ConfigError, blamed_on
from rephase.inference.calibration import c2st, coverage, predictive_check, sbc_ranks
from rephase.inference.fits import check_chains, importance, markov_chains, resample
from rephase.inference.patterns import (
    BoundedSimulator,
    PatternBatch,
    PatternData,
    Simulator,
    check_simulator,
    expected_of,
    store_patterns,
)
from rephase.labs.scattering.data.simulators import SIMULATORS
from rephase.labs.scattering.flow import patterns_folder, section_of
from rephase.labs.scattering.models import POSTERIOR_MODELS
from rephase.labs.scattering.models.flows import ParameterFlow
from rephase.labs.scattering.one_pattern import adapted_samples
from rephase.learning.models import check_model
from rephase.learning.training import Training, train
from rephase.runs import Run
from rephase.runs.tables import left_out

_CASES, _DRAWS = 35, 36  # streams of random numbers
_LEVEL = 0.9
REFERENCE = "Markov chains"
ADAPTED = "adapted by physics alone"
WEIGHTED = "likelihood, weighted"
_ALONE = "likelihood"  # the flow that is adapted and weighted


def check_losses(config: Config) -> None:
    """Raise `ConfigError` if the experiment changes an unknown key, or lacks the flow to be adapted."""
    for kind in SIMULATORS:
        section, where = section_of(config, kind), f"scattering.{kind}.losses"
        experiment = section.losses
        if experiment.cases and _ALONE not in experiment.flows:
            raise ConfigError(f"{where}.flows: expected a flow {_ALONE!r}, which is adapted; add it")
        for changes in ({}, experiment.trained, *experiment.cases.values()):
            simulator = _simulator(section, kind, changes)
            with blamed_on(where):
                check_simulator(simulator)
        if experiment.cases:
            _check_flows(section, kind, where)


def _check_flows(section: PosteriorLearning, kind: str, where: str) -> None:
    """Raise `ConfigError` if a flow cannot be built, or if MCMC gives fewer samples than the compared draws."""
    simulator, chains = _simulator(section, kind, {}), section.inference.chains
    with blamed_on(where):
        for model in section.losses.flows.values():
            check_model(POSTERIOR_MODELS, "nsf", model, simulator.pattern_shape, simulator=simulator)
    with blamed_on(f"{where}, scoring.n_draws and inference.chains"):
        n = section.scoring.n_draws
        check_chains(len(simulator.names), n, n_walkers=chains.n_walkers, n_steps=chains.n_steps)


def compare_losses(run: Run, kind: str) -> pd.DataFrame:
    """Train the flows of the experiment on its ``trained`` patterns, and test them on the patterns of every case.

    All use the prior of ``data``; narrower training data cover only a part of it. Saves the table
    ``posterior_losses_KIND`` with, for each case and method: the accuracy of a classifier between samples and MCMC
    samples (C2ST, 1/2 to 1; NaN for MCMC itself), the coverage of the central 90 % over the parameters that the case
    shares, the deviance of samples over the number of measured points, the p-value of the predictive check, seconds
    per pattern, and the number of patterns.

    Returns
    -------
    pandas.DataFrame
        The table; if the configuration has no cases, one row that says so.
    """
    section, experiment = section_of(run.config, kind), section_of(run.config, kind).losses
    if not experiment.cases:
        return left_out(f"scattering.{kind}.losses.cases of this configuration are empty")
    flows, rows = {name: train(run, training) for name, training in _flows(run, kind).items()}, []
    for number, (case, changes) in enumerate(experiment.cases.items()):
        rng = np.random.default_rng([run.config.seed, _CASES, number])
        patterns = _shared(_simulator(section, kind, changes), flows[_ALONE].simulator, experiment.n_patterns, rng)
        rows += [{"case": case, **row} for row in _judged(run, section, flows, patterns)]
    table = pd.DataFrame(rows)
    run.save_table(f"posterior_losses_{kind}", table)
    return table


def c2st_by_case(run: Run, kind: str) -> pd.DataFrame:
    """C2ST of each method in each case, from the table that `compare_losses` saved."""
    table = run.table(f"posterior_losses_{kind}")
    return table.pivot_table(index="method", columns="case", values="c2st", sort=False)


def _simulator(section: Any, kind: str, changes: dict[str, Any]) -> BoundedSimulator:
    data: Section = section.data
    values = data.model_dump() | section.losses.data | changes
    config = validate(type(data), values, f"scattering.{kind}.losses")
    with blamed_on(f"scattering.{kind}.losses"):
        return SIMULATORS[kind](config)


def narrower_simulator(config: Config, kind: str) -> BoundedSimulator | None:
    """Return the simulator of the patterns that the flows of the experiment are trained on; None without cases."""
    section = section_of(config, kind)
    return _simulator(section, kind, section.losses.trained) if section.losses.cases else None


def trainings(run: Run, kind: str) -> Iterator[Training[ParameterFlow, PatternBatch]]:
    """Yield the trainings of the flows of the experiment, none if the configuration has no cases."""
    return iter(_flows(run, kind).values() if section_of(run.config, kind).losses.cases else ())


def _flows(run: Run, kind: str) -> dict[str, Training[ParameterFlow, PatternBatch]]:
    """Return the trainings of the flows by name, all on the narrower patterns."""
    section, flows = section_of(run.config, kind), {}
    data = cache(partial(_narrow_patterns, run, kind))
    for name, model in section.losses.flows.items():
        learning = section.model_copy(update={"models": {"nsf": model}, "training": section.losses.training})
        folder = run.checkpoints("posteriors") / f"{kind}_losses" / name.replace(" ", "_")
        flows[name] = Training(POSTERIOR_MODELS, "nsf", learning, folder, data, run.config.seed)
    return flows


def _narrow_patterns(run: Run, kind: str) -> PatternData[BoundedSimulator]:
    """Build or open the patterns of the experiment; the physics loss of its flows has the whole prior."""
    section = section_of(run.config, kind)
    narrow, whole = _simulator(section, kind, section.losses.trained), _simulator(section, kind, {})
    data = store_patterns(patterns_folder(run, f"{kind}_losses"), narrow, workers=run.workers)
    data.built_with = {"simulator": whole}
    return data


def _shared(source: Simulator, asked: Simulator, n: int, rng: np.random.Generator) -> PatternBatch:
    """Draw patterns of one simulator, with only the unknowns that another simulator has."""
    batch = source.draw(n, rng)
    return batch._replace(u=batch.u[:, [source.names.index(name) for name in asked.names]])


def _judged(
    run: Run, section: PosteriorLearning, flows: dict[str, ParameterFlow], patterns: PatternBatch
) -> Iterator[dict[str, Any]]:
    """Yield a row for each method; slow methods run on the first patterns only."""
    experiment, n = section.losses, section.scoring.n_draws
    generator, first = torch.Generator().manual_seed(run.config.seed), flows[_ALONE]
    few = PatternBatch(*(field[: experiment.n_compared] for field in patterns))
    length = section.inference.chains.model_dump()
    methods: dict[str, tuple[PatternBatch, Callable[[PatternBatch], torch.Tensor]]] = {
        REFERENCE: (few, lambda b: markov_chains(first.simulator, b, n, generator=generator, **length).samples.float()),
        **{name: (patterns, _sampler(flow, n)) for name, flow in flows.items()},
        WEIGHTED: (patterns, lambda b: _weighted(first, b, n, generator)),
        ADAPTED: (few, lambda b: _adapted(first, b, n, experiment, run.config.seed)),
    }
    reference = None
    for name, (batch, draw) in methods.items():
        with seeded(run.config.seed + _DRAWS):
            start = time.perf_counter()
            samples = draw(batch)
            seconds = (time.perf_counter() - start) / len(batch.u)
        reference = samples if reference is None else reference
        yield {
            "method": name,
            **_scores(first.simulator, samples, reference, batch, run.config.seed),
            "seconds": seconds,
            "n": len(batch.u),
        }


def _sampler(flow: ParameterFlow, n: int) -> Callable[[PatternBatch], torch.Tensor]:
    return lambda batch: flow.cpu().sample(batch, n)


def _weighted(flow: ParameterFlow, batch: PatternBatch, n: int, generator: torch.Generator) -> torch.Tensor:
    samples = flow.cpu().sample(batch, n)
    return resample(samples, importance(flow, batch, samples).weights, n, generator=generator)


def _adapted(flow: ParameterFlow, batch: PatternBatch, n: int, experiment: LossExperiment, seed: int) -> torch.Tensor:
    """Draw samples of a copy of the flow for each pattern, adapted to this pattern alone."""
    ones = (PatternBatch(*fields) for fields in zip(*(field.split(1) for field in batch)))
    return torch.cat([adapted_samples(flow.cpu(), one, n, experiment.adaptation, seed=seed) for one in ones], 1)


def _scores(
    simulator: Simulator, samples: torch.Tensor, reference: torch.Tensor, batch: PatternBatch, seed: int
) -> dict[str, float]:
    generator, n_few = torch.Generator().manual_seed(seed), reference.shape[1]
    z, truths = simulator.to_normal(samples), simulator.to_normal(batch.u)
    told = torch.tensor(torch.nan)
    if samples is not reference:
        told = c2st(z[:, :n_few], simulator.to_normal(reference), seed=seed)
    with torch.no_grad():
        expected = expected_of(simulator, samples, batch)
    check = predictive_check(expected, batch.counts, batch.mask, generator=generator)
    n_measured = batch.mask.flatten(1).sum(1)
    return {
        "c2st": float(told.mean()),
        "coverage_90": float(coverage(sbc_ranks(z, truths, generator=generator), [_LEVEL]).mean()),
        "deviance": float((check.measured / n_measured).median()),
        "p_value": float(check.p_value.median()),
    }
