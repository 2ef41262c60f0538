"""Calibration of the posteriors of a flow, over many patterns."""

import errno
import time

import numpy as np
import pandas as pd
import torch

from rephase.devices import at_once, seeded
from rephase.inference.calibration import (
    bonferroni,
    coverage,
    sbc_ranks,
    tarp_ranks,
    uniformity,
)
from rephase.inference.patterns import (
    PatternBatch,
    Simulator,
    log_joint,
)
from rephase.labs.scattering.flow import flow_name, section_of
from rephase.labs.scattering.models.flows import ParameterFlow
from rephase.learning.batches import on_device
from rephase.runs import COLUMNS, Run

# streams of random numbers, separate from those of the datasets
_NEW = 31


_RANKS = 33


DRAWS = 34
"""Stream of random numbers of draws from posteriors."""


_N_TIMED = 5


_LEVEL = 0.9


_N_FITTED = 10  # draws of each pattern, the best of which is its informed reference point


def score_flow(run: Run, kind: str, flow: ParameterFlow, name: str = "") -> pd.DataFrame:
    """Score a flow, by default that of `open_flow`, on new patterns of its own simulator.

    Saves the table ``posterior_results_KIND_NAME`` and the arrays ``calibration_KIND_NAME``: ranks of the truths
    [pattern, parameter], TARP ranks [pattern], names.

    Returns
    -------
    pandas.DataFrame
        A row: negative log likelihood in nats per parameter, p-values of ranks (all parameters, Bonferroni), of
        random points and of points that know their pattern, coverage of the 90 % interval of each parameter, largest
        error of forward after inverse, and milliseconds of 1,000 samples. A posterior that ignores part of the data
        passes every test except TARP with informed reference points: of ten draws the one that explains its pattern
        best. Means of draws carry no more information than the draws.
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
    values = [
        ("new", "nll", "nats/parameter", nll),
        ("new", "sbc_p", "", bonferroni(p_values)),
        ("new", "tarp_p", "", float(uniformity(tarp))),
        ("new", "tarp_fit_p", "", float(uniformity(informed))),
        ("new", "inverse_error", "", inverse_error(flow, batch)),
        ("new", "ms_1000", "ms", 1e3 * seconds_of_1000(flow, batch)),
    ]
    for parameter, share, p in zip(simulator.names, shares.tolist(), p_values.tolist()):
        values += [(f"new:{parameter}", "coverage_90", "", share), (f"new:{parameter}", "sbc_p", "", p)]
    table = pd.DataFrame(values, columns=["split", "metric", "unit", "value"])
    given = {"experiment": f"posteriors, {kind}", "model": name, "n": options.n_patterns, "seed": run.config.seed}
    run.save_table(f"posterior_results_{kind}_{name}", table.assign(**given)[COLUMNS])
    run.save_arrays(
        f"calibration_{kind}_{name}", ranks=ranks.numpy(), tarp=tarp.numpy(), names=np.array(simulator.names)
    )
    return flow_scores(run, kind, name)


def flow_scores(run: Run, kind: str, name: str) -> pd.DataFrame:
    """Scores of a flow in one row, from the saved table; see `score_flow`."""
    table = run.table(f"posterior_results_{kind}_{name}")
    whole = table[table["split"] == "new"].set_index("metric")["value"]
    single = table[(table["split"] != "new") & (table["metric"] == "coverage_90")]
    covered = {f"coverage {split.partition(':')[2]}": v for split, v in zip(single["split"], single["value"])}
    return pd.DataFrame([{"flow": name, **whole, **covered}])


def calibration_by_parameter(run: Run, kind: str) -> pd.DataFrame:
    """Coverage of 90 % intervals and p-value of the ranks of each parameter, for every flow of a kind so far."""
    results = run.results("posterior_results")
    single = results[(results["experiment"] == f"posteriors, {kind}") & results["split"].str.contains(":")]
    if single.empty:
        raise FileNotFoundError(errno.ENOENT, "no scores yet", f"tables/posterior_results_{kind}_*.csv")
    return single.pivot_table(index=["model", "split"], columns="metric", values="value")


@torch.no_grad()
def _best_of(simulator: Simulator, z: torch.Tensor, batch: PatternBatch) -> torch.Tensor:
    """Return the draw that explains each pattern best, among the first of z [n_draws, pattern, parameter]."""
    best = log_joint(simulator, z[:_N_FITTED], batch).argmax(0)
    return z[best, torch.arange(len(best))]


@torch.no_grad()
def draws_of(flow: ParameterFlow, batch: PatternBatch, n: int, seed: int) -> tuple[torch.Tensor, float]:
    """Draw samples [n, pattern, parameter] on the CPU; also return the truths' mean negative log likelihood."""
    device, samples, likelihood = next(flow.parameters()).device, [], []
    n_patterns = at_once("posterior patterns", device)
    with seeded(seed + DRAWS):
        for piece in zip(*(field.split(n_patterns) for field in batch)):
            part = on_device(PatternBatch(*piece), device)
            samples.append(flow.sample(part, n).cpu())
            likelihood.append(flow.log_prob(part).cpu())
    return torch.cat(samples, 1), -float(torch.cat(likelihood).mean()) / batch.u.shape[1]


@torch.no_grad()
def inverse_error(flow: ParameterFlow, batch: PatternBatch) -> float:
    """Largest error of normal noise after a map to z and back, with one sample per pattern."""
    device = next(flow.parameters()).device
    transform = flow.posterior(on_device(batch, device)).transform
    noise = torch.randn(batch.u.shape, generator=torch.Generator().manual_seed(0)).to(device)
    return float((transform(transform.inv(noise)) - noise).abs().max())


def seconds_of_1000(flow: ParameterFlow, batch: PatternBatch) -> float:
    """Median time of five runs, in seconds, for 1,000 samples of the first pattern, with its summary."""
    device = next(flow.parameters()).device
    one = on_device(PatternBatch(*(field[:1] for field in batch)), device)
    times = []
    for _ in range(_N_TIMED + 1):  # the first one warms up
        start = time.perf_counter()
        flow.sample(one, 1000).cpu()
        times.append(time.perf_counter() - start)
    return float(np.median(times[1:]))
