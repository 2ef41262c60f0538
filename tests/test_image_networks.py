"""Every network of the table of images: contract, gradients, overfitting; what counts become; where a label is seen."""

import itertools
import math

import numpy as np
import pytest
import torch

from rephase.config.sections import LearningConfig, ModelConfig, Section, TrainingConfig
from rephase.errors import ConfigError
from rephase.labs.images.data.batch import ImageBatch
from rephase.labs.images.models import IMAGE_MODELS
from rephase.labs.images.models.layers import ACTIVATIONS, FirstConvolution, LogActivation, flip
from rephase.labs.images.models.networks import ImageClassifier
from rephase.learning.batches import SplitData
from rephase.learning.models import build_model, check_model
from rephase.learning.training import fit, loss_curve

SHAPE, N_LABELS = (32, 40), 3
SMALL = {name: ModelConfig(options={"width": 4 if name == "resnet50" else 8}) for name in IMAGE_MODELS}


def build(name, shape=SHAPE, seed=0, **options):
    config = ModelConfig(options=SMALL[name].options | options)
    return build_model(IMAGE_MODELS, name, shape, config, n_labels=N_LABELS, seed=seed)


@pytest.fixture(scope="module")
def batch():
    """Counts that fall from the centre; each label is a bright spot at a place of its own."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.tensor([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 0], [1, 1, 1]], dtype=torch.float32)
    y, x = torch.meshgrid(torch.arange(32.0) - 16, torch.arange(40.0) - 20, indexing="ij")
    expected = 3e4 / (1 + y**2 + x**2) + torch.zeros(6, 1, 1)
    for label, (row, column) in enumerate([(4, 6), (16, 34), (27, 8)]):
        expected[:, row - 2 : row + 3, column - 2 : column + 3] += 2000 * labels[:, label, None, None]
    mask = torch.ones(expected.shape, dtype=torch.bool)
    mask[:, 14:18, 18:22] = False
    return ImageBatch(torch.poisson(expected, generator=generator), mask, labels)


@pytest.fixture(params=IMAGE_MODELS)
def name(request):
    return request.param


@pytest.fixture
def model(name):
    return build(name)


def test_logits_probabilities_and_embedding(model, batch):
    model.eval()
    logits = model(batch)
    assert logits.shape == (6, N_LABELS)
    assert torch.allclose(model.predict(batch), 1 / (1 + torch.exp(-logits)))
    assert model.embed(batch).shape == (6, model.n_features)
    assert torch.allclose(model.head(model.embed(batch)), logits)
    assert model.features(batch).ndim == 4


def test_any_size_of_image(name):
    model = build(name, (64, 48)).eval()
    batch = ImageBatch(torch.ones(2, 64, 48), torch.ones(2, 64, 48, dtype=torch.bool), torch.zeros(2, N_LABELS))
    assert model.predict(batch).shape == (2, N_LABELS)


def test_overfits_one_batch(name, batch):
    model = build(name, flips=False)
    optimiser = torch.optim.Adam(model.parameters(), lr=2e-3)
    first = float(model.loss(batch).detach())
    for _ in range(60):
        optimiser.zero_grad()
        loss = model.loss(batch)
        loss.backward()
        optimiser.step()
        if float(loss.detach()) < 0.1 * first:
            return
    pytest.fail(f"loss {first} became {float(loss.detach())}")


@pytest.mark.parametrize("activation", ["log", "leaky_relu"])
def test_what_was_not_measured_is_not_seen(batch, activation):
    model = build("resnet18", activation=activation).eval()
    hidden = torch.where(batch.mask, batch.image, torch.nan)
    assert torch.equal(model.predict(batch._replace(image=hidden)), model.predict(batch))


@pytest.mark.parametrize(
    ("name", "n_weights"),
    # of the public models of torchvision, whose convolutions these are, with a first one that sees three channels
    [("resnet18", 11166912), ("resnet34", 21267648), ("resnet50", 23454912), ("vgg16", 14710464), ("vgg19", 20018880)],
)
def test_the_convolutions_are_those_of_the_published_networks(name, n_weights):
    with torch.device("meta"):
        model = IMAGE_MODELS[name]((224, 224))
    convolutions = [module for module in model.modules() if isinstance(module, torch.nn.Conv2d)]
    assert convolutions[0].in_channels == 1
    assert sum(c.weight.numel() for c in convolutions) == n_weights - 2 * convolutions[0].weight.numel()
    weighted = [
        key
        for key, module in model.named_modules()
        if isinstance(module, torch.nn.Conv2d | torch.nn.Linear) and "shortcut" not in key
    ]
    assert name.endswith(str(len(weighted)))


def test_the_log_activation_is_that_of_the_reference_work():
    activation = LogActivation(alpha=0.2, beta=0.5)
    x = torch.tensor([-2.0, -1e-12, 0.0, 1e-12, 1 - math.exp(-1), 1e5], dtype=torch.float64, requires_grad=True)
    level = lambda x: 0.2 * (math.log(x + math.exp(-1)) + 1)  # noqa: E731
    expected = [0.5 - level(2.0), 0.5, 0.5, 0.5, 0.7, 0.5 + level(1e5)]
    assert activation(x).tolist() == pytest.approx(expected, abs=1e-9)
    activation(x).sum().backward()
    slopes = [0.2 / (2 + math.exp(-1)), 0.2 * math.e, 0.2 * math.e, 0.2 * math.e, 0.2, 0.2 / (1e5 + math.exp(-1))]
    assert x.grad.tolist() == pytest.approx(slopes, rel=1e-9)


def test_the_log_activation_turns_a_factor_into_a_step():
    x = torch.tensor([1e3, 1e4, 1e5, 1e6], dtype=torch.float64)
    steps = LogActivation()(x).diff()
    assert steps.tolist() == pytest.approx([0.2 * math.log(10)] * 3, rel=1e-3)


def test_the_scaled_input_does_not_depend_on_the_intensity_of_a_shot(batch):
    stronger = batch._replace(image=100 * batch.image)
    scaled = build("resnet18", activation="leaky_relu").eval()
    fixed = build("resnet18", activation="leaky_relu", full_scale=65535).eval()
    assert torch.allclose(scaled.predict(stronger), scaled.predict(batch), atol=1e-5)
    assert not torch.allclose(fixed.predict(stronger), fixed.predict(batch), atol=1e-3)
    counts_of_one = torch.full((1, 32, 32), 65535.0)
    first = FirstConvolution(1, 3, 1, activation="leaky_relu", full_scale=65535)
    torch.nn.init.constant_(first.convolution.weight, 1 / 9)
    one = first(ImageBatch(counts_of_one, torch.ones(1, 32, 32, dtype=torch.bool), torch.zeros(1, 1)))
    assert one[0, 0, 5, 5].item() == pytest.approx(1)


def test_counts_in_units_of_the_data_train_to_the_same_network_at_every_scale(batch, tmp_path):
    """A factor of 2 changes no digit; and weak shots are still weak."""
    options = {"resnet18": {"options": {"width": 4, "activation": "log_scaled"}}}
    one, strong = (
        train(batch._replace(image=factor * batch.image), tmp_path / str(factor), "resnet18", models=options)
        for factor in (1.0, 2.0**10)
    )
    seen = one.predict(batch)
    assert torch.equal(strong.predict(batch._replace(image=2.0**10 * batch.image)), seen)
    assert not torch.allclose(one.predict(batch._replace(image=batch.image / 8)), seen, atol=1e-4)


def test_the_median_image_of_the_first_batch_has_a_mean_of_25_units():
    first = FirstConvolution(1, 3, 1, activation="log_scaled", full_scale=None).train()
    mask = torch.ones(3, 32, 32, dtype=torch.bool)
    mask[:, :16] = False
    means = torch.tensor([2.0, 50.0, 9000.0])[:, None, None]
    for factor in (1.0, 1e4):  # the second batch changes nothing
        first(ImageBatch(factor * means.expand(mask.shape), mask, torch.zeros(3, 1)))
    assert first.scale.unit.item() == pytest.approx(2.0)


def test_an_image_without_a_measured_pixel_has_an_answer(batch):
    empty = batch._replace(mask=torch.zeros_like(batch.mask))
    for activation in ACTIVATIONS:
        assert torch.isfinite(build("resnet18", activation=activation).eval().predict(empty)).all()


def test_flips_mirror_image_and_mask_together_and_keep_the_labels(batch):
    torch.manual_seed(0)
    found = set()
    for _ in range(8):
        flipped = flip(batch)
        assert flipped.labels is batch.labels
        for number, image in enumerate(flipped.image):
            mirrors = [
                axes for axes in ((), (-2,), (-1,), (-2, -1)) if torch.equal(image, batch.image[number].flip(axes))
            ]
            assert len(mirrors) == 1
            assert torch.equal(flipped.mask[number], batch.mask[number].flip(mirrors[0]))
            found.add(mirrors[0])
    assert len(found) == 4


def test_images_are_mirrored_while_training_only(batch):
    model = build("resnet18").eval()
    assert torch.equal(model.loss(batch), model.loss(batch))
    for part in model.modules():
        part.training = part is model  # the normalisation as in evaluation: what differs are the images
    losses = [model.loss(batch).item() for _ in range(4)]
    assert len(set(losses)) > 1
    model.flips = False
    assert len({model.loss(batch).item() for _ in range(4)}) == 1


@pytest.mark.parametrize(
    ("shape", "options", "message"),
    [
        ((24, 40), {}, r"shape = \(24, 40\): expected \(y, x\), 32 pixels a side or more"),
        ((5, 5, 5), {}, r"shape = \(5, 5, 5\): expected \(y, x\)"),
        (SHAPE, {"width": 0}, "width = 0: expected a number above 0"),
        (SHAPE, {"activation": "lgo"}, "unknown activation 'lgo'; did you mean 'log'"),
        (SHAPE, {"activation": "leaky_relu", "full_scale": -1.0}, "full_scale = -1.0: expected a number above 0"),
        (SHAPE, {"full_scale": 100.0}, "full_scale = 100.0: expected null, as log has its own scale"),
        (SHAPE, {"n_labels": 4}, "unknown option 'n_labels'"),
        (SHAPE, {"widht": 4}, "did you mean 'width'"),
    ],
)
def test_what_cannot_be_built_is_refused(shape, options, message):
    with pytest.raises(ConfigError, match=message):
        check_model(IMAGE_MODELS, "resnet18", ModelConfig(options=options), shape)


def test_labels_are_needed():
    with pytest.raises(ConfigError, match="n_labels = 0: expected at least 1"):
        build_model(IMAGE_MODELS, "vgg16", SHAPE, n_labels=0)


class SpotData(SplitData[ImageBatch]):
    """The images of `batch` as a data set."""

    config, shape, built_with = Section(), SHAPE, {"n_labels": N_LABELS}
    splits = {"train": np.arange(6).repeat(2), "validation": np.arange(6)}  # noqa: RUF012

    def __init__(self, batch):
        self.batch = batch

    def __getitem__(self, samples):
        return ImageBatch(*(field[torch.as_tensor(samples)] for field in self.batch))

    def draw(self, n, rng):
        raise NotImplementedError


def train(batch, folder, name, models=None, **options):
    options = {"epochs": 4, "learning_rate": 3e-3} | options
    training = TrainingConfig(loss="cross_entropy", batch_size=6, **options)
    config = LearningConfig(models=models or SMALL, training=training)
    return fit(IMAGE_MODELS, name, SpotData(batch), config, folder, device="cpu", progress=False)


@pytest.mark.parametrize("options", [{}, {"optimiser": "sgd", "learning_rate": 0.1}], ids=["adamw", "sgd"])
def test_training_lowers_the_loss(batch, tmp_path, options):
    model = train(batch, tmp_path, "resnet18", epochs=12, **options)
    assert model.n_labels == N_LABELS
    curve = loss_curve(tmp_path)
    assert curve["train_loss"].iloc[-1] < 0.8 * curve["train_loss"].iloc[0]


def test_a_training_that_was_interrupted_ends_with_the_same_weights(batch, tmp_path, monkeypatch):
    """Mirrored images and what is dropped out are drawn again as they were."""
    loss, calls = ImageClassifier.loss, itertools.count()

    def broken_off(self, batch):
        if next(calls) == 7:  # 2 steps and 1 of validation an epoch: in the third
            raise InterruptedError
        return loss(self, batch)

    with monkeypatch.context() as patch:
        patch.setattr(ImageClassifier, "loss", broken_off)
        with pytest.raises(InterruptedError):
            train(batch, tmp_path / "broken off", "vgg16")
    resumed, undisturbed = (train(batch, tmp_path / folder, "vgg16") for folder in ("broken off", "whole"))
    for name, parameter in resumed.state_dict().items():
        assert torch.equal(parameter, undisturbed.state_dict()[name]), name


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
def test_gpu_equals_cpu(model, batch):
    on_cpu = model.eval().predict(batch)
    on_gpu = model.to("cuda").predict(ImageBatch(*(x.to("cuda") for x in batch)))
    assert torch.allclose(on_gpu.cpu(), on_cpu, atol=1e-3)
