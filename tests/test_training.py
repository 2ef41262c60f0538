"""Training: determinism, resume after a kill, NaN."""

import itertools
import json
import math
import signal
import subprocess
import sys
import time
from copy import copy
from pathlib import Path

import pytest
import torch
from torch.optim.optimizer import register_optimizer_step_post_hook

from rephase.config import load_config
from rephase.errors import TrainingError
from rephase.labs.completion.data import open_monoclinic
from rephase.labs.completion.models import AMPLITUDE_MODELS
from rephase.labs.completion.models.amplitudes import AMPLITUDE_LOSSES
from rephase.labs.completion.models.gan import AmplitudeGAN
from rephase.labs.crystals.data import open_perturbed
from rephase.labs.crystals.models import MODELS
from rephase.learning.checkpoints import read_checkpoint
from rephase.learning.models import build_model
from rephase.learning.training import fit, loss_curve

FIVE_EPOCHS = ["crystals.training.epochs=5"]


def train(data, folder, name="mlp", overrides=FIVE_EPOCHS):
    config = load_config("test", overrides)
    return fit(MODELS, name, data, config.crystals, folder, seed=config.seed, device="cpu", progress=False)


@pytest.fixture(scope="module")
def monoclinic(config, tmp_path_factory):
    return open_monoclinic(tmp_path_factory.mktemp("monoclinic") / "data.zarr", config.completion.data)


def complete(data, folder, name="unet", overrides=()):
    config = load_config("test", ["completion.training.epochs=4", *overrides])
    return fit(AMPLITUDE_MODELS, name, data, config.completion, folder, device="cpu", progress=False)


def weights(model):
    return torch.cat([p.flatten() for p in model.state_dict().values()])


@pytest.mark.parametrize("name", MODELS)
def test_training_lowers_the_loss(name, data, tmp_path):
    train(data, tmp_path, name, ["crystals.training.epochs=6", "crystals.training.learning_rate=0.003"])
    curve = loss_curve(tmp_path)
    assert list(curve["epoch"]) == list(range(6))
    assert curve["train_loss"].iloc[-1] < curve["train_loss"].iloc[0]


def test_two_trainings_are_equal_to_the_last_digit(data, tmp_path):
    assert torch.equal(weights(train(data, tmp_path / "a")), weights(train(data, tmp_path / "b")))


def test_seed_changes_the_training(data, tmp_path):
    other = train(data, tmp_path / "b", overrides=[*FIVE_EPOCHS, "seed=1"])
    assert not torch.equal(weights(train(data, tmp_path / "a")), weights(other))


def train_a_unet(kind: str, folder: Path, name: str):
    """Twelve epochs of a U-Net that learns phases or amplitudes, on data in `folder`."""
    config = load_config("test", ["crystals.training.epochs=12", "completion.training.epochs=12"])
    if kind == "phases":
        data = open_perturbed(folder / "data.zarr", config.crystals.data)
        return fit(MODELS, "unet3d", data, config.crystals, folder / name, device="cpu", progress=False)
    data = open_monoclinic(folder / "data.zarr", config.completion.data)
    return fit(AMPLITUDE_MODELS, "unet", data, config.completion, folder / name, device="cpu", progress=False)


@pytest.mark.parametrize("kind", ["phases", "amplitudes"])
def test_killed_and_resumed_ends_with_the_same_weights(kind, tmp_path):
    """A training in a process of its own is killed after its first epochs, then finished here."""
    script = (
        "import pathlib, sys, torch; torch.set_num_threads(1); sys.path.insert(0, sys.argv[1]);"
        "from test_training import train_a_unet; train_a_unet(sys.argv[2], pathlib.Path(sys.argv[3]), 'killed')"
    )
    last = tmp_path / "killed" / "last.ckpt"
    process = subprocess.Popen(
        [sys.executable, "-c", script, str(Path(__file__).parent), kind, str(tmp_path)],
        stderr=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 120
    while not last.is_file() and time.monotonic() < deadline:
        time.sleep(0.005)
    time.sleep(0.3)
    process.send_signal(signal.SIGKILL)
    process.wait()
    epoch = read_checkpoint(last)["epoch"]
    assert epoch < 11, "the training ended before it was killed"
    resumed, undisturbed = train_a_unet(kind, tmp_path, "killed"), train_a_unet(kind, tmp_path, "whole")
    assert torch.equal(weights(resumed), weights(undisturbed))
    lost = set(range(12)) - set(loss_curve(tmp_path / "killed")["epoch"])
    assert lost <= {epoch}, "at most the row of the epoch that was saved when the kill came, as rows follow weights"


def test_finished_training_is_only_read(data, tmp_path):
    first = train(data, tmp_path)
    stamp = (tmp_path / "last.ckpt").stat().st_mtime_ns
    assert torch.equal(weights(train(data, tmp_path)), weights(first))
    assert (tmp_path / "last.ckpt").stat().st_mtime_ns == stamp


def test_folder_of_another_training_is_refused(data, tmp_path):
    train(data, tmp_path)
    with pytest.raises(TrainingError, match="holds another training"):
        train(data, tmp_path, overrides=["crystals.training.epochs=7"])


LOG = "epoch,step,train_loss,validation_loss\n0,3,2.0,\n0,3,,3.0\n1,6,1.0,\n1,6,,"


def logs(folder, *texts):
    for number, text in enumerate(texts):
        path = folder / "csv" / f"version_{number}" / "metrics.csv"
        path.parent.mkdir(parents=True)
        path.write_bytes(text.encode("latin-1"))
    return folder


def test_a_curve_is_put_together_over_logs(tmp_path):
    curve = loss_curve(logs(tmp_path, LOG, "train_loss\n9.0\n", "epoch,train_loss,validation_loss\n1,0.5,1.5\n"))
    assert curve.to_dict("list") == {"epoch": [0, 1], "train_loss": [2.0, 0.5], "validation_loss": [3.0, 1.5]}


@pytest.mark.parametrize(
    "text", ["", '"', "\xff\xfe\x00", LOG + "1,2,3,4,5,6\n", LOG + "\nx,y,z,1\n", LOG + "\xff,\xff\n"]
)
def test_a_damaged_log_is_named(tmp_path, text):
    with pytest.raises(TrainingError, match=r"version_1.metrics.csv: damaged \(.*\); delete it|no epoch in the logs"):
        loss_curve(logs(tmp_path, "a\n1\n", text))


@pytest.mark.parametrize("name", AMPLITUDE_MODELS)
@pytest.mark.parametrize("loss", AMPLITUDE_LOSSES)
def test_training_of_amplitudes_lowers_the_loss(name, loss, monoclinic, tmp_path):
    complete(monoclinic, tmp_path, name, ["completion.training.learning_rate=0.01", f"completion.training.loss={loss}"])
    curve = loss_curve(tmp_path)
    assert list(curve["epoch"]) == list(range(4))
    assert curve["train_loss"].iloc[-1] < curve["train_loss"].iloc[0]


def test_both_networks_of_a_gan_learn(monoclinic, tmp_path):
    gan = complete(monoclinic, tmp_path, "gan")
    start = build_model(AMPLITUDE_MODELS, "gan", monoclinic.config.shape, load_config("test").completion.models["gan"])
    before = dict(start.named_parameters())
    for name, parameter in gan.named_parameters():
        assert not torch.equal(parameter, before[name]), name
    curve = loss_curve(tmp_path)
    assert curve["validation_loss"].iloc[-1] < curve["validation_loss"].iloc[0]


def test_a_gan_that_was_interrupted_ends_with_the_same_weights(monoclinic, tmp_path, monkeypatch):
    loss, calls = AmplitudeGAN.critic_loss, itertools.count()
    folders, unet = (tmp_path / "broken off", tmp_path / "whole"), ["completion.models.gan.options.generator=unet"]

    def broken_off(self, *arguments):
        if next(calls) == 7:  # 3 steps an epoch: in the third
            raise InterruptedError
        return loss(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(AmplitudeGAN, "critic_loss", broken_off)
        with pytest.raises(InterruptedError):
            complete(monoclinic, folders[0], "gan", unet)
    assert read_checkpoint(folders[0] / "last.ckpt")["epoch"] == 1
    resumed, undisturbed = (complete(monoclinic, folder, "gan", unet) for folder in folders)
    assert torch.equal(weights(resumed), weights(undisturbed))
    assert list(loss_curve(folders[0])["epoch"]) == list(range(4))


def test_amplitudes_are_learned_from_crystals_drawn_on_the_way(monoclinic, tmp_path):
    overrides = ["completion.training.n_streamed=6", "completion.training.epochs=2"]
    drawn = complete(monoclinic, tmp_path, overrides=overrides)
    assert len(loss_curve(tmp_path)) == 2
    assert not torch.equal(weights(drawn), weights(complete(monoclinic, tmp_path / "stored", overrides=overrides[1:])))


def test_folder_of_another_data_set_is_refused(monoclinic, tmp_path):
    complete(monoclinic, tmp_path)
    other = copy(monoclinic)
    other.config = monoclinic.config.model_copy(update={"seed": 1})
    with pytest.raises(TrainingError, match="holds another training"):
        complete(other, tmp_path)


@pytest.mark.parametrize(("factor", "said"), [(math.nan, "nan"), (1e13, r"[\d.e+]+")])
def test_a_loss_that_diverged_stops_and_keeps_the_last_good_checkpoint(data, tmp_path, monkeypatch, factor, said):
    loss, calls = MODELS["mlp"].loss, []

    def spoiled(self, batch):
        calls.append(1)
        return loss(self, batch) * (factor if len(calls) == 8 else 1.0)  # 4 training steps + 1 validation an epoch

    monkeypatch.setattr(MODELS["mlp"], "loss", spoiled)
    with pytest.raises(
        TrainingError, match=rf"loss = {said} at step 6 \(epoch 1\); the last good checkpoint is .*last.ckpt"
    ):
        train(data, tmp_path)
    kept = read_checkpoint(tmp_path / "last.ckpt")["state_dict"]
    assert all(torch.isfinite(p).all() for p in kept.values())


def test_nan_in_a_gradient_stops_too(data, tmp_path, monkeypatch):
    loss = MODELS["mlp"].loss

    def spoiled(self, batch):
        value = loss(self, batch)
        if value.requires_grad:
            value.register_hook(lambda gradient: gradient * float("nan"))
        return value

    monkeypatch.setattr(MODELS["mlp"], "loss", spoiled)
    with pytest.raises(TrainingError, match="gradient = nan at step 0 .* none is kept"):
        train(data, tmp_path)
    assert not (tmp_path / "finished").exists()


@pytest.mark.parametrize("name", ["unet", "gan"])
def test_large_gradients_are_scaled_down(name, monoclinic, tmp_path):
    """What every optimiser sees, whichever kind of training steps it."""
    norms = []

    def look(optimiser, *_):
        stepped = [p.grad for group in optimiser.param_groups for p in group["params"] if p.grad is not None]
        norms.append(float(torch.nn.utils.get_total_norm(stepped)))

    hook = register_optimizer_step_post_hook(look)
    try:
        complete(monoclinic, tmp_path / "free", name)
        largest = max(norms)
        norms.clear()
        complete(monoclinic, tmp_path / "bounded", name, [f"completion.training.gradient_norm={largest / 4}"])
    finally:
        hook.remove()
    assert max(norms) == pytest.approx(largest / 4, rel=1e-3)


def test_nan_in_the_validation_stops_too(data, tmp_path, monkeypatch):
    loss = MODELS["mlp"].loss
    monkeypatch.setattr(MODELS["mlp"], "loss", lambda self, b: loss(self, b) * (1.0 if self.training else float("nan")))
    with pytest.raises(TrainingError, match="validation loss = nan"):
        train(data, tmp_path)


@pytest.mark.parametrize("precision", ["64-true", "bf16-mixed", "auto"])
@pytest.mark.parametrize("name", MODELS)
def test_every_precision_trains(name, precision, data, tmp_path):
    train(data, tmp_path, name, ["crystals.training.epochs=1", f"crystals.training.precision={precision}"])
    assert len(loss_curve(tmp_path)) == 1


def test_last_checkpoint_is_of_the_last_epoch(data, tmp_path, monkeypatch):
    """Also where the validation loss no longer falls, so that a kill costs one epoch at most."""
    loss, worse = MODELS["mlp"].loss, itertools.count(1.0)
    monkeypatch.setattr(MODELS["mlp"], "loss", lambda self, b: loss(self, b) * (1.0 if self.training else next(worse)))
    train(data, tmp_path, overrides=["crystals.training.epochs=8"])
    epochs = {name: read_checkpoint(tmp_path / f"{name}.ckpt")["epoch"] for name in ("last", "best")}
    assert epochs["last"] == 7
    assert epochs["best"] < 7


def test_it_is_written_what_a_training_was_made_with(data, tmp_path):
    train(data, tmp_path)
    assert "torch" in json.loads((tmp_path / "identity.json").read_text())["made_with"]["packages"]


def test_streamed_training(data, tmp_path):
    train(data, tmp_path, overrides=[*FIVE_EPOCHS, "crystals.training.n_streamed=100"])
    assert len(loss_curve(tmp_path)) == 5


def test_early_stop(data, tmp_path):
    train(
        data,
        tmp_path,
        overrides=[
            "crystals.training.epochs=200",
            "crystals.training.patience=2",
            "crystals.training.learning_rate=0.1",
        ],
    )
    assert len(loss_curve(tmp_path)) < 200


def test_logs_for_tensorboard(data, tmp_path):
    train(data, tmp_path)
    assert list(Path(tmp_path).glob("tensorboard/version_*/events*"))
