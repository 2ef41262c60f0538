"""Phases on a monoclinic grid: what the group says of them, allowed origins, models that find them."""

import numpy as np
import pytest
import torch

from rephase.config.completion import MonoclinicConfig
from rephase.config.sections import LearningConfig
from rephase.crystal.cell import Cell
from rephase.crystal.phase_scores import score_phases
from rephase.crystal.phases import unit_phasor
from rephase.labs.completion.data import open_monoclinic
from rephase.labs.completion.grid_phases import align_monoclinic, symmetrise
from rephase.labs.completion.models import MONOCLINIC_PHASE_MODELS
from rephase.labs.completion.models.phases import ChancePhases, phasor_error
from rephase.labs.completion.scores import PHASE_METRICS, align_phases, evaluate_monoclinic_phases
from rephase.learning.training import fit, loss_curve

GROUPS = ("P 1 21/c 1", "C 1 2 1", "P 1 21 1", "C 1 2/c 1", "P 1 21/n 1", "P 1 c 1", "C 1 c 1")
CONFIG = MonoclinicConfig(
    space_groups=GROUPS,
    n_atoms=(5, 8),
    shape=(16, 12, 14),
    d_min=1.2,
    measured={"d_min": (1.6, 2.0)},
    n_samples=21,
    chunk=21,
)
SMALL = {
    "linear": {"rank": 8},
    "unet": {"width": 8},
    "fourier_unet": {"width": 8},
    "transformer": {"embedding": 64, "depth": 1, "dropout": 0.0},
}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return open_monoclinic(tmp_path_factory.mktemp("phases") / "data.zarr", CONFIG)


@pytest.fixture(scope="module")
def batch(data):
    return data[list(range(14))]


def noise(batch, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch.F.shape, generator=generator, dtype=torch.complex64)


def shifted(F, shift, data):
    """F of the crystals moved by fractional shifts [batch, 3]."""
    turns = torch.einsum("hkli, bi -> bhkl", torch.as_tensor(data.grid.hkl, dtype=torch.float64), shift)
    return (F * torch.exp(2j * torch.pi * turns)).to(F.dtype)


def test_true_structure_factors_obey_the_group(data, batch):
    assert torch.allclose(symmetrise(batch.F, batch.operations, data.grid), batch.F, atol=1e-3)


def test_what_was_symmetrised_has_the_allowed_phases_and_stays(data, batch):
    F = symmetrise(noise(batch), batch.operations, data.grid)
    again = symmetrise(F, batch.operations, data.grid)
    assert torch.allclose(again, F, atol=1e-5)
    hkl = data.grid.hkl.reshape(-1, 3)
    for number, group in enumerate(batch.group.tolist()):
        allowed = data.symmetries[group].centric_phase(hkl)
        centric = np.isfinite(allowed) & batch.mask[number].flatten().numpy()
        phi = F[number].angle().flatten().numpy()
        assert np.abs(np.sin(phi - allowed)[centric]).max() < 1e-3
    assert F.abs()[batch.mask].mean() > 0.3


def test_allowed_shifts_are_those_of_the_space_groups(data, batch):
    generator = np.random.default_rng(0)
    for number, group in enumerate(batch.group.tolist()):
        one = data[[number]]
        origins = data.symmetries[group].origins
        for shift in origins.shifts:
            along = generator.normal(size=len(origins.polar)) @ origins.polar
            moved = shifted(one.F, torch.as_tensor(shift + along)[None], data)
            assert torch.allclose(symmetrise(moved, one.operations, data.grid), moved, atol=1e-2)
            back = align_monoclinic(moved, one.F, one.operations, data.grid, one.mask * one.F.abs())
            assert torch.allclose(back, one.F, atol=2e-3 * float(one.scale))


def test_the_other_hand_is_found_and_no_shift_that_is_not_allowed(data, batch):
    weight = batch.mask * batch.F.abs()
    back = align_monoclinic(batch.F.conj(), batch.F, batch.operations, data.grid, weight)
    assert torch.allclose(back, batch.F, atol=1e-3 * float(batch.scale.max()))
    moved = shifted(batch.F, torch.tensor([[0.2, 0.3, 0.15]], dtype=torch.float64), data)
    best = align_monoclinic(moved, batch.F, batch.operations, data.grid, weight)
    agreement = (weight * (unit_phasor(best) * unit_phasor(batch.F).conj()).real).sum((1, 2, 3)) / weight.sum((1, 2, 3))
    assert agreement.max() < 0.9


@pytest.fixture(params=MONOCLINIC_PHASE_MODELS)
def model(request):
    torch.manual_seed(0)
    return MONOCLINIC_PHASE_MODELS[request.param](CONFIG.shape, **SMALL[request.param])


def test_predicted_phases_obey_the_group_and_amplitudes_are_the_data(model, data, batch):
    F = model.predict(batch)
    assert torch.allclose(F.abs()[batch.observed], batch.F.abs()[batch.observed], rtol=1e-4)
    assert torch.allclose(symmetrise(F, batch.operations, data.grid), F, atol=1e-3 * float(F.abs().max()))
    assert not F[~batch.mask].any()


def test_no_phase_and_no_missing_amplitude_is_looked_at(model, batch):
    hidden = batch._replace(F=torch.where(batch.observed, batch.F.abs(), 7 * batch.F))
    assert torch.allclose(model(hidden), model(batch), atol=1e-4)


def test_the_loss_knows_neither_origin_nor_hand(model, data):
    batch = data[[0, 1, 2]]  # P 21/c, C 2, P 21: any y in the last two
    shift = torch.tensor([[0.5, 0, 0.5], [0.5, 0.3, 0], [0, 0.7, 0.5]], dtype=torch.float64)
    moved = batch._replace(F=shifted(batch.F, shift, data).conj())
    assert torch.allclose(model.loss(moved), model.loss(batch), atol=1e-3)
    naive = phasor_error(model(batch), batch.F, batch.mask * batch.F.abs())
    assert model.loss(batch) < naive


def test_learns_the_phases_of_one_batch(model, data):
    batch = data[[0, 1]]
    optimiser = torch.optim.Adam(model.parameters(), lr=4e-3)
    for _ in range(160):
        optimiser.zero_grad()
        loss = model.loss(batch)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 0.1)
        optimiser.step()
        if loss < 0.3:
            break
    chance, learned = (align_phases(each.predict(batch), batch) for each in (ChancePhases(), model))
    for metric, entry in PHASE_METRICS.items():
        better = entry.function(learned) - entry.function(chance)
        assert ((better if entry.better == "higher" else -better) > 0.2).all(), metric


def test_scores_of_phases_agree_with_those_of_a_list(data, batch):
    """Against `score_phases`, which knows no grid."""
    F = ChancePhases().predict(batch)
    ours = {name: entry.function(align_phases(F, batch)) for name, entry in PHASE_METRICS.items()}
    for number in range(7):
        mask, symmetry = batch.mask[number].clone(), data.symmetries[int(batch.group[number])]
        mask[CONFIG.shape[0] // 2 :, :, 0] = False  # one of (h, k, 0) and (-h, k, 0)
        lengths = batch.lattice[number].norm(dim=0).tolist()
        a, _, c = batch.lattice[number].T
        beta = float(torch.rad2deg(torch.acos(a @ c / (a.norm() * c.norm()))))
        theirs = score_phases(
            F[number][mask].numpy(),
            batch.F[number][mask].numpy(),
            hkl=data.grid.hkl[mask.numpy()],
            cell=Cell(*lengths, 90, beta, 90),
            symmetry=symmetry,
        )
        assert ours["map_cc"][number] == pytest.approx(theirs.map_cc[0], abs=2e-3)
        expected = theirs.mean_phase_error_weighted[0]
        assert ours["mean_phase_error_weighted"][number] == pytest.approx(expected, rel=0.15)


def test_the_truth_is_perfect_and_chance_is_not(batch):
    perfect, chance = (align_phases(F, batch) for F in (batch.F.conj(), ChancePhases().predict(batch)))
    assert torch.allclose(PHASE_METRICS["map_cc"].function(perfect), torch.ones(14), atol=1e-3)
    assert PHASE_METRICS["mean_phase_error_weighted"].function(perfect).max() < 1
    assert PHASE_METRICS["map_cc"].function(chance).mean() < 0.5
    assert 50 < PHASE_METRICS["mean_phase_error_weighted"].function(chance).mean() < 90


def test_a_trained_model_is_scored_beside_chance(data, tmp_path):
    options = {"models": {"unet": {"options": {"width": 4}}}, "training": {"loss": "amplitude_weighted", "epochs": 3}}
    config = LearningConfig.model_validate(options)
    model = fit(MONOCLINIC_PHASE_MODELS, "unet", data, config, tmp_path, device="cpu", progress=False)
    curve = loss_curve(tmp_path)
    assert curve["train_loss"].iloc[-1] < curve["train_loss"].iloc[0]
    for name, predictor in {"unet": model, "chance": ChancePhases()}.items():
        results, shells = evaluate_monoclinic_phases(name, predictor, data, splits=("train",))
        table = results.set_index(["split", "metric"])["value"]
        assert 0 < table["train", "map_cc"] < 1
        assert 40 < table["train", "mean_phase_error_weighted"] < 90
        assert {f"train:{group}" for group in ("P 1 21/c 1", "C 1 2 1")} < set(results["split"])
        assert shells["n"].sum() == sum(int(b.mask.sum()) for b in data.batches("train"))
        assert shells["mean_phase_error_weighted_deg"].between(20, 110).all()
