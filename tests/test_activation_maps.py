"""Grad-CAM++: it lights what a network looks at."""

import pytest
import torch

from rephase.config.sections import ModelConfig
from rephase.errors import RephaseError
from rephase.labs.images.activation_maps import activation_map
from rephase.labs.images.data.batch import ImageBatch
from rephase.labs.images.models import IMAGE_MODELS
from rephase.labs.images.models.networks import GlobalMean, ImageClassifier
from rephase.learning.models import build_model

CORNERS = [(slice(0, 32), slice(0, 32)), (slice(32, 64), slice(32, 64))]


class TwoCorners(ImageClassifier):
    """Channel 0 sees what is bright at the upper left, channel 1 at the lower right, channel 2 everything dark.

    Label 0 is channel 0 against channel 1, label 1 the other way round, label 2 against both.
    """

    def __init__(self):
        super().__init__((64, 64), n_labels=3)
        self.neck, self.head = GlobalMean(), torch.nn.Linear(3, 3, bias=False)
        with torch.no_grad():
            self.head.weight.copy_(torch.tensor([[1.0, -1, 0], [-1, 1, 0], [-1, -1, 0]]))

    def features(self, batch):
        coarse = torch.nn.functional.avg_pool2d(batch.image[:, None], 8)
        corners = torch.zeros(2, 8, 8)
        corners[0, :4, :4] = corners[1, 4:, 4:] = 1
        return torch.cat([coarse * corners, 2 - coarse], dim=1)


def images(*corners):
    """Dim images, each with a bright square in some of the corners."""
    image = torch.ones(len(corners), 64, 64)
    for number, bright in enumerate(corners):
        for corner in bright:
            image[(number, *CORNERS[corner])][8:24, 8:24] = 5
    labels = torch.tensor([[float(corner in bright) for corner in (0, 1)] for bright in corners])
    return ImageBatch(image, torch.ones(image.shape, dtype=torch.bool), labels)


def peak(found):
    """Row and column of the largest value of each map."""
    at = found.flatten(1).argmax(1)
    return [(int(i) // found.shape[-1], int(i) % found.shape[-1]) for i in at]


def test_a_network_that_looks_at_a_corner_lights_that_corner():
    batch, model = images([0, 1], [0, 1], [0]), TwoCorners()
    upper, lower = (activation_map(model, batch, label) for label in (0, 1))
    assert upper.shape == batch.image.shape
    assert all(8 <= y < 24 and 8 <= x < 24 for y, x in peak(upper))
    assert all(40 <= y < 56 and 40 <= x < 56 for y, x in peak(lower[:2]))
    assert upper.amax((1, 2)).tolist() == [1, 1, 1]
    assert upper.min() == 0
    assert not upper[:, 32:, 36:].any()


def test_what_nothing_speaks_for_is_dark():
    assert not activation_map(TwoCorners(), images([0, 1]), 2).any()


def test_a_map_does_not_depend_on_the_other_images():
    batch, model = images([0, 1], [1], [0]), TwoCorners()
    alone = ImageBatch(*(field[1:2] for field in batch))
    assert torch.equal(activation_map(model, batch, 1)[1:2], activation_map(model, alone, 1))


def test_the_weights_are_those_of_the_reference():
    """w = Σ α relu(g), α = g² / (2 g² + Σ A g³), here for features that are not negative, and g by hand."""
    batch, model = images([0], [0, 1]), TwoCorners()
    features = model.features(batch)
    g = model.head.weight.detach()[0, :, None, None] / 64
    alpha = torch.where(g == 0, 0, g**2 / (2 * g**2 + features.sum((-2, -1), keepdim=True) * g**3))
    weight = (alpha * g.relu()).expand_as(features).sum((-2, -1), keepdim=True)
    coarse = (weight * features).sum(1).relu()
    found = activation_map(model, batch, 0)[:, 4::8, 4::8]  # near the middle of the coarse pixels
    assert torch.corrcoef(torch.stack([found.flatten(), coarse.flatten()]))[0, 1] > 0.99


def striped(n, generator):
    """Images with a patch of rows, of columns, of both or of none, each in a quadrant of its own: the labels."""
    rows = 50 * (1 + torch.sin(torch.arange(16) * torch.pi / 2))[:, None].expand(16, 16)
    labels = (torch.rand(n, 2, generator=generator) < 0.5).float()
    quadrant = torch.rand(n, 4, generator=generator).argsort(1)[:, :2]
    expected = torch.full((n, 4, 32, 32), 10.0)
    for label, patch in enumerate([rows, rows.T]):
        expected[torch.arange(n), quadrant[:, label], 8:24, 8:24] += labels[:, label, None, None] * patch
    image = expected.unflatten(1, (2, 2)).transpose(2, 3).reshape(n, 64, 64)
    mask = torch.ones(image.shape, dtype=torch.bool)
    return ImageBatch(torch.poisson(image, generator=generator), mask, labels), quadrant


def test_a_trained_network_lights_the_place_of_what_the_label_names():
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(0)
    model = build_model(
        IMAGE_MODELS, "resnet18", (64, 64), ModelConfig(options={"width": 8, "flips": False}), n_labels=2
    )
    optimiser = torch.optim.Adam(model.parameters(), lr=3e-3)
    for _ in range(40):
        optimiser.zero_grad()
        model.loss(striped(16, generator)[0]).backward()
        optimiser.step()
    batch, quadrant = striped(48, generator)
    for label in (0, 1):
        found = activation_map(model.eval(), batch, label).unflatten(2, (2, 32)).unflatten(1, (2, 32)).sum((2, 4))
        is_right = found.flatten(1).argmax(1) == quadrant[:, label]
        assert is_right[batch.labels[:, label] > 0].float().mean() > 0.8


def test_a_label_that_the_model_has_not_is_refused():
    with pytest.raises(RephaseError, match="label = 3: expected 0 to 2"):
        activation_map(TwoCorners(), images([0]), 3)
