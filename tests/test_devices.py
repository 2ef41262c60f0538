"""Devices: which one is taken, and that what a training asks of the process ends with it."""

import logging
import os
import warnings

import pytest
import torch
from lightning.pytorch.accelerators import CUDAAccelerator

from rephase import devices
from rephase.config import load_config
from rephase.devices import deterministic, is_held, loader_options, pick_device, seeded, tf32
from rephase.errors import DeviceError
from rephase.labs.crystals.models import MODELS
from rephase.learning.batches import Batches, HeldData, loader_of
from rephase.learning.training import fit


def train(data, folder, device="cpu"):
    return fit(MODELS, "linear", data, load_config("test").crystals, folder, device=device, progress=False)


def test_auto_takes_the_gpu_where_there_is_one(monkeypatch):
    assert pick_device("auto") == torch.device("cpu")
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert pick_device("cpu") == torch.device("cpu")
    assert "CUBLAS_WORKSPACE_CONFIG" not in os.environ
    assert pick_device("auto") == torch.device("cuda")
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"


def test_cuda_is_refused_where_there_is_none(data, tmp_path):
    with pytest.raises(DeviceError, match="torch sees no GPU"):
        pick_device("cuda")
    with pytest.raises(DeviceError, match="--device cpu"):
        train(data, tmp_path, device="cuda")


def test_unknown_device():
    with pytest.raises(DeviceError, match="'gpu': expected auto, cpu or cuda"):
        pick_device("gpu")


def settings():
    """What a training could change for the rest of the process."""
    return (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
        torch.utils.deterministic.fill_uninitialized_memory,
        torch.backends.cudnn.benchmark,
        torch.backends.cuda.matmul.allow_tf32,
        torch.get_num_threads(),
        torch.random.get_rng_state().tolist(),
        logging.getLogger("lightning.pytorch").level,
        list(warnings.filters),
        dict(os.environ),
    )


@pytest.fixture
def unusual(monkeypatch):
    """Settings as no training would choose them."""
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", True)
    logger = logging.getLogger("lightning.pytorch")
    level = logger.level
    logger.setLevel(logging.DEBUG)
    torch.use_deterministic_algorithms(True, warn_only=True)
    yield
    torch.use_deterministic_algorithms(False)
    logger.setLevel(level)


def test_a_training_leaves_the_process_as_it_was(data, tmp_path, unusual):
    before = settings()
    train(data, tmp_path)
    assert settings() == before


def test_deterministic_kernels_end_with_an_error():
    with pytest.raises(KeyError, match="not there"), deterministic():
        raise KeyError("not there" if torch.are_deterministic_algorithms_enabled() else "off")
    assert not torch.are_deterministic_algorithms_enabled()


def test_the_generator_is_given_back():
    torch.manual_seed(1)
    with seeded(2):
        inside = torch.rand(3)
    after = torch.rand(3)
    with seeded(2):
        assert torch.equal(torch.rand(3), inside)
    torch.manual_seed(1)
    assert torch.equal(torch.rand(3), after)


def test_seeding_starts_no_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_rng_state", lambda *_: pytest.fail("the GPU was started"))
    with seeded(0):
        torch.rand(1)


def test_a_training_on_held_data_ends_with_the_same_weights(data, tmp_path, monkeypatch):
    plain = train(data, tmp_path / "plain")
    cpu, asked = torch.device("cpu"), []

    def held(self, split, batch_size, *, seed=None, **_):
        asked.append(split)
        order = Batches(self.splits[split], batch_size, seed)
        return loader_of(HeldData(self, self.splits[split], cpu), order, cpu)

    monkeypatch.setattr(type(data), "loader", held)
    weights = train(data, tmp_path / "held").state_dict()
    assert set(asked) == {"train", "validation"}
    assert all(torch.equal(value, weights[name]) for name, value in plain.state_dict().items())


def test_a_gpu_that_is_not_used_is_no_warning(data, tmp_path, monkeypatch):
    monkeypatch.setattr(CUDAAccelerator, "is_available", staticmethod(lambda: True))
    train(data, tmp_path)  # warnings are errors here


def test_a_training_may_multiply_in_tf32_and_nothing_after_it():
    before = torch.backends.cuda.matmul.allow_tf32
    with pytest.raises(KeyError, match="allowed"), tf32():
        raise KeyError("allowed" if torch.backends.cuda.matmul.allow_tf32 else "not")
    assert torch.backends.cuda.matmul.allow_tf32 == before


def test_a_gpu_holds_data_that_fit_and_is_fed_by_workers(monkeypatch):
    gpu, cpu = torch.device("cuda"), torch.device("cpu")
    monkeypatch.setattr("rephase.devices.free_memory", lambda device: 1000)
    assert is_held(300, gpu)
    assert not is_held(301, gpu)
    assert not is_held(1, cpu)
    monkeypatch.setattr("rephase.devices.available_cores", lambda: 8)
    assert loader_options(cpu) == {}
    assert loader_options(gpu)["num_workers"] == 7
    monkeypatch.setattr("rephase.devices.available_cores", lambda: 1)
    assert loader_options(gpu)["num_workers"] == 1


@pytest.mark.parametrize(("has", "chosen"), [(True, "bf16-mixed"), (False, "32-true")])
def test_auto_precision_is_that_of_the_processor(monkeypatch, has, chosen):
    monkeypatch.setattr(devices, "has_bfloat16", lambda device: has)
    assert devices.trainer_options("cpu", "auto")["precision"] == chosen
    assert devices.trainer_options("cpu", "64-true")["precision"] == "64-true"


def test_every_processor_says_whether_it_has_bfloat16():
    assert devices.has_bfloat16(torch.device("cpu")) in (True, False)
