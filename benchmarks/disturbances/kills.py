"""Tasks killed at random moments: checks of the files left behind, and of a second call."""

import shutil
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import NamedTuple

from disturbances.processes import Ended, Running, contents
from disturbances.works import State, Work, state_or_nothing
from rephase.files.writing import ResultSet

_MOST_TRIES = 5  # until a kill is in time


class Undisturbed(NamedTuple):
    """The same task without a disturbance.

    ``prepared`` is the folder before the task, ``old`` and ``new`` are the results before and after. The task took
    ``seconds``, and first changed something in its folder after ``first`` seconds.
    """

    prepared: Path
    old: State | None
    new: State
    first: float
    seconds: float


def undisturbed(work: Work, place: Path) -> Undisturbed:
    """Do a task once without a disturbance."""
    prepared, folder, log = place / "prepared", place / "undisturbed", place / "log"
    ended = Running(work.prepare, prepared, log).end()
    if ended.status:
        raise RuntimeError(f"{work.name} cannot be prepared: {ended.said}")
    shutil.copytree(prepared, folder)
    before = contents(folder)
    running = Running(work.do, folder, log)
    running.wait_for_change(before)
    first, ended = running.seconds, running.end()
    if ended.status:
        raise RuntimeError(f"{work.name} fails undisturbed: {log.read_text()}")
    return Undisturbed(prepared, state_or_nothing(work, prepared), work.state(folder), first, running.seconds)


def in_time(disturb: Callable[[Path], tuple[bool, str]], folder: Path) -> str:
    """Repeat a try, each time in a new folder, until its kill comes before the end; return its problem, else empty."""
    for number in range(_MOST_TRIES):
        is_killed, problem = disturb(folder.with_name(f"{folder.name}-{number}"))
        if is_killed or problem:
            return problem
    return f"there was nothing left to kill in each of {_MOST_TRIES} tries"


def kill(work: Work, reference: Undisturbed, folder: Path, random: Random, *, is_late: bool) -> str:
    """Kill a task once, at any moment or (late) while it writes; return the problem, empty if there is none."""

    def disturb(place: Path) -> tuple[bool, str]:
        shutil.copytree(reference.prepared, place)
        before, log = contents(place), place.with_suffix(".log")
        running = Running(work.do, place, log)
        if is_late:
            running.wait_for_change(before)
            running.wait_until(running.seconds + random.random() * (reference.seconds - reference.first))
        else:
            running.wait_until(random.random() * reference.seconds)
        is_killed = running.kill()
        if n := running.orphans():
            return is_killed, f"{n} processes survived the kill"
        return is_killed, _left(work, reference, place) or _again(work, reference, place, log)

    return in_time(disturb, folder)


def _left(work: Work, reference: Undisturbed, folder: Path) -> str:
    """Return the problem of the files that a kill left; a set of results recorded as complete is first moved."""
    left = folder.with_name(f"{folder.name} left")
    shutil.copytree(folder, left, symlinks=True)
    try:
        if reference.old is not None:
            ResultSet(left / "out", ())
        found = state_or_nothing(work, left)
    except Exception as error:
        return f"what is left cannot be read: {type(error).__name__}: {error}"
    if reference.old is None or found in (reference.old, reference.new):
        return ""
    new = sum(found is not None and found.get(name) == value for name, value in reference.new.items())
    return f"neither the old nor the new results are left: {new} of {len(reference.new)} are new"


def _again(work: Work, reference: Undisturbed, folder: Path, log: Path) -> str:
    """Return the problem of a second call."""
    return wrong_end(work, reference, folder, Running(work.do, folder, log).end())


def wrong_end(work: Work, reference: Undisturbed, folder: Path, ended: Ended) -> str:
    """Return the problem after an end that should succeed: an error, other results, or leftover files."""
    if ended.status:
        return f"called again: {ended.said}"
    found = state_or_nothing(work, folder)
    if found is None or found != reference.new:
        other = [name for name in reference.new if found is None or found.get(name) != reference.new[name]]
        return f"called again: other results: {', '.join(other)[:100] or 'more than there were'}"
    if left := [path.name for path in folder.rglob("*partial*")]:
        return f"called again: {left[0]} is left"
    return ""
