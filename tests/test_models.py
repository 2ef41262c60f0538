"""Every model of the table: shape, loss, gradients, overfitting, saving, precision; Friedel symmetry."""

import pytest
import torch

from rephase.config.sections import ModelConfig
from rephase.crystal.phases import friedel_mate
from rephase.errors import ConfigError
from rephase.labs.crystals.data import Batch
from rephase.labs.crystals.models import MODELS
from rephase.labs.crystals.models.layers import HalfSpace, friedel_pair
from rephase.labs.crystals.steps import describe_model
from rephase.learning.models import build_model, layer_table
from rephase.runs import open_run

SHAPE = (7, 7, 7)
SMALL = {"mlp": {"width": 64}, "cnn3d": {"width": 8}, "unet3d": {"width": 8}}


@pytest.fixture(scope="module")
def batch(data):
    return data[data.splits["train"][:8]]


@pytest.fixture(params=MODELS)
def model(request):
    return build_model(MODELS, request.param, SHAPE, ModelConfig(options=SMALL.get(request.param, {})))


def test_layers_are_listed_in_the_order_of_a_batch(batch):
    network = build_model(MODELS, "cnn3d", SHAPE, ModelConfig(options={"width": 8}))
    table = layer_table(network, batch)
    assert table["layer"].tolist() == [
        "input",
        *(f"layers.{i}.{j}" for i in (0, 1) for j in range(3)),
        "layers.2",
        "whole model",
    ]
    first, last = table.iloc[1], table.iloc[-1]
    assert (first["type"], first["input"], first["output"]) == ("Conv3d", "5 × 7 × 7 × 7", "8 × 7 × 7 × 7")
    assert first["parameters"] == 5 * 8 * 27 + 8
    assert (last["type"], last["output"]) == ("CNN3D", "7 × 7 × 7")
    assert last["parameters"] == table["parameters"][:-1].sum() == sum(p.numel() for p in network.parameters())
    assert not any(layer._forward_hooks for layer in network.modules())


def test_a_model_is_described_as_it_is_configured(data, tmp_path):
    run = open_run(tmp_path / "run", "test", ["crystals.models={'mlp': {'options': {'width': 16}}}"])
    table = describe_model(run, data, "mlp").set_index("layer")
    assert table.loc["layers.3", ["input", "output", "parameters"]].tolist() == ["16", "16", 16 * 16 + 16]
    assert describe_model(run, data, "unet3d")["left out"].item() == "not in crystals.models of this configuration"


def test_shape_and_observed_amplitudes(model, batch):
    F = model.predict(batch)
    assert F.shape == batch.F.shape
    assert torch.allclose(F.abs(), batch.F.abs(), atol=1e-3)


def test_overfits_one_batch(model, batch):
    optimiser = torch.optim.Adam(model.parameters(), lr=5e-3)
    first = float(model.loss(batch).detach())
    for _ in range(150):
        optimiser.zero_grad()
        loss = model.loss(batch)
        loss.backward()
        optimiser.step()
    # three convolutions cannot see the whole grid, so they need not learn it by heart
    assert float(loss.detach()) < (0.5 if type(model).__name__ == "CNN3D" else 0.1) * first


def test_prediction_uses_amplitudes_only(model, batch):
    turned = batch._replace(F=batch.F * torch.polar(torch.ones(batch.F.shape), torch.rand(batch.F.shape)))
    assert torch.allclose(model.predict(turned), model.predict(batch), atol=1e-3)


def test_unmeasured_amplitudes_are_not_seen(model, batch):
    """What lies outside the mask changes no prediction inside it."""
    mask = batch.mask.clone()
    mask[:, 3:5] = False
    outside = torch.where(mask, batch.F, batch.F * 7)
    inside = model.predict(batch._replace(mask=mask))
    assert torch.allclose(model.predict(batch._replace(mask=mask, F=outside)), inside, atol=1e-3)
    assert (inside[~mask] == 0).all()


def test_complex_output_has_amplitudes_of_its_own(data):
    batch = data[data.splits["train"][:4]]
    model = build_model(MODELS, "linear", SHAPE, loss="complex_F")
    assert not torch.allclose(model.predict(batch).abs(), batch.F.abs(), atol=1)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
def test_gpu_equals_cpu(model, batch):
    on_gpu = model.to("cuda").predict(Batch(*(x.to("cuda") for x in batch))).cpu()
    assert torch.linalg.norm(on_gpu - model.to("cpu").predict(batch)) < 1e-3 * torch.linalg.norm(on_gpu)


def test_any_grid_shape():
    for name in MODELS:
        model = build_model(MODELS, name, (5, 9, 3), ModelConfig(options=SMALL.get(name, {})))
        F = torch.randn(2, 5, 9, 3, dtype=torch.complex64)
        ones = torch.ones_like(F)
        batch = Batch(
            F, torch.ones(F.shape, dtype=torch.bool), ones, F, torch.zeros(2, dtype=torch.long), torch.ones(2)
        )
        assert model.predict(batch).shape == F.shape


def test_friedel_pair_without_its_second_field_obeys_friedels_law():
    fields = torch.randn(2, 4, 5, 7, 3)
    fields[:, 2:] = 0
    E = friedel_pair(fields)
    assert torch.allclose(friedel_mate(E), E.conj(), atol=1e-6)


def test_half_space_holds_any_grid():
    """Two Hermitian fields represent every complex grid: taken apart by hand and put together by scatter."""
    half = HalfSpace((5, 3, 7))
    assert len(half) == (5 * 3 * 7 + 1) // 2
    E = torch.randn(2, 5, 3, 7, dtype=torch.complex128)
    mate = friedel_mate(E).conj()
    first, second = (E + mate) / 2, (E - mate) / 2j
    pick = lambda z: z.flatten(1)[:, half.index]  # noqa: E731
    fields = torch.cat([pick(first).real, pick(first).imag, pick(second).real, pick(second).imag], dim=1)
    assert torch.allclose(half.scatter(fields), E)


def test_unknown_model_and_option_name_the_nearest():
    with pytest.raises(ConfigError, match="did you mean 'unet3d'"):
        build_model(MODELS, "unet", SHAPE)
    with pytest.raises(ConfigError, match="did you mean 'width'"):
        build_model(MODELS, "mlp", SHAPE, ModelConfig(options={"widht": 3}))
