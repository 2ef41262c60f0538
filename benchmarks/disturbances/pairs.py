"""Two processes that do the same task in one folder at the same time."""

import shutil
from pathlib import Path
from random import Random

from disturbances.kills import Undisturbed, wrong_end
from disturbances.processes import Ended, Running
from disturbances.works import Work


def pair(work: Work, reference: Undisturbed, folder: Path, random: Random) -> str:
    """Start both, one slightly later; return the problem at the end, empty if there is none."""
    shutil.copytree(reference.prepared, folder)
    one = Running(work.do, folder, folder.with_suffix(".log"))
    one.wait_until(random.choice((0.0, 0.3 * random.random() * reference.seconds)))
    other = Running(work.do, folder, folder.with_suffix(".other.log"))
    ends = [running.end() for running in (one, other)]
    for ended in ends:
        if ended.status and not ended.is_refusal:
            return f"one ended with status {ended.status}: {ended.said}"
    if all(ended.status for ended in ends):
        return f"both were refused: {ends[0].said}"
    return wrong_end(work, reference, folder, Ended(0, ""))
