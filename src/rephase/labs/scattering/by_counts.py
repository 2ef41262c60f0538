"""Scores of the draws of a flow by total counts: predictive checks, and the fraction of effective draws."""

import numpy as np
import pandas as pd
import torch

from rephase.inference.calibration import UNEXPLAINED, predictive_check
from rephase.inference.fits import weigh
from rephase.inference.patterns import PatternBatch, expected_of, log_joint
from rephase.labs.scattering.calibration import draws_of
from rephase.labs.scattering.flow import flow_name, section_of
from rephase.labs.scattering.models.flows import ParameterFlow
from rephase.learning.batches import on_device
from rephase.runs import Run

_COUNTS = 37  # stream of random numbers
_N_PATTERNS, _N_DRAWS = 80, 100  # at most
_AT_ONCE = 10  # patterns whose draws are compared with the counts at once


def score_by_counts(run: Run, kind: str, flow: ParameterFlow) -> pd.DataFrame:
    """Test the draws of a flow with the forward model, on new patterns in quartiles of their total counts.

    Calibration is a mean over all patterns, so that a flow that is too wide at many counts passes it. Saves the table
    ``posterior_quarters_KIND_NAME``.

    Returns
    -------
    pandas.DataFrame
        A row per quartile: fewest and most counts of a pattern, number of patterns, median fraction of effective draws
        after weighting by prior times likelihood over the density of the flow (1 for the exact posterior), and fraction
        of patterns that the draws do not explain (predictive p-value below 0.05).
    """
    options, simulator = section_of(run.config, kind).scoring, flow.simulator
    n_patterns, n_draws = min(options.n_patterns, _N_PATTERNS), min(options.n_draws, _N_DRAWS)
    batch = simulator.draw(n_patterns, np.random.default_rng([run.config.seed, _COUNTS]))
    samples, _ = draws_of(flow, batch, n_draws, run.config.seed)
    generator = torch.Generator().manual_seed(run.config.seed + _COUNTS)
    pieces = zip(samples.split(_AT_ONCE, 1), *(field.split(_AT_ONCE) for field in batch))
    each = pd.concat([_explained(flow, drawn, PatternBatch(*piece), generator) for drawn, *piece in pieces])
    quarter = pd.qcut(each["counts"].rank(method="first"), 4, labels=["fewest", "few", "many", "most"])
    parts = each.groupby(quarter.rename("counts of patterns"), observed=True)
    table = parts.agg(
        counts_from=("counts", "min"),
        counts_to=("counts", "max"),
        n=("counts", "size"),
        effective_share=("effective", "median"),
        unexplained=("is_odd", "mean"),
    ).reset_index()
    run.save_table(f"posterior_quarters_{kind}_{flow_name(section_of(run.config, kind))}", table)
    return table


@torch.no_grad()
def _explained(
    flow: ParameterFlow, drawn: torch.Tensor, batch: PatternBatch, generator: torch.Generator
) -> pd.DataFrame:
    """Tabulate for each pattern its counts, the fraction of effective draws, and whether they fail to explain it."""
    device, simulator = next(flow.parameters()).device, flow.simulator
    log_q = flow.log_prob(on_device(batch._replace(u=drawn), device)).cpu()
    expected = expected_of(simulator, drawn.double(), batch)
    joint = log_joint(simulator, simulator.to_normal(drawn.double()), batch, expected=expected)
    check = predictive_check(expected, batch.counts, batch.mask, generator=generator)
    return pd.DataFrame(
        {
            "counts": batch.counts.flatten(1).sum(1).long(),
            "effective": weigh(joint - log_q).n_effective / len(drawn),
            "is_odd": check.p_value < UNEXPLAINED,
        }
    )
