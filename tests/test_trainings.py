"""Trainings without notebooks: what the command finds, trains and refuses, and what several processes share."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from rephase.config import load_config
from rephase.errors import ConfigError
from rephase.laboratories import LABORATORIES
from rephase.labs.crystals.models import MODELS
from rephase.labs.crystals.steps import build_data, train_and_score
from rephase.learning.batches import Batches
from rephase.learning.checkpoints import read_checkpoint
from rephase.learning.training import fit, loss_curve
from rephase.paths import ROOT
from rephase.ranks import Ranks, check_ranks
from rephase.runs import open_run
from rephase.trainings import find_laboratories, run_trainings

OPTIONS = ["crystals.training.batch_size=21", "crystals.training.epochs=3", "crystals.training.precision=64-true"]
JOB = ("SLURM_NTASKS", "SLURM_PROCID", "SLURM_JOB_NAME", "TORCHELASTIC_RUN_ID", "MASTER_ADDR", "LOCAL_RANK")


@pytest.fixture(autouse=True)
def no_job(monkeypatch):
    """The environment of a machine on which no job runs."""
    for name in JOB:
        monkeypatch.delenv(name, raising=False)


def rephase_train(folder, *arguments, overrides=OPTIONS):
    """``rephase train`` in a process of its own, which starts the others; its status and what it said."""
    given = ["train", "--config", "test", "--out", str(folder), "--device", "cpu", *arguments]
    given += [part for override in overrides for part in ("--set", override)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "rephase.cli", *given], capture_output=True, text=True, timeout=300, env=environment
    )
    return done.returncode, done.stdout, done.stderr


def test_the_trainings_of_the_command_are_those_that_the_notebooks_find(command, tmp_path, monkeypatch):
    given = ["--config", "test", "--out", tmp_path, "--models", "mlp,linear", "--device", "cpu"]
    status, said, _ = command("train", *given)
    assert status == 0
    assert [Path(line.removeprefix("trained: ")).name for line in said.splitlines()] == ["linear", "mlp"]
    run = open_run(tmp_path, "test", device="cpu")
    monkeypatch.setattr("rephase.learning.trainer.run_epochs", lambda *_, **__: pytest.fail("it was trained again"))
    assert "mlp" in train_and_score(run, build_data(run), "mlp").index.get_level_values("model")
    assert not (tmp_path / "checkpoints" / "unet3d").exists()


def test_the_laboratories_of_the_main_job_are_the_default():
    assert find_laboratories() == ["crystals", "solving"]
    assert find_laboratories(["waves"]) == ["waves"]
    assert find_laboratories(["all"]) == [*LABORATORIES]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"only": ["wave"]}, "no laboratory 'wave'; did you mean 'waves'"),
        ({"models": ["unet"]}, "no model 'unet' is trained in the laboratories crystals, solving; did you .* 'unet3d'"),
        ({"ranks": Ranks(devices=0)}, "devices = 0: expected 1 to 1000"),
        ({"ranks": Ranks(nodes=-1)}, "nodes = -1: expected 1 to 1000"),
        ({"ranks": Ranks(strategy="dpd")}, "strategy = 'dpd'; did you mean 'ddp'"),
        ({"ranks": Ranks(nodes=2)}, r"nodes = 2: expected a job of SLURM, .*\(missing: MASTER_ADDR, .*start it with"),
    ],
)
def test_what_cannot_be_trained_is_refused(given, said, tmp_path):
    with pytest.raises(ConfigError, match=said):
        run_trainings("test", out=tmp_path, device="cpu", **given)
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize(
    ("overrides", "only", "said"),
    [
        (["completion.training.n_streamed=8"], "completion", "models.* n_streamed = 8: expected 0 on several devices"),
        ([], "completion", "models.gan: has a training of its own"),
        ([], "images", "models.*has batch normalisation, .* each process would normalise its part of a batch"),
    ],
)
def test_what_processes_cannot_share_is_refused_before_the_first_step(overrides, only, said, tmp_path):
    with pytest.raises(ConfigError, match=said):
        run_trainings("test", overrides, out=tmp_path, only=[only], device="cpu", ranks=Ranks(devices=2))
    assert not list(tmp_path.rglob("*.ckpt"))


def test_fewer_gpus_than_devices(monkeypatch, tmp_path):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(ConfigError, match="devices = 2: torch sees 1 GPU here; give at most as many"):
        run_trainings("test", out=tmp_path, device="cuda", ranks=Ranks(devices=2))


def test_a_job_with_another_number_of_processes_is_refused(monkeypatch):
    monkeypatch.setenv("SLURM_NTASKS", "1")
    with pytest.raises(ConfigError, match="devices x nodes = 8: SLURM starts 1 processes; .*srun --ntasks-per-node"):
        check_ranks(Ranks(devices=4, nodes=2))
    monkeypatch.setenv("SLURM_NTASKS", "8")
    check_ranks(Ranks(devices=4, nodes=2))
    monkeypatch.setenv("SLURM_PROCID", "5")
    assert Ranks(devices=4, nodes=2).own() == 5
    assert Ranks().own() == 0


@pytest.mark.parametrize("n", [1, 5, 12, 13, 14])
def test_the_parts_of_a_batch_are_the_batch(n):
    samples = np.arange(100, 100 + n)
    whole = Batches(samples, 6, seed=3)
    parts = [Batches(samples, 6, seed=3, rank=rank, n_ranks=4) for rank in range(4)]
    assert {len(part) for part in parts} == {len(whole)}
    for number, (batch, *of_ranks) in enumerate(zip(whole, *parts, strict=True)):
        counts = [part.counts(number) for part in parts]
        assert [sample for part, (own, _) in zip(of_ranks, counts) for sample in part[:own]] == batch
        assert all(of_ranks), "no process gets an empty batch"
        assert {n for _, n in counts} == {len(batch)}


def test_batches_of_a_begun_epoch_are_skipped_only_in_that_epoch():
    whole, resumed = Batches(np.arange(20), 6, seed=3), Batches(np.arange(20), 6, seed=3)
    resumed.resume(2, 1)
    whole.set_epoch(2)
    assert list(resumed) == list(whole)[1:]
    whole.set_epoch(3)
    resumed.set_epoch(3)
    assert list(resumed) == list(whole)


def test_two_processes_end_with_the_weights_of_one(data, tmp_path):
    """64 training samples in batches of 21, 21, 21 and 1; two trainings one after the other, in double precision."""
    status, said, warned = rephase_train(tmp_path, "--models", "mlp,linear", "--devices", "2", "--strategy", "ddp")
    assert status == 0, warned
    assert said.count("trained: ") == 2
    assert warned.count("samples/s") == 2
    assert "warning" not in warned.lower()
    config = load_config("test", OPTIONS)
    for name in ("mlp", "linear"):
        alone, shared = tmp_path / "alone" / name, tmp_path / "checkpoints" / name
        fit(MODELS, name, data, config.crystals, alone, seed=config.seed, device="cpu", progress=False)
        assert_equal_to_rounding(alone, shared)


def assert_equal_to_rounding(alone, shared):
    for name in ("last", "best"):
        one, two = (read_checkpoint(folder / f"{name}.ckpt") for folder in (alone, shared))
        assert one["epoch"] == two["epoch"]
        for key, value in one["state_dict"].items():
            assert torch.dist(value, two["state_dict"][key]) < 1e-9 * value.norm(), key
    np.testing.assert_allclose(loss_curve(shared), loss_curve(alone), rtol=1e-6)  # logs have float32


def test_two_processes_pause_and_continue_together(data, tmp_path):
    overrides = [*OPTIONS, "crystals.training.batch_size=15", "crystals.training.epochs=2"]
    pieces = 0
    while True:
        given = ["--models", "linear", "--devices", "2", *(["--minutes", "0.001"] if pieces < 2 else [])]
        status, _, said = rephase_train(tmp_path, *given, overrides=overrides)
        if status == 0:
            break
        assert status == 75, said
        assert [line for line in said.splitlines() if line.startswith("paused after 0.001 minutes at ")] == [
            said.splitlines()[-1]
        ]
        pieces += 1
    assert pieces == 2
    config = load_config("test", overrides)
    fit(MODELS, "linear", data, config.crystals, tmp_path / "alone", seed=config.seed, device="cpu", progress=False)
    assert_equal_to_rounding(tmp_path / "alone", tmp_path / "checkpoints" / "linear")
