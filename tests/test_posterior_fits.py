"""Fits, Markov chains and importance weights, on forward models whose posteriors are known."""

import math

import pytest
import torch
from scipy import stats

from rephase.errors import PosteriorError
from rephase.inference.fits import best_fits, importance, laplace_samples, markov_chains, resample, weigh
from rephase.inference.patterns import ParameterSimulator, PatternBatch
from rephase.inference.priors import BoxPrior, Parameter

LEVEL, N_PIXELS = 1e4, 12
RESPONSE = 100 * torch.randn(N_PIXELS, 2, generator=torch.Generator().manual_seed(7), dtype=torch.double)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


class Toy(ParameterSimulator):
    """Counts of about 10^4 that rise in proportion to z, or to z^2 of the first parameter."""

    def __init__(self, power=1):
        super().__init__(BoxPrior(Parameter("a", "nm", 1, 3), Parameter("b", "", 0.1, 10, is_log=True)), (N_PIXELS,))
        self.power = power

    def intensity(self, u):
        z = self.to_normal(u)
        return LEVEL + torch.cat([z[..., :1] ** self.power, z[..., 1:]], dim=-1) @ RESPONSE.to(z).T

    def at(self, *z):
        """Patterns of given z, one with its last pixel hidden."""
        u = self.from_normal(torch.tensor(z).double())
        counts, mask = torch.poisson(self.intensity(u), generator=seeded(1)), torch.ones(len(u), N_PIXELS).bool()
        mask[0, -1] = False
        return PatternBatch(u, torch.where(mask, counts, 0.0), torch.ones(1, dtype=torch.double), mask)


def exact(batch):
    """Mean and covariance of the posterior of z, each count taken to have a variance of 10^4."""
    means, covariances = [], []
    for counts, mask in zip(batch.counts, batch.mask):
        seen = RESPONSE[mask]
        covariances.append(torch.linalg.inv(torch.eye(2) + seen.T @ seen / LEVEL))
        means.append(covariances[-1] @ seen.T @ (counts[mask] - LEVEL) / LEVEL)
    return torch.stack(means), torch.stack(covariances)


LINE, TWIN = Toy(), Toy(power=2)
PATTERNS = LINE.at([0.5, -1.0], [-0.3, 0.2], [1.5, 0.7])


class Guess:
    """A model of posteriors: normal around a mean, too wide by a factor."""

    def __init__(self, simulator, mean, factor=1.0, root=None):
        self.simulator = simulator
        root = torch.eye(2).double() if root is None else root
        self.posterior = torch.distributions.MultivariateNormal(mean, scale_tril=factor * root)

    def sample(self, batch, n):
        torch.manual_seed(3)
        return self.simulator.from_normal(self.posterior.sample((n,)))

    def log_prob(self, batch):
        return self.posterior.log_prob(self.simulator.to_normal(batch.u))


def assert_close(u, mean, covariance, simulator=LINE):
    """Samples u [n, pattern, 2] have the mean to a tenth of the spread, and the covariance to a tenth."""
    z = simulator.to_normal(u)
    spread = covariance.diagonal(dim1=-2, dim2=-1).sqrt()
    assert bool(((z.mean(0) - mean).abs() < 0.15 * spread).all())
    found = torch.stack([torch.cov(each.T) for each in z.unbind(1)])
    scale = spread[:, :, None] * spread[:, None, :]
    assert bool(((found - covariance).abs() < 0.15 * scale).all())


def test_fit_and_laplace_are_the_known_posterior():
    mean, covariance = exact(PATTERNS)
    fit = best_fits(LINE, PATTERNS, generator=seeded())
    assert torch.allclose(fit.z, mean, atol=0.02)
    assert torch.allclose(fit.covariance, covariance, rtol=0.05, atol=1e-3)
    u = laplace_samples(LINE, fit, 4000, generator=seeded())
    assert u.shape == (4000, 3, 2)
    assert LINE.prior.outside(u) == ()
    assert_close(u, mean, covariance)


def height(z):
    """Log prior times likelihood by scipy."""
    expected = LINE.intensity(LINE.from_normal(z))
    likelihood = (stats.poisson.logpmf(PATTERNS.counts, expected) * PATTERNS.mask.numpy()).sum(-1)
    return torch.as_tensor(likelihood + stats.norm.logpdf(z).sum(-1))


def test_many_patterns_are_fitted_as_few_are():
    many = PatternBatch(*(field.repeat(7, 1) for field in PATTERNS._replace(photons=torch.ones(3, 1))))
    fit = best_fits(LINE, many, generator=seeded(), n_starts=2)
    few = best_fits(LINE, PATTERNS, generator=seeded())
    assert torch.allclose(fit.z, few.z.repeat(7, 1), atol=1e-4)
    assert torch.allclose(fit.covariance, few.covariance.repeat(7, 1, 1), rtol=1e-3)


def test_fit_is_at_the_maximum_and_does_not_look_at_the_truth():
    fit = best_fits(LINE, PATTERNS, generator=seeded())
    blind = PATTERNS._replace(u=torch.full_like(PATTERNS.u, math.nan))
    assert torch.equal(best_fits(LINE, blind, generator=seeded()).z, fit.z)
    steps = 1e-3 * torch.randn(50, 3, 2, generator=seeded(2), dtype=torch.double)
    assert bool((height(fit.z + steps) < fit.log_joint).all())


def test_chains_are_the_known_posterior():
    chains = markov_chains(LINE, PATTERNS, 8000, generator=seeded(), n_burn=30, n_steps=400)
    assert chains.samples.shape == (8000, 3, 2)
    assert_close(chains.samples, *exact(PATTERNS))
    assert bool(((chains.acceptance > 0.1) & (chains.acceptance < 0.9)).all())
    assert bool(((chains.autocorrelation > 1) & (chains.autocorrelation < 50)).all())


def test_chains_are_seeded():
    first, again, other = (
        markov_chains(LINE, PATTERNS, 10, generator=seeded(seed), n_burn=3, n_steps=5).samples for seed in (0, 0, 1)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_both_peaks_are_found():
    batch = TWIN.at([1.0, 0.4])
    chains = markov_chains(TWIN, batch, 2000, generator=seeded(), n_burn=50, n_steps=300).samples
    prior = Guess(TWIN, torch.zeros(1, 2).double(), 1.2)
    drawn = prior.sample(batch, 20_000)
    found = importance(prior, batch, drawn)
    weighted = resample(drawn, found.weights, 2000, generator=seeded())
    for samples in (chains, weighted):
        first = TWIN.to_normal(samples)[:, 0, 0]
        assert float((first > 0).double().mean()) == pytest.approx(0.5, abs=0.1)
        assert float(first.abs().mean()) == pytest.approx(1.0, abs=0.3)
    assert float(TWIN.to_normal(chains).abs().mean()) == pytest.approx(
        float(TWIN.to_normal(weighted).abs().mean()), abs=0.03
    )


def test_weights_make_a_wide_guess_exact():
    mean, covariance = exact(PATTERNS)
    guess = Guess(LINE, mean + 0.1, 1.7, torch.linalg.cholesky(covariance))
    samples = guess.sample(PATTERNS, 8000)
    found = importance(guess, PATTERNS, samples)
    assert torch.allclose(found.weights.sum(0), torch.ones(3).double())
    assert_close(resample(samples, found.weights, 4000, generator=seeded()), mean, covariance)
    right = Guess(LINE, mean, 1.0, torch.linalg.cholesky(covariance))
    of_right = importance(right, PATTERNS, right.sample(PATTERNS, 8000))
    assert bool((of_right.n_effective > 0.95 * 8000).all())
    assert bool((found.n_effective < 0.6 * 8000).all())


def test_effective_number_by_hand():
    found = weigh(torch.tensor([[0.0, 5.0], [0.0, -math.inf], [math.log(2), -math.inf]]))
    assert found.weights.T.tolist() == [pytest.approx([0.25, 0.25, 0.5]), [1, 0, 0]]
    assert found.n_effective.tolist() == pytest.approx([1 / 0.375, 1])


def test_effective_share_of_normals_is_the_analytic_one():
    """A normal of twice the width: 1 / E(w^2) = (2 s^2 - 1)^(1/2) / s^2 with s = 2."""
    x = 2 * torch.randn(200_000, 1, generator=seeded(), dtype=torch.double)
    found = weigh(-x.square() / 2 + x.square() / 8)
    assert float(found.n_effective) / len(x) == pytest.approx(math.sqrt(7) / 4, rel=0.01)


def test_resampling_draws_by_weight():
    samples = torch.arange(6.0).reshape(3, 2, 1)
    weights = torch.tensor([[0.0, 1.0], [1.0, 0.0], [0.0, 0.0]])
    assert resample(samples, weights, 4, generator=seeded()).squeeze(-1).T.tolist() == [[2] * 4, [1] * 4]


class Image(Toy):
    def __init__(self):
        super().__init__()
        self.u_shape = (1, 4, 4)


class Broken(Toy):
    def intensity(self, u):
        return super().intensity(u) * math.nan


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: best_fits(Image(), PATTERNS, generator=seeded()), r"unknowns of shape \(1, 4, 4\)"),
        (
            lambda: importance(Guess(Image(), torch.zeros(2)), PATTERNS, PATTERNS.u[None]),
            "expected parameters with a prior density",
        ),
        (lambda: best_fits(Broken(), PATTERNS, generator=seeded()), "intensity is not finite"),
        (lambda: markov_chains(LINE, PATTERNS, 5, generator=seeded(), n_walkers=5), "n_walkers = 5: expected 6"),
        (lambda: markov_chains(LINE, PATTERNS, 99, generator=seeded(), n_walkers=6, n_steps=2), "expected 1 to 12"),
        (lambda: weigh(torch.tensor([[-math.inf], [-math.inf]])), "weights are not finite"),
        (lambda: weigh(torch.tensor([[0.0], [math.nan]])), "weights are not finite"),
    ],
)
def test_what_cannot_be_fitted_is_rejected(call, message):
    with pytest.raises(PosteriorError, match=message):
        call()
