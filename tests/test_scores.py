"""Losses, metrics and baselines: known answers and invariants."""

import numpy as np
import pytest
import torch
from skimage.metrics import structural_similarity

from rephase.crystal.phases import friedel_mate, shift_origin
from rephase.labs.crystals.losses import LOSSES
from rephase.labs.crystals.models.baselines import BASELINES, Chance, NearestNeighbour, ParentPhases
from rephase.labs.crystals.scores import METRICS, compare, evaluate


@pytest.fixture(scope="module")
def batch(data):
    return data[data.splits["test"]]


def scores(F_pred, batch):
    comparison = compare(F_pred, batch.F, batch.scored, batch.volume)
    return {name: metric.function(comparison) for name, metric in METRICS.items()}


def test_perfect_prediction(batch):
    for name, values in scores(batch.F, batch).items():
        perfect = 0.0 if METRICS[name].better == "lower" else 1.0
        assert values.numpy() == pytest.approx(perfect, abs=1e-3 if "phase" in name else 1e-5), name


def test_scores_do_not_depend_on_origin_and_hand(batch):
    generator = torch.Generator().manual_seed(0)
    noisy = batch.F * torch.polar(torch.ones(batch.F.shape), 0.8 * torch.randn(batch.F.shape, generator=generator))
    moved = friedel_mate(shift_origin(noisy, torch.rand(len(noisy), 3, generator=generator)))
    before, after = scores(noisy, batch), scores(moved, batch)
    for name in METRICS.keys() - {"phase_loss_naive", "phase_loss_hand"}:
        assert after[name].numpy() == pytest.approx(before[name].numpy(), rel=1e-3, abs=1e-3), name


def test_wrong_hand_costs_the_naive_loss_alone(batch):
    found = scores(friedel_mate(batch.F), batch)
    assert found["phase_loss_naive"].mean() > 10
    assert found["phase_loss_hand"].max() < 1e-3


def test_random_phases_average_ninety_degrees_before_alignment(data):
    from rephase.crystal.phases import phase_error

    batch = data[data.splits["train"]]
    error = phase_error(Chance().predict(batch), batch.F)[batch.scored]
    assert float(error.mean()) == pytest.approx(90, abs=1)


def test_chance_obeys_friedels_law(batch):
    phi = Chance().predict(batch._replace(F=batch.F.abs() + 0j)).angle()
    assert torch.allclose(torch.cos(phi + friedel_mate(phi)), torch.ones_like(phi), atol=1e-5)


def test_ssim_agrees_with_scikit_image():
    """On maps that are periodic anyway, away from the border where scikit-image does not know it."""
    from rephase.labs.crystals.scores import Comparison, ssim

    rng = np.random.default_rng(0)
    x, y = (rng.random((16, 16, 16)) for _ in range(2))
    y = 0.7 * x + 0.3 * y
    x, y = x - y.min(), y - y.min()  # our range starts at the minimum of the truth
    reference = structural_similarity(
        np.pad(x, 8, mode="wrap"), np.pad(y, 8, mode="wrap"), data_range=y.max(), full=True
    )[1][8:-8, 8:-8, 8:-8].mean()
    none = torch.zeros(0)
    maps = [torch.as_tensor(m)[None] for m in (x, y)]
    assert float(ssim(Comparison(none, none, none, none, none, none, *maps))) == pytest.approx(reference, abs=1e-9)


def test_r_factor_by_hand(batch):
    doubled = batch.F * 2
    assert scores(doubled, batch)["r_factor"].numpy() == pytest.approx(0, abs=1e-6)  # the scale is found
    halves = batch.F.clone()
    halves[:, 1:3] = 0
    assert (scores(halves, batch)["r_factor"] > 0.1).all()


@pytest.mark.parametrize("name", LOSSES)
def test_losses_vanish_for_the_truth(name, batch):
    assert float(LOSSES[name](batch.E, batch.E, batch.scored)) == pytest.approx(0, abs=2e-4)


def test_loss_of_opposite_phases_is_two_per_reflection(batch):
    assert float(LOSSES["mean"](-batch.E, batch.E, batch.scored)) == pytest.approx(2)
    assert float(LOSSES["sum"](-batch.E, batch.E, batch.scored)) == pytest.approx(
        2 * float(batch.scored.sum()) / len(batch.E)
    )


@pytest.mark.parametrize("name", [name for name in LOSSES if name != "complex_F"])
def test_the_gradient_of_a_phase_stays_finite_where_a_prediction_vanishes(name, batch):
    """In bfloat16, one zero once made a gradient of 1e8, from which the optimiser did not recover."""
    vanishing = batch.E.clone()
    vanishing[:, 1, 0, 2] = 0
    E = vanishing.requires_grad_()
    LOSSES[name](E, batch.E, batch.scored).backward()
    assert 0 < E.grad[:, 1, 0, 2].abs().max() <= 1001 / len(E)
    assert E.grad.abs().max() <= 1001 / len(E)


def test_the_gradient_of_a_phase_is_that_of_the_angle(batch):
    generator = torch.Generator().manual_seed(3)
    E_true = batch.E.to(torch.complex128)
    E = torch.randn(E_true.shape, generator=generator, dtype=E_true.dtype).requires_grad_()
    LOSSES["sum"](E, E_true, batch.scored).backward()
    turned = E.detach().clone().requires_grad_()
    ((1 - (turned.angle() - E_true.angle()).cos()) * batch.scored).sum((1, 2, 3)).mean().backward()
    assert torch.allclose(E.grad, turned.grad, atol=1e-12)


@pytest.mark.parametrize("name", ["aligned", "complex_F"])
@pytest.mark.parametrize("shift", [(0, 0, 0), (0.5, 0, 0.5), (0.5, 0.5, 0.5)])
def test_aligned_losses_see_neither_hand_nor_half_shifts(name, shift, batch):
    moved = friedel_mate(shift_origin(batch.E, torch.tensor([shift]).repeat(len(batch.E), 1)))
    assert float(LOSSES[name](moved, batch.E, batch.scored)) == pytest.approx(0, abs=2e-3)


def test_best_of_sixteen_is_found(batch):
    """The Hadamard transform of the parity classes against sixteen explicit comparisons."""
    generator = torch.Generator().manual_seed(2)
    pred = batch.E * torch.polar(torch.ones(batch.E.shape), 2 * torch.randn(batch.E.shape, generator=generator))
    every = [
        LOSSES["sum"](pred[[i]], hand(shift_origin(batch.E[[i]], torch.tensor([[a, b, c]]) / 2)), batch.scored[[i]])
        for i in range(3)
        for hand in (lambda E: E, friedel_mate)
        for a in (0, 1)
        for b in (0, 1)
        for c in (0, 1)
    ]
    expected = torch.stack(every).reshape(3, 16).amin(1).mean()
    assert float(LOSSES["aligned"](pred[:3], batch.E[:3], batch.scored[:3])) == pytest.approx(float(expected), rel=1e-4)


def test_undefined_phases_are_not_scored(data):
    """With one atom of fcc nickel moved along a, the mixed-parity reflections (0, k, l) stay exactly zero."""
    nickel = data[np.flatnonzero(data.parent.numpy() == 0)[:5]]
    h, k, l = (torch.fft.fftfreq(7, 1 / 7).long() for _ in range(3))
    mixed = ((k[:, None] + l[None, :]) % 2 == 1) | ((k[:, None] % 2 == 1) & (l[None, :] % 2 == 1))
    assert not nickel.scored[:, 0][:, mixed].any()
    assert not nickel.scored[:, 0, 0, 0].any()
    assert nickel.scored[:, 1].float().mean() > 0.9


def test_parent_phases_are_right_for_the_parent(data):
    parents = data.parents
    number = torch.arange(len(parents.crystals))
    batch = parents.batch(parents.F, number, parents.lattice)
    assert scores(ParentPhases().predict(batch), batch)["phase_loss_naive"].max() < 1e-3


def test_nearest_neighbour_returns_the_sample_itself(data):
    batch = data[data.splits["train"][:6]]
    assert scores(NearestNeighbour(data).predict(batch), batch)["phase_loss_naive"].max() < 1e-3


def test_evaluation_is_tidy_and_complete(data):
    results, shells = evaluate("parent_phases", BASELINES["parent_phases"](data), data, seed=3, experiment="toy")
    assert set(results["metric"]) == {*METRICS, "undefined_phases"}
    assert {"test", "unseen", "test:Ni", "unseen:Copper"} <= set(results["split"])
    assert results["value"].notna().all()
    assert (results["seed"] == 3).all()
    assert shells["mean_phase_error_deg"].between(0, 180).all()
    assert (shells["d_min"] < shells["d_max"]).all()


def test_mean_over_crystals_is_the_split(data):
    results, _ = evaluate("chance", BASELINES["chance"](data), data)
    loss = results[results["metric"] == "phase_loss_aligned"].set_index("split")
    parts = loss[loss.index.str.startswith("test:")]
    assert np.average(parts["value"], weights=parts["n"]) == pytest.approx(loss.loc["test", "value"])
