"""Data sets of images: labels by geometry, splits by droplet, the same bits again, noise, labels, measured files."""

import h5py
import numpy as np
import pytest
import torch

from rephase.config import load_config
from rephase.config.images import DetectorConfig, ImageDataConfig, ImageNoise
from rephase.errors import ConfigError, ImageError, RephaseError, StoreError
from rephase.laboratories import check_work
from rephase.labs.images.data import stored as image_data
from rephase.labs.images.data.batch import ImageBatch
from rephase.labs.images.data.droplet_labels import LABELS
from rephase.labs.images.data.droplets import DropletShots, droplets_with, labels_of, possible_combinations, turned
from rephase.labs.images.data.noise import labelled_part, scaled, with_fewer_photons, with_gaussian_noise
from rephase.labs.images.data.simulated_shots import LEAST_PHOTONS
from rephase.labs.images.data.single_particles import CLASSES, ParticleShots
from rephase.labs.images.data.sources import open_images
from rephase.optics.correlation import correlation_map
from rephase.optics.droplet_shapes import join, spheroids

SMALL = ImageDataConfig(size=32, n_samples=40, n_views=2, chunk=10, split={"train": 0.6, "validation": 0.2})
PARTICLES = SMALL.model_copy(update={"kind": "single_particles"})


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return open_images(tmp_path_factory.mktemp("droplets") / "data.zarr", SMALL)


def changed(data, **update):
    """The same stored shots under another configuration, which is opened and not built again."""
    return open_images(data.store.path, SMALL.model_copy(update=update))


def about(axis, degrees):
    """Rotation matrix [1, 3, 3] about an axis of the laboratory."""
    turn = torch.deg2rad(torch.tensor(float(degrees)))
    c, s = turn.cos(), turn.sin()
    i, j = [n for n in range(3) if n != axis]
    matrix = torch.eye(3)
    matrix[i, i], matrix[i, j], matrix[j, i], matrix[j, j] = c, -s, s, c
    return matrix[None]


def names_of(droplets):
    return {name for name, carried in zip(LABELS, labels_of(droplets).labels[0]) if carried}


@pytest.mark.parametrize(
    ("axes", "degrees", "expected"),
    [
        ([300, 300, 300], 0, {"oblate", "round"}),
        ([300, 300, 200], 0, {"oblate", "round"}),  # seen along its short axis
        ([300, 300, 200], 90, {"oblate", "elliptical"}),
        ([300, 300, 200], 45, {"oblate", "elliptical", "asymmetric"}),
        ([200, 200, 400], 90, {"prolate"}),
        ([200, 200, 400], 50, {"prolate", "bent"}),
        ([0, 0, 0], 0, {"empty"}),
    ],
)
def test_labels_follow_from_shape_and_orientation(axes, degrees, expected):
    """The axis z lies along the beam at 0°, in the plane of the detector at 90°, whatever the turn about the beam."""
    rotation = about(2, 33) @ about(0, degrees)
    droplet = spheroids(torch.tensor([axes], dtype=torch.float32), rotation)
    assert names_of(droplet) == expected
    assert bool(labels_of(droplet).is_clear)


def test_labels_of_what_is_inside_and_beside():
    plain = spheroids(torch.full((1, 3), 300.0))
    one = torch.ones(1)
    assert names_of(plain._replace(core_scale=0.5 * one)) == {"oblate", "round", "double_rings"}
    assert names_of(plain._replace(partner_radius=200 * one)) == {"oblate", "round", "newton_rings"}
    assert names_of(plain._replace(n_layers=2 * one)) == {"oblate", "round", "layered"}
    assert names_of(plain._replace(harmonics=torch.full((1, 7), 0.03))) == {"oblate", "round", "asymmetric"}
    pill = spheroids(torch.full((1, 3), 200.0), about(0, 90))._replace(half_length=300 * one)
    assert names_of(pill) == {"prolate", "streak"}
    assert names_of(pill._replace(bend=one * 2 * 200 / 500**2)) == {"prolate", "streak", "bent"}
    assert not labels_of(plain._replace(partner_radius=30 * one)).is_clear
    assert not labels_of(pill._replace(rotation=about(0, 10))).is_clear  # seen from its end it might be anything


def test_what_may_be_mistaken_is_unclear():
    oblate = spheroids(torch.tensor([[300.0, 300.0, 276.0]]), about(0, 90))
    prolate = spheroids(torch.tensor([[300.0, 300.0, 420.0]]), about(0, 90))
    assert not labels_of(join([oblate, prolate])).is_clear.any()


@pytest.mark.parametrize("seed", [0, 1])
def test_every_possible_combination_can_be_drawn_and_kept_from_other_sides(seed):
    table, generator = possible_combinations(), torch.Generator().manual_seed(seed)
    assert 7264 - table.images.sum() == 12
    wanted = np.repeat(table.combinations, 2, axis=0)[np.random.default_rng(seed).permutation(2 * len(table.images))]
    droplets = droplets_with(wanted, generator)
    for view in (droplets, turned(droplets, generator)):
        seen = labels_of(view)
        assert np.array_equal(seen.labels.numpy(), wanted)
        assert seen.is_clear.all()
    solid = wanted[:, LABELS.index("empty")] == 0
    assert ((view.rotation - droplets.rotation).abs().amax((1, 2)) > 1e-3).numpy()[solid].all()


def test_shots_are_raw_counts_with_the_mask_of_the_detector(data):
    batch = data[np.arange(40)]
    assert batch.image.shape == (40, *data.shape) == (40, 32, 32)
    assert batch.image.dtype == torch.float32
    assert torch.equal(batch.image, batch.image.round())
    assert (~batch.mask).sum((1, 2)).unique().tolist() == [int((~data.source.detector.mask()).sum())]
    assert not batch.image[~batch.mask].any()
    assert set(batch.labels.unique().tolist()) == {0, 1}
    shows = batch.labels[:, LABELS.index("empty")] == 0
    assert batch.image.sum((1, 2))[shows].min() > 0.7 * LEAST_PHOTONS


def test_views_of_a_droplet_share_their_labels_and_no_droplet_is_in_two_splits(data):
    assert torch.equal(data.labels[::2], data.labels[1::2])
    assert not torch.equal(data[[0]].image, data[[1]].image)
    splits = data.splits
    assert [len(splits[name]) for name in ("train", "validation", "test")] == [24, 8, 8]
    droplets = {name: set(part // 2) for name, part in splits.items()}
    assert len(set.union(*droplets.values())) == sum(map(len, droplets.values())) == 20


def test_the_same_configuration_gives_the_same_bits(data, tmp_path):
    again = open_images(tmp_path / "again.zarr", SMALL, workers=2)
    order = np.random.default_rng(0).permutation(40)
    for ours, theirs in zip(again[order], data[order]):
        assert torch.equal(ours, theirs)
    with pytest.raises(StoreError, match="seed is 0 there, 1 here"):
        open_images(tmp_path / "again.zarr", SMALL.model_copy(update={"seed": 1}))


def test_a_damaged_chunk_is_found_before_anything_is_read(tmp_path):
    path = tmp_path / "data.zarr"
    data = open_images(path, PARTICLES)
    before = data[[13]].image
    victim = path / "image/c/1/0/0"
    content = bytearray(victim.read_bytes())
    content[5000] ^= 1
    victim.write_bytes(content)
    with pytest.raises(StoreError, match="image/c/1/0/0: damaged"):
        open_images(path, PARTICLES)
    victim.unlink()
    assert torch.equal(open_images(path, PARTICLES)[[13]].image, before)


def test_drawn_shots_repeat_and_are_of_the_stored_kind(data):
    drawn, again, other = (data.draw(6, np.random.default_rng(seed)) for seed in (3, 3, 4))
    assert torch.equal(drawn.image, again.image)
    assert not torch.equal(drawn.image, other.image)
    assert torch.equal(drawn.mask[0], data[[0]].mask[0])
    assert drawn.labels.shape == (6, 11)


def test_dead_areas_and_saturation_reach_the_images(tmp_path):
    detector = {"dead": [(0.25, 0.5, 0, 1)], "saturation": 4, "hole_deg": 0, "background": 3}
    config = ImageDataConfig.model_validate(PARTICLES.model_dump() | {"detector": detector, "n_samples": 20})
    batch = open_images(tmp_path / "data.zarr", config)[np.arange(20)]
    assert not batch.mask[:, 8:16].any()
    assert batch.mask[:, 16:].all()
    assert batch.image.max() == 4


def test_labels_are_drawn_as_often_as_measured():
    drawn = DropletShots(SMALL).draw_labels(5000, np.random.default_rng(0))
    assert drawn[:, LABELS.index("round")].mean() == pytest.approx(5792 / 7252, abs=0.02)
    equal = DropletShots(SMALL.model_copy(update={"frequency_power": 0.0})).draw_labels(5000, np.random.default_rng(0))
    assert equal[:, LABELS.index("round")].mean() < 0.3


def test_single_hits_are_rare_and_weak_shots_are_weak():
    source = ParticleShots(PARTICLES.model_copy(update={"hit_rate": 0.05}))
    labels = source.draw_labels(5000, np.random.default_rng(0))
    assert (labels.sum(1) == 1).all()
    assert labels.mean(0)[0] == pytest.approx(0.05, abs=0.01)
    batch = source.draw(200, np.random.default_rng(1))
    photons = (batch.image * batch.mask).sum((1, 2))
    weak = batch.labels[:, list(CLASSES).index("weak")] == 1
    assert photons[weak].max() < LEAST_PHOTONS < 1.3 * photons[~weak].min()
    assert photons.max() / photons[~weak].min() > 100


def test_views_of_one_virus_differ_by_its_orientation_and_the_fluence(tmp_path):
    """A large icosahedron has streaks from its faces: turned, the image is another; its size stays."""
    source = ParticleShots(PARTICLES)
    labels = np.zeros((1, len(CLASSES)), dtype=bool)
    labels[0, 1] = True
    views = source.scatter(labels, 3, torch.Generator().manual_seed(0))
    total = views.sum((1, 2))
    assert ((total / total.mean() - 1).abs() < 0.05).all()
    assert ((views[0] - views[1]).abs().sum() / total.mean()) > 0.02


def test_correlation_maps_take_the_place_of_images(tmp_path):
    config = ImageDataConfig(kind="single_particles", size=64, n_samples=20, chunk=20, input="correlation")
    data = open_images(tmp_path / "data.zarr", config)
    image = open_images(tmp_path / "data.zarr", config.model_copy(update={"input": "image"}))[[3]]
    expected, mask = correlation_map(image.image, image.mask, n_q=32, n_delta=64)
    assert data.shape == (32, 64)
    assert torch.equal(data[[3]].image, expected)
    assert torch.equal(data[[3]].mask, mask)


def test_maps_are_computed_once_for_each_noise_with_the_bits_of_the_noisy_images(tmp_path, monkeypatch):
    """Of a quarter of the detector, so that there are no pairs where Δ is large."""
    detector = DetectorConfig(dead=((0, 1, 0, 0.5), (0, 0.5, 0.5, 1)))
    plain = ImageDataConfig(size=64, n_samples=20, chunk=8, input="correlation", detector=detector)
    noisy = plain.model_copy(update={"noise": ImageNoise(gaussian=0.5, photons=0.5)})
    maps = [open_images(tmp_path / "data.zarr", config) for config in (plain, noisy)]
    shots = open_images(tmp_path / "data.zarr", noisy.model_copy(update={"input": "image"}))[[17, 4]]
    expected, mask = correlation_map(shots.image, shots.mask, n_q=32, n_delta=64)
    monkeypatch.setattr(image_data, "correlation_map", None)  # from here on nothing is computed
    again = open_images(tmp_path / "data.zarr", noisy)
    for data in (maps[1], again):
        assert torch.equal(data[[17, 4]].image, expected)
        assert torch.equal(data[[17, 4]].mask, mask)
    assert not mask.all()
    assert not torch.equal(maps[0][[17, 4]].image, expected)


def test_a_damaged_chunk_of_maps_is_found(tmp_path):
    config = ImageDataConfig(size=64, n_samples=20, chunk=10, input="correlation")
    before = open_images(tmp_path / "data.zarr", config)[[13]].image
    (victim,) = (tmp_path / "data.zarr").glob("correlation-*/map/c/1/0/0")
    victim.write_bytes(victim.read_bytes()[::-1])
    with pytest.raises(StoreError, match="map/c/1/0/0: damaged .* delete this file"):
        open_images(tmp_path / "data.zarr", config)
    victim.unlink()
    assert torch.equal(open_images(tmp_path / "data.zarr", config)[[13]].image, before)


def flat_batch(count, n=400):
    image = torch.full((n, 8, 8), float(count))
    return ImageBatch(image, torch.ones_like(image, dtype=torch.bool), torch.zeros(n, 1))


def test_fewer_photons_are_a_poisson_exposure_again():
    rng, samples = np.random.default_rng(0), np.arange(2000)
    batch = flat_batch(0, 2000)._replace(image=torch.as_tensor(rng.poisson(12, (2000, 8, 8)).astype(np.float32)))
    weaker = with_fewer_photons(batch, samples, 0.25, seed=1).image
    assert float(weaker.mean()) == pytest.approx(3, rel=0.01)
    assert float(weaker.var()) == pytest.approx(3, rel=0.02)
    assert (weaker <= batch.image).all()


def test_gaussian_noise_has_the_level_that_is_asked_for():
    batch = flat_batch(100)
    batch.image[:, :4], batch.mask[:, :4] = 1e6, False  # what was not measured has no part in the mean
    noisy = with_gaussian_noise(batch, np.arange(400), 0.1, seed=0).image[:, 4:]
    assert float(noisy.mean()) == pytest.approx(100, rel=0.01)
    assert float(noisy.std()) == pytest.approx(10, rel=0.02)
    assert with_gaussian_noise(batch, np.arange(400), 3.0, seed=0).image.min() == 0
    batch.image[:, :4], batch.mask[:, :4] = 0, True
    dark = with_gaussian_noise(batch, np.arange(400), 0.2, seed=0).image[:, :4]
    assert float(dark.mean()) == pytest.approx(10 / (2 * np.pi) ** 0.5, rel=0.02)  # a background of clipped noise


def test_noise_belongs_to_the_sample(data):
    noisy = changed(data, noise=ImageNoise(gaussian=0.5, photons=0.5, scale=1000.0))
    assert torch.equal(noisy[[7, 3]].image[1], noisy[[3]].image[0])
    assert not torch.equal(noisy[[7]].image, noisy[[3]].image)
    assert not torch.equal(noisy[[3]].image / 1000, data[[3]].image)
    assert torch.equal(noisy[[3]].mask, data[[3]].mask)
    assert torch.equal(scaled(data[[3]], 1e-6).image, data[[3]].image * 1e-6)


def test_fewer_labels_leave_the_judging_as_it_is(data):
    fewer, fewest = changed(data, label_fraction=0.5), changed(data, label_fraction=0.01)
    assert len(fewer.splits["train"]) == 12
    assert set(fewest.splits["train"]) < set(fewer.splits["train"]) < set(data.splits["train"])
    assert fewest.splits["train"].tolist() == [first := fewest.splits["train"][0], first + 1]  # one droplet
    for name in ("validation", "test"):
        assert np.array_equal(fewer.splits[name], data.splits[name])
    assert labelled_part(np.arange(10), 1.0, seed=0).all()


def test_a_file_of_measured_shots_is_a_data_set(tmp_path):
    rng, n = np.random.default_rng(0), 30
    images = rng.poisson(3, (n, 40, 40)).astype(np.uint16)
    with h5py.File(tmp_path / "run.cxi", "w") as file:
        file["entry_1/data_1/data"], file["entry_1/note_1/data"] = images, np.eye(2, dtype=int)[rng.integers(2, size=n)]
    config = ImageDataConfig(
        kind="file", file={"path": str(tmp_path / "run.cxi"), "labels": ("hit", "miss")}, size=40, chunk=8
    )
    data = open_images(tmp_path / "data.zarr", config)
    assert data.label_names == ("hit", "miss")
    assert data.built_with["n_labels"] == data[[0]].labels.shape[1] == 2
    assert np.array_equal(data[[29, 4]].image.numpy(), images[[29, 4]])
    assert [len(data.splits[name]) for name in ("train", "validation", "test")] == [24, 3, 3]
    with pytest.raises(ImageError, match="n_streamed"):
        data.draw(1, rng)
    with h5py.File(tmp_path / "run.cxi", "a") as file:
        del file["entry_1/data_1/data"], file["entry_1/note_1/data"]
        file["entry_1/data_1/data"], file["entry_1/note_1/data"] = images[:3], np.eye(2, dtype=int)[[0, 1, 0]]
    with pytest.raises(ImageError, match="the validation split would be empty: .* of labelled images = 3"):
        open_images(tmp_path / "other.zarr", config)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("images.data.kind=droplet", "images.data.kind = 'droplet'"),
        ("images.data.kind=file", "expected file.path"),
        ("images.data.n_viewz=3", "unknown key 'images.data.n_viewz'; did you mean 'n_views'"),
        ("images.data.n_views=7", "n_samples = .*: expected a multiple of n_views = 7"),
        ("images.data.split={train: 0.9, validation: 0.099}", "the test split would be empty: .* n_samples / n_views"),
        ("images.data={size: 48, input: correlation}", "size = 48: expected at least 64"),
        ("images.data.noise.photons=2", "images.data.noise.photons = 2"),
        ("images.data.label_fraction=0", "images.data.label_fraction = 0"),
        ("images.training.loss=mse", "images.training.loss = 'mse'"),
        ("images.data.file.labels=[a, b, a]", "images.data.file.labels = .* a more than once"),
        ("images.data.wanted=virus_80", "images.data.wanted = 'virus_80'"),
    ],
)
def test_wrong_values_of_the_configuration(override, message):
    with pytest.raises(ConfigError, match=message):
        load_config("test", [override])


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("images.data.detector.hole_deg=40", "hole_deg = 40"),
        ("images.data.detector.dead=[[0.5, 0.4, 0, 1]]", "dead area"),
        ("images.data.energy_ev=5000", "energy_ev = 5000"),
        ("images.data={kind: single_particles, detector: {max_angle_deg: 20}}", "at most 10 degrees"),
        ("images.data={kind: file, file: {path: /no/such/file.cxi}}", "no such file"),
        ("images.models.resnet17={}", "did you mean 'resnet18'"),
    ],
)
def test_what_cannot_be_simulated_or_read_is_refused_before_anything_runs(override, message):
    with pytest.raises(RephaseError, match=message):
        check_work(load_config("test", [override]))
