"""Images in files: CXI as in CXIDB 94 and other files, folders, polar images, and everything that can be wrong."""

import struct
import tracemalloc

import h5py
import numpy as np
import pytest
import tifffile
import torch

from rephase.errors import ConfigError, ImageError
from rephase.formats.cxi import JOULE_PER_EV, write_cxi
from rephase.formats.label_sets import LabelSet
from rephase.formats.shots import pixels_of
from rephase.labs.images.data.droplet_labels import DROPLET_LABEL_SET, LABELS, draw_combinations, label_table
from rephase.labs.images.data.files import read_images
from rephase.labs.images.data.sizes import resize, to_cartesian

ROUND = np.array([1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0])
EMPTY = np.array([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1])


def shot(number, size=40):
    return np.random.default_rng(number).poisson(5, (size, size)).astype(np.uint16)


def write_entry(file, number, *, image, labels=ROUND, energy_ev=19.4, mask=None):
    """One entry as in CXIDB 94."""
    entry = file.create_group(f"entry_{number}")
    entry["instrument_1/detector_1/data"] = image
    entry["instrument_1/source_1/energy"] = energy_ev * JOULE_PER_EV
    if mask is not None:
        entry["instrument_1/detector_1/mask"] = mask
    if labels is not None:
        entry["note_1/data"] = np.asarray(labels)[None]


@pytest.fixture
def cxi(tmp_path):
    """Writes a file of such entries, given as options of `write_entry` by their numbers, and gives its path."""

    def write(**entries):
        path = tmp_path / "shots.cxi"
        with h5py.File(path, "w") as file:
            file["cxi_version"] = 160
            for name, options in entries.items():
                write_entry(file, name.removeprefix("e"), **options)
        return path

    return write


def test_images_labels_and_energy_of_a_labelled_file(cxi):
    found = read_images(
        cxi(e1={"image": shot(1)}, e2={"image": shot(2), "labels": EMPTY}, e10={"image": shot(3)}), size=40
    )
    assert found.names == ["shots/entry_1", "shots/entry_2", "shots/entry_10"]
    assert found.energy_ev == pytest.approx([19.4] * 3)
    batch = found[[1, 0]]
    assert batch.image.dtype == torch.float32
    assert np.array_equal(batch.image[0].numpy(), shot(2))
    assert np.array_equal(batch.labels.numpy(), [EMPTY, ROUND])
    assert bool(batch.mask.all())
    assert list(found.left_out["name"]) == [f"entry_{n}" for n in range(3, 10)]


def test_missing_entries_are_named_and_the_rest_is_read(cxi):
    path = cxi(e1={"image": shot(1)}, e3={"image": shot(3)}, e4={"image": shot(4)})
    with h5py.File(path, "a") as file:
        del file["entry_4/instrument_1/detector_1/data"]
        file["number_of_entries"] = 5
    found = read_images(path)
    assert found.names == ["shots/entry_1", "shots/entry_3"]
    reasons = found.left_out.set_index("name")["reason"]
    assert list(reasons.index) == ["entry_2", "entry_4", "entry_5"]
    assert "missing" in reasons["entry_2"]
    assert "no image; looked for instrument_1/detector_1/data" in reasons["entry_4"]


def test_only_images_that_are_asked_for_are_read(cxi):
    """An image whose bytes are lost does no harm until it is asked for."""
    path = cxi(e1={"image": shot(1)}, e2={"image": shot(2)})
    found = read_images(path, size=40)
    with h5py.File(path, "a") as file:
        del file["entry_2/instrument_1/detector_1/data"]
    assert np.array_equal(found[[0]].image[0].numpy(), shot(1))
    with pytest.raises(ImageError, match="entry_2.* cannot be read"):
        found[[1]]


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"image": np.ones((2, 2, 40, 40))}, "rank 4"),
        ({"image": np.ones(40)}, "rank 1"),
        ({"image": shot(1).astype(complex)}, "complex"),
        ({"image": shot(1)[:8]}, "8 x 40 pixels: expected at least 16"),
        ({"image": np.full((40, 40), np.nan)}, "every pixel is masked"),
        ({"image": 1e39 * shot(1)}, "NaN or infinite"),
        ({"image": np.ones((0, 40, 40)), "labels": None}, "0 images: expected 1 to"),
        ({"image": shot(1).astype(float) - 1.5}, "the smallest count is -1.5"),
        ({"image": shot(1), "mask": np.ones((40, 40), np.uint32)}, "every pixel is masked"),
        ({"image": shot(1), "mask": np.ones((20, 20), np.uint32)}, r"a mask of shape \(20, 20\)"),
        ({"image": np.full((40, 40), 7)}, "every measured pixel has the count 7"),
        ({"image": shot(1), "labels": ROUND[:10]}, "expected 11 numbers"),
        ({"image": np.stack([shot(1)] * 11), "labels": ROUND}, r"labels of shape \(1, 11\) for 11 images"),
        ({"image": shot(1), "labels": 2 * ROUND}, "expected 0 or 1"),
        ({"image": shot(1), "labels": ROUND + EMPTY}, "empty and oblate exclude each other"),
        ({"image": shot(1), "labels": [1, 1, 1] + [0] * 8}, "round and elliptical exclude each other"),
        ({"image": shot(1), "labels": [1, 0, 0, 1] + [0] * 7}, "prolate and oblate exclude each other"),
    ],
)
def test_a_wrong_image_is_left_out_with_the_reason(cxi, options, reason):
    found = read_images(cxi(e1={"image": shot(1)}, e2=options))
    assert found.names == ["shots/entry_1"]
    assert found.left_out["reason"].str.contains(reason).tolist() == [True]
    with pytest.raises(ImageError, match=f"no image that can be used; .*{reason}"):
        read_images(cxi(e1=options))


def test_masks_are_in_bits_and_hide_what_is_wrong(cxi):
    image, mask = shot(1).astype(float), np.zeros((40, 40), np.uint32)
    image[:4], mask[:4], mask[-1] = np.nan, 1 << 9, 1 << 10  # missing; noisy, which can still be used
    batch = read_images(cxi(e1={"image": image, "mask": mask}), size=40)[[0]]
    assert not batch.mask[0, :4].any()
    assert batch.mask[0, 4:].all()
    assert torch.isfinite(batch.image).all()


def test_a_file_without_labels_can_be_read_but_not_learned_from(cxi):
    found = read_images(cxi(e1={"image": shot(1), "labels": None}, e2={"image": shot(2)}))
    assert found[[0, 1]].labels.shape == (2, 0)
    assert found[[1]].labels.shape == (1, 11)
    labelled = found.labelled()
    assert labelled.names == ["shots/entry_2"]
    assert labelled.left_out["reason"].tolist() == ["no labels"]
    with pytest.raises(ImageError, match="none of 1 images has labels"):
        read_images(cxi(e1={"image": shot(1), "labels": None})).labelled()
    with pytest.raises(ImageError, match="n_streamed"):
        labelled.draw(1, np.random.default_rng(0))


def test_truncated_files_and_other_bytes_are_reported(cxi, tmp_path):
    path = cxi(e1={"image": shot(1)})
    path.write_bytes(path.read_bytes()[:-2000])
    with pytest.raises(ImageError, match="truncated"):
        read_images(path)
    for name in ("a.cxi", "a.npy", "a.tif"):
        (tmp_path / name).write_bytes(b"no image at all")
        with pytest.raises(ImageError, match="truncated, or not"):
            read_images(tmp_path / name)
    with pytest.raises(ImageError, match="no such file"):
        read_images(tmp_path / "nothing.cxi")
    with pytest.raises(ImageError, match=r"expected a folder or a file that ends in \.npy"):
        read_images(__file__)


def without_middle(content, n):
    """The same bytes, but for `n` near the middle."""
    middle = len(content) // 2
    return content[:middle] + b"\xff" * n + content[middle + n :]


def save_npz(path):
    with open(path, "wb") as file:
        np.savez(file, image=shot(1))


def save_deflated(path):
    tifffile.imwrite(path, shot(1), compression="zlib")


@pytest.mark.parametrize(
    ("name", "save", "harm"),
    [
        ("b.tif", save_deflated, lambda content: content[: len(content) // 2]),
        ("b.tif", save_deflated, lambda content: without_middle(content, 60)),
        ("b.tif", save_deflated, lambda content: content[:4] + bytes(4)),  # no page
        ("b.npy", save_npz, lambda content: content),
        ("b.npy", lambda path: np.save(path, shot(1)), lambda content: content.replace(b"}", b"(")),
        ("b.npy", lambda path: np.save(path, np.array([{}]), allow_pickle=True), lambda content: content),
        (
            "b.cxi",
            lambda path: write_cxi(path, shot(1)[None], shot(1)[None] >= 0, ROUND[None]),
            lambda content: content.replace(b"HEAP", b"heap"),
        ),
    ],
)
def test_a_damaged_file_does_not_spoil_its_folder(tmp_path, name, save, harm):
    save(tmp_path / name)
    (tmp_path / name).write_bytes(harm((tmp_path / name).read_bytes()))
    np.save(tmp_path / "a.npy", shot(2))
    found = read_images(tmp_path, size=40)
    assert found.names == ["a"]
    assert found.left_out["file"].tolist() == [name]
    assert "cannot be read: damaged, truncated, or not" in found.left_out["reason"][0]


def write_tiff(path, side, compression):
    """A TIFF of a hundred bytes whose header states `side` x `side` pixels of 16 bits."""
    tags = [(256, side), (257, side), (258, 16), (259, compression), (262, 1), (273, 110), (278, side), (279, 100)]
    pages = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    path.write_bytes(b"II*\0" + struct.pack("<IH", 8, len(tags)) + pages + bytes(4) + bytes(100))


def write_numpy(path, header):
    np.save(path, shot(1))
    content = path.read_bytes()
    length = content.index(b"\n") + 1
    path.write_bytes(content[:10] + f"{header}".encode().ljust(length - 11) + b"\n" + content[length:])


def write_empty(path, name, **layout):
    """An HDF5 file with a dataset of any size of which nothing is written, beside an image of an entry."""
    with h5py.File(path, "w") as file:
        if path.suffix == ".cxi":
            file["entry_1/data_1/data"] = shot(1)
        file.create_dataset(name, **layout)


@pytest.mark.parametrize(
    ("name", "save", "reason"),
    [
        ("b.tif", lambda path: write_tiff(path, 2**31, 1), "2147483648 x 2147483648 pixels: expected at most"),
        ("b.tif", lambda path: write_tiff(path, 60_000, 8), "60000 x 60000 pixels: expected at most 67,108,864"),
        ("b.tif", lambda path: write_tiff(path, 8_000, 1), "cannot be read: damaged, truncated"),
        (
            "b.npy",
            lambda path: write_numpy(path, {"descr": "<u2", "fortran_order": False, "shape": (10**6, 10**6)}),
            "cannot be read: damaged, truncated",
        ),
        (
            "b.h5",
            lambda path: write_empty(path, "x", shape=(10**6, 10**6), dtype="u2", chunks=(100, 100)),
            "1000000 x 1000000 pixels: expected at most",
        ),
        (
            "b.h5",
            lambda path: write_empty(path, "x", shape=(10**12, 64, 64), dtype="u2", chunks=(1, 64, 64)),
            "1000000000000 images: expected 1 to 1,000,000 in a file",
        ),
        (
            "b.h5",
            lambda path: write_empty(path, "x", shape=(10**6, 64, 64), dtype="u2", chunks=(1, 64, 64)),
            "nothing was ever written",
        ),
        (
            "b.cxi",
            lambda path: write_empty(path, "number_of_entries", data=10**12),
            "1000000000000 entries: expected 1 to 1,000,000",
        ),
        (
            "b.cxi",
            lambda path: write_empty(path, "entry_99999999999/data_1/data", data=shot(1)),
            "99999999999 entries: expected 1 to",
        ),
        (
            "b.cxi",
            lambda path: write_empty(path, "entry_1/note_1/data", shape=(10**5, 10**5), dtype="u1"),
            "expected 11 numbers for each",
        ),
    ],
)
def test_a_header_that_claims_the_absurd_is_reported_without_room_for_it(tmp_path, name, save, reason):
    save(tmp_path / name)
    np.save(tmp_path / "a.npy", shot(2))
    tracemalloc.start()
    found = read_images(tmp_path, size=40)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert found.names == ["a"]
    assert found.left_out["file"].tolist() == [name]
    assert reason in found.left_out["reason"][0]
    assert most < 2e6


def test_an_energy_is_the_first_of_however_many(tmp_path):
    name = "entry_1/instrument_1/source_1/energy"
    write_empty(tmp_path / "a.cxi", name, shape=(10**12,), dtype="f8", chunks=(10**4,), fillvalue=19.4 * JOULE_PER_EV)
    assert read_images(tmp_path / "a.cxi").energy_ev == pytest.approx([19.4])


def test_every_image_of_a_tiff_is_read_and_other_pages_are_named(tmp_path):
    """ImageJ describes but the first of a stack; pages of another size may lie between the images."""
    tifffile.imwrite(tmp_path / "a.tif", np.stack([shot(1), shot(2)]), imagej=True, truncate=True)
    with tifffile.TiffWriter(tmp_path / "b.tif", byteorder=">") as file:
        for page in (shot(3), shot(4, size=50), shot(5)):
            file.write(page, metadata=None)
    found = read_images(tmp_path, size=40)
    assert found.names == ["a[0]", "a[1]", "b[0]", "b[1]"]
    assert np.array_equal(found[[0, 1, 2, 3]].image.numpy(), np.stack([shot(n) for n in (1, 2, 3, 5)]))
    assert found.left_out["reason"].tolist() == ["pages of another shape, (50, 50)"]


def with_a_group(entry, key):
    del entry[key]
    entry.create_group(key)


def with_a_damaged_chunk(entry, key):
    values = entry[key][()]
    del entry[key]
    damaged = entry.create_dataset(key, data=values, chunks=values.shape, compression="gzip")
    damaged.id.write_direct_chunk((0,) * values.ndim, b"no gzip at all")


@pytest.mark.parametrize(
    ("harm", "key", "reason"),
    [
        (with_a_damaged_chunk, "note_1/data", "entry_2 cannot be read: damaged"),
        (with_a_damaged_chunk, "instrument_1/detector_1/data", "detector_1/data cannot be read: damaged"),
        (with_a_group, "note_1/data", "note_1/data is a group, or empty"),
        (with_a_group, "instrument_1/detector_1/mask", "detector_1/mask is a group, or empty"),
    ],
)
def test_a_damaged_entry_does_not_spoil_its_file(cxi, harm, key, reason):
    mask = np.zeros((40, 40), np.uint32)
    path = cxi(e1={"image": shot(1), "mask": mask}, e2={"image": shot(2), "mask": mask})
    with h5py.File(path, "a") as file:
        harm(file["entry_2"], key)
    found = read_images(path)
    assert found.names == ["shots/entry_1"]
    assert found.left_out["reason"].str.contains(reason).tolist() == [True]


def test_an_energy_or_a_number_of_entries_in_words_is_none(cxi):
    path = cxi(e1={"image": shot(1)})
    with h5py.File(path, "a") as file:
        del file["entry_1/instrument_1/source_1/energy"]
        file["entry_1/instrument_1/source_1/energy"], file["number_of_entries"] = "19.4 eV", "one"
    found = read_images(path)
    assert found.names == ["shots/entry_1"]
    assert np.isnan(found.energy_ev).all()


def test_stacks_of_shots(tmp_path):
    """As other files of the same data bank: all images of an entry in one dataset, one mask for all."""
    images, mask = np.stack([shot(n) for n in range(3)]), np.zeros((40, 40), np.uint32)
    mask[5] = 1
    with h5py.File(tmp_path / "run.cxi", "w") as file:
        file["entry_1/data_1/data"], file["entry_1/data_1/mask"] = images, mask
        file["entry_1/note_1/data"] = np.eye(3, dtype=int)
    found = read_images(tmp_path / "run.cxi", size=40, labels=LabelSet(("virus", "water", "empty")))
    assert found.names == ["run/entry_1[0]", "run/entry_1[1]", "run/entry_1[2]"]
    batch = found[[2, 1]]
    assert torch.equal(batch.labels, torch.eye(3)[[2, 1]])
    assert np.array_equal(batch.image.numpy() * ~(mask != 0), images[[2, 1]] * ~(mask != 0))
    assert torch.equal(batch.mask[0], torch.as_tensor(mask == 0))
    assert np.isnan(found.energy_ev).all()


def test_a_folder_of_every_kind_of_file(tmp_path):
    np.save(tmp_path / "a.npy", shot(1).astype(float))
    np.save(tmp_path / "b.npy", np.stack([shot(2), np.zeros((40, 40), np.uint16)]))
    np.save(tmp_path / "g.npy", np.zeros((0, 40, 40)))
    tifffile.imwrite(tmp_path / "c.tif", shot(3))
    tifffile.imwrite(tmp_path / "d.tiff", np.stack([shot(4), shot(5)]), photometric="minisblack")
    with h5py.File(tmp_path / "e.h5", "w") as file:
        file["images/today"] = shot(6)
    with h5py.File(tmp_path / "f.h5", "w") as file:
        file["one"], file["two"] = shot(7), shot(8)
    (tmp_path / "notes.txt").write_text("not an image")
    found = read_images(tmp_path, size=40)
    assert found.names == ["a", "b[0]", "c", "d[0]", "d[1]", "e"]
    expected = np.stack([shot(n) for n in (1, 2, 3, 4, 5, 6)])
    assert np.array_equal(found[list(range(6))].image.numpy(), expected)
    assert [len(batch.image) for batch in found.batches("all", 4)] == [4, 2]
    left_out = found.left_out.set_index("name")["reason"]
    assert set(left_out.index) == {"b[1]", "f", "g"}
    assert "constant" in left_out["b[1]"]
    assert "/one, /two" in left_out["f"]


def test_one_mask_for_every_image(tmp_path):
    image, mask = shot(1).astype(float), np.ones((40, 40), dtype=bool)
    image[7], mask[7] = np.nan, False
    (tmp_path / "shots").mkdir()
    np.save(tmp_path / "shots/a.npy", image)
    np.save(tmp_path / "shots/b.npy", np.ones((50, 50)))
    np.save(tmp_path / "mask.npy", mask)
    np.save(tmp_path / "numbers.npy", mask.astype(int))
    found = read_images(tmp_path / "shots", size=40, mask=tmp_path / "mask.npy")
    assert found.names == ["a"]
    assert np.array_equal(found[[0]].mask[0].numpy(), mask)
    assert "the mask for every image has shape (40, 40)" in found.left_out["reason"][0]
    with pytest.warns(UserWarning, match="40 pixels of 1 images, the first a, are NaN"):
        found = read_images(tmp_path / "shots/a.npy", size=40)
    assert np.array_equal(found[[0]].mask[0].numpy(), mask)
    tifffile.imwrite(tmp_path / "mask.tif", mask.astype(np.uint8))
    for name in ("numbers.npy", "mask.tif", "nothing.npy"):
        with pytest.raises(ImageError, match=r"mask.*expected a \.npy file of booleans"):
            read_images(tmp_path / "shots", mask=tmp_path / name)


def test_wrong_arguments_are_reported(tmp_path):
    with pytest.raises(ImageError, match="size = 0"):
        read_images(tmp_path, size=0)
    with pytest.raises(ConfigError, match="geometry = 'sperical'"):
        read_images(tmp_path, geometry="sperical")
    with pytest.raises(ImageError, match=r"no image that can be used; no \.npy, .* file"):
        read_images(tmp_path)


def test_resizing_keeps_the_mean_count_and_knows_what_was_measured():
    image = torch.as_tensor(shot(1, 60).astype(np.float32))[None]
    mask = torch.ones(1, 60, 60, dtype=torch.bool)
    for size in (30, 37, 90):
        resized, measured = resize(image, mask, size)
        assert measured.all()
        assert float(resized.mean()) == pytest.approx(float(image.mean()), rel=1e-5)
    halved = resize(image, mask, 30)[0][0]
    assert torch.allclose(halved, image[0].reshape(30, 2, 30, 2).mean((1, 3)))
    mask[0, 0, 0], mask[0, 20:, :] = False, False
    resized, measured = resize(image, mask, 30)
    assert measured[0, :10].all()
    assert not measured[0, 10:].any()
    assert float(resized[0, 0, 0]) == pytest.approx(float(image[0, [0, 1, 1], [1, 0, 1]].mean()), rel=1e-5)


def test_an_image_that_is_not_square_keeps_its_middle():
    image, mask = torch.zeros(1, 20, 40), torch.ones(1, 20, 40, dtype=torch.bool)
    image[0, 10, 20] = 16
    resized, measured = resize(image, mask, 40)
    assert resized.flatten().argmax() == 20 * 40 + 20
    assert measured[0].nonzero()[:, 0].unique().tolist() == list(range(10, 30))


def test_polar_images_become_what_the_detector_saw():
    """A ring that is brightest near the seam at 2π, drawn in both ways."""
    n_rings, n_angles, size = 60, 180, 64
    radius = (torch.arange(n_rings) + 0.5) / n_rings
    turn = torch.arange(n_angles) / n_angles
    smooth = lambda r, t: torch.exp(-(((r - 0.5) / 0.1) ** 2)) * (2 + torch.cos(2 * np.pi * (t - 0.05)))  # noqa: E731
    polar = smooth(radius[:, None], turn)[None]
    image, mask = to_cartesian(polar, torch.ones_like(polar, dtype=torch.bool), size)
    axis = (torch.arange(size) + 0.5) / size * 2 - 1
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    expected = smooth(torch.hypot(x, y), torch.atan2(y, x) / (2 * np.pi))
    inside = torch.hypot(x, y) < 0.97
    assert torch.allclose(image[0][inside], expected[inside], atol=0.05)  # the curvature of the ring over a pixel
    assert mask[0][inside].all()
    assert not mask[0][torch.hypot(x, y) > 1.05].any()


def test_polar_files_are_read_as_such(cxi):
    rings = np.repeat(np.arange(40, dtype=float)[:, None], 90, axis=1)
    batch = read_images(cxi(e1={"image": rings}), size=32, geometry="polar")[[0]]
    assert float(batch.image[0, 16, 28]) == pytest.approx(40 * 12.5 / 16 - 0.5, abs=0.3)
    assert not batch.mask[0, 0, 0]


def test_measured_combinations_of_labels_exclude_nothing():
    table = label_table()
    assert table.images.sum() == 7264
    for combination in table.combinations:
        assert np.array_equal(DROPLET_LABEL_SET.check(combination), combination)


def test_combinations_are_drawn_as_often_as_measured():
    drawn = draw_combinations(20_000, np.random.default_rng(0))
    share = dict(zip(LABELS, drawn.mean(0)))
    assert share["round"] == pytest.approx(5792 / 7264, abs=0.01)
    assert share["empty"] == pytest.approx(211 / 7264, abs=0.005)
    equal = draw_combinations(20_000, np.random.default_rng(0), power=0)
    assert equal.all(1).sum() == 0
    assert equal[:, LABELS.index("empty")].mean() == pytest.approx(1 / 43, abs=0.005)


def test_shots_that_are_written_are_read_again(tmp_path):
    image = np.stack([shot(1), shot(2), shot(3)])
    mask = np.random.default_rng(4).random(image.shape) > 0.2
    path = write_cxi(tmp_path / "new" / "shots.cxi", image, mask, np.stack([ROUND, EMPTY, ROUND]))
    found = read_images(path, size=40)
    batch = found[[0, 1, 2]]
    assert np.array_equal(batch.mask.numpy(), mask)
    assert np.array_equal(batch.image.numpy(), np.where(mask, image, 0))
    assert np.array_equal(batch.labels.numpy(), [ROUND, EMPTY, ROUND])
    assert [file.name for file in path.parent.iterdir()] == ["shots.cxi"]


def test_labels_that_nobody_asks_for_do_no_harm(cxi):
    path = cxi(e1={"image": shot(1), "labels": [7, 7]}, e2={"image": shot(2)})
    assert read_images(path).names == ["shots/entry_2"]
    found = read_images(path, labels=None)
    assert found.names == ["shots/entry_1", "shots/entry_2"]
    assert found[[0, 1]].labels.shape == (2, 0)


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("i4", -1),
        ("f4", -2),
        ("f8", np.nan),
        ("u2", 65535),
        ("u4", 2**32 - 1),
        ("u8", 2**32 - 1),
        ("f4", 2**32 - 1),
        ("i2", 32767),
        ("u4", 2**32 - 2),
        ("i8", 65535),
        ("f4", 65535),
        ("f2", -1),
    ],
)
@pytest.mark.parametrize("name", ["a.npy", "a.tif", "a.h5"])
def test_what_says_by_its_number_that_it_was_not_measured_is_masked(tmp_path, name, kind, value):
    image = shot(1).astype(kind)
    image[3:5, 7] = value
    if name == "a.npy":
        np.save(tmp_path / name, image)
    elif name == "a.tif":
        tifffile.imwrite(tmp_path / name, image)
    else:
        with h5py.File(tmp_path / name, "w") as file:
            file["x"] = image
    with pytest.warns(UserWarning, match="2 pixels of 1 images, the first a, are NaN, -1, -2 or the largest number"):
        batch = read_images(tmp_path / name, size=40)[[0]]
    expected = np.ones((40, 40), dtype=bool)
    expected[3:5, 7] = False
    assert np.array_equal(batch.mask[0].numpy(), expected)


def test_a_boolean_mask_is_true_where_measured_and_an_inverted_one_is_reported(cxi):
    good = np.ones((40, 40), dtype=bool)
    good[:3] = False
    batch = read_images(cxi(e1={"image": shot(1), "mask": good}), size=40)[[0]]
    assert np.array_equal(batch.mask[0].numpy(), good)
    with pytest.warns(UserWarning, match="hide more than half of the pixels that have counts.*is the mask inverted"):
        read_images(cxi(e1={"image": shot(1), "mask": ~good}))
    with pytest.raises(ImageError, match="every pixel is masked: .* is the mask inverted"):
        read_images(cxi(e1={"image": shot(1), "mask": np.ones((40, 40), np.uint8)}))


def write_master(path, frames, pixel_mask, linked="x_data_000001.h5"):
    with h5py.File(path.parent / "x_data_000001.h5", "w") as file:
        file["entry/data/data"] = frames
    with h5py.File(path, "w") as file:
        file["entry/data/data_000001"] = h5py.ExternalLink(linked, "/entry/data/data")
        file["entry/instrument/detector/detectorSpecific/pixel_mask"] = pixel_mask


def test_frames_of_a_master_file_have_its_mask(tmp_path):
    frames, pixel_mask = np.stack([shot(1), shot(2)]), np.zeros((40, 40), np.uint32)
    pixel_mask[9] = 1 << 8
    write_master(tmp_path / "x_master.h5", frames, pixel_mask)
    for path in (tmp_path, tmp_path / "x_master.h5"):
        found = read_images(path, size=40)
        assert found.names == ["x_master/data_000001[0]", "x_master/data_000001[1]"]
        batch = found[[1]]
        assert np.array_equal(batch.mask[0].numpy(), pixel_mask == 0)
        assert np.array_equal(batch.image[0].numpy() * (pixel_mask == 0), shot(2) * (pixel_mask == 0))
    for elsewhere in ("../x_data_000001.h5", "/etc/hosts", "y.h5"):
        write_master(tmp_path / "x_master.h5", frames, pixel_mask, elsewhere)
        with pytest.raises(ImageError, match="data_000001 is a link to the file .* which is not in the same folder"):
            read_images(tmp_path / "x_master.h5")


def test_tiffs_of_colours_and_pages_in_a_circle_are_named(tmp_path):
    tifffile.imwrite(
        tmp_path / "a.tif", np.stack([shot(n) for n in range(3)]), photometric="rgb", planarconfig="separate"
    )
    tifffile.imwrite(tmp_path / "b.tif", np.stack([shot(n) for n in range(3)], 2), photometric="rgb")
    with tifffile.TiffWriter(tmp_path / "c.tif") as file:
        file.write(shot(1), metadata=None)
    content = bytearray((tmp_path / "c.tif").read_bytes())
    first = struct.unpack("<I", content[4:8])[0]
    end = first + 2 + 12 * struct.unpack("<H", content[first : first + 2])[0]
    content[end : end + 4] = struct.pack("<I", first)
    (tmp_path / "c.tif").write_bytes(content)
    np.save(tmp_path / "d.npy", shot(4))
    reasons = read_images(tmp_path).left_out.set_index("name")["reason"]
    assert "3 samples per pixel" in reasons["a"]
    assert "3 samples per pixel" in reasons["b"]
    assert "its pages form a circle" in reasons["c"]


def test_files_of_other_programs_are_left_out_by_name(tmp_path):
    np.save(tmp_path / "a.npy", shot(1))
    (tmp_path / "b.edf").write_bytes(b"{\nHeaderID = 1;\n}")
    assert "this is an image in EDF" in read_images(tmp_path).left_out["reason"][0]
    with pytest.raises(ImageError, match="this is an image in EDF"):
        read_images(tmp_path / "b.edf")


def test_what_is_read_must_be_an_image():
    with pytest.raises(ImageError, match=r"the array read has shape \(2, 40, 40\): expected an image \[y, x\]"):
        pixels_of(np.zeros((2, 40, 40)), np.ones((40, 40), dtype=bool))


@pytest.mark.parametrize("name", ["mask", "pixel_mask"])
def test_a_mask_beside_the_only_images_of_a_file_is_used_by_either_name(tmp_path, name):
    hidden = np.zeros((40, 40), dtype=np.uint32)
    hidden[:, :3] = 1
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["x"], file[name] = shot(1), hidden
    assert np.array_equal(read_images(tmp_path / "a.h5", size=40)[[0]].mask[0].numpy(), hidden == 0)
