"""The store and the perturbed data set: resume, checksums, full disk, splits without leaks."""

import errno
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch

from rephase.config import load_config
from rephase.datasets.batches import Batches, StreamedData
from rephase.datasets.perturbed import open_perturbed, read_parents, split_samples
from rephase.errors import StoreError
from rephase.store import Store


def chunk_files(path):
    return {
        str(f.relative_to(path)): f.read_bytes()
        for f in sorted(path.rglob("*"))
        if f.is_file() and "/c/" in f.as_posix()
    }


def test_killed_and_resumed_ends_with_the_same_bits(tmp_path, config):
    """A build in a process of its own is killed after its first chunks, then finished here."""
    overrides = ["data.n_per_crystal=400", "data.chunk=5"]
    script = (
        "import pathlib, sys; from rephase.config import load_config;"
        "from rephase.datasets.perturbed import open_perturbed;"
        f"open_perturbed(pathlib.Path(sys.argv[1]), load_config('test', {overrides!r}).data)"
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
    data_config = load_config("test", overrides).data
    open_perturbed(killed, data_config, workers=2)
    open_perturbed(tmp_path / "whole.zarr", data_config)
    assert chunk_files(killed) == chunk_files(tmp_path / "whole.zarr")


def test_another_configuration_is_refused(tmp_path, config):
    open_perturbed(tmp_path / "data.zarr", config.data)
    other = load_config("test", ["data.perturbation.single_atom.sigma_frac=0.07"]).data
    with pytest.raises(StoreError, match=r"sigma_frac is 0.05 there, 0.07 here"):
        open_perturbed(tmp_path / "data.zarr", other)


def test_flipped_byte_is_found_and_only_that_chunk_is_made_anew(tmp_path, config):
    path = tmp_path / "data.zarr"
    whole = open_perturbed(path, config.data).F
    victim = path / "F/c/2/0/0/0"
    content = bytearray(victim.read_bytes())
    content[100] ^= 1
    victim.write_bytes(content)
    with pytest.raises(StoreError, match=r"F/c/2/0/0/0: damaged .* delete this file"):
        open_perturbed(path, config.data)
    victim.unlink()
    assert torch.equal(open_perturbed(path, config.data).F, whole)


def test_flipped_byte_in_a_lattice_is_found(tmp_path, config):
    path = tmp_path / "data.zarr"
    open_perturbed(path, config.data)
    victim = path / "lattice/c/3/0/0"
    content = bytearray(victim.read_bytes())
    content[10] ^= 1
    victim.write_bytes(content)
    with pytest.raises(StoreError, match="lattice/c/3/0/0: damaged"):
        open_perturbed(path, config.data)


def test_strained_samples_have_spheres_and_volumes_of_their_own(tmp_path):
    overrides = ["data.perturbation.kind=strain", "data.perturbation.strain.sigma_strain=0.05", "data.d_min=1.0"]
    data = open_perturbed(tmp_path / "data.zarr", load_config("test", overrides).data)
    batch = data[np.arange(40)]
    assert batch.mask.sum((1, 2, 3)).unique().numel() > 5
    assert float(batch.volume.std() / batch.volume.mean()) == pytest.approx(0.05 * np.sqrt(3), rel=0.3)


def test_truncated_chunk_is_found(tmp_path, config):
    path = tmp_path / "data.zarr"
    open_perturbed(path, config.data)
    victim = path / "F/c/1/0/0/0"
    victim.write_bytes(victim.read_bytes()[:-50])
    with pytest.raises(StoreError, match="damaged"):
        open_perturbed(path, config.data)


def test_full_disk_keeps_what_is_written(tmp_path, config, monkeypatch):
    path, write, calls = tmp_path / "data.zarr", Store._write, []

    def fails_at_the_third(self, index, arrays):
        calls.append(index)
        if len(calls) == 3:
            raise OSError(errno.ENOSPC, "No space left on device")
        write(self, index, arrays)

    monkeypatch.setattr(Store, "_write", fails_at_the_third)
    with pytest.raises(StoreError, match=r"the disk is full; \d+ of 6 chunks are written"):
        open_perturbed(path, config.data)
    monkeypatch.undo()
    assert len(open_perturbed(path, config.data)) == 120


def test_damaged_layout_is_told(tmp_path, config):
    path = tmp_path / "data.zarr"
    open_perturbed(path, config.data)
    (path / "F/zarr.json").write_text("{")
    with pytest.raises(StoreError, match="zarr.json is damaged"):
        open_perturbed(path, config.data)


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


def test_attributes_tell_what_it_is(tmp_path, config):
    open_perturbed(tmp_path / "d.zarr", config.data)
    import zarr

    identity = zarr.open_group(tmp_path / "d.zarr", mode="r").attrs["identity"]
    assert identity["config"]["seed"] == config.data.seed
    assert [parent["name"] for parent in identity["parents"]] == ["Ni", "NaCl", "Copper"]
    assert identity["parents"][1]["cell"][0] == pytest.approx(5.64, abs=0.01)


def test_splits_do_not_leak(data, config):
    splits = data.splits
    every = np.concatenate(list(splits.values()))
    assert len(every) == len(set(every)) == len(data)
    seen = set(data.parent[np.concatenate([splits[s] for s in ("train", "validation", "test")])].tolist())
    assert seen.isdisjoint(data.parent[splits["unseen"]].tolist())
    for split in ("train", "validation", "test"):
        assert len(np.unique(data.parent[splits[split]])) == len(config.data.crystals)


def test_shares_of_the_splits(config):
    splits = split_samples(config.data)
    assert [len(splits[s]) for s in ("train", "validation", "test", "unseen")] == [64, 8, 8, 40]


def test_streamed_samples_repeat_and_know_training_crystals_only(config):
    stream = StreamedData(read_parents(config.data), 50, 16, seed=1)
    assert [len(stream[[i]].F) for i in range(len(stream))] == [16, 16, 16, 2]
    assert torch.equal(stream[[2]].F, stream[[2]].F)
    assert not torch.equal(stream[[1]].F, stream[[2]].F)
    assert max(int(stream[[i]].parent.max()) for i in range(4)) < len(config.data.crystals)


def test_streamed_samples_are_of_the_stored_kind(config):
    """Same crystals and perturbation: the mean amplitudes agree with the stored training samples."""
    data = read_parents(config.data)
    stream = StreamedData(data, 400, 400, seed=1)[[0]]
    for number in range(len(config.data.crystals)):
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


def test_normalised_amplitudes_average_one(data):
    """⟨|E|²⟩ over the reflections of a crystal with general positions; here all atoms are moved far."""
    far = load_config("test", ["data.perturbation.kind=all_atoms", "data.perturbation.all_atoms.sigma=3.0"]).data
    parents = read_parents(far)
    F, lattice = parents.generate(1, 400, np.random.default_rng(0))
    batch = parents.batch(F, torch.full((400,), 1), lattice)
    mean = (batch.E.abs() ** 2).mean(0)
    mean[0, 0, 0] = 1
    assert float(mean.mean()) == pytest.approx(1, abs=0.1)
