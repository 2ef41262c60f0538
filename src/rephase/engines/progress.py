"""The progress of commands: a table redrawn in place on a terminal, else a line for each change."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from rephase.engines.tasks import Outcome, Task

_EVERY = 1.0  # seconds between two looks at the folders of the commands
_MOST_ROWS = 20  # of the table; a taller one could not be redrawn in place
WAITING, RUNNING, DONE, FAILED = "waiting", "running", "done", "failed"


class Row(NamedTuple):
    """State of a command, the time it has run (s; None before it began), its last notebook, and its error."""

    name: str
    state: str
    seconds: float | None
    step: str
    error: str


class Progress:
    """What is known of commands that an engine runs, from their outcomes and from their folders.

    Parameters
    ----------
    tasks
        The commands.
    title
        Title of the table.
    """

    def __init__(self, tasks: Sequence[Task], title: str):
        self.tasks, self.title = tasks, title
        self.errors: dict[int, str] = {}
        self._began, self._next = time.time(), 0.0
        self._rows = [Row(task.name, WAITING, None, "", "") for task in tasks]

    def end(self, outcome: Outcome) -> None:
        """Note the outcome of a command."""
        self.errors[outcome.number], self._next = outcome.error, 0.0

    def rows(self) -> list[Row]:
        """Look at the folders of the commands that have not ended, once a second, and return what is known of all."""
        if time.monotonic() >= self._next:
            self._next = time.monotonic() + _EVERY
            for number, row in enumerate(self._rows):
                if row.state not in (DONE, FAILED):
                    self._rows[number] = self._look(number)
        return self._rows

    def _look(self, number: int) -> Row:
        task, error = self.tasks[number], self.errors.get(number)
        start = max(self._began, _time_of(task.folder / "environment.json"))
        seconds = None if start == self._began else time.time() - start
        state = (RUNNING if seconds is not None else WAITING) if error is None else (FAILED if error else DONE)
        return Row(task.name, state, seconds, _last_notebook(task, start), error or "")

    def counts(self) -> str:
        """Count the commands in each state, and estimate the time to go: ``3 done, 1 running, ..., 0:12:00 to go``."""
        states = [row.state for row in self._rows]
        counts = [f"{states.count(state)} {state}" for state in (DONE, RUNNING, FAILED, WAITING)]
        left = self._seconds_left()
        return ", ".join(counts) + ("" if left is None else f", {_hours(left)} to go")

    def _seconds_left(self) -> float | None:
        """Take the mean time of the commands that are done for the others, and share it among those that run.

        One that found everything finished, and so executed no notebook, is no measure.
        """
        ended = [row.seconds for row in self._rows if row.state == DONE and row.seconds is not None and row.step]
        running = [row.seconds for row in self._rows if row.state == RUNNING and row.seconds is not None]
        if not ended or not running:
            return None
        mean, n_waiting = sum(ended) / len(ended), sum(row.state == WAITING for row in self._rows)
        return (mean * n_waiting + sum(max(0.0, mean - seconds) for seconds in running)) / len(running)


@contextmanager
def shown(progress: Progress) -> Iterator[Callable[[], None]]:
    """Give a function that shows progress on stderr as it is now; it may be called as often as wanted."""
    console = Console(stderr=True, highlight=False, markup=False, soft_wrap=True)
    if not console.is_terminal:
        said: dict[str, tuple[str, str]] = {}
        yield lambda: _print_changes(progress, console, said)
        return
    with Live(console=console, auto_refresh=False) as live:
        yield lambda: live.update(_table(progress), refresh=True)


def _print_changes(progress: Progress, console: Console, said: dict[str, tuple[str, str]]) -> None:
    """Print a line for each command that has begun, ended or reached its next notebook since the last call."""
    for row in progress.rows():
        if row.state != WAITING and said.get(row.name) != (row.state, row.step):
            said[row.name] = (row.state, row.step)
            after = [] if row.seconds is None else [f"{_hours(row.seconds)}"]
            words = [row.state, *after, *filter(None, [row.error or row.step])]
            console.print(f"{row.name}: {', '.join(words)} ({progress.counts()})")


def _table(progress: Progress) -> Table:
    listed = [row for row in progress.rows() if row.state in (RUNNING, FAILED)]
    shown, title = bool(listed), f"{progress.title}: {progress.counts()}"
    table = Table("", "state", "time", "last notebook or error", title=title, show_header=shown, show_edge=shown)
    for row in listed[-_MOST_ROWS:]:
        cells = (row.name, row.state, "" if row.seconds is None else _hours(row.seconds), row.error or row.step)
        table.add_row(*(Text(cell, overflow="ellipsis", no_wrap=True) for cell in cells))
    if len(listed) > _MOST_ROWS:
        table.caption = f"and {len(listed) - _MOST_ROWS} more"
    return table


def _hours(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}"


def _time_of(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


def _last_notebook(task: Task, since: float) -> str:
    """Name the notebook that is executed or was executed last: its file is written after every cell."""
    found = [(_time_of(path), path.stem) for path in (task.folder / "notebooks").glob("*.ipynb")]
    written, name = max(found, default=(0.0, ""))
    return name if written >= since else ""
