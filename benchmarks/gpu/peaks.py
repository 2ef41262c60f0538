"""What a device reaches at best: bandwidth of a copy, and products of large matrices by precision."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import torch

from gpu.measuring import Setup, seconds_of

PRECISIONS = ("fp32", "tf32", "bf16")


@contextmanager
def precision(name: str, device: torch.device) -> Iterator[None]:
    """Compute with one of `PRECISIONS`: whole float32, TF32 in products and convolutions, or autocast to bfloat16."""
    settings = torch.backends.cuda.matmul, torch.backends.cudnn
    before = [each.allow_tf32 for each in settings]
    for each in settings:
        each.allow_tf32 = name != "fp32"
    try:
        with torch.autocast(device.type, torch.bfloat16, enabled=name == "bf16"):
            yield
    finally:
        for each, allowed in zip(settings, before):
            each.allow_tf32 = allowed


def measured_peaks(setup: Setup) -> dict[str, float]:
    """Return TFLOP/s by precision, and GB/s of a copy, counting bytes read and written."""
    n_numbers, side = (1 << 16, 64) if setup.is_rehearsal else (1 << 29, 8192)
    source = torch.empty(n_numbers, device=setup.device).fill_(1.0)
    target = torch.empty_like(source)
    peaks = {"copy": 8e-9 * n_numbers / seconds_of(lambda: target.copy_(source), setup.device)}
    for name in PRECISIONS:
        dtype = torch.bfloat16 if name == "bf16" else torch.float32
        one, other = torch.randn(2, side, side, device=setup.device, dtype=dtype)
        with precision(name, setup.device):
            peaks[name] = 2e-12 * side**3 / seconds_of(partial(torch.matmul, one, other), setup.device, n_most=5)
    return peaks
