"""Times, rates and agreement of the same work on two devices, and scans over the sizes of pieces."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch

from rephase.devices import WORK

CPU = torch.device("cpu")
_LONG = 3.0  # seconds of a call beside which warming up does not count
_SLOW = 1.0  # seconds of a call after which a scan tries no smaller pieces
Row = dict[str, Any]
Call = Callable[[], torch.Tensor]


class Setup(NamedTuple):
    """The device that is compared with the CPU, the CPU again in a rehearsal, and what it reaches at best.

    ``peaks`` has TFLOP/s by precision, and GB/s as ``copy``; empty until they are measured.
    """

    device: torch.device
    is_rehearsal: bool
    peaks: dict[str, float]


class Kernel(NamedTuple):
    """A calculation: ``make(n, device)`` prepares `n` items with the same numbers everywhere, and returns the call.

    ``n`` are the items on the CPU and on the GPU. One item needs at least ``flop`` operations and ``n_bytes`` of memory
    traffic; 0 where nothing useful can be counted. ``work`` is the kind of `WORK` whose pieces it uses.
    """

    unit: str
    make: Callable[[int, torch.device], Call]
    n: tuple[int, int]
    work: str
    flop: float = 0.0
    n_bytes: float = 0.0


def wait(device: torch.device) -> None:
    """Wait until a GPU has done its work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def seconds_of(call: Call, device: torch.device, *, at_most: float = 1.0, n_most: int = 20) -> float:
    """Return the fastest of up to `n_most` calls within about `at_most` seconds, after one that warms up.

    A call of many seconds is made only once.
    """

    def timed() -> float:
        start = time.perf_counter()
        call()
        wait(device)
        return time.perf_counter() - start

    first, taken, until = timed(), [], time.perf_counter() + at_most
    if first > _LONG:
        return first
    while not taken or (len(taken) < n_most and time.perf_counter() < until):
        taken.append(timed())
    return min(taken)


def difference(one: torch.Tensor, other: torch.Tensor) -> float:
    """Return the largest difference, relative to the largest value."""
    one, other = one.cpu(), other.cpu()
    return float((one - other).abs().max() / one.abs().max().clamp_min(1e-30))


def compare(name: str, kernel: Kernel, setup: Setup) -> Row:
    """Measure a kernel on one core of the CPU and on the GPU: rates, agreement, and the share of the GPU's peak."""
    n_cpu, n_gpu = (min(n, 2) for n in kernel.n) if setup.is_rehearsal else kernel.n
    on_cpu, same = kernel.make(n_cpu, CPU), kernel.make(n_cpu, setup.device)
    apart = difference(on_cpu(), same())
    cpu = n_cpu / seconds_of(on_cpu, CPU, n_most=3)
    gpu = n_gpu / seconds_of(kernel.make(n_gpu, setup.device), setup.device)
    row = {"kernel": name, "unit": kernel.unit, "cpu_per_s": cpu, "gpu_per_s": gpu, "ratio": gpu / cpu}
    return row | {"difference": apart, **share_of_peak(gpu, kernel.flop, kernel.n_bytes, setup)}


def share_of_peak(rate: float, flop: float, n_bytes: float, setup: Setup, precision: str = "fp32") -> Row:
    """Return the larger share of the measured arithmetic and memory peaks, and which of the two it is."""
    shares = {
        precision: rate * flop / (1e12 * setup.peaks.get(precision, float("inf"))),
        "copy": rate * n_bytes / (1e9 * setup.peaks.get("copy", float("inf"))),
    }
    bound = max(shares, key=lambda name: shares[name])
    return {"share_of_peak": shares[bound], "of": bound} if shares[bound] > 0 else {}


@contextmanager
def pieces(work: str, size: int) -> Iterator[None]:
    """Set the size of a piece on every device."""
    before = WORK[work]
    WORK[work] = before._replace(cpu=size, cuda=size)
    try:
        yield
    finally:
        WORK[work] = before


def scan(
    work: str, call: Call, n: int, setup: Setup, factors: tuple[float, ...] = (8, 1, 1 / 8, 1 / 64, 1 / 512)
) -> Row:
    """Measure the rate for sizes of a piece from the largest on, until a call takes seconds.

    Sizes that the memory does not hold have no rate.
    """
    table, rates = WORK[work].cuda, {}
    for factor in (1,) if setup.is_rehearsal else factors:
        size = max(1, int(table * factor))
        with pieces(work, size):
            try:
                taken = seconds_of(call, setup.device, at_most=0.3, n_most=5)
            except torch.OutOfMemoryError:
                torch.cuda.empty_cache()
                continue
        rates[size] = n / taken
        if taken > _SLOW:
            break
    return scan_row(work, rates)


def scan_row(work: str, rates: dict[int, float], best: int | None = None) -> Row:
    """Return the row of a scan; the best size is the fastest one if none is given."""
    table, best = WORK[work].cuda, best or max(rates, key=lambda size: rates[size])
    row = {"work": work, "unit": WORK[work].unit, "table": table, "best": best, "per_s": rates}
    return row | ({"gain": rates[best] / rates[table]} if table in rates else {})
