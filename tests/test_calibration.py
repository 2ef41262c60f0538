"""Calibration: the exact posterior of a linear Gaussian model passes, and each wrong one is caught by its test."""

import math

import numpy as np
import pytest
import torch

from rephase.errors import OpticsError, PosteriorError
from rephase.inference.calibration import (
    LEVELS,
    bonferroni,
    c2st,
    coverage,
    ecdf_band,
    ecdf_difference,
    predictive_check,
    sbc_ranks,
    tarp_ranks,
    uniformity,
)

N_DRAWS, N_PATTERNS = 200, 500
MIX = torch.tensor([[1.0, 1.0, 0.0], [0.0, 1.0, 1.0]]).double()  # two readings of three parameters
SIGMA = 0.1


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def draw(*shape, seed):
    return torch.randn(*shape, generator=seeded(seed), dtype=torch.double)


@pytest.fixture(scope="module")
def exact():
    """Truths, readings, and the mean and square root of the covariance of the exact posterior."""
    truths = draw(N_PATTERNS, 3, seed=1)
    readings = truths @ MIX.T + SIGMA * draw(N_PATTERNS, 2, seed=2)
    covariance = torch.linalg.inv(torch.eye(3) + MIX.T @ MIX / SIGMA**2)
    return truths, readings @ (MIX / SIGMA**2) @ covariance, torch.linalg.cholesky(covariance)


def posterior(exact, kind="exact"):
    truths, mean, root = exact
    noise = draw(N_DRAWS, N_PATTERNS, 3, seed=3)
    spread = root.norm(dim=1)
    return {
        "exact": lambda: mean + noise @ root.T,
        "narrow": lambda: mean + 0.7 * noise @ root.T,
        "wide": lambda: mean + 1.4 * noise @ root.T,
        "shifted": lambda: mean + 0.4 * spread + noise @ root.T,
        "prior": lambda: noise,
        "uncorrelated": lambda: mean + noise * spread,
    }[kind]()


def sbc(exact, kind):
    return bonferroni(uniformity(sbc_ranks(posterior(exact, kind), exact[0], generator=seeded())))


def tarp(exact, kind, references=None):
    return float(uniformity(tarp_ranks(posterior(exact, kind), exact[0], generator=seeded(), references=references)))


def test_exact_posterior_passes(exact):
    ranks = sbc_ranks(posterior(exact), exact[0], generator=seeded())
    assert sbc(exact, "exact") > 0.05
    assert tarp(exact, "exact") > 0.05
    levels = torch.tensor(LEVELS).double()[:, None]
    error = (levels * (1 - levels) / N_PATTERNS).sqrt()
    assert bool(((coverage(ranks) - levels).abs() < 3 * error).all())


@pytest.mark.parametrize(("kind", "sign"), [("narrow", -1), ("wide", 1), ("shifted", 0)])
def test_wrong_width_and_shift_are_caught(exact, kind, sign):
    assert sbc(exact, kind) < 0.001
    covered = coverage(sbc_ranks(posterior(exact, kind), exact[0], generator=seeded()), [0.9])
    assert sign == 0 or bool((sign * (covered - 0.9) > 0.03).all())
    assert sign == 0 or tarp(exact, kind) < 0.001


def test_the_prior_passes_ranks_and_random_points_but_not_points_that_know_the_pattern(exact):
    assert sbc(exact, "prior") > 0.05
    assert tarp(exact, "prior") > 0.05
    assert tarp(exact, "prior", references=exact[1]) < 0.001
    assert tarp(exact, "exact", references=exact[1]) > 0.05


def test_wrong_correlations_pass_ranks_but_not_random_points(exact):
    assert sbc(exact, "uncorrelated") > 0.05
    assert tarp(exact, "uncorrelated") < 0.01
    assert tarp(exact, "uncorrelated", references=exact[1]) < 0.001


def test_classifier_distinguishes_the_prior_and_wrong_correlations(exact):
    kinds = ("exact", "prior", "uncorrelated")
    reference = exact[1] + draw(N_DRAWS, N_PATTERNS, 3, seed=4) @ exact[2].T
    wrong = torch.cat([posterior(exact, kind)[:, :1] for kind in kinds], dim=1)
    right = reference[:, :1].expand(-1, len(kinds), -1)
    found = c2st(wrong, right, seed=1)
    assert found.shape == (len(kinds),)
    assert abs(float(found[0]) - 0.5) < 0.08
    assert bool((found[1:] > 0.6).all())
    assert torch.equal(found, c2st(wrong, right, seed=1))


def test_ranks_by_hand():
    samples = torch.tensor([1.0, 2.0, 3.0])[:, None, None].expand(-1, 4000, 1)
    truths = torch.tensor([0.0, 2.0, 2.5, 9.0]).repeat(1000)[:, None]
    ranks = sbc_ranks(samples, truths, generator=seeded()).reshape(1000, 4)
    for column, low, high in zip(ranks.T, (0, 0.25, 0.5, 0.75), (0.25, 0.75, 0.75, 1)):
        assert low <= column.min() < low + 0.01
        assert high - 0.01 < column.max() <= high


def test_ranks_and_points_do_not_care_about_units(exact):
    truths, samples, scale = exact[0], posterior(exact), torch.tensor([1e-3, 1.0, 1e5]).double()
    for test in (sbc_ranks, tarp_ranks):
        before = test(samples, truths, generator=seeded())
        assert torch.allclose(test(samples * scale + 4, truths * scale + 4, generator=seeded()), before)


def test_coverage_by_hand():
    ranks = torch.tensor([[0.01, 0.5], [0.3, 0.5], [0.96, 0.5], [0.5, 0.04]]).double()
    assert coverage(ranks, [0.5, 0.9]).tolist() == [[0.5, 0.75], [0.5, 0.75]]


def test_uniform_ranks_leave_the_band_as_often_as_its_level_says():
    ranks = torch.rand(60, 2000, generator=seeded(), dtype=torch.double)
    p, band, levels = uniformity(ranks), ecdf_band(60, level=0.9), (0.05, 0.1, 0.5)
    assert [float((p < level).double().mean()) for level in levels] == pytest.approx(levels, abs=0.03)
    curves = ecdf_difference(ranks)
    is_outside = ((curves < band.low - 1e-9) | (curves > band.high + 1e-9)).any(-1)
    assert np.mean(is_outside != (p.numpy() < 0.1)) < 0.01
    assert bonferroni(torch.tensor([0.5, 0.01, 0.3])) == pytest.approx(0.03)
    assert bonferroni(torch.tensor([0.5, 0.9])) == 1


def test_curve_of_ranks_by_hand():
    curve = ecdf_difference(torch.tensor([[0.105], [0.205], [0.305], [0.405]]))
    assert curve.shape == (1, 99)
    assert curve[0, [9, 10, 49, 98]].tolist() == pytest.approx([-0.1, 0.25 - 0.11, 0.5, 0.01])


def test_replicated_patterns_reveal_a_wrong_model():
    expected = torch.full((300, 2, 40), 30.0)
    counts = torch.poisson(expected[0], generator=seeded(5))
    mask = torch.ones(2, 40, dtype=torch.bool)
    counts[1, :10] += 20
    check = predictive_check(expected, counts, mask, generator=seeded())
    assert check.measured.shape == check.replicated.shape == (300, 2)
    assert float(check.replicated.mean()) == pytest.approx(40, rel=0.03)
    assert check.p_value[0] > 0.05
    assert check.p_value[1] < 0.01
    mask[1, :10] = False
    assert predictive_check(expected, counts, mask, generator=seeded()).p_value[1] > 0.05


ONE = torch.ones(10, 4, 2)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: sbc_ranks(ONE, ONE[0, :3], generator=seeded()), r"truths \(3, 2\)"),
        (lambda: sbc_ranks(ONE[:0], ONE[0], generator=seeded()), "none of them empty"),
        (lambda: sbc_ranks(ONE * math.nan, ONE[0], generator=seeded()), "samples have values that are not finite"),
        (lambda: tarp_ranks(ONE, ONE[0] * math.inf, generator=seeded()), "truths have values"),
        (lambda: tarp_ranks(ONE, ONE[0], generator=seeded()), "same in all truths"),
        (lambda: c2st(ONE, ONE[:7], seed=0), r"reference has shape \(7, 4, 2\)"),
        (lambda: c2st(ONE[:3], ONE[:3], seed=0), "5 draws or more"),
        (lambda: predictive_check(-ONE, ONE[0], ONE[0] > 0, generator=seeded()), "negative"),
    ],
)
def test_samples_that_make_no_sense_are_rejected(call, message):
    with pytest.raises((PosteriorError, OpticsError), match=message):
        call()
