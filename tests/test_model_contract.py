"""What every model of every table promises: its loss, gradients, precisions, seeds, and its way through a file."""

from contextlib import nullcontext
from copy import deepcopy

import numpy as np
import pytest
import torch
from torch import nn

from rephase.config.completion import MonoclinicConfig
from rephase.config.scattering import SaxsSimulation
from rephase.config.sections import ModelConfig
from rephase.config.waves import HologramSimulation
from rephase.labs.completion.data import open_monoclinic
from rephase.labs.completion.models import AMPLITUDE_MODELS, MONOCLINIC_PHASE_MODELS
from rephase.labs.completion.models.gan import AmplitudeGAN
from rephase.labs.crystals.models import MODELS
from rephase.labs.images.data.batch import ImageBatch
from rephase.labs.images.models import IMAGE_MODELS
from rephase.labs.scattering.data.saxs import SaxsSimulator
from rephase.labs.scattering.models import POSTERIOR_MODELS
from rephase.labs.waves.data.holograms import HologramSimulator
from rephase.labs.waves.models import IMAGE_POSTERIOR_MODELS
from rephase.learning.convolutions import CONVOLUTIONS
from rephase.learning.layers import convolution_block
from rephase.learning.models import build_model

CRYSTALS = MonoclinicConfig(
    n_atoms=(5, 8), shape=(8, 8, 8), d_min=2.0, n_samples=20, chunk=20, measured={"d_min": (2.4, 2.8)}
)
SAXS = SaxsSimulator(SaxsSimulation(shape="sphere", n_q=16, n_samples=200, chunk=100))
HOLOGRAMS = HologramSimulator(HologramSimulation(size=8, fresnel_numbers=(0.2,), n_samples=100, chunk=100))
TABLES = {
    "phases": (MODELS, {"mlp": {"width": 64}, "cnn3d": {"width": 8}, "unet3d": {"width": 8}}, {}),
    "amplitudes": (
        AMPLITUDE_MODELS,
        {
            "linear": {"rank": 8},
            "unet": {"width": 8},
            "fourier_unet": {"width": 8},
            "transformer": {"embedding": 64, "depth": 1},
            "gan": {"width": 8, "critic_width": 8},
        },
        {},
    ),
    "monoclinic phases": (
        MONOCLINIC_PHASE_MODELS,
        {
            "linear": {"rank": 8},
            "unet": {"width": 8},
            "fourier_unet": {"width": 8},
            "transformer": {"embedding": 64, "depth": 1},
        },
        {},
    ),
    "images": (
        IMAGE_MODELS,
        {name: {"width": 4} for name in IMAGE_MODELS},
        {"n_labels": 2},
    ),
    "posteriors": (
        POSTERIOR_MODELS,
        {"nsf": {"n_layers": 2, "width": 16, "n_features": 8, "channels": 4}},
        {"simulator": SAXS},
    ),
    "image posteriors": (IMAGE_POSTERIOR_MODELS, {"image_flow": {"width": 8, "n_blocks": 1}}, {"simulator": HOLOGRAMS}),
}
EVERY = [(kind, name) for kind, (models, *_) in TABLES.items() for name in models]


def spoil_free_memory():
    """Leave large numbers where what comes next is allocated: a gradient that nobody wrote is then far off."""
    blocks = [torch.full((2**power + 2**power // 2 * half,), 1e20) for power in range(4, 20) for half in (0, 1)]
    del blocks


@pytest.fixture(scope="module")
def batches(data, tmp_path_factory):
    generator, crystals = torch.Generator().manual_seed(0), tmp_path_factory.mktemp("gradients") / "data.zarr"
    image = torch.poisson(torch.full((6, 32, 32), 20.0), generator=generator)
    monoclinic = open_monoclinic(crystals, CRYSTALS)
    return {
        "phases": data[data.splits["train"][:8]],
        "amplitudes": monoclinic[list(range(6))],
        "monoclinic phases": monoclinic[list(range(6))],
        "images": ImageBatch(image, image >= 0, torch.tensor([[0.0, 1.0]]).repeat(6, 1)),
        "posteriors": SAXS.draw(8, np.random.default_rng(0)),
        "image posteriors": HOLOGRAMS.draw(8, np.random.default_rng(0)),
    }


def shape_of(kind, batch):
    return tuple((batch.image if kind == "images" else batch.counts if "posteriors" in kind else batch.F).shape[1:])


def to_double(batch):
    doubles = {torch.complex64: torch.complex128, torch.float32: torch.float64}
    return type(batch)(*(x.to(doubles.get(x.dtype, x.dtype)) for x in batch))


def build(kind, name, batch, seed=1):
    """A small model, that drops and mirrors nothing at random; flows of images begin as the identity, and are moved."""
    models, options, built_with = TABLES[kind]
    config = ModelConfig(options=options.get(name, {}))
    model = build_model(models, name, shape_of(kind, batch), config, seed=seed, **built_with).eval()
    if kind == "image posteriors":
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter += 0.1 * torch.randn(parameter.shape, generator=generator)
    return model


def loss_of(model, batch):
    torch.manual_seed(0)
    return model.loss(batch)


@pytest.mark.parametrize(("kind", "name"), EVERY)
def test_finite_loss_and_a_gradient_in_every_parameter(kind, name, batches):
    model = build(kind, name, batches[kind])
    assert torch.isfinite(loss_of(model, batches[kind]))
    for each, gradient in gradients(model, batches[kind], "32-true").items():
        assert torch.isfinite(gradient).all(), each
        assert gradient.abs().max() > 0, each


@pytest.mark.parametrize(("kind", "name"), EVERY)
def test_weights_depend_on_the_seed_alone_and_come_back_from_a_file(kind, name, batches, tmp_path):
    batch = batches[kind]
    model, other = build(kind, name, batch), build(kind, name, batch, seed=2)
    torch.rand(5)
    assert torch.equal(loss_of(build(kind, name, batch), batch), loss_of(model, batch))
    assert not torch.equal(loss_of(other, batch), loss_of(model, batch))
    torch.save(model.state_dict(), tmp_path / "weights.pt")
    other.load_state_dict(torch.load(tmp_path / "weights.pt", weights_only=True))
    assert torch.equal(loss_of(other, batch), loss_of(model, batch))


@pytest.mark.parametrize(("kind", "name"), EVERY)
def test_other_precisions_have_a_like_loss(kind, name, batches):
    model, batch = build(kind, name, batches[kind]), batches[kind]
    single = loss_of(model, batch).item()
    with torch.autocast("cpu", torch.bfloat16):
        assert loss_of(model, batch).item() == pytest.approx(single, rel=0.1)
    double = loss_of(model.double(), to_double(batch))
    assert double.dtype == torch.float64
    assert double.item() == pytest.approx(single, rel=1e-3)


def test_fields_are_normalised_in_float32():
    block, fields = convolution_block(8, 16), torch.randn(2, 8, 4, 4, 4, generator=torch.Generator().manual_seed(0))
    with torch.autocast("cpu", torch.bfloat16):
        rounded = block[0](fields)
        found = block[1](rounded)
    assert rounded.dtype == torch.bfloat16
    assert found.dtype == torch.float32
    assert torch.equal(found, block[1](rounded.float()))
    assert block.double()(fields.double()).dtype == torch.float64


def gradients(model, batch, precision):
    """Name → gradient in float64, of every loss that a training steps along."""
    model = deepcopy(model)
    if precision == "64-true":
        model, batch = model.double(), to_double(batch)
    with torch.autocast("cpu", torch.bfloat16) if precision == "bf16-mixed" else nullcontext():
        torch.manual_seed(0)
        losses = [model.loss(batch)]
        if isinstance(model, AmplitudeGAN):
            amplitude = model(batch)
            losses += [model.critic_loss(amplitude, batch), model.generator_loss(amplitude, batch)]
    spoil_free_memory()
    sum(losses).backward()
    return {name: parameter.grad.double() for name, parameter in model.named_parameters()}


@pytest.mark.parametrize(("precision", "bound"), [("32-true", 2e-3), ("bf16-mixed", 0.5)])
@pytest.mark.parametrize(("kind", "name"), EVERY)
def test_gradients_are_those_of_double_precision(kind, name, precision, bound, batches):
    batch = batches[kind]
    model = build(kind, name, batch)
    exact = gradients(model, batch, "64-true")
    whole = torch.stack([each.norm() for each in exact.values()]).norm()
    for each, gradient in gradients(model, batch, precision).items():
        error = float((gradient - exact[each]).norm() / (exact[each].norm() + 0.01 * whole))
        assert error < bound, each


@pytest.mark.parametrize(("kind", "name"), EVERY)
def test_models_convolve_by_what_has_right_gradients(kind, name, batches):
    for each, part in build(kind, name, batches[kind]).named_modules():
        if isinstance(part, nn.modules.conv._ConvTransposeNd):
            assert part.kernel_size == part.stride, f"{each}: no kernel is then larger than the grid that comes out"
        elif isinstance(part, nn.modules.conv._ConvNd):
            assert isinstance(part, tuple(CONVOLUTIONS.values())), each


@pytest.mark.parametrize("autocast", [False, True])
@pytest.mark.parametrize(
    ("grid", "kernel", "stride", "padding", "groups"),
    [
        ((2, 2, 2), 3, 1, 1, 1),
        ((2, 2, 2), 3, 1, 1, 2),
        ((1, 2, 3), 3, 1, 1, 1),
        ((1, 1, 1), 3, 2, 1, 1),
        ((3, 3, 3), 5, 1, 2, 1),
        ((4, 3, 3), 5, 1, 1, 1),
        ((6, 6, 6), 7, 2, 3, 1),
        ((4, 4, 4), 3, 1, 1, 1),
        ((1, 1), 3, 2, 1, 1),
        ((4, 1), 3, 2, 1, 1),
        ((1, 1), 5, 2, 2, 1),
        ((2, 2), 3, 1, 1, 1),
        ((1,), 3, 2, 2, 1),
        ((2,), 5, 2, 2, 1),
    ],
)
def test_convolution_of_a_grid_of_any_size(grid, kernel, stride, padding, groups, autocast):
    """Against torch in double precision, which does not convolve by oneDNN; bfloat16 has eight bits."""
    torch.manual_seed(0)
    convolution = CONVOLUTIONS[len(grid)](16, 8, kernel, stride, padding, groups=groups)
    own = getattr(nn, f"Conv{len(grid)}d")(16, 8, kernel, stride, padding, groups=groups).double()
    own.load_state_dict(convolution.state_dict())
    x = torch.randn(4, 16, *grid)
    expected = own(x.double())
    slope = torch.randn_like(expected).bfloat16()
    expected.backward(slope.double())
    exact = [expected.detach(), own.weight.grad, own.bias.grad]
    for _ in range(3):
        convolution.zero_grad()
        spoil_free_memory()
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            found = convolution(x)
        found.backward(slope.to(found.dtype))
        for each, right in zip((found.detach(), convolution.weight.grad, convolution.bias.grad), exact):
            assert float((each.double() - right).norm() / right.norm()) < (0.02 if autocast else 1e-5)
