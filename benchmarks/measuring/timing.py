"""Comparisons of rephase with its peers: at each size the programs take turns, and the values of every round are kept.

A run is measured in process time on a CPU, which other processes may share, in clock time on a GPU, and in clock time
where it is a process of its own.
"""

import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

import torch

OURS = "rephase"
Row = dict[str, object]

_LONGEST = 4.0  # seconds of one run of a peer, beyond which its larger sizes are left out
_BUDGET = 5.0  # seconds for all rounds of a row, apart from the fewest rounds
_FEWEST, _MOST = 3, 15  # rounds of a row


class MissingPeer(Exception):
    """A peer is not installed; the message says how to install it."""


class Task(NamedTuple):
    """Something to run again and again: it returns its values by unit (s, MB) for all of its `n` items together."""

    run: Callable[[], Mapping[str, float]]
    n: int = 1


class Comparison(NamedTuple):
    """One row of the suite for each size.

    ``ours`` and ``peers`` prepare a `Task` for a size, which is not measured. ``axis`` says what a size counts, and
    ``per`` what a value is divided by: the items of a task.
    """

    name: str
    ours: Callable[[int], Task]
    peers: Mapping[str, Callable[[int], Task]] = {}
    sizes: tuple[int, ...] = (1,)
    axis: str = ""
    per: str = "run"


def now(device: torch.device | str = "cpu") -> float:
    """Return the time in seconds: process time on a CPU, clock time on a GPU after it has finished its work."""
    if torch.device(device).type == "cpu":
        return time.process_time()
    torch.cuda.synchronize(device)
    return time.perf_counter()


def seconds_of(work: Callable[[], object], device: torch.device | str = "cpu") -> float:
    """Return the seconds of one call."""
    start = now(device)
    work()
    return now(device) - start


def timed(work: Callable[[], object], n: int = 1, device: torch.device | str = "cpu") -> Task:
    """Return a task that calls `work`, which makes `n` items, in this process."""
    return Task(lambda: {"s": seconds_of(work, device)}, n)


def repeated(work: Callable[[], object], rounds: int, device: torch.device | str = "cpu") -> list[float]:
    """Return the seconds of each of some calls, after one that warms up."""
    return [seconds_of(work, device) for _ in range(rounds + 1)][1:]


def measure(comparison: Comparison, missing: dict[str, str]) -> Iterator[Row]:
    """Measure a comparison, and yield a row for each size and unit.

    Parameters
    ----------
    comparison
        The programs and the sizes, in rising order.
    missing
        Peers that are not installed, with how to install them; those that turn out to be missing are added.

    Yields
    ------
    dict
        ``name``, ``size``, ``axis``, ``per``, ``unit``, ``values`` (program: the value per item of each round), and
        ``skipped`` (program: why it was left out).
    """
    programs = {OURS: comparison.ours, **comparison.peers}
    estimates: dict[str, float] = {}  # seconds of a run of each program, per unit of size
    for size in comparison.sizes:
        first: dict[str, _First] = {}
        skipped: dict[str, str] = {}
        for name, prepare in programs.items():
            estimate = size * estimates.get(name, 0.0)
            if name in missing:
                skipped[name] = missing[name]
                continue
            if name != OURS and estimate > _LONGEST:
                skipped[name] = f"left out, about {estimate:.0f} s for a run"
                continue
            try:
                first[name] = _first(prepare(size))
                estimates[name] = first[name].values.get("s", 0.0) / size
            except MissingPeer as error:
                missing[name] = skipped[name] = str(error)
            except (OSError, subprocess.SubprocessError, RuntimeError) as error:
                if name == OURS:
                    raise
                skipped[name] = str(error).partition("\n")[0]
        yield from _rows(comparison, size, first, skipped)


class _First(NamedTuple):
    """A task, its values in the first run, and the clock time of that run."""

    task: Task
    values: Mapping[str, float]
    seconds: float


def _first(task: Task) -> _First:
    start = time.perf_counter()
    values = task.run()
    return _First(task, values, time.perf_counter() - start)


def _rows(comparison: Comparison, size: int, first: dict[str, _First], skipped: dict[str, str]) -> Iterator[Row]:
    """Let the programs take turns. Their first run warms up; where it takes long, that is negligible, and it counts."""
    seconds = sum(program.seconds for program in first.values())
    n_rounds = int(min(max(_BUDGET / seconds, _FEWEST), _MOST))
    rounds = [{name: program.values for name, program in first.items()}] if seconds > _BUDGET else []
    while len(rounds) < n_rounds:
        rounds.append({name: program.task.run() for name, program in first.items()})
    for unit in rounds[0][OURS]:
        yield {
            "name": comparison.name,
            "size": size,
            "axis": comparison.axis,
            "per": comparison.per,
            "unit": unit,
            "values": {name: [r[name][unit] / program.task.n for r in rounds] for name, program in first.items()},
            "skipped": skipped,
        }
