"""A flow adapted to one pattern: closer to it, the first flow untouched, and nothing lost when it diverges."""

import numpy as np
import pytest
import torch

from rephase.config.scattering import SaxsSimulation
from rephase.config.sections import ModelConfig
from rephase.errors import PosteriorError
from rephase.inference.patterns import expected_of
from rephase.labs.scattering.adaptation import adapt
from rephase.labs.scattering.data.saxs import SaxsSimulator
from rephase.labs.scattering.models import POSTERIOR_MODELS
from rephase.learning.models import build_model
from rephase.optics.noise import poisson_deviance

SIMULATOR = SaxsSimulator(SaxsSimulation(shape="sphere", n_q=32))
OPTIONS = {"n_layers": 2, "width": 16, "n_features": 8, "channels": 4}


@pytest.fixture
def flow():
    config = ModelConfig(options=OPTIONS)
    return build_model(POSTERIOR_MODELS, "nsf", (32,), config, simulator=SIMULATOR, seed=2).eval()


@pytest.fixture
def pattern():
    return SIMULATOR.draw(1, np.random.default_rng(3))


def misfit(model, pattern):
    torch.manual_seed(0)
    expected = expected_of(SIMULATOR, model.sample(pattern, 100), pattern)
    return float(poisson_deviance(expected, pattern.counts, pattern.mask).median() / pattern.mask.sum())


def test_it_comes_to_explain_the_pattern_without_knowing_the_truth(flow, pattern):
    hidden = pattern._replace(u=torch.full_like(pattern.u, torch.nan))
    before = {name: value.clone() for name, value in flow.state_dict().items()}
    adapted = adapt(flow, hidden, seed=0, n_steps=80, n_samples=4, learning_rate=1e-2)
    assert misfit(adapted.model, pattern) < 0.2 * misfit(flow, pattern)
    assert len(adapted.losses) == 80
    assert adapted.stopped == ""
    assert all(torch.equal(before[name], value) for name, value in flow.state_dict().items())


def test_nothing_is_learned_from_a_pattern_that_is_hidden(flow, pattern):
    with pytest.raises(PosteriorError, match="the mask hides everything"):
        adapt(flow, pattern._replace(mask=pattern.mask & False), seed=0)


def test_the_same_seed_gives_the_same_and_leaves_the_global_generator_alone(flow, pattern):
    state = torch.get_rng_state()
    first, again = (adapt(flow, pattern, seed=1, n_steps=20, n_samples=2) for _ in range(2))
    assert np.array_equal(first.losses, again.losses)
    assert torch.equal(state, torch.get_rng_state())


def test_a_divergence_stops_and_keeps_the_last_good_state(flow, pattern):
    adapted = adapt(flow, pattern, seed=0, n_steps=300, n_samples=2, learning_rate=1e6)
    assert "the last good state is kept" in adapted.stopped
    assert len(adapted.losses) < 20
    assert all(torch.equal(value, flow.state_dict()[name]) for name, value in adapted.model.state_dict().items())
    assert misfit(adapted.model, pattern) == misfit(flow, pattern)
