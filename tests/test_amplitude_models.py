"""Every model of completed amplitudes: contract, gradients, overfitting, symmetry; what its parts see."""

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from rephase.config.completion import MeasuredPart, MonoclinicConfig
from rephase.errors import ConfigError
from rephase.labs.completion.data import open_monoclinic
from rephase.labs.completion.models import AMPLITUDE_MODELS
from rephase.labs.completion.models.baselines import WilsonAmplitude
from rephase.labs.completion.models.gan import AmplitudeGAN
from rephase.labs.completion.models.transformer import ReflectionTransformer
from rephase.labs.completion.models.unets import FourierLayer
from rephase.labs.completion.scores import filled_in, r_factor_missing

CONFIG = MonoclinicConfig(
    n_atoms=(5, 8),
    shape=(16, 12, 14),
    d_min=1.2,
    n_samples=20,
    chunk=20,
    measured=MeasuredPart(d_min=(1.6, 2.0), missing=0.1),
)
SMALL = {
    "linear": {"rank": 8},
    "unet": {"width": 8},
    "fourier_unet": {"width": 8},
    "transformer": {"embedding": 64, "depth": 1, "dropout": 0.0},
    "gan": {"width": 8, "critic_width": 8},
}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return open_monoclinic(tmp_path_factory.mktemp("amplitudes") / "data.zarr", CONFIG)


@pytest.fixture(scope="module")
def batch(data):
    return data[list(range(6))]


@pytest.fixture(params=AMPLITUDE_MODELS)
def model(request):
    torch.manual_seed(0)
    return AMPLITUDE_MODELS[request.param](CONFIG.shape, **SMALL[request.param])


def test_the_observed_part_is_the_data_and_equivalents_agree(model, data, batch):
    amplitude = model.predict(batch)
    assert torch.equal(amplitude[batch.observed], batch.F.abs()[batch.observed])
    assert torch.allclose(data.grid.partner(model(batch)), model(batch), rtol=1e-5)
    assert not amplitude[~batch.mask].any()
    assert (amplitude[batch.mask] > 0).float().mean() > 0.999


def test_what_is_missing_is_not_looked_at(model, batch):
    hidden = batch._replace(F=torch.where(batch.observed, batch.F, 7 * batch.F.conj()))
    assert torch.allclose(model(hidden), model(batch))


def test_overfits_one_batch(model, data):
    batch = data[list(range(2))]
    optimiser = torch.optim.Adam(model.parameters(), lr=4e-3)
    r = lambda predictor: r_factor_missing(filled_in(predictor.predict(batch), batch)).mean()  # noqa: E731
    for _ in range(80):
        optimiser.zero_grad()
        model.loss(batch).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 0.1)
        optimiser.step()
        if r(model) < 0.7 * r(WilsonAmplitude()):
            return
    pytest.fail(f"R = {r(model)} after 80 steps")


def test_options_that_cannot_be_built_are_refused():
    with pytest.raises(ConfigError, match="embedding = 30: expected a multiple of heads = 4"):
        ReflectionTransformer(CONFIG.shape, embedding=30)
    with pytest.raises(ConfigError, match="unknown generator 'unett'; .*'unet'"):
        AmplitudeGAN(CONFIG.shape, generator="unett")


@pytest.fixture
def transformer():
    torch.manual_seed(0)
    return ReflectionTransformer(CONFIG.shape, **SMALL["transformer"])


def test_attention_is_fused_and_keeps_no_table_of_queries_by_keys(batch):
    transformer, kept = ReflectionTransformer(CONFIG.shape, embedding=16, depth=1, mlp_ratio=1), []
    keep = torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t.numel()) or t, lambda t: t)
    with keep, sdpa_kernel(SDPBackend.FLASH_ATTENTION):  # anything else raises
        transformer.loss(batch).backward()
    n_tokens, n_keys = (part.sum((1, 2, 3)).max() for part in (batch.mask, batch.observed))
    assert max(kept) < len(batch.F) * n_tokens * n_keys


def test_a_crystal_does_not_see_the_others_of_its_batch(transformer, data):
    together, alone = transformer(data[[0, 1, 2, 3]]), transformer(data[[2]])
    assert torch.allclose(together[2:3], alone, rtol=1e-4)


def test_every_observed_reflection_reaches_every_missing_one(transformer, data):
    batch = data[[0]]
    F = batch.F.clone().requires_grad_()
    at = batch.missing[0].nonzero()[10]
    (gradient,) = torch.autograd.grad(transformer.fields(batch._replace(F=F))[(0, 0, *at)], F)
    assert (gradient.abs() > 0)[batch.observed].float().mean() > 0.99


def test_the_critic_learns_to_distinguish_true_amplitudes_from_completed_ones(data):
    torch.manual_seed(0)
    model, batch, unseen = AmplitudeGAN(CONFIG.shape, **SMALL["gan"]), data[list(range(12))], data[list(range(12, 20))]
    with torch.no_grad():
        completed = model(batch)
    optimiser = torch.optim.Adam(model.critic.parameters(), lr=2e-3)
    losses = []
    for _ in range(40):
        losses.append(model.critic_loss(completed, batch))
        optimiser.zero_grad()
        losses[-1].backward()
        optimiser.step()
    assert losses[-1] < 1.5 < 1.9 < losses[0]
    with torch.no_grad():
        gap = model.critic(unseen.F.abs(), unseen).mean(1) - model.critic(model(unseen), unseen).mean(1)
    assert (gap > 0).float().mean() > 0.8


def test_the_critic_pulls_the_generator_towards_what_it_takes_for_true(data):
    torch.manual_seed(0)
    model, batch = AmplitudeGAN(CONFIG.shape, generator="unet", width=8, critic_width=8, reconstruction=0), data[[0, 1]]
    optimiser = torch.optim.Adam(model.generator.parameters(), lr=3e-3)
    with torch.no_grad():
        before = model.critic(model(batch), batch).mean()
    for _ in range(5):
        optimiser.zero_grad()
        model.generator_loss(model(batch), batch).backward()
        optimiser.step()
    with torch.no_grad():
        assert model.critic(model(batch), batch).mean() > before + 1e-3


def test_the_critic_sees_only_observed_data_and_what_it_judges(data):
    batch = data[[0]]
    torch.manual_seed(0)
    critic = AmplitudeGAN(CONFIG.shape, **SMALL["gan"]).critic.eval()
    amplitude = WilsonAmplitude().predict(batch)
    hidden = batch._replace(F=torch.where(batch.observed, batch.F, 7 * batch.F))
    assert torch.allclose(critic(amplitude, hidden), critic(amplitude, batch))
    assert not torch.allclose(critic(2 * amplitude, batch), critic(amplitude, batch))


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
