"""Counts of patterns: their mean and noise, masks, and the scale that can be undone."""

import math

import pytest
import torch
from scipy.stats import poisson

from rephase.errors import OpticsError
from rephase.optics.noise import (
    Exposure,
    draw_counts,
    expected_counts,
    normalise,
    poisson_deviance,
    poisson_log_likelihood,
    to_counts,
)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def test_counts_have_the_mean_and_variance_of_photons():
    intensity = torch.full((2000, 50), 3.0)
    exposure = Exposure(photons=torch.full((50,), 2.0), background=1.5)
    counts = draw_counts(intensity, exposure, generator=seeded())
    assert counts.dtype == torch.float32
    assert torch.equal(counts, counts.round())
    assert float(counts.mean()) == pytest.approx(7.5, rel=0.01)
    assert float(counts.var()) == pytest.approx(7.5, rel=0.02)
    assert torch.equal(counts, draw_counts(intensity, exposure, generator=seeded()))
    assert not torch.equal(counts, draw_counts(intensity, exposure, generator=seeded(1)))


def test_photons_may_be_of_each_sample_or_each_pixel():
    intensity = torch.ones(2, 3, dtype=torch.float64)
    times = expected_counts(intensity, Exposure(photons=torch.tensor([[1.0], [10.0]]).double()))
    assert times.tolist() == [[1, 1, 1], [10, 10, 10]]
    pixels = expected_counts(intensity, Exposure(photons=torch.tensor([1.0, 2.0, 4.0]).double(), background=0.5))
    assert pixels.tolist() == [[1.5, 2.5, 4.5]] * 2


def test_expected_counts_have_gradients_where_measured():
    intensity = torch.ones(1, 4, requires_grad=True)
    mask = torch.tensor([False, False, True, True])
    expected_counts(intensity, Exposure(photons=3.0, mask=mask)).sum().backward()
    assert intensity.grad.tolist() == [[0, 0, 3, 3]]


def test_what_is_masked_shows_nothing():
    image = torch.ones(3, 5, 5)
    mask = torch.ones(5, 5, dtype=torch.bool)
    mask[2, 2] = False
    counts = draw_counts(image, Exposure(photons=100.0, background=10.0, mask=mask), generator=seeded())
    assert not counts[:, 2, 2].any()
    assert (counts[:, mask] > 0).all()


def test_normalising_is_undone():
    counts = torch.randint(1, 1000, (4, 6, 6), generator=seeded()).double()
    mask = torch.ones(6, 6, dtype=torch.bool)
    mask[:2] = False
    found = normalise(counts, mask)
    assert found.pattern[:, mask].mean(1).tolist() == pytest.approx([1] * 4)
    assert not found.pattern[:, ~mask].any()
    assert torch.allclose(to_counts(found)[:, mask], counts[:, mask], rtol=1e-12)
    brighter = normalise(100 * counts, mask)
    assert torch.allclose(brighter.pattern, found.pattern, rtol=1e-12)
    assert torch.allclose(brighter.scale, 100 * found.scale, rtol=1e-12)


def test_likelihood_of_counts_is_that_of_poissons_law():
    expected = torch.tensor([[[0.5, 3.0], [7.0, 1e6]], [[0.1, 2.0], [9.0, 1.001e6]]], requires_grad=True)
    counts, mask = torch.tensor([[0.0, 2.0], [9.0, 1e6]]), torch.ones(2, 2, dtype=torch.bool)
    found = poisson_log_likelihood(expected, counts, mask)
    independent = poisson.logpmf(counts.numpy(), expected.detach().double().numpy()).sum(-1)
    assert found.shape == (2, 2)
    assert found.dtype == torch.float32
    assert found.tolist() == [pytest.approx(row, rel=1e-5) for row in independent.tolist()]
    found.sum().backward()
    assert torch.allclose(expected.grad, counts / expected.detach() - 1, atol=1e-6)


def test_deviance_by_hand():
    counts, mask = torch.tensor([[4.0, 0.0, 5.0]]), torch.ones(1, 3, dtype=torch.bool)
    assert poisson_deviance(counts, counts, mask).tolist() == [0]
    expected = torch.tensor([[2.0, 1.5, 5.0]])
    by_hand = 2 * (4 * math.log(2) - 2 + 1.5)
    assert poisson_deviance(expected, counts, mask).tolist() == pytest.approx([by_hand])


@pytest.mark.parametrize("measure", [poisson_log_likelihood, poisson_deviance])
def test_what_is_masked_has_no_likelihood_and_no_gradient(measure):
    counts = torch.tensor([[3.0, math.nan], [0.0, 7.0]])
    mask = torch.tensor([[True, False], [True, False]])
    expected = torch.tensor([[2.0, 0.0], [0.0, math.nan]], requires_grad=True)
    measure(expected, counts, mask).sum().backward()
    assert torch.equal(expected.grad != 0, torch.tensor([[True, False], [False, False]]))
    alone = measure(expected[:, :1], counts[:, :1], mask[:, :1])
    assert torch.equal(measure(expected, counts, mask), alone)


ONE = torch.ones(2, 3)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: expected_counts(-ONE, Exposure()), "intensity has values that are negative"),
        (lambda: expected_counts(ONE, Exposure(photons=math.nan)), "photons has values"),
        (lambda: expected_counts(ONE, Exposure(background=-1.0)), "background has values"),
        (lambda: expected_counts(ONE, Exposure(mask=torch.zeros(3, dtype=torch.bool))), "hides everything"),
        (lambda: expected_counts(ONE, Exposure(mask=torch.ones(2, dtype=torch.bool))), r"mask has shape \(2,\)"),
        (lambda: expected_counts(ONE, Exposure(mask=torch.ones(3))), "float32"),
        (lambda: normalise(torch.tensor([[1.0, 2.0], [0.0, 0.0]])), "pattern 1 has no count"),
        (lambda: normalise(ONE, torch.zeros(3, dtype=torch.bool)), "hides everything"),
    ],
)
def test_what_cannot_be_counted_is_rejected(call, message):
    with pytest.raises(OpticsError, match=message):
        call()
