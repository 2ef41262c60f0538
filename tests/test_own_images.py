"""The steps of notebook 24: any images in, labels, doubts, embeddings and maps out; wrong configurations."""

from math import log

import h5py
import numpy as np
import pytest
import tifffile
import torch

from rephase import pipeline
from rephase.config import load_config
from rephase.devices import WORK
from rephase.errors import ConfigError, RephaseError, WeightsError
from rephase.figures import draw
from rephase.labs.images.cards import IMAGES
from rephase.labs.images.data.files import ImageFiles
from rephase.labs.images.models.networks import GlobalMean, ImageClassifier
from rephase.labs.images.own_images import check_own_images, classify_images, open_classifier, own_images
from rephase.labs.images.steps import build_images
from rephase.learning.weights import Weights, load_weights
from rephase.runs import open_run

MIDDLE = 10.0  # counts


class Brightness(ImageClassifier):
    """Label 0 has the logit <counts> - MIDDLE, label 1 the opposite."""

    def __init__(self, shape=(32, 32)):
        super().__init__(shape, n_labels=2)
        self.body, self.neck, self.head = torch.nn.Identity(), GlobalMean(), torch.nn.Linear(1, 2)
        with torch.no_grad():
            self.head.weight.copy_(torch.tensor([[1.0], [-1.0]]))
            self.head.bias.copy_(torch.tensor([-MIDDLE, MIDDLE]))

    def features(self, batch):
        return torch.nn.functional.avg_pool2d(batch.image[:, None], 4)


@pytest.fixture(scope="module")
def brightness(image_weights):
    """That network; ``dim`` takes a probability of 0.9."""
    card = load_weights(image_weights, IMAGES).card
    return Weights(Brightness().eval(), card.model_copy(update={"labels": ("bright", "dim"), "thresholds": (0.5, 0.9)}))


@pytest.fixture
def open_folder(tmp_path):
    """A run for a folder of images, and options beside."""

    def opened(*overrides, folder=tmp_path / "images"):
        changes = [f"images.classify.path={folder}", "images.classify.n_shown=2", *overrides]
        return open_run(tmp_path / "run", "test", changes, device="cpu")

    (tmp_path / "images").mkdir()
    return opened


def image_of(mean, size=32):
    """Left half dark, right half bright."""
    image = np.zeros((size, size), np.float32)
    image[:, size // 2 :] = 2 * mean
    return image


def save_images(run, **means):
    for name, mean in means.items():
        np.save(f"{run.config.images.classify.path}/{name}.npy", image_of(mean))


def test_labels_and_doubts_by_hand(open_folder, brightness):
    """p(bright) is 1/2, sigmoid(4) and 1/5."""
    run = open_folder()
    save_images(run, a=MIDDLE, b=MIDDLE + 4, c=MIDDLE - log(4))
    table = classify_images(run, brightness, own_images(run, 32))
    assert table["name"].tolist() == ["a", "b", "c"]
    assert table["file"].tolist() == ["a.npy", "b.npy", "c.npy"]
    assert table["labels"].tolist() == ["bright", "bright", "none"]
    assert table["unsure"].tolist() == ["bright, dim", "none", "dim"]
    assert table["expected_wrong"].tolist() == pytest.approx([1.0, 2 * 0.0179862, 0.2 + 0.8], abs=1e-5)
    assert table["p(dim)"].tolist() == pytest.approx([0.5, 0.0179862, 0.8], abs=1e-5)
    assert run.table("classified_images")["labels"].tolist() == table["labels"].tolist()


def test_every_kind_of_file_has_its_rows_and_a_bad_one_its_reason(open_folder, brightness):
    run = open_folder()
    folder = run.config.images.classify.path
    save_images(run, a=14)
    np.save(f"{folder}/b.npy", np.full((32, 32), np.nan))
    tifffile.imwrite(f"{folder}/c.tif", image_of(6, size=64))
    with h5py.File(f"{folder}/d.h5", "w") as file:
        file["data"] = np.stack([image_of(6), image_of(14)])
    table = classify_images(run, brightness, own_images(run, 32))
    assert table["name"].tolist() == ["a", "c", "d[0]", "d[1]"]
    assert table["labels"].tolist() == ["bright", "dim", "dim", "bright"]
    left_out = run.table("classified_left_out")
    assert left_out["name"].tolist() == ["b"]
    assert "NaN" in left_out["reason"][0]


def test_embeddings_lead_to_the_probabilities(open_folder, brightness):
    run = open_folder()
    save_images(run, a=9, b=11)
    table = classify_images(run, brightness, own_images(run, 32))
    saved = run.arrays("image_embeddings")
    assert saved["names"].tolist() == ["a", "b"]
    assert saved["features"][:, 0] == pytest.approx([9, 11])
    assert table["p(bright)"].to_numpy() == pytest.approx(1 / (1 + np.exp(MIDDLE - saved["features"][:, 0])))


def test_images_are_read_batch_by_batch(open_folder, brightness, monkeypatch):
    run = open_folder()
    save_images(run, **{f"i{number}": 8 + number for number in range(7)})
    images, sizes = own_images(run, 32), []
    whole = classify_images(run, brightness, images)
    read = ImageFiles.__getitem__
    monkeypatch.setattr(ImageFiles, "__getitem__", lambda self, rows: sizes.append(len(rows)) or read(self, rows))
    monkeypatch.setitem(WORK, "scored images", WORK["scored images"]._replace(cpu=3))
    again = classify_images(run, brightness, images)
    assert sizes == [3, 3, 1, 2]  # the last are those that are drawn
    assert whole.equals(again)


def test_labels_in_the_files_of_others_are_not_looked_at(open_folder, brightness):
    run = open_folder()
    with h5py.File(f"{run.config.images.classify.path}/a.cxi", "w") as file:
        file["entry_1/data_1/data"], file["entry_1/note_1/data"] = image_of(14), [3, 1, 4]
    table = classify_images(run, brightness, own_images(run, 32))
    assert table["labels"].tolist() == ["bright"]
    assert "noted" not in table


def test_labels_that_can_be_the_classifiers_are_noted_and_others_ignored(open_folder, brightness):
    run = open_folder()
    for name, labels in {"a": [0, 1], "b": [3, 1, 4], "c": [2, 0], "d": [0, 0]}.items():
        with h5py.File(f"{run.config.images.classify.path}/{name}.cxi", "w") as file:
            file["entry_1/data_1/data"], file["entry_1/note_1/data"] = image_of(14), labels
    save_images(run, e=14)
    images = own_images(run, 32, brightness.card.labels)
    assert classify_images(run, brightness, images)["noted"].tolist() == [
        "dim",
        "unknown",
        "unknown",
        "none",
        "unknown",
    ]
    assert images.left_out.empty


def test_what_was_trained_on_is_marked_in_the_file_of_a_data_set(image_run, image_weights, tmp_path):
    path = own_images(image_run, 32).shots[0].path
    overrides = [
        f"images.data={{kind: file, file: {{path: {path}}}, size: 32}}",
        "images.experiments={}",
        "images.models={resnet18: {options: {width: 2}}}",
    ]
    run = open_run(tmp_path, "test", overrides, device="cpu")
    classifier, data = open_classifier(run), build_images(run)
    images = own_images(run, 32, classifier.card.labels)
    table = classify_images(run, classifier, images)
    for name, numbers in data.splits.items():
        assert np.flatnonzero(table["split"] == name).tolist() == sorted(numbers)
    first = [label for label, is_there in zip(data.label_names, data.labels[0]) if is_there]
    assert table["noted"][0] == (", ".join(first) or "none")
    assert "split" not in classify_images(run, load_weights(image_weights, IMAGES), images)


def test_weights_for_other_labels_than_those_of_the_data_set_are_refused(image_weights, tmp_path):
    overrides = ["images.data.kind=single_particles", f"images.classify.weights={image_weights}"]
    with pytest.raises(ConfigError, match=r"empty, but .* single_particles have virus_70.*classify\.weights=null"):
        open_classifier(open_run(tmp_path / "a", "test", overrides, device="cpu"))
    (tmp_path / "images").mkdir()
    own = [*overrides, f"images.classify.path={tmp_path / 'images'}"]
    assert open_classifier(open_run(tmp_path / "b", "test", own, device="cpu")).card.labels[-1] == "empty"


def test_polar_images_are_turned(open_folder):
    run = open_folder("images.classify.geometry=polar")
    save_images(run, a=3)
    mask = own_images(run, 32)[[0]].mask[0]
    assert not mask[0, 0]
    assert mask[16, 0]


def test_what_the_detector_does_not_measure_is_left_out(open_folder, brightness, tmp_path):
    np.save(tmp_path / "mask.npy", np.arange(32) >= np.full((32, 1), 4))
    run = open_folder(f"images.classify.mask={tmp_path / 'mask.npy'}")
    save_images(run, a=14)
    images = own_images(run, 32)
    assert images[[0]].mask[0].sum() == 32 * 28
    classify_images(run, brightness, images)
    assert not run.arrays("classified_examples")["mask"][0, :, :4].any()


def test_simulated_shots_are_new_and_have_labels(image_run, image_weights):
    images, data = own_images(image_run, 32), build_images(image_run)
    assert len(images) == 8 * image_run.config.images.classify.n_shown
    assert {shot.path for shot in images.shots} == {image_run.folder / "data" / "simulated_shots.cxi"}
    seen, known = images[np.arange(len(images))], data[np.arange(len(data))]
    assert not (seen.image[:, None] == known.image).flatten(2).all(2).any()
    assert not seen.mask[:, 16, 16].any()  # the hole of the detector
    table = classify_images(image_run, load_weights(image_weights, IMAGES), images)
    first = [name for name, is_there in zip(data.label_names, seen.labels[0]) if is_there]
    assert table["noted"][0] == ", ".join(first)
    assert own_images(image_run, 64)[[0]].image.shape == (1, 64, 64)
    images.shots[0].path.unlink()
    assert torch.equal(own_images(image_run, 32)[[3]].image, seen.image[3:4])


def test_the_file_of_a_data_set_is_classified_where_no_other_is_named(image_run, tmp_path):
    path = own_images(image_run, 32).shots[0].path
    data = f"images.data={{kind: file, file: {{path: {path}}}, size: 32}}"
    images = own_images(open_run(tmp_path, "test", [data, "images.experiments={}"]), 32)
    assert len(images) == 8 * image_run.config.images.classify.n_shown
    assert not images.config.labels


def test_the_classifier_of_a_run_and_its_weights_see_the_same(image_run, image_weights, tmp_path):
    trained = open_classifier(image_run)
    again = open_classifier(open_run(tmp_path, "test", [f"images.classify.weights={image_weights}"], device="cpu"))
    assert trained.card == again.card.model_copy(update={"sha256": "", "card_sha256": ""})
    batch = own_images(image_run, 32)[[0, 1]]
    assert torch.allclose(trained.model(batch), again.model(batch), atol=0.02)
    assert not again.model.training


def test_the_figure_shows_sure_images_with_their_label_and_doubtful_ones_with_their_doubt(open_folder, brightness):
    run = open_folder("images.classify.n_shown=4")
    save_images(run, sure_dim=2, sure_bright=18, half=10, not_quite_dim=9, fair=12)
    classify_images(run, brightness, own_images(run, 32))
    arrays = run.arrays("classified_examples")
    assert set(arrays["title"][:2]) == {"sure_dim", "sure_bright"}
    assert arrays["title"][2:].tolist() == ["not_quite_dim", "half"]
    assert arrays["decides"][2:].tolist() == ["dim", "bright"]
    bright = arrays["activation"][arrays["title"].tolist().index("sure_bright")]
    assert bright[:, 20:].min() > 0.9
    assert not bright[:, :10].any()
    figure = draw(run, "classified_images")
    titles = [ax.get_title() for ax in figure.axes if ax.get_title()]
    assert titles[2:] == ["not_quite_dim\nnone\ndim: p = 0.73", "half\nbright\nbright: p = 0.50"]


def test_one_image_is_enough(open_folder, brightness):
    run = open_folder("images.classify.n_shown=8")
    save_images(run, alone=14)
    classify_images(run, brightness, own_images(run, 32))
    (title,) = [ax.get_title() for ax in draw(run, "classified_images").axes if ax.get_title()]
    assert title.startswith("alone\nbright")


def test_a_network_of_correlation_maps_gets_maps(open_folder, brightness):
    run = open_folder()
    save_images(run, a=14, b=6)
    data = brightness.card.data.model_copy(update={"input": "correlation", "size": 64})
    seen = []
    model = Brightness((32, 64)).eval()
    features = model.features
    model.features = lambda batch: seen.append(batch.image.shape) or features(batch)
    classify_images(run, Weights(model, brightness.card.model_copy(update={"data": data})), own_images(run, 64))
    assert seen == [(2, 32, 64)]
    assert run.arrays("classified_examples")["image"].shape == (2, 64, 64)
    assert not run.arrays("classified_examples")["activation"].any()
    draw(run, "classified_images")


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ("images.classify.path=nowhere", RephaseError, "nowhere: no such file or folder"),
        ("images.classify.mask=nowhere.npy", ConfigError, "nowhere.npy: no such file"),
        ("images.classify.weights=resnet99", WeightsError, "no weights 'resnet99': neither a file nor shipped"),
    ],
)
def test_what_is_not_there_is_refused_before_anything_runs(change, error, message):
    with pytest.raises(error, match=message):
        check_own_images(load_config("test", [change]))


def test_a_folder_without_images_and_weights_of_other_models_are_refused(tmp_path, unet_weights):
    with pytest.raises(ConfigError, match="a folder without .npy"):
        check_own_images(load_config("test", [f"images.classify.path={tmp_path}"]))
    with pytest.raises(WeightsError, match="weights of a model of amplitudes"):
        check_own_images(load_config("test", [f"images.classify.weights={unet_weights}"]))


def test_neither_weights_nor_a_model_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="lists no model to train; give weights"):
        open_classifier(open_run(tmp_path, "test", ["images.models={}", "images.experiments={}"]))


def test_files_of_weights_mean_the_same_everywhere_and_names_stay_names(image_weights, monkeypatch):
    monkeypatch.chdir(image_weights.parent)
    for given, expected in (("resnet18.safetensors", str(image_weights)), ("resnet18", "resnet18")):
        config = load_config("test", [f"images.classify.weights={given}", f"completion.comparison.models=[{given}]"])
        assert (config.images.classify.weights, config.completion.comparison.models) == (expected, (expected,))


def test_the_notebook_is_made_anew_when_images_or_weights_change(open_folder, image_weights, tmp_path):
    weights = tmp_path / "own.safetensors"
    weights.write_bytes(b"one")
    run = open_folder(f"images.classify.weights={weights}")
    (notebook,) = pipeline.find_notebooks(["24"])
    states = []
    for change in (lambda: None, lambda: save_images(run, a=14), lambda: weights.write_bytes(b"two"), lambda: None):
        change()
        states.append(pipeline.notebook_state(run.config, *notebook))
    assert len(set(states)) == 3
    assert states[2] == states[3]
