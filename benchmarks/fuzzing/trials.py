"""Trials of one kind of file: a monitored process reads and uses changed files, with limits on time and memory."""

import contextlib
import io
import logging
import multiprocessing
import os
import resource
import shutil
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from random import Random
from typing import NamedTuple

from fuzzing.text_edits import TEXT_EDITS, Edit
from rephase.errors import RephaseError

LIMIT_S, LIMIT_BYTES = 5.0, 2 * 2**30
_HANG_S = 60.0  # clock time, because the machine may be busy
_START_S = 300.0  # until a process has loaded its modules and made its good file
_READY = "ready"
_LONGEST = 2000  # characters of a message
_CHANGED = "CHANGED"  # file that holds the name of the changed file
_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["rephase.pipeline", "tifffile"])


class Target(NamedTuple):
    """A kind of file.

    Parameters
    ----------
    make
        Function that writes a good file, and its companions, to an empty folder and returns its path.
    use
        Function that reads a changed file and uses the result.
    edits
        Possible changes; repeated ones are more likely.
    """

    make: Callable[[Path], Path]
    use: Callable[[Path], object]
    edits: tuple[Edit, ...] = TEXT_EDITS


class Outcome(NamedTuple):
    """The outcome of one input: ``read``, ``refused``, or the name of a failure; and the time it took."""

    number: int
    found: str
    seconds: float
    peak_mb: float = 0.0
    reason: str = ""

    @property
    def is_failure(self) -> bool:
        """Whether the outcome is neither a result nor a domain error."""
        return self.found not in ("read", "refused")


def fuzz(name: str, target: Target, n: int, *, seed: int = 0, keep: Path | None = None) -> Iterator[Outcome]:
    """Yield the outcomes of `n` changed files; a process that dies or hangs is a failure, and another continues."""
    with tempfile.TemporaryDirectory() as folder:
        place, start = Path(folder), 0
        while start < n:
            here, there = _CONTEXT.Pipe(duplex=False)
            process = _CONTEXT.Process(target=_work, args=(name, target, place, range(start, n), seed, there))
            process.start()
            there.close()
            for outcome in _received(here, process, start):
                start = outcome.number + 1
                if outcome.is_failure and keep is not None:
                    _keep(_input(place, outcome.number), keep / f"{name}-{outcome.number}".replace(" ", "_"), outcome)
                yield outcome
            process.join()


def _received(connection: Connection, process: BaseProcess, start: int) -> Iterator[Outcome]:
    """Yield the outcomes that a process sends; if it dies or hangs, that is the last one."""
    begun, number, patience = time.perf_counter(), start, _START_S
    while connection.poll(patience):
        try:
            sent = connection.recv()
        except EOFError:
            process.join()
            yield Outcome(number, f"died with status {process.exitcode}", time.perf_counter() - begun)
            return
        if sent is None:
            return
        if sent != _READY:
            yield sent
            number = sent.number + 1
        begun, patience = time.perf_counter(), _HANG_S
    process.kill()
    yield Outcome(number, "hangs", patience)


def _work(name: str, target: Target, place: Path, numbers: Iterable[int], seed: int, connection: Connection) -> None:
    """Send an outcome for each number, then None; inputs that failed remain in their folders."""
    logging.disable()
    good = place / "good"
    if not good.is_dir():
        make(target, good)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    resource.setrlimit(resource.RLIMIT_AS, (used + LIMIT_BYTES, resource.getrlimit(resource.RLIMIT_AS)[1]))
    connection.send(_READY)
    for number in numbers:
        folder = _input(place, number)
        outcome = used_file(target, changed_file(target, good, folder, Random(f"{seed} {name} {number}")), number)
        if not outcome.is_failure:
            shutil.rmtree(folder)
        connection.send(outcome)
    connection.send(None)


def make(target: Target, good: Path) -> Path:
    """Make a good file in a new folder, which also records its name; return its path."""
    good.mkdir()
    with contextlib.redirect_stderr(io.StringIO()):  # progress bars
        path = target.make(good)
    (good / _CHANGED).write_text(str(path.relative_to(good)))
    return path


def _input(place: Path, number: int) -> Path:
    return place / f"input-{number}"


def changed_file(target: Target, good: Path, folder: Path, random: Random) -> Path:
    """Change the good file in one to three places in a copy of its folder; return its path."""
    shutil.copytree(good, folder, symlinks=True)
    path = folder / (good / _CHANGED).read_text()
    for _ in range(random.choice((1, 1, 2, 3))):
        random.choice(target.edits)(path, random)
    return path


def used_file(target: Target, path: Path, number: int) -> Outcome:
    """Read a file and use the result; return the outcome."""
    Path("/proc/self/clear_refs").write_text("5")  # resets the peak of memory
    start, reason = time.process_time(), ""
    try:
        with contextlib.redirect_stderr(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.filterwarnings("error", category=RuntimeWarning)  # an overflow is not a result
            target.use(path)
        found = "read"
    except BaseException as error:  # a panic of a library is not an Exception
        found, reason = _refusal(error), traceback.format_exc()
    seconds = time.process_time() - start  # of this process: a busy machine is not the reader's fault
    peak_mb = _peak_mb()
    if found in ("read", "refused"):
        found = "slow" if seconds > LIMIT_S else "memory" if peak_mb * 2**20 > LIMIT_BYTES else found
    return Outcome(number, found, seconds, peak_mb, reason)


def _peak_mb() -> float:
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


def _refusal(error: BaseException) -> str:
    """Return ``refused`` for a one-line domain error that no lack of memory caused, else the name of the failure."""
    behind: BaseException | None = error
    while behind is not None:
        if isinstance(behind, MemoryError):
            return "memory"
        behind = behind.__cause__ or behind.__context__
    if not isinstance(error, RephaseError):
        return type(error).__name__
    text = str(error)
    if len(text) > _LONGEST or len(text.splitlines()) != 1:
        return "long message"
    return "refused" if text == text.encode(errors="ignore").decode() else "unprintable message"


def _keep(source: Path, folder: Path, outcome: Outcome) -> None:
    """Move the input of a failure, with its reason, to a folder for inspection."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.parent.mkdir(parents=True, exist_ok=True)
    shutil.move(source, folder)
    (folder / "WHY").write_text(f"{outcome.found}\n{outcome.reason}", errors="replace")


class Summary(NamedTuple):
    """A row of the table."""

    name: str
    inputs: int
    read: int
    refused: int
    failures: Counter[str]
    slowest: float
    peak_mb: float

    def __str__(self) -> str:
        failed = ", ".join(f"{found} {n}" for found, n in self.failures.most_common()) or "0"
        numbers = f"{self.inputs:7d}{self.read:8d}{self.refused:9d}{self.slowest:10.2f}{self.peak_mb:9.0f}"
        return f"{self.name:<20}{numbers}  {failed}"


HEAD = f"{'kind':<20}{'inputs':>7}{'read':>8}{'refused':>9}{'slowest/s':>10}{'peak/MB':>9}  failures"


def summarise(name: str, outcomes: Iterable[Outcome]) -> Summary:
    """Count the outcomes of a kind."""
    every = list(outcomes)
    counts = Counter(outcome.found for outcome in every)
    failures = Counter({found: n for found, n in counts.items() if found not in ("read", "refused")})
    slowest = max((outcome.seconds for outcome in every), default=0.0)
    peak = max((outcome.peak_mb for outcome in every), default=0.0)
    return Summary(name, len(every), counts["read"], counts["refused"], failures, slowest, peak)
