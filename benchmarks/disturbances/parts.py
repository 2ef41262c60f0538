"""Tasks shared by several processes, one of which is killed while the whole goes on."""

import os
import shutil
import signal
import time
from contextlib import suppress
from pathlib import Path
from random import Random

from disturbances.kills import Undisturbed, in_time, wrong_end
from disturbances.processes import Running
from disturbances.works import Work


def kill_part(work: Work, reference: Undisturbed, folder: Path, random: Random) -> str:
    """Kill one of the parts of a task at a random moment; return the problem, empty if there is none.

    If parts are replaced, the task must end with the results of an undisturbed one. Otherwise it may also end with a
    domain error in one line, after which a second call must end with them. No process may survive.
    """

    def disturb(place: Path) -> tuple[bool, str]:
        shutil.copytree(reference.prepared, place)
        running = Running(work.do, place, place.with_suffix(".log"))
        return _kill_one(work, reference, running, random), _wrong_without(work, reference, running)

    return in_time(disturb, folder)


def _wrong_without(work: Work, reference: Undisturbed, running: Running) -> str:
    """Return the problem at the end of a task that has lost a part, and of a second call if the first one failed."""
    ended = running.end()
    if n := running.orphans():
        return f"{n} processes survived the end"
    if ended.status and (work.is_replaced or not ended.is_refusal):
        return f"ended with status {ended.status}: {ended.said}"
    if ended.status:
        ended = Running(work.do, running.folder, running.log).end()
    return wrong_end(work, reference, running.folder, ended)


def _kill_one(work: Work, reference: Undisturbed, running: Running, random: Random) -> bool:
    """Wait for the first part, then for a random time, and kill a part; return whether there was one to kill."""
    while running.process.is_alive() and not running.parts(work.part):
        time.sleep(0.02)
    running.wait_until(running.seconds + random.random() * max(0.0, reference.seconds - running.seconds))
    parts = running.parts(work.part)
    if not parts or not running.process.is_alive():
        return False
    with suppress(ProcessLookupError):
        os.kill(random.choice(parts), signal.SIGKILL)
        return True
    return False
