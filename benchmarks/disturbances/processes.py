"""Tasks in separate processes, which are started, monitored and killed with all processes that they started."""

import multiprocessing
import os
import signal
import sys
import time
import traceback
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from rephase.errors import OutOfTime, RephaseError
from rephase.processes import PAUSED

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(
    ["rephase.cli", "rephase.pipeline", "rephase.solvers.solve", "rephase.labs.completion.complete"]
)
_MARK = "REPHASE_DISTURBED"
_LONGEST_S = 300.0


class Ended(NamedTuple):
    """Exit status of a process, and the last line that it printed."""

    status: int
    said: str

    @property
    def is_refusal(self) -> bool:
        """Whether the process ended with a domain error in one line."""
        names = {kind.__name__ for kind in RephaseError.__subclasses__()}
        return self.status == 2 and self.said.partition(":")[0] in names


class Running:
    """A task that runs in a process.

    Parameters
    ----------
    do
        Function that does the task.
    folder
        Folder of the task.
    log
        File for the output of the process.
    """

    def __init__(self, do: Callable[[Path], None], folder: Path, log: Path):
        self.folder, self.log, self.mark = folder, log, uuid.uuid4().hex
        log.write_text("")
        self.process = CONTEXT.Process(target=_enter, args=(do, folder, log, self.mark))
        self.process.start()
        self.begun = time.perf_counter()

    @property
    def seconds(self) -> float:
        """Return the seconds since the start."""
        return time.perf_counter() - self.begun

    def wait_until(self, seconds: float) -> None:
        """Wait until so many seconds after the start, or until the process ends."""
        self.process.join(max(0.0, seconds - self.seconds))

    def wait_for_change(self, before: set) -> None:
        """Wait until the contents of the folder differ from `before`, or until the process ends."""
        while self.process.is_alive() and contents(self.folder) == before:
            time.sleep(0.001)

    def end(self) -> Ended:
        """Wait for the end of the process; a process that does not end counts as status 124."""
        self.process.join(_LONGEST_S)
        if self.process.is_alive():
            self.kill()
            return Ended(124, f"had not ended after {_LONGEST_S:g} s")
        lines = self.log.read_text(errors="replace").replace("\r", "\n").strip().splitlines()
        said = next((line for line in reversed(lines) if line.strip()), "")
        return Ended(self.process.exitcode or 0, said)

    def kill(self) -> bool:
        """Kill the process as the system does when memory runs out; return False if it had ended before."""
        self.process.kill()
        self.process.join()
        return self.process.exitcode == -signal.SIGKILL

    def parts(self, words: str) -> list[int]:
        """List the processes that it started and whose command line has some words."""
        return [number for number in _marked(self.mark) if number != self.process.pid and words in _command(number)]

    def orphans(self, patience_s: float = 5.0) -> int:
        """Count the processes that it started and that survived, and end them."""
        until = time.perf_counter() + patience_s
        while (left := _marked(self.mark)) and time.perf_counter() < until:
            time.sleep(0.05)
        for number in left:
            os.kill(number, signal.SIGKILL)
        return len(left)


def contents(folder: Path) -> set:
    """Return names, sizes and times of everything in a folder."""
    found = set()
    for place, _, names in os.walk(folder):
        for name in names:
            path = os.path.join(place, name)
            try:
                about = os.stat(path, follow_symlinks=False)
            except FileNotFoundError:
                continue
            found.add((path, about.st_size, about.st_mtime_ns))
    return found


def _enter(do: Callable[[Path], None], folder: Path, log: Path, mark: str) -> None:
    os.environ[_MARK] = mark
    with log.open("w") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    try:
        do(folder)
    except OutOfTime:
        sys.exit(PAUSED)
    except RephaseError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
        sys.exit(2)
    except Exception:
        traceback.print_exc()
        sys.exit(1)


def _marked(mark: str) -> list[int]:
    """List the processes whose environment has a mark."""
    wanted, found = f"{_MARK}={mark}".encode(), []
    for place in Path("/proc").glob("[0-9]*"):
        try:
            if wanted in (place / "environ").read_bytes() and b"Z" != _letter(place):
                found.append(int(place.name))
        except OSError:  # it has ended
            continue
    return found


def _command(number: int) -> str:
    try:
        return Path(f"/proc/{number}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:  # it has ended
        return ""


def _letter(place: Path) -> bytes:
    return (place / "stat").read_bytes().rpartition(b")")[2].split()[0]
