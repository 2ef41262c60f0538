"""The only module that looks for a GPU, reads the memory size, sets the precision and seeds the generators."""

import os
from typing import Any

import torch

from rephase.errors import DeviceError


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
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")


def total_memory(device: torch.device) -> int:
    """Return the memory in bytes of the GPU, or of the machine for the CPU."""
    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).total_memory)
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def seed_everything(seed: int) -> None:
    """Seed torch's global generator and select deterministic kernels."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS is deterministic only with a fixed workspace
    torch.manual_seed(seed)
    torch.use_deterministic_algorithms(True)


def trainer_options(device: str, precision: str) -> dict[str, Any]:
    """Return a Lightning trainer's options for a device name and a precision (``32-true``, ``64-true``, ...)."""
    accelerator = {"cpu": "cpu", "cuda": "gpu"}[pick_device(device).type]
    return {"accelerator": accelerator, "devices": 1, "precision": precision, "deterministic": True}
