"""Every model of completed amplitudes: contract, gradients, overfitting, symmetry; what a Fourier layer sees."""

import pytest
import torch

from rephase.completion_metrics import complete, r_factor_missing
from rephase.config import MeasuredPart, MonoclinicConfig
from rephase.datasets.monoclinic import open_monoclinic
from rephase.models import AMPLITUDE_MODELS
from rephase.models.amplitude_baselines import WilsonAmplitude
from rephase.models.amplitude_unets import FourierLayer

CONFIG = MonoclinicConfig(
    n_atoms=(5, 8), shape=(16, 12, 14), d_min=1.2, n_samples=20, chunk=20,
    measured=MeasuredPart(d_min=(1.6, 2.0), missing=0.1),
)  # fmt: skip


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return open_monoclinic(tmp_path_factory.mktemp("amplitudes") / "data.zarr", CONFIG)


@pytest.fixture(scope="module")
def batch(data):
    return data[list(range(6))]


@pytest.fixture(params=AMPLITUDE_MODELS)
def model(request):
    torch.manual_seed(0)
    return AMPLITUDE_MODELS[request.param](CONFIG.shape, width=8)


def test_the_observed_part_is_the_data_and_equivalents_agree(model, data, batch):
    amplitude = model.predict(batch)
    assert torch.equal(amplitude[batch.observed], batch.F.abs()[batch.observed])
    assert torch.allclose(data.grid.partner(model(batch)), model(batch), rtol=1e-5)
    assert not amplitude[~batch.mask].any()
    assert (amplitude[batch.mask] > 0).float().mean() > 0.999


def test_what_is_missing_is_not_looked_at(model, batch):
    hidden = batch._replace(F=torch.where(batch.observed, batch.F, 7 * batch.F.conj()))
    assert torch.allclose(model(hidden), model(batch))


def test_finite_loss_and_a_gradient_in_every_parameter(model, batch):
    loss = model.loss(batch)
    loss.backward()
    assert torch.isfinite(loss)
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name
        assert parameter.grad.abs().max() > 0, name


def test_overfits_one_batch(model, data):
    batch = data[list(range(2))]
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(60):
        optimiser.zero_grad()
        model.loss(batch).backward()
        optimiser.step()
    learned = r_factor_missing(complete(model.predict(batch), batch)).mean()
    assert learned < 0.7 * r_factor_missing(complete(WilsonAmplitude().predict(batch), batch)).mean()


def test_a_fourier_layer_sees_the_whole_grid():
    torch.manual_seed(0)
    layer, x = FourierLayer(4), torch.randn(1, 4, 8, 6, 7)
    x.requires_grad_()
    layer(x)[0, 0, 1, 4, 5].backward()
    assert (x.grad.abs().sum(1) > 0).float().mean() > 0.95
    change = layer(x) - x
    assert change.detach().abs().mean() > 1e-3


def test_the_maps_of_a_fourier_layer_have_the_mirror_of_the_pattern():
    torch.manual_seed(0)
    layer, seen = FourierLayer(4), []
    layer.in_map.register_forward_pre_hook(lambda _, arguments: seen.append(arguments[0]))
    layer(torch.randn(1, 4, 8, 6, 7))
    density = seen[0]
    assert density.shape == (1, 2, 8, 12, 14)
    assert torch.allclose(density.flip(-2).roll(1, -2), density, atol=1e-5)  # y and -y
    assert density.std() > 0.01
