"""Completed amplitudes: metrics on known cases, baselines against their definitions."""

import pytest
import torch

from rephase.config.completion import MonoclinicConfig
from rephase.crystal.reflections.statistics import squared_form_factors
from rephase.labs.completion.data import CompletionBatch, MonoclinicData, open_monoclinic
from rephase.labs.completion.models.baselines import AMPLITUDE_BASELINES, wilson_amplitude
from rephase.labs.completion.scores import COMPLETION_METRICS, filled_in
from rephase.learning.similarity import structural_similarity

CONFIG = MonoclinicConfig(
    space_groups=("P 1 21/c 1", "C 1 2 1"), n_atoms=(8, 12), shape=(30, 24, 30), d_min=0.9, n_samples=20, chunk=20
)


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> MonoclinicData:
    return open_monoclinic(tmp_path_factory.mktemp("completion") / "data.zarr", CONFIG)


@pytest.fixture(scope="module")
def batch(data) -> CompletionBatch:
    return data[list(range(20))]


def scores(amplitude, batch):
    return {name: entry.function(filled_in(amplitude, batch)) for name, entry in COMPLETION_METRICS.items()}


def test_the_truth_is_perfect_and_the_observed_part_is_the_data(batch):
    for amplitude in (batch.F.abs(), torch.where(batch.observed, 1e6, batch.F.abs())):
        found = scores(amplitude, batch)
        for name in ("r_factor", "r_factor_missing", "mse", "mse_missing"):
            assert found[name].abs().max() < 1e-6, name
        assert torch.allclose(found["ssim"], torch.ones(20), atol=1e-4)


def test_scores_of_a_known_error(batch):
    true = batch.F.abs()
    found, missing = scores(1.5 * true, batch), true * batch.missing
    assert torch.allclose(found["r_factor_missing"], torch.full((20,), 0.5), atol=1e-5)
    share = missing.sum((1, 2, 3)) / true.sum((1, 2, 3))
    assert torch.allclose(found["r_factor"], 0.5 * share, atol=1e-5)
    scaled = 0.5 * missing / batch.scale
    assert torch.allclose(found["mse"], scaled.square().mean((1, 2, 3)), rtol=1e-4)
    expected = scaled.square().sum((1, 2, 3)) / batch.missing.sum((1, 2, 3))
    assert torch.allclose(found["mse_missing"], expected, rtol=1e-4)


def test_structural_similarity_looks_only_inside_where_nothing_is_periodic():
    x = torch.rand((2, 9, 10, 11), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    windows = x.unfold(1, 7, 1).unfold(2, 7, 1).unfold(3, 7, 1)
    y = x.flip(1)
    other = y.unfold(1, 7, 1).unfold(2, 7, 1).unfold(3, 7, 1)
    flat, flat_other = windows.flatten(4), other.flatten(4)
    covariance = ((flat - flat.mean(-1, keepdim=True)) * (flat_other - flat_other.mean(-1, keepdim=True))).sum(-1) / 342
    means, c1, c2 = (flat.mean(-1), flat_other.mean(-1)), 1e-4, 9e-4
    expected = (2 * means[0] * means[1] + c1) / (means[0] ** 2 + means[1] ** 2 + c1)
    expected = expected * (2 * covariance + c2) / (flat.var(-1) + flat_other.var(-1) + c2)
    assert torch.allclose(structural_similarity(x, y, periodic=False), expected.mean((1, 2, 3)))


@pytest.mark.parametrize("name", AMPLITUDE_BASELINES)
def test_baselines_keep_what_was_observed_and_agree_for_equivalents(name, data, batch):
    amplitude = AMPLITUDE_BASELINES[name]().predict(batch)
    assert torch.equal(amplitude[batch.observed], batch.F.abs()[batch.observed])
    assert torch.allclose(data.grid.partner(amplitude), amplitude, rtol=1e-4, atol=1e-6 * float(amplitude.max()))
    assert torch.isfinite(amplitude).all()
    assert (amplitude >= 0).all()
    assert not amplitude[~batch.mask].any()


def test_who_knows_more_is_better(batch):
    found = {name: scores(make().predict(batch), batch) for name, make in AMPLITUDE_BASELINES.items()}
    zero, line, median = (found[name]["r_factor_missing"].mean() for name in ("zero_fill", "wilson", "shell_median"))
    assert zero == pytest.approx(1)
    assert median < line < 0.7


def test_the_expected_amplitude_is_right_on_average_and_independent_of_what_is_missing(batch):
    expected = wilson_amplitude(batch)
    ratio = (batch.F.abs().square() * batch.missing).sum((1, 2, 3)) / (expected.square() * batch.missing).sum((1, 2, 3))
    assert 0.5 < ratio.log().mean().exp() < 2
    changed = batch._replace(F=torch.where(batch.observed, batch.F, 100 * batch.F))
    assert torch.allclose(wilson_amplitude(changed), expected, rtol=1e-5)


def test_the_line_is_found_again_where_it_is_one(batch):
    b_iso, carbon = 5.0, torch.as_tensor(squared_form_factors({"C": 1.0}, batch.s_squared.numpy().ravel()))
    square = 1e4 * carbon.reshape(batch.F.shape) * torch.exp(-2 * b_iso * batch.s_squared)
    exact = batch._replace(F=square.sqrt().to(torch.complex64), observed=batch.mask)
    found = wilson_amplitude(exact)[batch.mask]
    assert torch.allclose(found, square.sqrt().float()[batch.mask], rtol=0.05)
