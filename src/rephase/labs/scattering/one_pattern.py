"""One pattern: its posterior by every method, and the peaks of its posterior."""

import time
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch

from rephase.config.scattering import AdaptationConfig, SaxsConfig
from rephase.devices import seeded
from rephase.formats.curves import read_saxs
from rephase.inference.calibration import (
    PredictiveCheck,
    predictive_check,
)
from rephase.inference.fits import best_fits, importance, laplace_samples, markov_chains, peaks, resample
from rephase.inference.patterns import (
    PatternBatch,
    Simulator,
    expected_of,
    pattern_of,
)
from rephase.labs.scattering.adaptation import adapt
from rephase.labs.scattering.calibration import DRAWS
from rephase.labs.scattering.data.measured import Measured, measured_pattern
from rephase.labs.scattering.data.saxs import SaxsSimulator
from rephase.labs.scattering.flow import section_of
from rephase.labs.scattering.models.flows import ParameterFlow
from rephase.labs.scattering.steps import with_truth
from rephase.learning.batches import on_device
from rephase.runs import Run

_ONE = 32


_N_CLIMBED = 64  # draws that climb to peaks


def example_pattern(run: Run, kind: str, flow: ParameterFlow) -> Measured:
    """Return the pattern that the run names, or a simulated one, with notes on its preparation."""
    section = section_of(run.config, kind)
    if kind in _MEASURED and (found := _MEASURED[kind](section, flow.simulator)) is not None:
        return found
    options, simulator = section.inference, flow.simulator
    rng = np.random.default_rng([options.seed, _ONE])
    u = with_truth(simulator.draw(1, rng).u, simulator, options)
    return Measured(pattern_of(simulator, u, rng), ("simulated",))


def _measured_curve(section: SaxsConfig, simulator: SaxsSimulator) -> Measured | None:
    options = section.file
    if options.path is None:
        return None
    curve = read_saxs(options.path, q_unit=options.q_unit, relative_sigma=options.relative_sigma, entry=options.entry)
    return measured_pattern(curve, simulator)


_MEASURED: dict[str, Callable[[Any, Any], Measured | None]] = {"saxs": _measured_curve}


class _Drawn(NamedTuple):
    """Samples [n_draws, 1, parameter] of one method, its time in seconds, and the effective number of samples."""

    samples: torch.Tensor
    seconds: float
    n_effective: float


def infer(run: Run, kind: str, flow: ParameterFlow, pattern: PatternBatch) -> pd.DataFrame:
    """Infer the posterior of one pattern by the flow, its weighted samples, a least-squares fit and MCMC.

    If the configuration has an adaptation, a copy of the flow that is adapted to the pattern is a further method.

    Saves the returned table as ``posterior_methods_KIND``; ``posterior_summary_KIND``, a row per method and parameter
    with mean, standard deviation and the central 90 %; and the arrays ``posterior_KIND``: samples of each method,
    truth, the pattern and its axes, expected counts and the deviances of the predictive check.

    Returns
    -------
    pandas.DataFrame
        A row per method: seconds, effective number of samples, median deviance over the number of measured points,
        p-value of the predictive check, and mean ± standard deviation of each parameter.

    Raises
    ------
    ConfigError
        The flow was made for patterns of another shape.
    PosteriorError
        The pattern is hidden entirely, or its counts, photons or mask are invalid.
    """
    options, simulator = section_of(run.config, kind).inference, flow.simulator
    one = on_device(pattern, "cpu")
    drawn = _by_all_methods(run, kind, flow, one)
    generator = torch.Generator().manual_seed(options.seed + DRAWS)
    expected = {name: expected_of(simulator, found.samples.float(), one) for name, found in drawn.items()}
    checks = {name: predictive_check(e, one.counts, one.mask, generator=generator) for name, e in expected.items()}
    run.save_table(f"posterior_summary_{kind}", _summary(drawn, simulator))
    _save_posterior(run, kind, one, drawn, expected, checks, simulator)
    n_measured = int(one.mask.sum())
    rows = []
    for name, found in drawn.items():
        mean, spread = found.samples[:, 0].mean(0).tolist(), found.samples[:, 0].std(0).tolist()
        rows.append(
            {
                "method": name,
                "seconds": found.seconds,
                "effective samples": found.n_effective,
                "deviance / points": float(checks[name].measured.median()) / n_measured,
                "p-value": float(checks[name].p_value),
                **{
                    f"{p} ({unit})" if unit else p: f"{m:.4g} ± {s:.2g}"
                    for p, unit, m, s in zip(simulator.names, simulator.units, mean, spread)
                },
            }
        )
    table = pd.DataFrame(rows)
    run.save_table(f"posterior_methods_{kind}", table)
    return table


def _by_all_methods(run: Run, kind: str, flow: ParameterFlow, one: PatternBatch) -> dict[str, _Drawn]:
    options, simulator = section_of(run.config, kind).inference, flow.simulator
    device, generator = next(flow.parameters()).device, torch.Generator().manual_seed(options.seed)
    there = on_device(one, device)
    n, drawn, clock = options.n_draws, {}, time.perf_counter
    with seeded(options.seed):
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
    """Adapt a copy of the flow to one pattern and draw samples [n, 1, parameter]; warn if adaptation stopped early."""
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
    run: Run,
    kind: str,
    one: PatternBatch,
    drawn: dict[str, _Drawn],
    expected: dict[str, torch.Tensor],
    checks: dict[str, PredictiveCheck],
    simulator: Simulator,
) -> None:
    methods = list(drawn)
    run.save_arrays(
        f"posterior_{kind}",
        methods=np.array(methods),
        names=np.array(simulator.names),
        units=np.array(simulator.units),
        truth=one.u[0].numpy(),
        samples=torch.stack([drawn[name].samples[:, 0].double() for name in methods]).numpy(),
        counts=one.counts[0].numpy(),
        photons=one.photons.expand_as(one.counts)[0].numpy(),
        mask=one.mask[0].numpy(),
        expected=torch.stack([expected[name][:, 0] for name in methods]).numpy().astype(np.float32),
        measured_deviance=torch.stack([checks[name].measured[:, 0] for name in methods]).numpy(),
        replicated_deviance=torch.stack([checks[name].replicated[:, 0] for name in methods]).numpy(),
        axes=np.array([*simulator.axes]),
        **{f"axis_{number}": axis.numpy() for number, axis in enumerate(simulator.axes.values())},
    )


def find_peaks(run: Run, kind: str, flow: ParameterFlow, pattern: PatternBatch) -> pd.DataFrame:
    """Find separate maxima to which samples of the flow climb: share, nats below the highest, parameters."""
    one, simulator = on_device(pattern, "cpu"), flow.simulator
    samples = torch.as_tensor(run.arrays(f"posterior_{kind}")["samples"][0, :_N_CLIMBED, None])
    found = peaks(simulator, one, samples)
    table = pd.DataFrame({"share of samples": found.share.numpy(), "nats below": found.below.numpy()})
    table[list(simulator.names)] = found.u.numpy()
    run.save_table(f"posterior_peaks_{kind}", table)
    return table
