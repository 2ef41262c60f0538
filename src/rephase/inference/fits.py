"""Posteriors of parameters without a network: best fits and MCMC; also exact reweighting of the samples of a flow.

All methods use the prior and the forward model of a `Simulator` whose z is normal with variance 1 under the prior, work
in double precision, and return parameters [n_draws, n_patterns, n_parameters].
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch

from rephase.errors import PosteriorError, extra
from rephase.inference.patterns import PatternBatch, PosteriorModel, Simulator, expected_of, log_joint

_SHIFT = 1e-5  # of z, for differences: accurate to 1e-5 in double precision, faster than autograd, always supported
_LEAST_EXPECTED = 1e-6  # counts: smallest variance of the counts in a fit
_N_CHOICES = 32  # draws of the prior, the best of which is a start
_GAIN, _LOSS = 0.2, 5.0  # factors of the damping after steps up and after rejected steps
_N_FITTED, _AT_ONCE = 16, 2048  # patterns fitted at once, and intensities computed at once
_FAR = 10.0  # nats below the best hill: walkers do not start there
_APART = 3.0  # standard deviations between separate peaks
_N_CLIMB = 12  # steps before walkers start


class Fit(NamedTuple):
    """Maximum of the posterior of each pattern.

    Attributes
    ----------
    z
        Maximum in z, [n_patterns, n_parameters]; ``simulator.from_normal(z)`` are the parameters.
    log_joint
        Logarithm of prior density times likelihood at the maximum, [n_patterns].
    covariance
        Laplace covariance of z: inverse of the Fisher information plus that of the prior, [n_patterns, n_parameters,
        n_parameters].
    """

    z: torch.Tensor
    log_joint: torch.Tensor
    covariance: torch.Tensor


def best_fits(
    simulator: Simulator,
    batch: PatternBatch,
    *,
    generator: torch.Generator,
    n_starts: int = 8,
    n_steps: int = 15,
) -> Fit:
    """Fit every pattern from several starts by damped Fisher scoring, and keep the best fit.

    ``(J' J + 1 + damping) step = J' r - z`` with J the derivatives of the expected counts m by z over m^1/2, and r the
    residuals over m^1/2: the Levenberg–Marquardt method for counts. All patterns and starts step together.

    Parameters
    ----------
    simulator, batch
        The forward model and the patterns; ``batch.u`` is ignored.
    generator
        Generator for the starts, on the CPU.
    n_starts, n_steps
        Starts per pattern, each the best of 32 draws of the prior, and steps from each start.

    Raises
    ------
    PosteriorError
        The prior is known only by samples, or the intensity is not finite.

    References
    ----------
    Transtrum & Sethna (2012), arXiv:1201.5885; Laurence & Chromy (2010), Nature Methods 7, 338–339.
    """
    fits = []
    for part in _parts(batch, _N_FITTED):
        hills = _climb(simulator, part, _from_prior(simulator, part, n_starts, generator), n_steps)
        best = hills.log_joint.argmax(0), torch.arange(len(part.counts))
        fits.append((hills.z[best], hills.log_joint[best], torch.linalg.inv(hills.information[best])))
    return Fit(*map(torch.cat, zip(*fits)))


def laplace_samples(simulator: Simulator, fit: Fit, n: int, *, generator: torch.Generator) -> torch.Tensor:
    """Draw parameters [n, n_patterns, n_parameters] from the normal distribution of z around a fit.

    The distribution has one symmetric peak, as a least-squares fit with its covariance implies. The generator is on
    the CPU.
    """
    return simulator.from_normal(fit.z + _shaped(fit.covariance, _normal((n, *fit.z.shape), fit.z.device, generator)))


class Peaks(NamedTuple):
    """Separate maxima of the posterior of one pattern, the highest first.

    Attributes
    ----------
    u
        Parameters [n_peaks, n_parameters].
    share
        Fraction of the draws that climb to each peak, [n_peaks].
    below
        Nats of each peak below the highest, [n_peaks].
    """

    u: torch.Tensor
    share: torch.Tensor
    below: torch.Tensor


def peaks(simulator: Simulator, batch: PatternBatch, samples: torch.Tensor, *, n_steps: int = 30) -> Peaks:
    """Find the maxima to which draws of a posterior climb; ends within three Laplace standard deviations are merged.

    Parameters
    ----------
    simulator, batch
        The forward model, and one pattern; ``batch.u`` is ignored.
    samples
        Parameters [n_draws, 1, n_parameters] that climb.
    n_steps
        As in `best_fits`.

    Raises
    ------
    PosteriorError
        As `best_fits`.
    """
    hills = _climb(simulator, batch, simulator.to_normal(samples.double()), n_steps)
    z, height, information = hills.z[:, 0], hills.log_joint[:, 0], hills.information[:, 0]
    left, found = torch.ones_like(height, dtype=torch.bool), []
    shares: list[float] = []
    while left.any():
        top = int(height.where(left, -torch.inf).argmax())
        off = z - z[top]
        is_same = left & (torch.einsum("si,ij,sj->s", off, information[top], off) < _APART**2)
        left, shares = left & ~is_same, [*shares, float(is_same.double().mean())]
        found.append(top)
    return Peaks(simulator.from_normal(z[found]), torch.tensor(shares), height[found[0]] - height[found])


class Chains(NamedTuple):
    """MCMC samples and their diagnostics.

    Attributes
    ----------
    samples
        Parameters [n_draws, n_patterns, n_parameters].
    autocorrelation
        Longest autocorrelation time of the parameters, in steps, [n_patterns]; unreliable unless the chain is 50 times
        as long, and NaN if a walker never moved.
    acceptance
        Fraction of accepted moves, [n_patterns].
    """

    samples: torch.Tensor
    autocorrelation: torch.Tensor
    acceptance: torch.Tensor


def markov_chains(
    simulator: Simulator,
    batch: PatternBatch,
    n: int,
    *,
    generator: torch.Generator,
    n_walkers: int = 32,
    n_burn: int = 300,
    n_steps: int = 700,
) -> Chains:
    """Draw from the posterior of each pattern by MCMC with an ensemble of walkers (emcee), one pattern after another.

    Walkers start spread over the maxima that `best_fits` climbs, so that separate peaks are found; moves by differences
    of other walkers, one in five at full length, carry them from peak to peak.

    Parameters
    ----------
    simulator, batch
        As in `best_fits`.
    n
        Draws that are kept, chosen at random after the burn-in.
    generator
        Generator for starts, moves and the choice of draws, on the CPU.
    n_walkers, n_burn, n_steps
        Walkers, burn-in steps, and steps after the burn-in.

    Raises
    ------
    PosteriorError
        As `best_fits`; also for fewer walkers than twice the parameters plus two, or fewer samples than draws.

    References
    ----------
    Foreman-Mackey et al. (2013), doi:10.1086/670067; ter Braak (2006), doi:10.1007/s11222-006-8769-1.
    """
    check_chains(simulator.u_shape[0], n, n_walkers=n_walkers, n_steps=n_steps)
    chains = []
    for one in _parts(batch, 1):
        hills = _climb(simulator, one, _from_prior(simulator, one, n_walkers, generator), _N_CLIMB)
        chains.append(_chain(simulator, one, _on_hills(hills, generator)[:, 0], n, (n_burn, n_steps), generator))
    z, times, shares = zip(*chains)
    return Chains(simulator.from_normal(torch.stack(z, 1)), torch.tensor(times), torch.tensor(shares))


def check_chains(n_parameters: int, n: int, *, n_walkers: int, n_steps: int) -> None:
    """Raise `PosteriorError` unless there are enough walkers for the parameters and enough samples for `n` draws."""
    n_least = 2 * n_parameters + 2
    if n_walkers < n_least:
        raise PosteriorError(f"n_walkers = {n_walkers}: expected {n_least} or more, twice the parameters plus two")
    if not 0 < n <= n_walkers * n_steps:
        raise PosteriorError(f"n = {n}: expected 1 to {n_walkers * n_steps} draws; take more steps")


class Importance(NamedTuple):
    """Importance weights of the draws of a flow.

    Attributes
    ----------
    weights
        [n_draws, n_patterns]; the weights of a pattern sum to 1.
    n_effective
        ``1 / sum w^2``, [n_patterns]: the equivalent number of draws of the exact posterior. If it is far below the
        number of draws, the flow is inaccurate; if only a few are left, resampled draws are no better.
    """

    weights: torch.Tensor
    n_effective: torch.Tensor


@torch.no_grad()
def importance(model: PosteriorModel, batch: PatternBatch, samples: torch.Tensor) -> Importance:
    """Weight the samples of a model in proportion to prior times likelihood over the density of the model.

    The forward model corrects the network: the weighted samples represent the exact posterior, except where the model
    never draws.

    Parameters
    ----------
    model
        Model that drew the samples, and gives their density.
    batch
        Patterns; ``batch.u`` is ignored.
    samples
        Samples from ``model.sample(batch, n)``, [n_draws, n_patterns, n_parameters].

    Raises
    ------
    PosteriorError
        The prior is known only by samples, the intensity is not finite, or no sample has a finite likelihood.
    """
    joint = _joint(model.simulator, model.simulator.to_normal(samples.double()), batch)
    return weigh(joint - model.log_prob(batch._replace(u=samples)))


def weigh(log_weights: torch.Tensor) -> Importance:
    """Normalise weights [n_draws, n_patterns] given as logarithms up to a constant; errors as `importance`."""
    if not torch.isfinite(log_weights.amax(0)).all():
        raise PosteriorError(
            "weights are not finite: expected a finite likelihood for at least one sample; check the pattern"
        )
    weights = torch.softmax(log_weights, dim=0)
    return Importance(weights, 1 / weights.square().sum(0))


def resample(samples: torch.Tensor, weights: torch.Tensor, n: int, *, generator: torch.Generator) -> torch.Tensor:
    """Draw [n, n_patterns, n_parameters] from weighted samples, with replacement.

    Parameters
    ----------
    samples, weights
        [n_draws, n_patterns, n_parameters] and [n_draws, n_patterns], as in `Importance`.
    n
        Draws for each pattern.
    generator
        Generator on the device of the weights.
    """
    chosen = torch.multinomial(weights.T, n, replacement=True, generator=generator).T
    return samples.gather(0, chosen[..., None].expand(*chosen.shape, samples.shape[-1]))


class _Hills(NamedTuple):
    """Ends of climbs: z [start, pattern, parameter], log_joint [start, pattern], gradient and information."""

    z: torch.Tensor
    log_joint: torch.Tensor
    gradient: torch.Tensor
    information: torch.Tensor


@torch.no_grad()
def _climb(simulator: Simulator, batch: PatternBatch, z: torch.Tensor, n_steps: int) -> _Hills:
    """Climb from z [start, pattern, parameter]; a step down is rejected, and the next one is shorter."""
    here, damping = _slopes(simulator, batch, z), torch.ones_like(z[..., :1])
    for _ in range(n_steps):
        pull = here.information.diagonal(dim1=-2, dim2=-1) * damping
        step = torch.linalg.solve(here.information + torch.diag_embed(pull), here.gradient)
        there = _slopes(simulator, batch, here.z + step)
        is_up = there.log_joint > here.log_joint
        here = _Hills(
            *(
                torch.where(is_up.reshape(*is_up.shape, *[1] * (new.ndim - 2)), new, old)
                for new, old in zip(there, here)
            )
        )
        damping = (damping * torch.where(is_up, _GAIN, _LOSS)[..., None]).clamp(1e-9, 1e9)
    return here


def _slopes(simulator: Simulator, batch: PatternBatch, z: torch.Tensor) -> _Hills:
    """Height, slope and curvature of log prior times likelihood at z [start, pattern, parameter]."""
    one = torch.eye(z.shape[-1], dtype=z.dtype, device=z.device)
    places = torch.cat([z[None], z + _SHIFT * one[:, None, None]])
    expected = expected_of(simulator, simulator.from_normal(places), batch)
    slopes = (expected[1:] - expected[0]) / _SHIFT
    mean = expected[0].clamp_min(_LEAST_EXPECTED)
    inside = slopes.where(batch.mask, 0.0).flatten(3)
    misfit = (batch.counts / mean - 1).where(batch.mask, 0.0).flatten(2)
    gradient = torch.einsum("isbx,sbx->sbi", inside, misfit) - z
    information = torch.einsum("isbx,jsbx,sbx->sbij", inside, inside, 1 / mean.flatten(2))
    joint = log_joint(simulator, z, batch, expected=expected[0])
    if not torch.isfinite(joint).all():
        raise PosteriorError(
            "the intensity is not finite at some draws of the prior: expected numbers; check the bounds"
        )
    return _Hills(z, joint, gradient, information + one)


@torch.no_grad()
def _from_prior(simulator: Simulator, batch: PatternBatch, n: int, generator: torch.Generator) -> torch.Tensor:
    """Draw starts z [n, pattern, parameter], each the best of several draws of the prior."""
    z = _normal((_N_CHOICES, n, len(batch.counts), *simulator.u_shape), batch.counts.device, generator)
    best = _joint(simulator, z, batch).argmax(0)
    return z.gather(0, best[None, ..., None].expand(1, *z.shape[1:]))[0]


def _joint(simulator: Simulator, z: torch.Tensor, batch: PatternBatch) -> torch.Tensor:
    """`log_joint` of z [n, ..., pattern, parameter] in pieces; for parameters only."""
    if len(simulator.u_shape) != 1:
        raise PosteriorError(
            f"unknowns of shape {simulator.u_shape}: expected parameters with a prior density; "
            "use iterative engines for images"
        )
    n_at_once = max(1, _AT_ONCE * len(z) // z[..., 0].numel())
    return torch.cat([log_joint(simulator, part, batch) for part in z.split(n_at_once)])


def _on_hills(hills: _Hills, generator: torch.Generator) -> torch.Tensor:
    """Draw z [start, pattern, parameter] around the ends of climbs; climbs that ended low move to another end."""
    is_high = (hills.log_joint > hills.log_joint.amax(0) - _FAR).cpu()
    own = torch.arange(len(is_high))[:, None].expand(is_high.shape)
    other = torch.multinomial(is_high.T.double(), len(is_high), replacement=True, generator=generator).T
    chosen = torch.where(is_high, own, other), torch.arange(is_high.shape[1])
    z, information = hills.z[chosen], hills.information[chosen]
    return z + _shaped(torch.linalg.inv(information), _normal(z.shape, z.device, generator))


def _parts(batch: PatternBatch, n: int) -> Iterator[PatternBatch]:
    """Yield the patterns of a batch in parts of `n`."""
    fields = (batch.u, batch.counts, batch.photons.expand(batch.counts.shape), batch.mask)
    for part in zip(*(field.split(n) for field in fields)):
        yield PatternBatch(*part)


def _chain(
    simulator: Simulator,
    pattern: PatternBatch,
    start: torch.Tensor,
    n: int,
    length: tuple[int, int],
    generator: torch.Generator,
) -> tuple[torch.Tensor, float, float]:
    """Run walkers from `start` [walker, parameter]; return draws z [n, parameter], autocorrelation time, acceptance."""
    with extra("posteriors"):
        import emcee

    @torch.no_grad()
    def log_density(z: np.ndarray) -> np.ndarray:
        return log_joint(simulator, torch.as_tensor(z).to(start)[:, None], pattern)[:, 0].cpu().numpy()

    n_walkers, n_parameters = start.shape
    moves = [(emcee.moves.DEMove(), 0.8), (emcee.moves.DEMove(gamma0=1.0), 0.2)]
    sampler = emcee.EnsembleSampler(n_walkers, n_parameters, log_density, moves=moves, vectorize=True)
    seed = int(torch.randint(2**32, (), generator=generator))
    sampler.random_state = np.random.RandomState(seed).get_state()
    state = sampler.run_mcmc(start.cpu().numpy(), length[0])
    sampler.reset()
    sampler.run_mcmc(state, length[1])
    chain = sampler.get_chain(flat=True)
    kept = chain[torch.randperm(len(chain), generator=generator)[:n].numpy()]
    with np.errstate(invalid="ignore"):
        time = sampler.get_autocorr_time(tol=0).max()
    return torch.as_tensor(kept).to(start), float(time), float(sampler.acceptance_fraction.mean())


def _shaped(covariance: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
    """Give normal noise [..., parameter] of variance 1 a covariance [..., parameter, parameter]."""
    return (torch.linalg.cholesky(covariance) @ noise[..., None])[..., 0]


def _normal(shape: tuple[int, ...], device: torch.device, generator: torch.Generator) -> torch.Tensor:
    return torch.randn(shape, generator=generator, dtype=torch.double).to(device)
