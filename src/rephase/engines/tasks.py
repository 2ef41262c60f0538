"""One command of rephase in a process of its own, and its outcome; a worker of Dask imports nothing else."""

import os
import time
from pathlib import Path
from typing import NamedTuple

from rephase.deadlines import is_time_over, pause
from rephase.files.writing import BUSY
from rephase.processes import THREADS, run_child

POLL = 0.2  # seconds between two looks at what has ended
_PATIENCE = 120.0  # seconds that the process of a lost worker is given to release its folder; file servers take long


class Task(NamedTuple):
    """A command of rephase.

    Parameters
    ----------
    name
        Its name in tables.
    arguments
        Arguments after ``rephase``.
    folder
        Run folder; opening it writes ``environment.json``, the time of which is when the command began.
    cwd
        Folder in which it runs.
    threads
        Number of threads of its libraries.
    """

    name: str
    arguments: tuple[str, ...]
    folder: Path
    cwd: Path
    threads: int


class Outcome(NamedTuple):
    """Number of a task that has ended, and the last line of its error, empty if there was none."""

    number: int
    error: str


def run_task(task: Task) -> str:
    """Run a command; return the last line of its error, empty if there was none."""
    if is_time_over():
        return str(pause("its beginning"))
    environment = os.environ | {THREADS: str(task.threads)}
    status, said = run_child(list(task.arguments), folder=task.cwd, environment=environment)
    return (said.strip().splitlines() or [f"stopped with status {status}"])[-1] if status else ""


def run_task_on_worker(task: Task) -> str:
    """Run a command as `run_task` does, once the process of a lost worker has released its folder."""
    end = time.monotonic() + _PATIENCE
    while BUSY in (error := run_task(task)) and time.monotonic() < end:
        time.sleep(1)
    return error
