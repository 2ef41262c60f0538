"""Steps of the notebooks on posteriors of parameters: check the configuration, train and score flows.

Every step takes the kind of experiment: a key of ``scattering`` in the configuration and of `SIMULATORS`.
"""

import pandas as pd
import torch

from rephase.config import Config
from rephase.config.scattering import InferenceConfig, SaxsConfig
from rephase.errors import ConfigError, blamed_on, check_file, nearest_name
from rephase.inference.cards import load_flow
from rephase.inference.fits import check_chains
from rephase.inference.patterns import (
    BoundedSimulator,
    Simulator,
    check_simulator,
)
from rephase.labs.scattering.calibration import score_flow
from rephase.labs.scattering.cards import POSTERIORS
from rephase.labs.scattering.data.simulators import SIMULATORS
from rephase.labs.scattering.flow import build_patterns, section_of, simulator_of, trained_flow
from rephase.labs.scattering.models import POSTERIOR_MODELS
from rephase.learning.models import check_model
from rephase.runs import Run
from rephase.runs.tables import left_out


def check_posteriors(config: Config) -> None:
    """Raise if a simulator, a flow, weights or MCMC settings are invalid, or a file of the configuration is missing."""
    for kind in SIMULATORS:
        section = section_of(config, kind)
        simulator, where = simulator_of(section, kind), f"scattering.{kind}"
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
    """Raise `ConfigError` if a true unknown is not in the simulator or out of bounds, or if walkers are too few."""
    truth = options.truth or {}
    for name in truth:
        if name not in simulator.names:
            raise ConfigError(f"{where}.truth: no {name!r}; {nearest_name(name, simulator.names)}")
    middle = simulator.from_normal(torch.zeros(1, len(simulator.names)))
    for name in simulator.prior.outside(with_truth(middle, simulator, options)):
        low, high = next((p.low, p.high) for p in simulator.prior.parameters if p.name == name)
        raise ConfigError(
            f"{where}.truth.{name} = {truth[name]}: expected {low} to {high}, the bounds of the prior, which "
            "flows assume; change the truth or the data"
        )
    chains = options.chains
    with blamed_on(f"{where}, n_draws and chains"):
        check_chains(len(simulator.names), options.n_draws, n_walkers=chains.n_walkers, n_steps=chains.n_steps)


def with_truth(u: torch.Tensor, simulator: Simulator, options: InferenceConfig) -> torch.Tensor:
    """Set the unknowns [1, parameter] that the configuration fixes."""
    u = u.clone()
    for name, value in (options.truth or {}).items():
        u[0, simulator.names.index(name)] = value
    return u


def train_and_score_all(run: Run, kind: str) -> pd.DataFrame:
    """Train every flow of the configuration, score it with `score_flow`, and return all scores.

    If the configuration lists no flow, as it names weights, the table says so.
    """
    models = section_of(run.config, kind).models
    if not models:
        return left_out(f"no flow in scattering.{kind}.models of this configuration")
    data = build_patterns(run, kind)
    flows = {name: trained_flow(run, data, kind, name) for name in models}
    return pd.concat([score_flow(run, kind, flow, name) for name, flow in flows.items()], ignore_index=True)
