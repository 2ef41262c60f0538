"""Flows of images: volumes, inverses, samples, the physics in training; from both kinds of patterns."""

import numpy as np
import pytest
import torch

from rephase.config.sections import ModelConfig
from rephase.config.waves import HolographyConfig, PtychogramSimulation
from rephase.errors import ConfigError, PosteriorError
from rephase.inference.patterns import PatternBatch, store_patterns
from rephase.labs.waves.data.holograms import HologramSimulator
from rephase.labs.waves.data.ptychograms import PtychogramSimulator
from rephase.labs.waves.models import IMAGE_POSTERIOR_MODELS
from rephase.labs.waves.models.flows import _doubled, _halved
from rephase.learning.models import build_model
from rephase.learning.training import fit

SMALL = {"width": 8, "n_blocks": 2}
CONFIG = HolographyConfig(
    data={"size": 8, "fresnel_numbers": (0.2,), "n_samples": 100, "chunk": 100},
    models={"image_flow": {"options": SMALL}},
    training={"epochs": 5, "learning_rate": 1e-2, "batch_size": 8},
)
SIMULATORS = {
    "holography": HologramSimulator(CONFIG.data),
    "ptychography": PtychogramSimulator(PtychogramSimulation(size=8, frame=4, n_side=3, step=1.6, probe_width=1.5)),
}


@pytest.fixture(params=SIMULATORS)
def simulator(request):
    return SIMULATORS[request.param]


def flow(simulator, **options):
    config = ModelConfig(options=SMALL | options)
    return build_model(
        IMAGE_POSTERIOR_MODELS, "image_flow", simulator.pattern_shape, config, simulator=simulator, seed=1
    )


def detached(seen):
    return [scale.detach() for scale in seen]


def stirred(model):
    """Weights that are not 0 anywhere, as those of a flow that has learned."""
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for weight in model.parameters():
            weight += 0.1 * torch.randn(weight.shape, generator=generator, dtype=weight.dtype)
    return model


def test_wavelets_keep_lengths_and_come_back():
    z = torch.randn(3, 2, 8, 12, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    mean, details = _halved(z)
    assert (mean.shape, details.shape) == ((3, 2, 4, 6), (3, 6, 4, 6))
    assert torch.allclose(mean.square().sum() + details.square().sum(), z.square().sum())
    assert torch.allclose(_doubled(mean, details), z)
    assert not _halved(torch.ones(1, 1, 4, 4))[1].any()


def test_log_volume_is_that_of_the_jacobian(simulator):
    model, batch = stirred(flow(simulator)).double(), simulator.draw(1, np.random.default_rng(0))
    z, seen = simulator.to_normal(batch.u.double()), detached(model.look(batch))
    jacobian = torch.autograd.functional.jacobian(lambda z: model.to_noise(z, seen)[0], z)
    n = z.numel()
    expected = torch.linalg.slogdet(jacobian.reshape(n, n)).logabsdet
    with torch.no_grad():
        noise, log_volume = model.to_noise(z, seen)
    assert float(log_volume) == pytest.approx(float(expected), rel=1e-9)
    normal = torch.distributions.Normal(0, 1).log_prob(noise).sum()
    assert float(model.log_prob(batch)) == pytest.approx(float(normal + expected), rel=1e-6)


def test_samples_are_within_bounds_and_new_each_time(simulator):
    model, batch = stirred(flow(simulator)), simulator.draw(3, np.random.default_rng(0))
    u = model.sample(batch, 5)
    assert u.shape == (5, 3, *simulator.u_shape)
    for channel, ends in enumerate(simulator.objects.bounds):
        low, high = sorted(np.float32(ends))
        assert low <= float(u[:, :, channel].min()) < float(u[:, :, channel].max()) <= high
    assert not torch.equal(u, model.sample(batch, 5))
    torch.manual_seed(0)
    first = model.sample(batch, 2)
    torch.manual_seed(0)
    spoiled = batch._replace(counts=torch.where(batch.mask, batch.counts, 1e5), u=torch.full_like(batch.u, torch.nan))
    assert torch.equal(first, model.sample(spoiled, 2))


def test_the_middle_of_a_posterior_is_near_the_mean_of_its_samples(simulator):
    model, batch = stirred(flow(simulator)), simulator.draw(3, np.random.default_rng(0))
    middle = model.centre(batch)
    assert torch.equal(model.centre(batch._replace(u=batch.u.flip(0))), middle)
    mean = model.sample(batch, 300).mean(0)
    off, scattered = ((each - mean).abs().mean() for each in (middle, model.sample(batch, 1)[0]))
    assert float(off) < 0.4 * float(scattered)


def test_samples_have_the_density_that_the_flow_says(simulator):
    """The density of a sample is that of its noise over the volume, whichever way it is gone."""
    model, batch = stirred(flow(simulator)).double(), simulator.draw(4, np.random.default_rng(0))
    seen = detached(model.look(batch))
    noise = torch.randn(4, model.n_unknowns, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    with torch.no_grad():
        back, _ = model.to_noise(model.to_image(noise, seen), seen)
    assert torch.allclose(back, noise, atol=1e-9)


@pytest.mark.parametrize("physics_weight", [0.0, 0.01])
def test_every_weight_has_a_gradient(simulator, physics_weight):
    model = stirred(flow(simulator, physics_weight=physics_weight)).train()
    model.loss(simulator.draw(8, np.random.default_rng(0))).backward()
    for name, weight in model.named_parameters():
        assert weight.grad is not None, name
        assert torch.isfinite(weight.grad).all(), name
        assert weight.grad.any(), name


@torch.no_grad()
def test_physics_counts_in_training_alone(simulator):
    batch = simulator.draw(4, np.random.default_rng(0))
    plain, physical = flow(simulator), flow(simulator, physics_weight=1e-3)
    assert plain.train().loss(batch) == physical.eval().loss(batch) == plain.eval().loss(batch)
    assert float(physical.train().loss(batch)) > float(plain.loss(batch))
    assert float(plain.loss(batch)) == pytest.approx(-float(plain.log_prob(batch).mean()) / plain.n_unknowns, rel=1e-6)


def test_physics_pulls_samples_to_the_pattern(simulator):
    batch = simulator.draw(4, np.random.default_rng(0))
    torch.manual_seed(0)
    model = flow(simulator, physics_weight=1e-3).train()
    optimiser = torch.optim.Adam(model.parameters(), lr=3e-3)
    with torch.no_grad():
        before = float(model.misfit(batch, model.look(batch)))
    for _ in range(40):
        optimiser.zero_grad()
        model.misfit(batch, model.look(batch)).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
    with torch.no_grad():
        assert float(model.misfit(batch, model.look(batch))) < before / 2


def test_training_makes_the_truth_more_likely_and_keeps_the_inverse(tmp_path):
    simulator = SIMULATORS["holography"]
    data = store_patterns(tmp_path / "patterns.zarr", simulator)
    test = data[data.splits["test"]]
    model = fit(IMAGE_POSTERIOR_MODELS, "image_flow", data, CONFIG, tmp_path / "flow", device="cpu", progress=False)
    gain = (model.log_prob(test).mean() - flow(simulator).log_prob(test).mean()) / model.n_unknowns
    assert float(gain) > 0.5
    z, seen = simulator.to_normal(test.u), model.look(test)
    with torch.no_grad():
        noise, _ = model.to_noise(z, seen)
        assert float((model.to_image(noise, seen) - z).abs().max()) < 1e-4
    again = fit(IMAGE_POSTERIOR_MODELS, "image_flow", data, CONFIG, tmp_path / "flow", device="cpu", progress=False)
    assert torch.equal(model.log_prob(test), again.log_prob(test))


def test_patterns_of_another_size_are_refused(simulator):
    batch = simulator.draw(2, np.random.default_rng(0))
    cut = batch._replace(counts=batch.counts[..., :-1], mask=batch.mask[..., :-1])
    with pytest.raises(ConfigError, match="patterns of shape .*: this flow was made for .*; resample them"):
        flow(simulator).sample(cut, 1)


def test_patterns_that_nobody_can_have_measured_are_refused(simulator):
    """What is wrong of a pattern is reported alike for every flow: see test_flows."""
    model, batch = flow(simulator), simulator.draw(2, np.random.default_rng(0))
    hidden = batch._replace(mask=batch.mask & False)
    for ask in (lambda: model.sample(hidden, 2), lambda: model.centre(hidden)):
        with pytest.raises(PosteriorError, match="pattern 0: the mask hides everything"):
            ask()


def test_what_no_image_flow_can_be_made_of():
    simulator = SIMULATORS["holography"]
    with pytest.raises(ConfigError, match="loss = 'mse': expected nll"):
        build_model(IMAGE_POSTERIOR_MODELS, "image_flow", (1, 8, 8), loss="mse", simulator=simulator)
    with pytest.raises(ConfigError, match="n_blocks = 0: expected a number above 0"):
        flow(simulator, n_blocks=0)
    odd = HologramSimulator(CONFIG.data.model_copy(update={"size": 22}))
    with pytest.raises(ConfigError, match="images of 22 x 22 pixels: .*set data.size to 16"):
        flow(odd)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
def test_a_flow_says_the_same_on_a_gpu(simulator):
    model, batch = stirred(flow(simulator)).double(), simulator.draw(4, np.random.default_rng(0))
    on_cpu = model.log_prob(batch)
    on_gpu = PatternBatch(*(field.cuda() for field in batch))
    assert torch.allclose(model.cuda().log_prob(on_gpu).cpu(), on_cpu, rtol=1e-3)
    assert model.sample(on_gpu, 2).is_cuda
