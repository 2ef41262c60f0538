"""The steps of the notebooks on posteriors of parameters: data and flows, their calibration, one pattern's posterior.

Every step is told the kind of experiment: the section of ``posteriors`` in the configuration, as in `SIMULATORS`.
"""

import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
import pandas as pd
import torch

from rephase.adaptation import adapt
from rephase.calibration import (
    PredictiveCheck,
    bonferroni,
    coverage,
    predictive_check,
    sbc_ranks,
    tarp_ranks,
    uniformity,
)
from rephase.config import Config
from rephase.datasets.patterns import (
    BoundedSimulator,
    PatternBatch,
    PatternData,
    Simulator,
    check_simulator,
    expected_of,
    log_joint,
    pattern_of,
    store_patterns,
)
from rephase.datasets.saxs_files import read_saxs
from rephase.datasets.saxs_measured import Measured, measured_pattern
from rephase.datasets.saxs_patterns import SaxsSimulator
from rephase.datasets.simulators import SIMULATORS
from rephase.devices import pick_device
from rephase.errors import ConfigError, blamed_on, check_file, nearest_name
from rephase.evaluation import COLUMNS
from rephase.models import POSTERIOR_MODELS, check_model
from rephase.models.flows import ParameterFlow
from rephase.posterior_config import AdaptationConfig, InferenceConfig, PosteriorLearning, SaxsConfig
from rephase.posterior_fits import (
    best_fits,
    check_chains,
    importance,
    laplace_samples,
    markov_chains,
    peaks,
    resample,
)
from rephase.runs import Run
from rephase.training import fit, loss_curve
from rephase.weights import POSTERIORS, load_flow

# streams of random numbers, apart from those of the data sets
_NEW = 31
_ONE = 32
_RANKS = 33
_DRAWS = 34
_BATCH = 50  # patterns that are sampled at once
_N_TIMED = 5
_N_CLIMBED = 64  # draws that climb to peaks
_LEVEL = 0.9
_N_FITTED = 10  # draws of each pattern of which the best one is a point that knows it


def section_of(config: Config, kind: str) -> PosteriorLearning:
    """The section of the configuration that a kind of experiment has."""
    if kind not in SIMULATORS:
        raise ConfigError(f"kind of posteriors {kind!r}; {nearest_name(kind, SIMULATORS)}")
    return cast(PosteriorLearning, getattr(config.posteriors, kind))


def simulator_of(section: Any, kind: str) -> BoundedSimulator:
    """The simulator of a section."""
    with blamed_on(f"posteriors.{kind}.data"):
        return SIMULATORS[kind](section.data)


def check_posteriors(config: Config) -> None:
    """Raise if a simulator, a flow, weights or chains cannot be, or a file is not where the configuration says."""
    for kind in SIMULATORS:
        section = section_of(config, kind)
        simulator, where = simulator_of(section, kind), f"posteriors.{kind}"
        with blamed_on(f"{where}.data"):
            check_simulator(simulator)
        with blamed_on(where):
            for name, model in section.models.items():
                check_model(POSTERIOR_MODELS, name, model, simulator.pattern_shape, simulator=simulator)
        _check_inference(section.inference, simulator, f"{where}.inference")
        if section.inference.weights is not None:
            load_flow(section, POSTERIORS, kind)
        if isinstance(section, SaxsConfig):
            check_file(f"{where}.file.path", section.file.path, otherwise=" for a simulated one")


def _check_inference(options: InferenceConfig, simulator: BoundedSimulator, where: str) -> None:
    """Raise `ConfigError` if a true unknown is none of the simulator's or beyond its bounds, or chains are too few."""
    truth = options.truth or {}
    for name in truth:
        if name not in simulator.names:
            raise ConfigError(f"{where}.truth: no {name!r}; {nearest_name(name, simulator.names)}")
    middle = simulator.from_normal(torch.zeros(1, len(simulator.names)))
    for name in simulator.prior.outside(_with_truth(middle, simulator, options)):
        low, high = next((p.low, p.high) for p in simulator.prior.parameters if p.name == name)
        raise ConfigError(
            f"{where}.truth.{name} = {truth[name]}: expected {low} to {high}, the bounds of the prior, which "
            "flows know; change it or the data"
        )
    chains = options.chains
    with blamed_on(f"{where}, n_draws and chains"):
        check_chains(len(simulator.names), options.n_draws, n_walkers=chains.n_walkers, n_steps=chains.n_steps)


def _with_truth(u: torch.Tensor, simulator: Simulator, options: InferenceConfig) -> torch.Tensor:
    """Unknowns [1, parameter] of which some are as the configuration says."""
    u = u.clone()
    for name, value in (options.truth or {}).items():
        u[0, simulator.names.index(name)] = value
    return u


def build_patterns(run: Run, kind: str) -> PatternData:
    """Build or open the simulated patterns of the run."""
    simulator = simulator_of(section_of(run.config, kind), kind)
    return store_patterns(run.folder / "data" / f"{kind}.zarr", simulator, workers=run.workers)


def training_folder(run: Run, kind: str, name: str) -> Path:
    """Where checkpoints and logs of a flow are."""
    return run.checkpoints("posteriors") / kind / name


def trained_flow(run: Run, data: PatternData, kind: str, name: str) -> ParameterFlow:
    """A flow of the configuration, trained where it is not yet; its loss curve is left as a table."""
    section, folder = section_of(run.config, kind), training_folder(run, kind, name)
    flow = fit(POSTERIOR_MODELS, name, data, section, folder, seed=run.config.seed, device=run.device)
    run.save_table(f"posterior_curve_{kind}_{name}", loss_curve(folder))
    return flow


def train_and_score_all(run: Run, kind: str) -> pd.DataFrame:
    """Train every flow of the configuration and score it with `score_flow`; the scores of all.

    Where the configuration has none, as weights are there, the table says so.
    """
    models = section_of(run.config, kind).models
    if not models:
        return pd.DataFrame({"left out": [f"no flow in posteriors.{kind}.models of this configuration"]})
    data = build_patterns(run, kind)
    flows = {name: trained_flow(run, data, kind, name) for name in models}
    return pd.concat([score_flow(run, kind, flow, name) for name, flow in flows.items()], ignore_index=True)


def flow_name(section: PosteriorLearning) -> str:
    """What the flow of `open_flow` is called: the name of its weights, or of the first model if there is one."""
    weights = section.inference.weights
    return Path(weights).stem if weights is not None else next(iter(section.models), "flow")


def open_flow(run: Run, kind: str) -> ParameterFlow:
    """The flow of the weights that the run names, else its own first one, trained where it is not yet.

    Raises
    ------
    ConfigError
        There are neither weights nor a flow to train, or the weights are of patterns of another law.
    WeightsError
        The weights are of another kind of experiment.
    """
    section = section_of(run.config, kind)
    if section.inference.weights is not None:
        return load_flow(section, POSTERIORS, kind, device=pick_device(run.device))
    if not section.models:
        raise ConfigError(f"posteriors.{kind}.inference.weights: null, but {kind}.models lists no flow; give weights")
    return trained_flow(run, build_patterns(run, kind), kind, next(iter(section.models)))


def score_flow(run: Run, kind: str, flow: ParameterFlow, name: str = "") -> pd.DataFrame:
    """Judge a flow, by default that of `open_flow`, on new patterns of its own simulator, which no training saw.

    Leaves the table ``posterior_results_KIND_NAME`` and the arrays ``calibration_KIND_NAME``: ranks of the truths
    [pattern, parameter], of random points [pattern], names.

    Returns
    -------
    pandas.DataFrame
        A row: negative log likelihood in nats per parameter, p-values of ranks (all parameters, Bonferroni), of
        random points and of points that know their pattern, coverage of the 90 % interval of each parameter, largest
        error of forward after inverse, and milliseconds of 1,000 samples. Whoever ignores a part of what patterns tell
        passes all but the points that know them: of ten draws the one that explains its pattern best. Means of draws
        know no more than the draws.
    """
    section, simulator = section_of(run.config, kind), flow.simulator
    options, name = section.scoring, name or flow_name(section)
    batch = simulator.draw(options.n_patterns, np.random.default_rng([run.config.seed, _NEW]))
    samples, nll = draws_of(flow, batch, options.n_draws, run.config.seed)
    generator = torch.Generator().manual_seed(run.config.seed + _RANKS)
    z, truths = simulator.to_normal(samples), simulator.to_normal(batch.u)
    ranks, tarp = sbc_ranks(z, truths, generator=generator), tarp_ranks(z, truths, generator=generator)
    informed = tarp_ranks(z[_N_FITTED:], truths, generator=generator, references=_best_of(simulator, z, batch))
    p_values = uniformity(ranks)
    shares = coverage(ranks, [_LEVEL])[0]
    values = [("new", "nll", "nats/parameter", nll), ("new", "sbc_p", "", bonferroni(p_values)),
              ("new", "tarp_p", "", float(uniformity(tarp))),
              ("new", "tarp_fit_p", "", float(uniformity(informed))),
              ("new", "inverse_error", "", inverse_error(flow, batch)),
              ("new", "ms_1000", "ms", 1e3 * seconds_of_1000(flow, batch))]  # fmt: skip
    for parameter, share, p in zip(simulator.names, shares.tolist(), p_values.tolist()):
        values += [(f"new:{parameter}", "coverage_90", "", share), (f"new:{parameter}", "sbc_p", "", p)]
    table = pd.DataFrame(values, columns=["split", "metric", "unit", "value"])
    given = {"experiment": f"posteriors, {kind}", "model": name, "n": options.n_patterns, "seed": run.config.seed}
    run.save_table(f"posterior_results_{kind}_{name}", table.assign(**given)[COLUMNS])
    run.save_arrays(
        f"calibration_{kind}_{name}", ranks=ranks.numpy(), tarp=tarp.numpy(), names=np.array(simulator.names)
    )
    covered = {f"coverage {parameter}": share for parameter, share in zip(simulator.names, shares.tolist())}
    whole = table[table["split"] == "new"].set_index("metric")["value"]
    return pd.DataFrame([{"flow": name, **whole, **covered}])


@torch.no_grad()
def _best_of(simulator: Simulator, z: torch.Tensor, batch: PatternBatch) -> torch.Tensor:
    """Of the first draws z [n_draws, pattern, parameter] that one which explains each pattern best."""
    best = log_joint(simulator, z[:_N_FITTED], batch).argmax(0)
    return z[best, torch.arange(len(best))]


@torch.no_grad()
def draws_of(flow: ParameterFlow, batch: PatternBatch, n: int, seed: int) -> tuple[torch.Tensor, float]:
    """Samples [n, pattern, parameter] on the CPU, and the mean negative log likelihood of the truths per parameter."""
    device, samples, likelihood = next(flow.parameters()).device, [], []
    with torch.random.fork_rng():
        torch.manual_seed(seed + _DRAWS)
        for first in range(0, len(batch.u), _BATCH):
            part = PatternBatch(*(field[first : first + _BATCH].to(device) for field in batch))
            samples.append(flow.sample(part, n).cpu())
            likelihood.append(flow.log_prob(part).cpu())
    return torch.cat(samples, 1), -float(torch.cat(likelihood).mean()) / batch.u.shape[1]


@torch.no_grad()
def inverse_error(flow: ParameterFlow, batch: PatternBatch) -> float:
    """Largest difference of normal noise from itself after it became z and came back, for each pattern once."""
    device = next(flow.parameters()).device
    transform = flow.posterior(PatternBatch(*(field.to(device) for field in batch))).transform
    noise = torch.randn(batch.u.shape, generator=torch.Generator().manual_seed(0)).to(device)
    return float((transform(transform.inv(noise)) - noise).abs().max())


def seconds_of_1000(flow: ParameterFlow, batch: PatternBatch) -> float:
    """Seconds that 1,000 samples for the first pattern take, the pattern's summary included; the median of five."""
    device = next(flow.parameters()).device
    one = PatternBatch(*(field[:1].to(device) for field in batch))
    times = []
    for _ in range(_N_TIMED + 1):  # the first is to warm up
        start = time.perf_counter()
        flow.sample(one, 1000).cpu()
        times.append(time.perf_counter() - start)
    return float(np.median(times[1:]))


def example_pattern(run: Run, kind: str, flow: ParameterFlow) -> Measured:
    """The pattern that the run names, or a simulated one, and in sentences what was done to it."""
    section = section_of(run.config, kind)
    if kind in _MEASURED and (found := _MEASURED[kind](section, flow.simulator)) is not None:
        return found
    options, simulator = section.inference, flow.simulator
    rng = np.random.default_rng([options.seed, _ONE])
    u = _with_truth(simulator.draw(1, rng).u, simulator, options)
    return Measured(pattern_of(simulator, u, rng), ("simulated",))


def _measured_curve(section: SaxsConfig, simulator: SaxsSimulator) -> Measured | None:
    options = section.file
    if options.path is None:
        return None
    curve = read_saxs(options.path, q_unit=options.q_unit, relative_sigma=options.relative_sigma, entry=options.entry)
    return measured_pattern(curve, simulator)


_MEASURED: dict[str, Callable[[Any, Any], Measured | None]] = {"saxs": _measured_curve}


class _Drawn(NamedTuple):
    """Samples [n_draws, 1, parameter] of one method, its seconds, and how many independent ones they are worth."""

    samples: torch.Tensor
    seconds: float
    n_effective: float


def infer(run: Run, kind: str, flow: ParameterFlow, pattern: PatternBatch) -> pd.DataFrame:
    """The posterior of one pattern by the flow, by its weighted samples, by a fit and by Markov chains.

    Where the configuration says how, by a copy of the flow that is adapted to the pattern as well.

    Leaves the table ``posterior_summary_KIND``, a row per method and parameter with mean, standard deviation and the
    central 90 %; and the arrays ``posterior_KIND``: samples of each method, truth, the pattern and its axes, expected
    intensities and the deviances of the predictive check.

    Returns
    -------
    pandas.DataFrame
        A row per method: seconds, effective number of samples, median deviance over the number of measured points,
        p-value of the predictive check, and mean ± standard deviation of each parameter.

    Raises
    ------
    ConfigError
        A pattern of another size than the flow was made for.
    PosteriorError
        A pattern that is hidden, or whose counts, photons or mask cannot be.
    """
    options, simulator = section_of(run.config, kind).inference, flow.simulator
    one = PatternBatch(*(field.cpu() for field in pattern))
    drawn = _by_all_methods(run, kind, flow, one)
    generator = torch.Generator().manual_seed(options.seed + _DRAWS)
    expected = {name: expected_of(simulator, found.samples.float(), one) for name, found in drawn.items()}
    checks = {name: predictive_check(e, one.counts, one.mask, generator=generator) for name, e in expected.items()}
    run.save_table(f"posterior_summary_{kind}", _summary(drawn, simulator))
    _save_posterior(run, kind, one, drawn, expected, checks, simulator)
    n_measured = int(one.mask.sum())
    rows = []
    for name, found in drawn.items():
        mean, spread = found.samples[:, 0].mean(0).tolist(), found.samples[:, 0].std(0).tolist()
        rows.append({
            "method": name, "seconds": found.seconds, "effective samples": found.n_effective,
            "deviance / points": float(checks[name].measured.median()) / n_measured,
            "p-value": float(checks[name].p_value),
            **{f"{p} ({unit})" if unit else p: f"{m:.4g} ± {s:.2g}"
               for p, unit, m, s in zip(simulator.names, simulator.units, mean, spread)},
        })  # fmt: skip
    return pd.DataFrame(rows)


def _by_all_methods(run: Run, kind: str, flow: ParameterFlow, one: PatternBatch) -> dict[str, _Drawn]:
    options, simulator = section_of(run.config, kind).inference, flow.simulator
    device, generator = next(flow.parameters()).device, torch.Generator().manual_seed(options.seed)
    there = PatternBatch(*(field.to(device) for field in one))
    n, drawn, clock = options.n_draws, {}, time.perf_counter
    with torch.random.fork_rng():
        torch.manual_seed(options.seed)
        start = clock()
        samples = flow.sample(there, n).cpu()
        drawn["flow"] = _Drawn(samples, clock() - start, n)
    weights = importance(flow, there, samples.to(device))
    chosen = resample(samples, weights.weights.cpu(), n, generator=generator)
    drawn["flow, weighted"] = _Drawn(chosen, clock() - start, float(weights.n_effective))
    start = clock()
    if options.adaptation is not None:
        samples = adapted_samples(flow, there, n, options.adaptation, seed=options.seed).cpu()
        drawn["flow, adapted"] = _Drawn(samples, clock() - start, n)
    start = clock()
    fitted = laplace_samples(simulator, best_fits(simulator, one, generator=generator), n, generator=generator)
    drawn["least squares"] = _Drawn(fitted, clock() - start, n)
    start, length = clock(), options.chains
    chains = markov_chains(simulator, one, n, generator=generator, **length.model_dump())
    n_independent = length.n_walkers * length.n_steps / float(chains.autocorrelation)
    drawn["Markov chains"] = _Drawn(chains.samples, clock() - start, min(n, n_independent))
    return drawn


def adapted_samples(
    flow: ParameterFlow, one: PatternBatch, n: int, options: AdaptationConfig, *, seed: int
) -> torch.Tensor:
    """Samples [n, 1, parameter] of a copy of the flow that was adapted to one pattern; warns where that ended early."""
    adapted = adapt(flow, one, seed=seed, **options.model_dump())
    if adapted.stopped:
        warnings.warn(f"adaptation to the pattern: {adapted.stopped}", stacklevel=2)
    return adapted.model.sample(one, n)


def _summary(drawn: dict[str, _Drawn], simulator: Simulator) -> pd.DataFrame:
    rows = []
    for method, found in drawn.items():
        u = found.samples[:, 0].double()
        low, high = u.quantile(torch.tensor([0.05, 0.95]).double(), dim=0).tolist()
        columns = zip(simulator.names, simulator.units, u.mean(0).tolist(), u.std(0).tolist(), low, high)
        rows += [(method, *column, found.seconds, found.n_effective) for column in columns]
    return pd.DataFrame(
        rows, columns=["method", "parameter", "unit", "mean", "sd", "low_5", "high_95", "seconds", "n_effective"]
    )


def _save_posterior(
    run: Run, kind: str, one: PatternBatch, drawn: dict[str, _Drawn], expected: dict[str, torch.Tensor],
    checks: dict[str, PredictiveCheck], simulator: Simulator,
) -> None:  # fmt: skip
    methods = list(drawn)
    run.save_arrays(
        f"posterior_{kind}", methods=np.array(methods), names=np.array(simulator.names),
        units=np.array(simulator.units), truth=one.u[0].numpy(),
        samples=torch.stack([drawn[name].samples[:, 0].double() for name in methods]).numpy(),
        counts=one.counts[0].numpy(), photons=one.photons.expand_as(one.counts)[0].numpy(), mask=one.mask[0].numpy(),
        expected=torch.stack([expected[name][:, 0] for name in methods]).numpy().astype(np.float32),
        measured_deviance=torch.stack([checks[name].measured[:, 0] for name in methods]).numpy(),
        replicated_deviance=torch.stack([checks[name].replicated[:, 0] for name in methods]).numpy(),
        axes=np.array([*simulator.axes]),
        **{f"axis_{number}": axis.numpy() for number, axis in enumerate(simulator.axes.values())},
    )  # fmt: skip


def find_peaks(run: Run, kind: str, flow: ParameterFlow, pattern: PatternBatch) -> pd.DataFrame:
    """Separate maxima of the posterior that samples of the flow climb to: share, nats below the highest, parameters."""
    one, simulator = PatternBatch(*(field.cpu() for field in pattern)), flow.simulator
    samples = torch.as_tensor(run.arrays(f"posterior_{kind}")["samples"][0, :_N_CLIMBED, None])
    found = peaks(simulator, one, samples)
    table = pd.DataFrame({"share of samples": found.share.numpy(), "nats below": found.below.numpy()})
    table[list(simulator.names)] = found.u.numpy()
    run.save_table(f"posterior_peaks_{kind}", table)
    return table
