"""Weights in files: what goes in comes out, and what does not fit its card is refused."""

import hashlib
import json
import math
import shlex
import shutil
from contextlib import suppress

import numpy as np
import pytest
import safetensors.torch
import torch

from rephase.config import load_config
from rephase.config.sections import ModelConfig
from rephase.errors import TrainingError, WeightsError
from rephase.labs.completion.cards import AMPLITUDES
from rephase.labs.completion.models import AMPLITUDE_MODELS
from rephase.labs.completion.scores import complete_batch
from rephase.labs.completion.shipping import ranges, relative_errors
from rephase.labs.completion.steps import build_data
from rephase.labs.images.cards import IMAGES
from rephase.labs.images.data.droplet_labels import LABELS
from rephase.labs.images.models import IMAGE_MODELS
from rephase.labs.images.scores import Classified, f1, probabilities
from rephase.labs.images.steps import build_images, trained_classifier
from rephase.labs.scattering.cards import POSTERIORS
from rephase.labs.waves.cards import IMAGE_POSTERIORS
from rephase.learning.models import build_model
from rephase.learning.weights import load_weights, save_weights, shipped_weights
from rephase.paths import WEIGHTS
from rephase.runs import open_run
from rephase.shipping import ship_weights

KINDS = (AMPLITUDES, IMAGES, POSTERIORS, IMAGE_POSTERIORS)


@pytest.fixture(scope="module")
def data(completion_run):
    return build_data(completion_run).random


@pytest.fixture(scope="module")
def images(image_run):
    return build_images(image_run)


def copied(weights, folder):
    """A copy of weights and their card, to be damaged."""
    for suffix in (".safetensors", ".json"):
        shutil.copy(weights.with_suffix(suffix), folder)
    return folder / weights.name


@pytest.fixture
def files(unet_weights, tmp_path):
    return copied(unet_weights, tmp_path)


RANGES = {"a": [4.0, 9.0], "b": [4.0, 9.0], "c": [4.0, 9.0], "beta": [90.0, 120.0], "volume": [60.0, 900.0]}


def change_card(path, **changes):
    card = json.loads(path.with_suffix(".json").read_text())
    path.with_suffix(".json").write_text(json.dumps(card | changes))


def options_of(config, name):
    return config.completion.models[name].options


@pytest.mark.parametrize("name", AMPLITUDE_MODELS)
def test_a_model_predicts_the_same_after_its_way_through_a_file(name, data, unet_weights, config, tmp_path):
    model = build_model(AMPLITUDE_MODELS, name, data.config.shape, config.completion.models[name], seed=3).eval()
    card = load_weights(unet_weights, AMPLITUDES).card.model_copy(
        update={"model": name, "options": options_of(config, name)}
    )
    again = load_weights(save_weights(tmp_path / f"{name}.safetensors", model, card), AMPLITUDES).model
    batch = data[[0, 1]]
    before, after = (one.predict(batch)[batch.missing] for one in (model, again))
    assert torch.allclose(before, after, rtol=5e-3, atol=1e-3 * float(before.max()))
    assert not torch.equal(before, after)  # stored in half precision


def test_the_card_says_what_was_trained_on_what(completion_run, unet_weights, data):
    card = load_weights(unet_weights, AMPLITUDES).card
    assert (card.model, card.options, card.data) == ("unet", {"width": 4}, completion_run.config.completion.data)
    assert card.trained_on == ranges(data)
    lengths = data.lattice[data.splits["train"]].norm(dim=1)
    assert card.trained_on.b == pytest.approx((lengths[:, 1].min().item(), lengths[:, 1].max().item()))
    assert set(card.figures) == {"test"}
    assert 0.2 < card.figures["test"]["r_factor_missing"] < 1
    assert unet_weights.stat().st_size < 2e6


def test_the_command_of_the_card_trains_the_same(completion_run, unet_weights):
    words = shlex.split(load_weights(unet_weights, AMPLITUDES).card.command)
    assert words[:4] == ["rephase", "run", "--only", "12,13"]
    again, config = load_config("quick", words[5::2]), completion_run.config
    assert again.seed == config.seed
    for key in ("data", "models", "training"):
        assert getattr(again.completion, key) == getattr(config.completion, key)


def is_centric(data, batch):
    """[batch, h, k, l]."""
    of_groups = np.stack([symmetry.is_centric(data.grid.hkl.reshape(-1, 3)) for symmetry in data.symmetries])
    return torch.as_tensor(of_groups).reshape(-1, *data.grid.shape)[batch.group]


def test_relative_errors_are_those_of_the_reflections(data):
    class Factor:
        """Too large by a quarter, centric reflections by a half."""

        def predict(self, batch):
            return batch.F.abs() * torch.where(is_centric(data, batch), 1.5, 1.25)

    found = relative_errors(Factor(), data, split="train")
    assert found.acentric[6:] == pytest.approx([0.2] * 6, abs=1e-3)
    assert found.centric[6:] == pytest.approx([1 / 3] * 6, abs=1e-3)
    assert 0.2 < found.acentric[0] == found.centric[0] < 1 / 3  # nothing is missing at low angle


def test_errors_of_a_trained_model_hold_for_other_crystals(data, unet_weights):
    """About two thirds of the amplitudes of the test split are within one σ."""
    model, card = load_weights(unet_weights, AMPLITUDES)
    batch = data[data.splits["test"]]
    c = complete_batch(model, batch)
    shell = (12 * 4 * batch.s_squared * card.data.d_min**2).long().clamp(max=11)
    acentric, centric = torch.tensor([card.relative_error.acentric, card.relative_error.centric])
    sigma = c.pred * torch.where(is_centric(data, batch), centric[shell], acentric[shell])
    within = ((c.pred - c.true).abs() <= sigma)[c.missing].float().mean()
    assert 0.55 < within < 0.85  # of three small crystals


def test_another_checksum_is_named(files):
    content = bytearray(files.read_bytes())
    content[-1] ^= 1
    files.write_bytes(content)
    with pytest.raises(
        WeightsError, match=f"{hashlib.sha256(content).hexdigest()}, but that in the card is [0-9a-f]{{64}}"
    ):
        load_weights(files, AMPLITUDES)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"options": {"width": 8}}, r"has shape \[16\], but 'unet' on the grid .* with options .* expects \[32\]"),
        ({"model": "transformer", "options": {}}, "has shape none, but 'transformer'"),
        ({"options": {"widths": 4}}, "did you mean 'width'"),
        ({"model": "unnet"}, "did you mean 'unet'"),
        ({"colour": "red"}, "no card of weights .*colour"),
        ({"data": {"shape": [2, 2]}}, "no card of weights .*shape"),
        ({"relative_error": {"acentric": [0.5, 0.5], "centric": [0.6]}}, "2 acentric and 1 centric shells"),
        (
            {"relative_error": {"acentric": [0.5], "centric": [-0.6]}},
            "centric.0: .* greater than or equal",
        ),
        ({"relative_error": {"acentric": [math.nan], "centric": [0.6]}}, "no card of weights .*not JSON compliant"),
        ({"figures": {"test": {"r_factor": math.inf}}}, "no card of weights .*not JSON compliant"),
        ({"options": {"width": math.nan}}, "no card of weights .*not JSON compliant"),
        ({"trained_on": RANGES | {"a": [9.0, 4.0]}}, "trained_on.a: .*from 9.0 to 4.0: .*smaller value first"),
        ({"trained_on": RANGES | {"volume": [0.0, 900.0]}}, "trained_on.volume.0: .*greater than 0"),
        ({"trained_on": RANGES | {"beta": [90.0, 180.0]}}, "trained_on.beta.1: .*less than 180"),
        ({"seed": -1}, "no card of weights .*seed"),
        ({"figures": {"test": {"r_factor": 0.123}}}, "damaged or changed by hand"),
        ({"command": "rm"}, "damaged or changed by hand"),
        ({"card_sha256": "0"}, "damaged or changed by hand"),
    ],
)
def test_a_card_of_other_weights_is_refused(files, changes, message):
    change_card(files, **changes)
    with pytest.raises(WeightsError, match=message):
        load_weights(files, AMPLITUDES)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"3", b"null", b"[" * 100_000, b"\xff\xfe\x00", b" " * 2**21])
def test_what_is_no_card_is_named(files, content):
    files.with_suffix(".json").write_bytes(content)
    with pytest.raises(WeightsError, match="unet.json: no card of weights"):
        load_weights(files, AMPLITUDES)


def test_a_flipped_bit_in_a_card_is_found(files):
    card, rng = files.with_suffix(".json"), np.random.default_rng(0)
    content, model = card.read_bytes(), load_weights(files, AMPLITUDES)
    for place in rng.choice(8 * len(content), 100, replace=False):
        damaged = bytearray(content)
        damaged[place // 8] ^= 1 << place % 8
        card.write_bytes(damaged)
        with suppress(WeightsError):
            assert load_weights(files, AMPLITUDES).card == model.card, "only spaces between words may change"


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_weights_that_are_not_finite_are_refused_with_a_right_checksum(files, value):
    tensors = safetensors.torch.load_file(files)
    name = sorted(tensors)[3]
    tensors[name].view(-1)[-1] = value
    safetensors.torch.save_file(tensors, files)
    change_card(files, sha256=hashlib.sha256(files.read_bytes()).hexdigest())
    with pytest.raises(WeightsError, match=f"{name} has values that are not finite"):
        load_weights(files, AMPLITUDES)


def test_weights_that_are_no_file_are_named(files, tmp_path):
    for source in (tmp_path, "x" * 300, "\0"):
        with pytest.raises(WeightsError, match="no weights .*neither a file nor shipped"):
            load_weights(source, AMPLITUDES)
    files.with_suffix(".json").unlink()
    files.with_suffix(".json").mkdir()
    with pytest.raises(WeightsError, match="unet.json: no such card"):
        load_weights(files, AMPLITUDES)


def test_damaged_and_missing_files_are_named(files, tmp_path):
    whole = files.read_bytes()
    files.write_bytes(whole[:100])
    change_card(files, sha256=hashlib.sha256(whole[:100]).hexdigest())
    with pytest.raises(WeightsError, match="not a safetensors file"):
        load_weights(files, AMPLITUDES)
    files.with_suffix(".json").unlink()
    with pytest.raises(WeightsError, match=r"unet\.json: no such card"):
        load_weights(files, AMPLITUDES)
    with pytest.raises(WeightsError, match="no weights 'nothing': neither a file nor shipped"):
        load_weights("nothing", AMPLITUDES)


def test_weights_that_half_precision_cannot_hold_are_refused(unet_weights, tmp_path):
    model, card = load_weights(unet_weights, AMPLITUDES)
    next(model.parameters()).data[:] = 1e6
    with pytest.raises(WeightsError, match="half precision"):
        save_weights(tmp_path / "large.safetensors", model, card)
    assert not list(tmp_path.iterdir())


def test_a_run_that_trained_nothing_is_refused(tmp_path):
    with pytest.raises(TrainingError, match="ships its models: completion, phasing, images, scattering, waves$"):
        ship_weights(open_run(tmp_path, "test", device="cpu"), tmp_path)


@pytest.mark.parametrize("name", IMAGE_MODELS)
def test_a_classifier_sees_the_same_after_its_way_through_a_file(name, images, image_weights, tmp_path):
    options = {"width": 4}
    model = build_model(IMAGE_MODELS, name, images.shape, ModelConfig(options=options), n_labels=11, seed=3).eval()
    card = load_weights(image_weights, IMAGES).card.model_copy(update={"model": name, "options": options})
    again = load_weights(save_weights(tmp_path / f"{name}.safetensors", model, card), IMAGES).model
    batch = images[[0, 1]]
    assert torch.allclose(model(batch), again(batch), rtol=0.02, atol=0.02)
    assert not torch.equal(model(batch), again(batch))  # stored in half precision


def test_the_card_of_a_classifier_names_labels_and_thresholds(image_run, image_weights, images):
    card = load_weights(image_weights, IMAGES).card
    assert (card.model, card.labels, card.data) == ("resnet18", LABELS, image_run.config.images.data)
    assert set(card.figures) == {"test"}
    assert 0 <= card.figures["test"]["macro_f1"] <= 1
    probability, truth = probabilities(trained_classifier(image_run, images, "resnet18"), images, "validation")
    half = torch.full((11,), 0.5)
    chosen, usual = (
        f1(Classified(probability, truth, t)) for t in (torch.tensor(card.thresholds, dtype=torch.float64), half)
    )
    assert (chosen >= usual).all()
    assert chosen.sum() > usual.sum()


def test_the_command_of_a_classifier_trains_the_same(image_run, image_weights):
    words = shlex.split(load_weights(image_weights, IMAGES).card.command)
    assert words[:4] == ["rephase", "run", "--only", "24"]
    again, images = load_config("quick", words[5::2]), image_run.config.images
    assert (again.seed, again.images.data) == (image_run.config.seed, images.data)
    assert (again.images.models, again.images.training) == (images.models, images.training)


def test_weights_of_another_kind_are_refused(unet_weights, image_weights):
    with pytest.raises(WeightsError, match="weights of a model of amplitudes, expected one of images"):
        load_weights(unet_weights, IMAGES)
    with pytest.raises(WeightsError, match="weights of a model of images, expected one of amplitudes"):
        load_weights(image_weights, AMPLITUDES)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": "resnet34"}, r"but 'resnet34' on the grid \(32, 32\) .* expects none"),
        ({"model": "unet"}, "unknown model 'unet'"),
        ({"options": {"width": 8}}, r"but 'resnet18' .* with options .*8.* expects"),
        ({"labels": ["round"], "thresholds": [0.5]}, r"head.bias has shape \[11\], .* expects \[1\]"),
        ({"labels": ["round"]}, "1 labels and 11 thresholds"),
        ({"thresholds": [1.5] * 11}, "no card of weights .*thresholds"),
        ({"kind": "image"}, "weights of a model of image, expected one of images"),
    ],
)
def test_a_card_of_another_classifier_is_refused(image_weights, changes, message, tmp_path):
    path = copied(image_weights, tmp_path)
    change_card(path, **changes)
    with pytest.raises(WeightsError, match=message):
        load_weights(path, IMAGES)


def test_weights_are_offered_to_those_who_can_use_them(unet_weights, image_weights, tmp_path):
    for path in (unet_weights, image_weights):
        copied(path, tmp_path)
    assert (shipped_weights(AMPLITUDES, tmp_path), shipped_weights(IMAGES, tmp_path)) == (["unet"], ["resnet18"])
    (tmp_path / "unet.json").write_text("{")
    assert shipped_weights(IMAGES, tmp_path) == ["resnet18", "unet"]  # nobody knows


def test_first_cards_had_no_kind_and_no_checksum(files):
    for key in ("kind", "card_sha256"):
        card = json.loads(files.with_suffix(".json").read_text())
        del card[key]
        files.with_suffix(".json").write_text(json.dumps(card))
        assert load_weights(files, AMPLITUDES).card.kind == "amplitudes"
        assert shipped_weights(AMPLITUDES, files.parent) == ["unet"]


def test_whole_numbers_stay_whole(image_weights, tmp_path):
    """Half precision would end at 65504."""
    model, card = load_weights(image_weights, IMAGES)
    counted = next(name for name in model.state_dict() if name.endswith("num_batches_tracked"))
    model.state_dict()[counted].fill_(70_001)
    again = load_weights(save_weights(tmp_path / "long.safetensors", model, card), IMAGES).model
    assert again.state_dict()[counted] == 70_001


@pytest.mark.parametrize(("kind", "name"), [(kind, name) for kind in KINDS for name in shipped_weights(kind)])
def test_shipped_weights_can_be_read(kind, name):
    assert load_weights(name, kind).card.figures


def test_shipped_weights_are_small():
    assert sum(path.stat().st_size for path in WEIGHTS.glob("*")) < 40e6
