"""The store and the perturbed data set: resume, checksums, full disk, splits without leaks."""

import errno
import json
import signal
import subprocess
import sys
import time
import warnings
from contextlib import nullcontext

import numpy as np
import pytest
import torch

from rephase.config import load_config
from rephase.errors import ConfigError, DiskError, StoreError
from rephase.files.writing import BUSY, PARTIAL
from rephase.labs.crystals.data import open_perturbed, read_parents, split_samples
from rephase.learning.batches import Batches, HeldData, StreamedData
from rephase.learning.store import Shard, Store


def chunk_files(path):
    return {
        str(f.relative_to(path)): f.read_bytes()
        for f in sorted(path.rglob("*"))
        if f.is_file() and "/c/" in f.as_posix() and f.suffix != PARTIAL  # of a writer that was killed; never read
    }


def test_killed_and_resumed_ends_with_the_same_bits(tmp_path, config):
    """A build in a process of its own is killed after its first chunks, then finished here."""
    overrides = ["crystals.data.n_per_crystal=400", "crystals.data.chunk=5"]
    script = (
        "import pathlib, sys; from rephase.config import load_config;"
        "from rephase.labs.crystals.data import open_perturbed;"
        f"open_perturbed(pathlib.Path(sys.argv[1]), load_config('test', {overrides!r}).crystals.data)"
    )
    killed = tmp_path / "killed.zarr"
    process = subprocess.Popen([sys.executable, "-c", script, str(killed)], stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while len(list(killed.glob("F/c/*"))) < 5 and time.monotonic() < deadline:
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.wait()
    done = len(list(killed.glob("F/c/*")))
    assert 5 <= done < 240
    data_config = load_config("test", overrides).crystals.data
    open_perturbed(killed, data_config, workers=2)
    open_perturbed(tmp_path / "whole.zarr", data_config)
    assert chunk_files(killed) == chunk_files(tmp_path / "whole.zarr")


SHARD = """
import pathlib, sys
from rephase.config import load_config
from rephase.labs.crystals.data import fill_perturbed, read_parents
from rephase.learning.store import Shard
config = load_config("test", {overrides!r}).crystals.data
fill_perturbed(pathlib.Path(sys.argv[1]), read_parents(config), shard=Shard.parse(sys.argv[2]))
"""


def test_shards_in_processes_of_their_own_give_the_same_bits(tmp_path):
    """Three processes write one store at the same time; one is killed, and started again."""
    overrides = ["crystals.data.n_per_crystal=150", "crystals.data.chunk=5"]
    path, script = tmp_path / "sharded.zarr", SHARD.format(overrides=overrides)

    def start(shard):
        return subprocess.Popen([sys.executable, "-c", script, str(path), shard], stderr=subprocess.DEVNULL)

    processes = [start(shard) for shard in ("1/3", "2/3", "3/3")]
    deadline = time.monotonic() + 120
    while len([f for f in path.glob("F/c/*") if int(f.name) % 3 == 1]) < 3 and time.monotonic() < deadline:
        time.sleep(0.002)
    processes[1].kill()
    processes[1].wait()
    assert len([f for f in path.glob("F/c/*") if int(f.name) % 3 == 1]) < 30
    assert start("2/3").wait() == 0
    assert [process.wait() for process in processes] == [0, -signal.SIGKILL, 0]
    open_perturbed(tmp_path / "whole.zarr", load_config("test", overrides).crystals.data)
    assert chunk_files(path) == chunk_files(tmp_path / "whole.zarr")


def test_another_configuration_is_refused(tmp_path, config):
    open_perturbed(tmp_path / "data.zarr", config.crystals.data)
    other = load_config("test", ["crystals.data.perturbation.single_atom.sigma_frac=0.07"]).crystals.data
    with pytest.raises(StoreError, match=r"sigma_frac is 0.05 there, 0.07 here"):
        open_perturbed(tmp_path / "data.zarr", other)


def test_flipped_byte_is_found_and_only_that_chunk_is_made_anew(tmp_path, config):
    path = tmp_path / "data.zarr"
    whole = open_perturbed(path, config.crystals.data).F
    victim = path / "F/c/2/0/0/0"
    content = bytearray(victim.read_bytes())
    content[100] ^= 1
    victim.write_bytes(content)
    with pytest.raises(StoreError, match=r"F/c/2/0/0/0: damaged .* delete this file"):
        open_perturbed(path, config.crystals.data)
    victim.unlink()
    assert torch.equal(open_perturbed(path, config.crystals.data).F, whole)


def test_flipped_byte_in_a_lattice_is_found(tmp_path, config):
    path = tmp_path / "data.zarr"
    open_perturbed(path, config.crystals.data)
    victim = path / "lattice/c/3/0/0"
    content = bytearray(victim.read_bytes())
    content[10] ^= 1
    victim.write_bytes(content)
    with pytest.raises(StoreError, match="lattice/c/3/0/0: damaged"):
        open_perturbed(path, config.crystals.data)


def test_strained_samples_have_spheres_and_volumes_of_their_own(tmp_path):
    overrides = [
        "crystals.data.perturbation.kind=strain",
        "crystals.data.perturbation.strain.sigma_strain=0.05",
        "crystals.data.d_min=1.0",
    ]
    data = open_perturbed(tmp_path / "data.zarr", load_config("test", overrides).crystals.data)
    batch = data[np.arange(40)]
    assert batch.mask.sum((1, 2, 3)).unique().numel() > 5
    assert float(batch.volume.std() / batch.volume.mean()) == pytest.approx(0.05 * np.sqrt(3), rel=0.3)


def test_truncated_chunk_is_found(tmp_path, config):
    path = tmp_path / "data.zarr"
    open_perturbed(path, config.crystals.data)
    victim = path / "F/c/1/0/0/0"
    victim.write_bytes(victim.read_bytes()[:-50])
    with pytest.raises(StoreError, match="damaged"):
        open_perturbed(path, config.crystals.data)


def test_full_disk_keeps_what_is_written(tmp_path, config, monkeypatch):
    path, write, calls = tmp_path / "data.zarr", Store._write, []

    def fails_at_the_third(self, index, arrays):
        calls.append(index)
        if len(calls) == 3:
            raise OSError(errno.ENOSPC, "No space left on device")
        write(self, index, arrays)

    monkeypatch.setattr(Store, "_write", fails_at_the_third)
    with pytest.raises(StoreError, match=r"the disk is full; \d+ of 6 chunks are written"):
        open_perturbed(path, config.crystals.data)
    monkeypatch.undo()
    assert len(open_perturbed(path, config.crystals.data)) == 120


def test_damaged_layout_is_reported(tmp_path, config):
    path = tmp_path / "data.zarr"
    open_perturbed(path, config.crystals.data)
    whole = (path / "zarr.json").read_text()
    (path / "F/zarr.json").write_text("{")
    with pytest.raises(StoreError, match="zarr.json is damaged"):
        open_perturbed(path, config.crystals.data)
    (path / "zarr.json").write_text(whole.replace('"group"', '"array"'))
    with pytest.raises(StoreError, match=r"zarr\.json.*damaged.*build it again"):
        open_perturbed(path, config.crystals.data)


def test_missing_chunk_is_named(tmp_path):
    store = Store(tmp_path / "s.zarr", {"x": ((2,), "float32")}, 10, 4, {})
    with pytest.raises(StoreError, match=r"x/c/0/0: missing"):
        list(store.read("x"))


def test_last_chunk_may_be_shorter(tmp_path):
    store = Store(tmp_path / "s.zarr", {"x": ((), "int64")}, 10, 4, {})
    store.fill(lambda rows: {"x": np.arange(rows.start, rows.stop)}, workers=3)
    assert store.load("x").tolist() == list(range(10))


def test_a_chunk_of_zeros_is_written_like_any_other(tmp_path):
    layout = {"x": ((2,), "int64")}
    Store(tmp_path / "s.zarr", layout, 10, 4, {}).fill(lambda rows: {"x": np.zeros((rows.stop - rows.start, 2), int)})
    again = Store(tmp_path / "s.zarr", layout, 10, 4, {})
    assert not again.missing()
    assert not again.load("x").any()


LAYOUT = {"x": ((2,), "float64"), "y": ((2,), "float64")}


def small_store(path, identity=None, *, shift=0.0):
    store = Store(path, LAYOUT, 10, 4, identity or {"seed": 0})
    numbers = np.arange(20.0).reshape(10, 2)
    store.fill(lambda rows: {"x": numbers[rows] + shift, "y": -numbers[rows] - shift})
    return store


def swap(first, second):
    a, b = first.read_bytes(), second.read_bytes()
    first.write_bytes(b)
    second.write_bytes(a)


@pytest.mark.parametrize(
    "pairs",
    [
        [("x/c/0/0", "x/c/1/0")],
        [("x/c/1/0", "y/c/1/0")],
        [("x/c/0/0", "x/c/1/0"), ("y/c/0/0", "y/c/1/0"), ("seals/c/0/0", "seals/c/1/0")],
    ],
    ids=["within an array", "between arrays", "with all that belongs to them"],
)
def test_swapped_chunks_are_found(tmp_path, pairs):
    store = small_store(tmp_path / "s.zarr")
    for first, second in pairs:
        swap(tmp_path / "s.zarr" / first, tmp_path / "s.zarr" / second)
    for read in (store.check, lambda: store.load("x"), lambda: small_store(store.path).take("x", np.array([5]))):
        with pytest.raises(
            StoreError, match=r"x/c/\d/0: damaged \(not the chunk that was written here\); delete this file"
        ):
            read()
    for first, second in pairs:
        for name in (first, second):
            (tmp_path / "s.zarr" / name).unlink()
    assert small_store(tmp_path / "s.zarr").load("x")[:, 0].tolist() == list(range(0, 20, 2))


def test_chunks_of_another_store_are_found(tmp_path):
    store, other = small_store(tmp_path / "s.zarr"), small_store(tmp_path / "o.zarr", {"seed": 1}, shift=0.5)
    for name in ("x/c/1/0", "y/c/1/0", "seals/c/1/0"):
        (store.path / name).write_bytes((other.path / name).read_bytes())
    with pytest.raises(StoreError, match="x/c/1/0: damaged"):
        store.check()


@pytest.mark.parametrize(
    "damage", [lambda c: c[:-1], lambda c: c[:2], lambda c: b"", lambda c: c + b"\0", lambda c: c * 2]
)
def test_chunks_of_another_length_are_found_at_their_first_use(tmp_path, damage):
    path = small_store(tmp_path / "s.zarr").path
    (path / "y/c/1/0").write_bytes(damage((path / "y/c/1/0").read_bytes()))
    store = small_store(path)
    assert store.take("y", np.array([9, 0])).tolist() == [[-18.0, -19.0], [0.0, -1.0]]
    with pytest.raises(StoreError, match=r"y/c/1/0: damaged \(\d+ bytes, expected 68\)"):
        store.take("y", np.array([5]))


def test_flipped_bits_of_a_chunk_is_found_at_its_first_use(tmp_path):
    path = small_store(tmp_path / "s.zarr").path
    for name in ("x/c/2/0", "seals/c/2/0"):
        content = (path / name).read_bytes()
        for bit in np.random.default_rng(0).choice(8 * len(content), 30, replace=False):
            damaged = bytearray(content)
            damaged[bit // 8] ^= 1 << bit % 8
            (path / name).write_bytes(damaged)
            with pytest.raises(StoreError, match="x/c/2/0: damaged"):
                small_store(path).take("x", np.array([8]))
        (path / name).write_bytes(content)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('"float64"', '"int64"', "data_type is"),
        ('"float64"', '"complex128"', "zarr.json"),
        ('"float64"', '"int3"', "zarr.json"),
        ('"fill_value": 0.0', '"fill_value": 1.0', "fill_value is"),
        ('"crc32c"', '"crc32d"', "zarr.json"),
        ('"zarr_format": 3', '"zarr_format": 2', "zarr.json"),
        ('"zarr_format": 3', '"zarr_format": [', "zarr.json"),
        ('"node_type": "array"', '"node_type": "group"', "zarr.json"),
        ('"separator": "/"', '"separator": "."', "chunk_key_encoding is"),
    ],
)
def test_another_layout_of_an_array_is_named(tmp_path, old, new, said):
    path = small_store(tmp_path / "s.zarr").path / "x/zarr.json"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    with pytest.raises(StoreError, match=f"s.zarr.*{said}.*delete the folder"):
        small_store(tmp_path / "s.zarr")


@pytest.mark.parametrize("key", ["shape", "chunk_shape"])
def test_another_shape_of_an_array_is_named(tmp_path, key):
    path = small_store(tmp_path / "s.zarr").path / "x/zarr.json"
    content = json.loads(path.read_text())
    part = content if key == "shape" else content["chunk_grid"]["configuration"]
    part[key] = [part[key][0] + 1, *part[key][1:]]
    path.write_text(json.dumps(content))
    with pytest.raises(StoreError, match="x/zarr.json: damaged, or another layout"):
        small_store(tmp_path / "s.zarr")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "has chunks, but its zarr.json does not describe them"),
        ({"attributes": {}, "zarr_format": 3, "node_type": "group"}, "does not describe them"),
        ({"attributes": {"identity": [1]}, "zarr_format": 3, "node_type": "group"}, "identity is not a mapping"),
        ({"attributes": {"identity": {}}, "zarr_format": 3, "node_type": "group"}, "seed is None there, 0 here"),
        ({"attributes": 3, "zarr_format": 3, "node_type": "group"}, "zarr.json"),
        ([], "zarr.json"),
        (7, "zarr.json"),
    ],
)
def test_a_store_that_does_not_say_what_it_is_is_refused(tmp_path, content, said):
    path = small_store(tmp_path / "s.zarr").path / "zarr.json"
    path.unlink()
    if content is not None:
        path.write_text(json.dumps(content))
    with pytest.raises(StoreError, match=said):
        small_store(tmp_path / "s.zarr")


def test_a_store_without_an_array_is_refused(tmp_path):
    (small_store(tmp_path / "s.zarr").path / "y/zarr.json").unlink()
    with pytest.raises(StoreError, match="y/zarr.json: missing.*delete the folder"):
        small_store(tmp_path / "s.zarr")


def test_a_second_process_is_refused_and_the_first_can_finish(tmp_path):
    script = (
        "import sys, time; from rephase.files.writing import only_writer\n"
        "with only_writer(sys.argv[1]): print('held', flush=True); time.sleep(60)"
    )
    path = small_store(tmp_path / "s.zarr").path
    (path / "x/c/0/0").unlink()
    other = subprocess.Popen([sys.executable, "-c", script, str(path)], stdout=subprocess.PIPE)
    try:
        assert other.stdout.readline() == b"held\n"
        with pytest.raises(DiskError, match="another process of rephase is writing there"):
            small_store(path)
    finally:
        other.kill()
        other.communicate()
    small_store(path).check()


HOLDS = """
import sys, time
from rephase.files.writing import only_writer, writer_of_part
with {lock}: print('held', flush=True); time.sleep({seconds})
"""


@pytest.mark.parametrize(
    ("lock", "refused"),
    [
        ("only_writer(sys.argv[1])", {None: True, Shard(1, 2): True, Shard(2, 2): True}),
        ("writer_of_part(sys.argv[1], '1-of-2')", {None: True, Shard(1, 2): True, Shard(2, 2): False}),
    ],
)
def test_a_chunk_has_one_writer_with_shards_and_without(tmp_path, monkeypatch, lock, refused):
    monkeypatch.setattr("rephase.learning.store._PATIENCE", 0.1)
    store = small_store(tmp_path / "s.zarr")
    for index in range(store.n_chunks):
        (store.path / f"x/c/{index}/0").unlink()
    ran = []

    def build(rows):
        ran.append(rows)
        return {"x": np.zeros((rows.stop - rows.start, 2)), "y": np.zeros((rows.stop - rows.start, 2))}

    other = subprocess.Popen(
        [sys.executable, "-c", HOLDS.format(lock=lock, seconds=60), store.path], stdout=subprocess.PIPE
    )
    try:
        assert other.stdout.readline() == b"held\n"
        for shard, is_refused in refused.items():
            expected = pytest.raises(DiskError, match=BUSY) if is_refused else nullcontext()
            with expected:
                store.fill(build, shard=shard)
    finally:
        other.kill()
        other.communicate()
    assert len(ran) == sum(not is_refused for is_refused in refused.values())  # the second of three chunks
    store.fill(build)
    assert not store.missing()


def test_a_shard_waits_for_the_process_that_lays_the_store_out(tmp_path):
    store = small_store(tmp_path / "s.zarr")
    (store.path / "x/c/0/0").unlink()
    holds = HOLDS.format(lock="only_writer(sys.argv[1])", seconds=1)
    with subprocess.Popen([sys.executable, "-c", holds, store.path], stdout=subprocess.PIPE) as other:
        assert other.stdout.readline() == b"held\n"
        store.fill(lambda rows: {name: np.zeros((rows.stop - rows.start, 2)) for name in "xy"}, shard=Shard(1, 2))
    assert not store.missing()


@pytest.mark.parametrize("text", ["", "2", "0/2", "3/2", "-1/2", "a/b", "1/2/3"])
def test_a_shard_that_makes_no_sense(text):
    with pytest.raises(ConfigError, match="expected NUMBER/TOTAL"):
        Shard.parse(text)


def test_a_path_that_the_disk_refuses_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file" / "s.zarr", tmp_path / ("x" * 300)):
        with pytest.raises(DiskError, match="cannot be written"):
            small_store(path)


def test_an_interrupted_build_stops_at_once(tmp_path):
    calls = []

    def build(rows):
        calls.append(rows)
        time.sleep(0.02)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return {"x": np.zeros((rows.stop - rows.start, 2))}

    with pytest.raises(KeyboardInterrupt):
        Store(tmp_path / "s.zarr", {"x": ((2,), "float64")}, 100, 1, {}).fill(build)
    assert len(calls) < 10


def test_attributes_say_what_it_is(tmp_path, config):
    open_perturbed(tmp_path / "d.zarr", config.crystals.data)
    import zarr

    identity = zarr.open_group(tmp_path / "d.zarr", mode="r").attrs["identity"]
    assert identity["config"]["seed"] == config.crystals.data.seed
    assert [parent["name"] for parent in identity["parents"]] == ["Ni", "NaCl", "Copper"]
    assert identity["parents"][1]["cell"][0] == pytest.approx(5.64, abs=0.01)


def test_splits_do_not_leak(data, config):
    splits = data.splits
    every = np.concatenate(list(splits.values()))
    assert len(every) == len(set(every)) == len(data)
    seen = set(data.parent[np.concatenate([splits[s] for s in ("train", "validation", "test")])].tolist())
    assert seen.isdisjoint(data.parent[splits["unseen"]].tolist())
    for split in ("train", "validation", "test"):
        assert len(np.unique(data.parent[splits[split]])) == len(config.crystals.data.crystals)


def test_shares_of_the_splits(config):
    splits = split_samples(config.crystals.data)
    assert [len(splits[s]) for s in ("train", "validation", "test", "unseen")] == [64, 8, 8, 40]


def test_streamed_samples_repeat_and_know_training_crystals_only(config):
    stream = StreamedData(read_parents(config.crystals.data), 50, 16, seed=1)
    assert [len(stream[[i]].F) for i in range(len(stream))] == [16, 16, 16, 2]
    assert torch.equal(stream[[2]].F, stream[[2]].F)
    assert not torch.equal(stream[[1]].F, stream[[2]].F)
    assert max(int(stream[[i]].parent.max()) for i in range(4)) < len(config.crystals.data.crystals)


def test_streamed_samples_are_of_the_stored_kind(config):
    """Same crystals and perturbation: the mean amplitudes agree with the stored training samples."""
    data = read_parents(config.crystals.data)
    stream = StreamedData(data, 400, 400, seed=1)[[0]]
    for number in range(len(config.crystals.data.crystals)):
        ours = stream.F[stream.parent == number].abs().mean(0)
        stored = data.generate(number, 200, np.random.default_rng(9))[0].abs().mean(0)
        assert torch.allclose(ours, stored, atol=0.1 * float(stored.max()))


def test_order_depends_on_the_epoch_alone():
    batches = Batches(np.arange(10), 4, seed=3)
    first = list(batches)
    batches.set_epoch(1)
    assert list(batches) != first
    batches.set_epoch(0)
    assert list(batches) == first
    assert sorted(sample for batch in first for sample in batch) == list(range(10))


def equal(one, other):
    return all(torch.equal(*fields) for fields in zip(one, other, strict=True))


def test_worker_processes_draw_the_same_samples_in_the_same_order(config, monkeypatch):
    stream = StreamedData(read_parents(config.crystals.data), 50, 16, seed=1)
    alone = list(stream.loader())
    monkeypatch.setattr("rephase.learning.batches.loader_options", lambda device: {"num_workers": 2})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of a fork with threads, which draw nothing
        together = list(stream.loader())
    assert len(alone) == len(together) == 4
    assert all(map(equal, alone, together))


def test_samples_held_in_memory_are_those_of_the_store(data, monkeypatch):
    monkeypatch.setattr("rephase.learning.batches._READ", 7)
    held = HeldData(data, data.splits["train"], torch.device("cpu"))
    batches = data.loader("train", 9, seed=3)
    assert all(equal(batch, held[samples]) for batch, samples in zip(batches, batches.sampler, strict=True))


def test_a_gpu_holds_the_samples_that_fit(data, monkeypatch):
    asked = []
    monkeypatch.setattr("rephase.learning.batches.is_held", lambda n_bytes, device: asked.append(n_bytes) or True)
    monkeypatch.setattr("rephase.learning.batches.loader_options", lambda device: {})
    gpu = torch.device("cuda")
    assert isinstance(data.loader("train", 9, device=gpu).dataset, HeldData)  # read when the first batch is
    monkeypatch.setattr("rephase.learning.batches.is_held", lambda n_bytes, device: False)
    assert data.loader("train", 9, device=gpu).dataset is data
    assert asked == [sum(field.numel() * field.element_size() for field in data[data.splits["train"]])]


def test_normalised_amplitudes_average_one(data):
    """⟨|E|²⟩ over the reflections of a crystal with general positions; here all atoms are moved far."""
    far = load_config(
        "test", ["crystals.data.perturbation.kind=all_atoms", "crystals.data.perturbation.all_atoms.sigma=3.0"]
    ).crystals.data
    parents = read_parents(far)
    F, lattice = parents.generate(1, 400, np.random.default_rng(0))
    batch = parents.batch(F, torch.full((400,), 1), lattice)
    mean = (batch.E.abs() ** 2).mean(0)
    mean[0, 0, 0] = 1
    assert float(mean.mean()) == pytest.approx(1, abs=0.1)
