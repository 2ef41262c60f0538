"""Tasks cut into pieces: each piece pauses at a random time, and some are killed before that."""

import shutil
from functools import partial
from pathlib import Path
from random import Random

from disturbances.kills import Undisturbed, wrong_end
from disturbances.processes import Running
from disturbances.works import Work
from rephase.deadlines import pause_after
from rephase.processes import PAUSED

_MOST_KILLS, _MOST_PIECES = 2, 100  # killed pieces need not come further, paused ones do


def cut(work: Work, reference: Undisturbed, folder: Path, random: Random) -> str:
    """Do a task in pieces until it has ended; return the problem, empty if its results are not the undisturbed ones."""
    shutil.copytree(reference.prepared, folder)
    n_killed, log = 0, folder.with_suffix(".log")
    for _ in range(_MOST_PIECES):
        seconds = max(0.01, random.random() * reference.seconds)
        running = Running(partial(_do_piece, work, seconds), folder, log)
        if n_killed < _MOST_KILLS and random.random() < 0.4:
            n_killed += 1
            running.wait_until(random.random() * reference.seconds)
            running.kill()
            if n := running.orphans():
                return f"{n} processes survived the kill"
            continue
        ended = running.end()
        if n := running.orphans():
            return f"{n} processes survived the end of a piece"
        if ended.status != PAUSED:
            return wrong_end(work, reference, folder, ended)
    return f"had not ended after {_MOST_PIECES} pieces"


def _do_piece(work: Work, seconds: float, folder: Path) -> None:
    with pause_after(seconds / 60):
        work.do(folder)
