"""Checkpoints: every flipped bit is seen, nothing in a file is executed, one training a folder."""

import io
import subprocess
import sys
import zipfile
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import pytest
import torch

from rephase.config import load_config
from rephase.errors import DiskError, TrainingError
from rephase.labs.crystals.models import MODELS
from rephase.learning.checkpoints import read_checkpoint, write_checkpoint
from rephase.learning.trainer import CheckedCheckpoints
from rephase.learning.training import fit

CHECKPOINT = {"epoch": 3, "state_dict": {"weight": torch.arange(20.0)}}


class Executed:
    """Writes a file when it is unpickled."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def train(data, folder, *, epochs=2):
    config = load_config("test", [f"crystals.training.epochs={epochs}"])
    return fit(MODELS, "linear", data, config.crystals, folder, device="cpu", progress=False)


@pytest.fixture
def path(tmp_path):
    write_checkpoint(tmp_path / "best.ckpt", CHECKPOINT)
    return tmp_path / "best.ckpt"


def test_it_comes_back_and_torch_opens_it_too(path):
    for read in (read_checkpoint(path), torch.load(path, weights_only=True)):
        assert read["epoch"] == 3
        assert torch.equal(read["state_dict"]["weight"], torch.arange(20.0))


def test_every_flipped_bit_is_refused(path):
    content, rng = path.read_bytes(), np.random.default_rng(0)
    for place in rng.choice(8 * len(content), 600, replace=False):
        damaged = bytearray(content)
        damaged[place // 8] ^= 1 << place % 8
        path.write_bytes(damaged)
        with pytest.raises(TrainingError, match="best.ckpt.*delete its folder"):
            read_checkpoint(path)


@pytest.mark.parametrize("damage", [lambda c: b"", lambda c: c[:-1], lambda c: c[:100], lambda c: c + b"0"])
def test_other_damage_is_refused(path, damage):
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(TrainingError, match="best.ckpt: (expected its SHA-256|its SHA-256 is)"):
        read_checkpoint(path)


def test_what_is_no_file_is_refused(tmp_path):
    for path in (tmp_path, tmp_path / "missing", tmp_path / ("x" * 300)):
        with pytest.raises(TrainingError, match="cannot be read"):
            read_checkpoint(path)


@pytest.mark.parametrize("content", [[1], {"epoch": 1}, {"state_dict": {"weight": 1}}])
def test_what_is_no_checkpoint_is_refused(path, content):
    write_checkpoint(path, content)
    with pytest.raises(TrainingError, match="no state_dict of tensors"):
        read_checkpoint(path)


def test_nothing_in_a_file_is_executed_with_a_right_checksum_either(path, tmp_path):
    write_checkpoint(path, CHECKPOINT | {"x": Executed(tmp_path / "executed")})
    with pytest.raises(TrainingError, match="expected plain values and tensors only .*nothing in it was executed"):
        read_checkpoint(path)
    file = io.BytesIO()
    torch.save(Executed(tmp_path / "executed"), file)
    with zipfile.ZipFile(file) as archive:
        bomb = next(archive.read(name) for name in archive.namelist() if name.endswith("data.pkl"))
    file = io.BytesIO()
    torch.save(CHECKPOINT, file)
    with zipfile.ZipFile(file, "a") as archive:
        for name in ("archive/constants.pkl", "archive/code/x.py", "archive/extra.pkl"):
            archive.writestr(name, bomb)
    # the mark and checksum of any bytes, as a stranger may write them
    write_as_checkpoint(path, file.getvalue())
    with pytest.raises(TrainingError, match="plain values and tensors only"):
        read_checkpoint(path)
    write_as_checkpoint(path, bomb)
    with pytest.raises(TrainingError, match="plain values and tensors only"):
        read_checkpoint(path)
    assert not (tmp_path / "executed").exists()


def write_as_checkpoint(path, content):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, "save", lambda checkpoint, file: file.write(checkpoint))
        write_checkpoint(path, content)


@pytest.mark.parametrize("name", ["best.ckpt", "last.ckpt"])
def test_a_poisoned_checkpoint_of_a_training_is_refused(name, data, tmp_path):
    train(data, tmp_path / "linear")
    path = tmp_path / "linear" / name
    if name == "last.ckpt":
        (tmp_path / "linear" / "finished").unlink()
    content = torch.load(path, weights_only=False)
    content["x"] = Executed(tmp_path / "executed")
    torch.save(content, path)
    with pytest.raises(TrainingError, match=f"{name}: expected its SHA-256"):
        train(data, tmp_path / "linear")
    write_checkpoint(path, content)
    with pytest.raises(TrainingError, match=f"{name}: expected plain values"):
        train(data, tmp_path / "linear")
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda weights: weights | {"model.map.bias": weights["model.map.bias"] * torch.nan}, "bias.*not finite"),
        (lambda weights: {"model.map.weight": torch.zeros(2)}, "weights of another model than 'linear'"),
    ],
)
def test_weights_that_cannot_be_are_refused(change, said, data, tmp_path):
    train(data, tmp_path)
    content = read_checkpoint(tmp_path / "best.ckpt")
    write_checkpoint(tmp_path / "best.ckpt", content | {"state_dict": change(content["state_dict"])})
    with pytest.raises(TrainingError, match=said):
        train(data, tmp_path)


@pytest.mark.parametrize("content", ["", "{", "[]", '"text"', "null", "1", "{}", "[" * 100_000, "\udcff"])
def test_an_identity_that_is_damaged_is_named(content, data, tmp_path):
    (tmp_path / "identity.json").write_bytes(content.encode(errors="surrogateescape"))
    with pytest.raises(TrainingError, match="identity.json: damaged"):
        train(data, tmp_path)


def test_a_training_without_its_identity_is_not_taken_for_this_one(data, tmp_path):
    write_checkpoint(tmp_path / "last.ckpt", CHECKPOINT)
    with pytest.raises(TrainingError, match="identity.json: missing, but last.ckpt"):
        train(data, tmp_path)


@contextmanager
def locked_by_another_process(folder):
    script = (
        "import sys, time; from rephase.files.writing import only_writer\n"
        "with only_writer(sys.argv[1]): print('held', flush=True); time.sleep(60)"
    )
    other = subprocess.Popen([sys.executable, "-c", script, str(folder)], stdout=subprocess.PIPE)
    try:
        assert other.stdout.readline() == b"held\n"
        yield
    finally:
        other.kill()
        other.communicate()


def test_a_second_training_in_a_folder_is_refused_until_the_first_has_finished(data, tmp_path):
    with locked_by_another_process(tmp_path):
        with pytest.raises(DiskError, match="another process of rephase is writing there"):
            train(data, tmp_path)
        assert sorted(path.name for path in tmp_path.iterdir()) == [".lock"]
    first = train(data, tmp_path)
    with locked_by_another_process(tmp_path):
        again = train(data, tmp_path)
    assert torch.equal(first.map.weight, again.map.weight)


def test_what_the_disk_refuses_is_named(data, tmp_path):
    (tmp_path / "csv").write_text("a file where the logs go")
    with pytest.raises(DiskError, match=f"{tmp_path}.*: cannot be written"):
        train(data, tmp_path)
    with pytest.raises(DiskError, match="cannot be written"):
        train(data, tmp_path / ("x" * 300))


def test_a_training_that_was_moved_keeps_its_best_epoch(data, tmp_path, monkeypatch):
    """The losses of the validation rise from the third epoch on; the training is killed after it, and moved."""
    losses = {"here": [2.0, 1.0, 3.0], "there": [4.0, 5.0], "whole": [2.0, 1.0, 3.0, 4.0, 5.0]}
    loss = MODELS["linear"].loss
    best = {}
    for name, left in losses.items():
        if name == "there":
            (tmp_path / "here").rename(tmp_path / "there")
        patched = lambda self, b, left=left: loss(self, b) * (1 if self.training else left.pop(0) / 1e3)  # noqa: E731
        monkeypatch.setattr(MODELS["linear"], "loss", patched)
        with suppress(IndexError):  # as if it was killed
            train(data, tmp_path / name, epochs=5)
        best[name] = read_checkpoint(tmp_path / name / "best.ckpt")
    assert best["there"]["epoch"] == best["whole"]["epoch"] == 1


def test_a_path_in_a_checkpoint_is_never_removed(tmp_path):
    (tmp_path / "precious").write_text("x")
    CheckedCheckpoints().remove_checkpoint(tmp_path / "precious")
    assert (tmp_path / "precious").is_file()


@pytest.mark.parametrize(
    "change",
    [
        {"state_dict": {"model.map.weight": torch.zeros(2, 2)}},
        {"optimizer_states": [[]]},
        {"lr_schedulers": 3},
        {"loops": {"fit_loop": []}},
        {"callbacks": {"x": {"dirpath": 3, "best_k_models": 5}}},
        {"callbacks": 5},
        {"epoch": "x"},
    ],
    ids=lambda change: next(iter(change)),
)
def test_a_state_that_no_training_goes_on_from_is_named(data, tmp_path, change):
    train(data, tmp_path, epochs=1)
    (tmp_path / "finished").unlink()
    last = tmp_path / "last.ckpt"
    write_checkpoint(last, read_checkpoint(last) | change)
    with pytest.raises(TrainingError, match=r"last\.ckpt: .*delete its folder"):
        train(data, tmp_path, epochs=1)
