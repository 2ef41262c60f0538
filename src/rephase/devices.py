"""The only module that looks for a GPU, sizes pieces of work for a device, sets the precision and seeds generators."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch

from rephase.errors import ConfigError, DeviceError
from rephase.processes import available_cores
from rephase.ranks import ALONE, Ranks


class Work(NamedTuple):
    """A kind of work that is done in pieces: the unit that is counted, its memory, and the units of one piece.

    ``n_bytes`` is the memory that one unit needs at most while it is worked on, in the widest dtype that is used. On a
    CPU a piece stays in the cache of a core; on a GPU it is large enough to hide the launches of its kernels.
    """

    unit: str
    n_bytes: int
    cpu: int
    cuda: int


WORK: dict[str, Work] = {
    "grid kernel": Work("voxels", 512, 1 << 18, 1 << 24),
    "direct sum": Work("atoms times reflections", 128, 1 << 16, 1 << 26),
    "direct sums of many crystals": Work("atoms times reflections", 96, 1 << 17, 1 << 26),
    "lists of many crystals": Work("Å^3 of cells", 1024, 1 << 15, 1 << 22),
    "random crystals": Work("structures grown together", 1 << 20, 1024, 1 << 14),
    "contacts": Work("pairs of atoms", 32, 1 << 18, 1 << 26),
    "search maps": Work("voxels of a batch of trials", 400, 400_000, 1 << 26),
    "first search maps": Work("voxels of the first batch of trials", 400, 0, 1 << 22),  # 0: the fewest trials
    "several search maps": Work("voxels of the fewest trials", 400, 16_000_000, 1 << 30),
    "waves of atoms": Work("atoms times reflections and operations", 16, 50_000_000, 1 << 28),
    "origin maps": Work("voxels of fine grids", 64, 1, 1 << 24),  # on a CPU one trial at a time
    "aligned phasors": Work("phasors at all origins and both hands", 48, 50_000_000, 50_000_000),
    "shift grids": Work("points", 48, 1 << 24, 1 << 26),
    "SAXS": Work("intensities times orientations and sizes", 100, 1 << 17, 1 << 26),
    "GISAXS": Work("pixels times radii and discs", 256, 1 << 17, 1 << 25),
    "droplets": Work("droplets", 1 << 25, 2, 256),
    "bodies": Work("projected bodies", 1 << 23, 8, 512),
    "posterior images": Work("samples drawn", 1 << 23, 512, 2048),
    "posterior patterns": Work("patterns whose posterior is sampled", 1 << 23, 50, 500),
    "predicted patterns": Work("pixels", 32, 1 << 24, 1 << 26),
    "phasing maps": Work("voxels of a batch of the learned solver", 1 << 14, 1 << 15, 1 << 21),
    "scored crystals": Work("samples", 1 << 24, 32, 512),
    "scored images": Work("images", 1 << 25, 64, 512),
}
"""Every kind of work whose pieces depend on the device.

The sizes for a GPU are estimates, from the memory of a unit and the time of a launch, until ``rephase bench gpu_check``
has been run on a card: it measures the best ones.
"""
_HELD = 0.3  # of a GPU's free memory for the data of a training
_MOST_WORKERS = 16  # that prepare batches for a GPU
_SHARE = 0.5  # of a GPU's free memory for one piece; the rest is for results and the allocator


def at_once(work: str, device: torch.device) -> int:
    """Return how many units of a kind of `WORK` a piece holds on a device; on a GPU at most what fits in free memory.

    >>> at_once("grid kernel", torch.device("cpu"))
    262144
    """
    kind = WORK[work]
    if device.type != "cuda":
        return kind.cpu
    return max(1, min(kind.cuda, int(_SHARE * free_memory(device)) // kind.n_bytes))


def pick_device(name: str = "auto") -> torch.device:
    """Return the torch device for ``auto``, ``cpu`` or ``cuda``; ``auto`` takes the GPU if there is one.

    Raises
    ------
    DeviceError
        The name is unknown, or it is ``cuda`` and torch finds no GPU: there is no silent fallback.
    """
    check_device_name(name)
    if name == "cuda" and not torch.cuda.is_available():
        raise DeviceError("device = 'cuda': torch sees no GPU here; use --device cpu, or install a CUDA build of torch")
    if name == "cpu" or not torch.cuda.is_available():
        return torch.device("cpu")
    # cuBLAS is deterministic only with a fixed workspace, and torch looks at this when it first calls cuBLAS
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    return torch.device("cuda")


def check_device_name(name: str) -> None:
    """Raise `DeviceError` unless this is ``auto``, ``cpu`` or ``cuda``; nothing is looked for on this machine."""
    if name not in ("auto", "cpu", "cuda"):
        raise DeviceError(f"device = {name!r}: expected auto, cpu or cuda")


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


def free_memory(device: torch.device) -> int:
    """Return the memory in bytes that a GPU can still give to this process, unused parts of torch's cache included."""
    free, _ = torch.cuda.mem_get_info(device)
    return int(free) + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)


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
    """Select deterministic kernels of torch, and restore its settings afterwards.

    New memory is left as it is: to fill it, as torch does by default in this mode, takes up to a tenth of a training,
    and no kernel here reads what it has not written.
    """
    is_enabled = torch.are_deterministic_algorithms_enabled()
    memory: Any = torch.utils.deterministic  # its property is not in the types
    warn_only, benchmark = torch.is_deterministic_algorithms_warn_only_enabled(), torch.backends.cudnn.benchmark
    is_filled = memory.fill_uninitialized_memory
    torch.use_deterministic_algorithms(True)
    memory.fill_uninitialized_memory = False
    torch.backends.cudnn.benchmark = False
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(is_enabled, warn_only=warn_only)
        memory.fill_uninitialized_memory = is_filled
        torch.backends.cudnn.benchmark = benchmark


@contextmanager
def tf32() -> Iterator[None]:
    """Let a GPU multiply float32 matrices with 10 bits after the point, as in its convolutions; restored afterwards.

    Trainings do not need more. Products in float64 and on a CPU are unchanged.
    """
    is_allowed = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = True
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32 = is_allowed


def is_held(n_bytes: int, device: torch.device) -> bool:
    """Return whether data of this size are kept in a GPU's memory during a training; never on a CPU."""
    return device.type == "cuda" and n_bytes <= _HELD * free_memory(device)


def loader_options(device: torch.device) -> dict[str, Any]:
    """Return a loader's options: a GPU is fed by one worker process per further core, from pinned memory."""
    if device.type != "cuda":
        return {}
    n_workers = min(_MOST_WORKERS, max(1, available_cores() - 1))
    return {"num_workers": n_workers, "pin_memory": True, "persistent_workers": True, "prefetch_factor": 4}


def has_bfloat16(device: torch.device) -> bool:
    """Return whether a device multiplies numbers in bfloat16 itself; elsewhere torch emulates it, which is slow."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.cpu._is_avx512_bf16_supported()  # as every processor with AMX


def precision_on(device: torch.device, precision: str) -> str:
    """Return the precision that ``auto`` stands for on a device, ``bf16-mixed`` or ``32-true``; else the same."""
    if precision != "auto":
        return precision
    return "bf16-mixed" if has_bfloat16(device) else "32-true"


def trainer_options(device: str, precision: str, ranks: Ranks = ALONE) -> dict[str, Any]:
    """Return a Lightning trainer's options for a device name and a precision (``32-true``, ``auto``, ...).

    Several processes take their own parts of each batch, and layers that normalise over a batch do so over all parts.
    """
    on = pick_device(device)
    options = {"accelerator": {"cpu": "cpu", "cuda": "gpu"}[on.type], "precision": precision_on(on, precision)}
    if ranks.count == 1:
        return {**options, "devices": 1}
    strategy = "ddp" if ranks.strategy == "auto" else ranks.strategy
    shared = {"devices": ranks.devices, "num_nodes": ranks.nodes, "strategy": strategy, "sync_batchnorm": True}
    return {**options, **shared, "use_distributed_sampler": False}
