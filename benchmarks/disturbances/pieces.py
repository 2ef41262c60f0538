"""Tasks cut into pieces: one is killed at a random moment, others pause at random times, and the last one ends."""

import shutil
from functools import partial
from pathlib import Path
from random import Random

from disturbances.kills import Undisturbed, in_time, wrong_end
from disturbances.processes import Running
from disturbances.works import Work
from rephase.deadlines import pause_after
from rephase.processes import PAUSED

_MOST_PAUSES = 2


def cut(work: Work, reference: Undisturbed, folder: Path, random: Random) -> str:
    """Do a task in pieces until it has ended; return the problem, empty if its results are the undisturbed ones."""
    return in_time(partial(_do_in_pieces, work, reference, random), folder)


def _do_in_pieces(work: Work, reference: Undisturbed, random: Random, folder: Path) -> tuple[bool, str]:
    """Do a task in pieces in a new folder; return whether one was killed before its end, and the problem."""
    shutil.copytree(reference.prepared, folder)
    log, was_killed = folder.with_suffix(".log"), False
    pieces = ["killed", *["paused"] * random.randrange(_MOST_PAUSES + 1)]
    random.shuffle(pieces)
    for piece in (*pieces, "last"):
        seconds = max(0.01, random.random() * reference.seconds)
        running = Running(partial(_pause, work, seconds) if piece == "paused" else work.do, folder, log)
        if piece == "killed":
            running.wait_until(seconds)
            was_killed = running.kill()
        ended = running.end()
        if n := running.orphans():
            return was_killed, f"{n} processes survived the {piece} piece"
        if piece == "last" or (piece == "paused" and ended.status != PAUSED):
            break
    return was_killed, wrong_end(work, reference, folder, ended)


def _pause(work: Work, seconds: float, folder: Path) -> None:
    with pause_after(seconds / 60):
        work.do(folder)
