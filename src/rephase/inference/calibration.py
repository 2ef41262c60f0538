"""Tests of the calibration of posterior samples: ranks, coverage, random points, a classifier, replicated patterns.

Samples are [n_draws, n_patterns, ...] and truths [n_patterns, ...], the last axes those of the parameters. Draws of one
pattern must be independent, so MCMC samples are thinned first. Most tests rest on one fact: the rank of the truth among
draws of its own posterior is uniform, whatever the prior and the forward model.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from scipy.stats import binom

from rephase.errors import PosteriorError, extra
from rephase.optics.noise import count, poisson_deviance

LEVELS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95)
UNEXPLAINED = 0.05
"""p-value of a `predictive_check` below which the draws do not explain their pattern."""
_N_INTERVALS = 100
_POINTS = np.arange(1, _N_INTERVALS) / _N_INTERVALS  # ranks at which distributions are compared: 0.01 … 0.99
_N_NULL = 10_000  # sets of uniform ranks for the null distribution
_C2ST_FOLDS = 5


def sbc_ranks(samples: torch.Tensor, truths: torch.Tensor, *, generator: torch.Generator) -> torch.Tensor:
    """Compute the ranks of the truths among the draws, 0–1, [n_patterns, ...]: uniform for the correct posterior.

    ``r = (number of draws below + v (number of equal draws + 1)) / (n_draws + 1)`` with v uniform in 0–1: ties are
    broken at random, and the distribution does not depend on the number of draws. Ranks are unchanged by any rising
    map of a parameter. A posterior that ignores the pattern and returns the prior passes: see `tarp_ranks` and `c2st`.

    Parameters
    ----------
    samples, truths
        [n_draws, n_patterns, ...] and [n_patterns, ...].
    generator
        Generator for the ties, on the device of the samples.

    Raises
    ------
    PosteriorError
        Shapes do not match, or values are not finite.

    References
    ----------
    Talts et al. (2018), arXiv:1804.06788.
    """
    _check(samples, truths)
    below, equal = (samples < truths).sum(0), (samples == truths).sum(0)
    v = torch.rand(truths.shape, generator=generator, dtype=torch.double, device=truths.device)
    return (below + v * (equal + 1)) / (len(samples) + 1)


def uniformity(ranks: torch.Tensor) -> torch.Tensor:
    """Compute the p-value of uniform ranks, [...], from the ranks [n_patterns, ...] of each parameter.

    The number of ranks below each of 0.01, 0.02 … 0.99 is binomial; the rarest of these numbers is compared with the
    rarest in 10,000 seeded sets of uniform ranks. The test is more sensitive to posteriors that are too narrow or too
    wide, which show in the tails, than that of Kolmogorov and Smirnov. `ecdf_band` is the same test as a band.

    References
    ----------
    Säilynoja, Bürkner & Vehtari (2022), doi:10.1007/s11222-022-10090-6.
    """
    n = len(ranks)
    rarest = _rarest(_n_below(ranks), n)
    p = (1 + np.searchsorted(_null_of(n), rarest, side="right")) / (1 + _N_NULL)
    return torch.from_numpy(p).reshape(ranks.shape[1:])


def bonferroni(p_values: torch.Tensor) -> float:
    """Bound the p-value of the smallest of several p-values: ``min(1, n min p)``, whatever their dependence."""
    return min(1.0, p_values.numel() * float(p_values.min()))


class EcdfBand(NamedTuple):
    """Confidence band from ``low`` to ``high`` for (fraction of uniform ranks below a point) − point, at ``points``."""

    points: np.ndarray
    low: np.ndarray
    high: np.ndarray


def ecdf_band(n_patterns: int, level: float = 0.95) -> EcdfBand:
    """Compute the band that contains the whole curve of uniform ranks with probability `level`.

    A curve leaves the band if `uniformity` is below 1 - level.

    Parameters
    ----------
    n_patterns
        Number of ranks of each parameter.
    level
        Probability, 0–1.
    """
    rare = np.quantile(_null_of(n_patterns), 1 - level) / 2
    low, high = binom.ppf(rare, n_patterns, _POINTS), binom.isf(rare, n_patterns, _POINTS)
    return EcdfBand(_POINTS, low / n_patterns - _POINTS, high / n_patterns - _POINTS)


def ecdf_difference(ranks: torch.Tensor) -> np.ndarray:
    """Fraction of ranks [n_patterns, n_parameters] below each point of `ecdf_band`, minus it: [parameter, point].

    A curve below 0 throughout means that truths lie above the draws; from above to below 0, that posteriors are too
    narrow.
    """
    return _n_below(ranks) / len(ranks) - _POINTS


def coverage(ranks: torch.Tensor, levels: Sequence[float] = LEVELS) -> torch.Tensor:
    """Fraction of truths in the central interval of each level, [n_levels, ...], from ranks [n_patterns, ...]."""
    return torch.stack([(2 * ranks - 1).abs().le(level).double().mean(0) for level in levels])


def tarp_ranks(
    samples: torch.Tensor,
    truths: torch.Tensor,
    *,
    generator: torch.Generator,
    references: torch.Tensor | None = None,
) -> torch.Tensor:
    """Tests of accuracy with random points (TARP): fraction of draws nearer to a point than the truth, [n_patterns].

    All parameters are scaled to the box that the truths fill; the distance is Euclidean. The fractions are ranks as in
    `sbc_ranks`: the fraction of patterns below alpha is the expected coverage at alpha, and `uniformity` tests it. The
    test detects strong correlations that are wrong, which ranks of single parameters do not. If the points do not
    depend on the pattern, the prior passes this test too; with fits of the patterns as `references` it fails, and the
    test is more sensitive to wrong correlations.

    Parameters
    ----------
    samples, truths
        [n_draws, n_patterns, n_parameters] and [n_patterns, n_parameters].
    generator
        Generator for points and ties, on the device of the samples; its seed must differ from that of the truths.
    references
        Points [n_patterns, n_parameters] in the units of the truths, found without the truths; by default uniform in
        the box of the truths.

    Raises
    ------
    PosteriorError
        As `sbc_ranks`; also if a parameter is the same in all truths.

    References
    ----------
    Lemos et al. (2023), arXiv:2302.03026.
    """
    _check(samples, truths)
    low, high = truths.amin(0), truths.amax(0)
    if not (high > low).all():
        raise PosteriorError("a parameter is the same in all truths: expected draws of the prior; leave it out")
    if references is None:
        v = torch.rand(truths.shape, generator=generator, dtype=truths.dtype, device=truths.device)
        references = low + (high - low) * v
    of_draws, of_truths = (((u - references) / (high - low)).square().sum(-1) for u in (samples, truths))
    return sbc_ranks(of_draws, of_truths, generator=generator)


def c2st(samples: torch.Tensor, reference: torch.Tensor, *, seed: int) -> torch.Tensor:
    """Classifier two-sample test: accuracy of separating samples from reference, [n_patterns]; 1/2 if they are alike.

    For each pattern a network with two hidden layers is scored on draws that it was not trained on; with n draws each,
    the standard deviation is ``(8 n)^-1/2``. The test detects any error, also a posterior that ignores the pattern.

    Parameters
    ----------
    samples, reference
        [n_draws, n_patterns, n_parameters], equally many of both.
    seed
        Seed of the classifier and its folds.

    Raises
    ------
    PosteriorError
        Shapes differ, there are fewer draws than folds, or values are not finite.

    References
    ----------
    Lopez-Paz & Oquab (2017), arXiv:1610.06545; Lueckmann et al. (2021), arXiv:2101.04653.
    """
    _check(samples, reference[0])
    if samples.shape != reference.shape or len(samples) < _C2ST_FOLDS:
        raise PosteriorError(
            f"reference has shape {tuple(reference.shape)}: expected the shape of the samples, {tuple(samples.shape)}, "
            f"and {_C2ST_FOLDS} draws or more; draw as many of both"
        )
    with extra("posteriors"):
        from sbi.utils.metrics import c2st as accuracy

    pairs = zip(reference.unbind(1), samples.unbind(1))
    return torch.stack([accuracy(x, y, seed=seed, n_folds=_C2ST_FOLDS, classifier="mlp") for x, y in pairs])


class PredictiveCheck(NamedTuple):
    """Deviance of counts from each draw, [n_draws, n_patterns]: ``measured``, and ``replicated`` by the draw itself.

    ``p_value`` [n_patterns]: fraction of draws whose replica deviates at least as much as the pattern.
    """

    measured: torch.Tensor
    replicated: torch.Tensor
    p_value: torch.Tensor


def predictive_check(
    expected: torch.Tensor, counts: torch.Tensor, mask: torch.Tensor, *, generator: torch.Generator
) -> PredictiveCheck:
    """Test whether draws of a posterior explain their pattern: compare its deviance with that of replicated counts.

    A p-value near 0 means that no draw explains the pattern: the forward model or its noise is wrong, or the posterior
    missed the pattern. For the correct posterior p-values concentrate around 1/2 instead of being uniform, as the draws
    depend on the pattern.

    Parameters
    ----------
    expected
        Expected counts of each draw, [n_draws, n_patterns, *pattern].
    counts, mask
        Measured counts and mask, [n_patterns, *pattern]; True = measured.
    generator
        Generator for the replicas, on the device of `expected`.

    Raises
    ------
    OpticsError
        Expected counts are negative or not finite.

    References
    ----------
    Gelman, Meng & Stern (1996), Statistica Sinica 6, 733–760.
    """
    measured = poisson_deviance(expected, counts, mask)
    replicas = count(expected.double(), generator=generator)
    each = (values.flatten(0, 1) for values in (expected, replicas, mask.expand(expected.shape)))
    replicated = poisson_deviance(*each).unflatten(0, expected.shape[:2])
    return PredictiveCheck(measured, replicated, (replicated >= measured).double().mean(0))


def _n_below(ranks: torch.Tensor) -> np.ndarray:
    """Count the ranks [n_patterns, ...] up to each point, [parameters, point]."""
    by_parameter = ranks.reshape(len(ranks), -1).T.cpu().numpy()
    return np.stack([np.searchsorted(each, _POINTS, side="right") for each in np.sort(by_parameter)])


def _rarest(n_below: np.ndarray, n: int) -> np.ndarray:
    """Smallest two-sided probability over the points, [...], of the numbers [..., point] of `n` ranks up to each."""
    return np.take_along_axis(_two_sided(n), n_below, axis=0).min(-1)


def _two_sided(n: int) -> np.ndarray:
    """Two-sided probability of every number of `n` uniform ranks up to each point, [n + 1, point]."""
    number = np.arange(n + 1)[:, None]
    return 2 * np.minimum(binom.cdf(number, n, _POINTS), binom.sf(number - 1, n, _POINTS))


@lru_cache
def _null_of(n: int) -> np.ndarray:
    """Null distribution of `_rarest` for sets of `n` uniform ranks, sorted, [_N_NULL]."""
    rng = np.random.default_rng(n)
    n_within = rng.multinomial(n, np.full(_N_INTERVALS, 1 / _N_INTERVALS), size=_N_NULL)
    return np.sort(_rarest(n_within.cumsum(1)[:, :-1], n))


def _check(samples: torch.Tensor, truths: torch.Tensor) -> None:
    if samples.ndim < 2 or samples.shape[1:] != truths.shape or not len(samples) or not len(truths):
        raise PosteriorError(
            f"samples have shape {tuple(samples.shape)}, truths {tuple(truths.shape)}: expected [n_draws, n_patterns, "
            "...] and [n_patterns, ...], none of them empty"
        )
    for name, values in (("samples", samples), ("truths", truths)):
        if not torch.isfinite(values).all():
            raise PosteriorError(
                f"{name} have values that are not finite: expected numbers; find the draw that diverged"
            )
