"""Flows of parameters: densities, samples, gradients, training, and the physics in their loss."""

import math

import numpy as np
import pytest
import torch
from scipy import stats

from rephase.config.scattering import SaxsConfig
from rephase.config.sections import ModelConfig
from rephase.errors import ConfigError, PosteriorError
from rephase.inference.patterns import PatternBatch, log_joint, projections, store_patterns
from rephase.labs.scattering.data.saxs import SaxsSimulator
from rephase.labs.scattering.models import POSTERIOR_MODELS
from rephase.learning.models import build_model
from rephase.learning.training import fit
from rephase.optics.noise import poisson_deviance

SMALL = {"n_layers": 2, "width": 16, "n_features": 8, "channels": 4}
CONFIG = SaxsConfig(
    data={"shape": "sphere", "n_q": 32, "n_samples": 200, "chunk": 100},
    models={"nsf": {"options": SMALL}},
    training={"epochs": 20, "learning_rate": 5e-3, "batch_size": 40},
)
SIMULATOR = SaxsSimulator(CONFIG.data)


def flow(**options):
    config = ModelConfig(options=SMALL | options)
    return build_model(POSTERIOR_MODELS, "nsf", SIMULATOR.pattern_shape, config, simulator=SIMULATOR, seed=1)


@pytest.fixture(scope="module")
def batch():
    return SIMULATOR.draw(16, np.random.default_rng(5))


def test_samples_are_within_the_prior_and_new_each_time(batch):
    model = flow()
    u = model.sample(batch, 50)
    assert u.shape == (50, 16, 3)
    assert SIMULATOR.prior.outside(u) == ()
    assert not torch.equal(u, model.sample(batch, 50))


def test_density_integrates_to_one():
    """Over z, on a grid: an independent check of the determinants."""
    model, one = flow(), SIMULATOR.draw(1, np.random.default_rng(0))
    posterior = model.posterior(one)
    line = torch.linspace(-6, 6, 61)
    z = torch.cartesian_prod(line, line, line)[:, None]
    total = posterior.log_prob(z).double().exp().sum().item() * 0.2**3
    assert total == pytest.approx(1, abs=0.02)


def test_forward_and_inverse_undo_each_other(batch):
    transform = flow().posterior(batch).transform
    z = torch.randn(16, 3, generator=torch.Generator().manual_seed(0))
    assert (transform.inv(transform(z)) - z).abs().max() < 1e-4


def test_hidden_points_and_the_truth_do_not_change_samples(batch):
    model = flow()
    spoiled = batch._replace(
        counts=torch.where(batch.mask, batch.counts, 1e5), u=batch.u.flip(0), photons=batch.photons
    )
    torch.manual_seed(0)
    first = model.sample(batch, 3)
    torch.manual_seed(0)
    assert torch.equal(first, model.sample(spoiled, 3))


def test_prior_times_likelihood_is_that_of_scipy(batch):
    z = SIMULATOR.to_normal(batch.u).double()
    expected = batch.photons * SIMULATOR.intensity(batch.u.double())
    each = stats.poisson.logpmf(batch.counts.double(), expected) * batch.mask.numpy()
    theirs = each.sum(1) + stats.norm.logpdf(z).sum(1)
    assert log_joint(SIMULATOR, z[None], batch)[0].tolist() == pytest.approx(theirs.tolist(), rel=1e-4)


def test_samples_come_to_explain_the_pattern_by_the_forward_model_alone(batch):
    torch.manual_seed(0)
    model, hidden = flow(), batch._replace(u=torch.full_like(batch.u, torch.nan))
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-2)
    before = misfit(model.sample(batch, 20), batch)
    for _ in range(100):
        optimiser.zero_grad()
        model.physics_loss(hidden, 4).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
    assert misfit(model.sample(batch, 20), batch) < before / 4


def test_densities_of_many_draws_at_once_are_those_of_each(batch):
    model = flow()
    u = model.sample(batch, 3)
    one_by_one = torch.stack([model.log_prob(batch._replace(u=draw)) for draw in u])
    assert torch.allclose(model.log_prob(batch._replace(u=u)), one_by_one, atol=1e-4)


def misfit(u, batch):
    expected = batch.photons * SIMULATOR.intensity(u.flatten(0, 1)).unflatten(0, u.shape[:2])
    return poisson_deviance(expected, batch.counts, batch.mask).median()


def test_training_makes_the_truth_more_likely(tmp_path):
    data = store_patterns(tmp_path / "patterns.zarr", SIMULATOR)
    test = data[data.splits["test"]]
    model = fit(POSTERIOR_MODELS, "nsf", data, CONFIG, tmp_path / "nsf", device="cpu", progress=False)
    assert model.log_prob(test).mean() > flow().log_prob(test).mean() + 0.4
    again = fit(POSTERIOR_MODELS, "nsf", data, CONFIG, tmp_path / "nsf", device="cpu", progress=False)
    assert torch.equal(model.log_prob(test), again.log_prob(test))


def test_projections_sum_what_was_measured_along_rows_and_columns():
    counts = torch.tensor([[[3.0, 0.0], [5.0, 2.0]]])
    mask = torch.tensor([[[True, False], [True, True]]])
    found = projections(PatternBatch(torch.zeros(1, 2), counts, torch.full((1, 1, 1), 4.0), mask))
    expected = [math.log(n / p) / 3 for n, p in ((3.5, 4), (7.5, 8), (8.5, 8), (2.5, 4))]
    assert found[0].tolist() == pytest.approx(expected)
    spoiled = torch.where(mask, counts, 1e5)
    assert torch.equal(projections(PatternBatch(torch.zeros(1, 2), spoiled, torch.full((1, 1, 1), 4.0), mask)), found)
    hidden = projections(PatternBatch(torch.zeros(1, 2), 0 * counts, torch.ones(1, 1, 1), torch.zeros_like(mask)))
    assert (hidden == 0).all()


def test_nothing_is_summed_of_curves(batch):
    assert SIMULATOR.summaries(batch).shape == (16, 0)


def test_patterns_of_another_size_are_refused(batch):
    with pytest.raises(ConfigError, match=r"patterns of shape \(20,\): this flow was made for \(32,\)"):
        flow().sample(PatternBatch(batch.u, *(field[:, :20] for field in batch[1:])), 1)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda b: {"mask": b.mask & False}, "pattern 0: the mask hides everything"),
        (lambda b: {"mask": b.mask.float()}, "mask of torch.float32, .*expected booleans of the shape of the counts"),
        (lambda b: {"mask": b.mask[..., :1]}, r"mask of torch.bool, shape .*1\): expected booleans"),
        (lambda b: {"counts": b.counts - 1e6}, "counts = -.* of pattern 0: expected a finite number 0 or above"),
        (lambda b: {"counts": b.counts * torch.nan}, "counts = nan .*mask such points"),
        (lambda b: {"photons": b.photons * 0}, "photons = 0 .*a finite number above 0"),
    ],
)
def test_patterns_that_nobody_can_have_measured_are_refused(batch, spoil, message):
    with pytest.raises(PosteriorError, match=message):
        flow().sample(batch._replace(**spoil(batch)), 2)


def test_what_no_flow_can_be_made_of():
    with pytest.raises(ConfigError, match="loss = 'mse': expected nll"):
        build_model(POSTERIOR_MODELS, "nsf", (32,), loss="mse", simulator=SIMULATOR)
    with pytest.raises(ConfigError, match="expected one or two axes, each of 16 or more"):
        build_model(POSTERIOR_MODELS, "nsf", (8,), simulator=SIMULATOR)
