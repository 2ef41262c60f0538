"""The only module that looks for a GPU, reads the memory size and sets the precision; it also seeds the generators."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from rephase.errors import ConfigError, DeviceError
from rephase.ranks import ALONE, Ranks


def pick_device(name: str = "auto") -> torch.device:
    """Return the torch device for ``auto``, ``cpu`` or ``cuda``; ``auto`` takes the GPU if there is one.

    Raises
    ------
    DeviceError
        The name is unknown, or it is ``cuda`` and torch finds no GPU: there is no silent fallback.
    """
    if name not in ("auto", "cpu", "cuda"):
        raise DeviceError(f"device = {name!r}: expected auto, cpu or cuda")
    if name == "cuda" and not torch.cuda.is_available():
        raise DeviceError("device = 'cuda': torch sees no GPU here; use --device cpu, or install a CUDA build of torch")
    if name == "cpu" or not torch.cuda.is_available():
        return torch.device("cpu")
    # cuBLAS is deterministic only with a fixed workspace, and torch looks at this when it first calls cuBLAS
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    return torch.device("cuda")


def check_devices(name: str, n: int) -> None:
    """Raise unless there are `n` devices of this kind here; on the CPU, processes share its cores.

    Raises
    ------
    DeviceError
        As in `pick_device`.
    ConfigError
        There are fewer GPUs.
    """
    if pick_device(name).type == "cuda" and n > torch.cuda.device_count():
        raise ConfigError(f"devices = {n}: torch sees {torch.cuda.device_count()} GPU here; give at most as many")


def total_memory(device: torch.device) -> int:
    """Return the memory in bytes of the GPU, or of the machine for the CPU."""
    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).total_memory)
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed torch's global generators, and restore their states afterwards.

    A GPU that this process has not used yet is left alone, because starting it takes seconds.
    """
    devices = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ()
    with torch.random.fork_rng(devices):
        torch.manual_seed(seed)
        yield


@contextmanager
def deterministic() -> Iterator[None]:
    """Select deterministic kernels of torch, and restore its settings afterwards."""
    is_enabled = torch.are_deterministic_algorithms_enabled()
    warn_only, benchmark = torch.is_deterministic_algorithms_warn_only_enabled(), torch.backends.cudnn.benchmark
    torch.use_deterministic_algorithms(True)
    torch.backends.cudnn.benchmark = False
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(is_enabled, warn_only=warn_only)
        torch.backends.cudnn.benchmark = benchmark


def trainer_options(device: str, precision: str, ranks: Ranks = ALONE) -> dict[str, Any]:
    """Return a Lightning trainer's options for a device name and a precision (``32-true``, ``64-true``, ...).

    Several processes take their own parts of each batch, and layers that normalise over a batch do so over all parts.
    """
    options = {"accelerator": {"cpu": "cpu", "cuda": "gpu"}[pick_device(device).type], "precision": precision}
    if ranks.count == 1:
        return {**options, "devices": 1}
    strategy = "ddp" if ranks.strategy == "auto" else ranks.strategy
    shared = {"devices": ranks.devices, "num_nodes": ranks.nodes, "strategy": strategy, "sync_batchnorm": True}
    return {**options, **shared, "use_distributed_sampler": False}
