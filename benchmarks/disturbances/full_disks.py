"""Tasks on a small file system that fills up: they must end with one line and no partial files, and then resume."""

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from disturbances.kills import Undisturbed, wrong_end
from disturbances.processes import Running
from disturbances.works import Work, state_or_nothing

PARTS = (0.0, 0.1, 0.4, 0.7, 0.9)
"""Fractions of the space that the task needs."""


def can_mount(place: Path) -> bool:
    """Return whether small file systems can be mounted here."""
    with _disk(place / "trial", 64) as disk:
        return disk is not None


@contextmanager
def _disk(folder: Path, kib: int) -> Iterator[Path | None]:
    """Mount a file system in memory of some KiB; None if that is not possible."""
    folder.mkdir(parents=True)
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={kib}k", "tmpfs", folder], capture_output=True)
    if mounted.returncode:
        yield None
        return
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


def _used_kib(folder: Path) -> int:
    """Return the space in KiB of the pages that files and folders fill."""
    return sum(4 * -(-path.stat().st_size // 4096) if path.is_file() else 4 for path in folder.rglob("*"))


def fill(work: Work, reference: Undisturbed, place: Path, part: float) -> str:
    """Do a task with a fraction of the space that it needs, then with enough; return the problem, empty if none."""
    before, after = _used_kib(reference.prepared), _used_kib(reference.prepared.with_name("undisturbed"))
    size = before + 16 + int(part * max(after - before, after // 2))
    with _disk(place, size) as disk:
        assert disk is not None
        folder, log = disk / "work", place.with_suffix(".log")
        shutil.copytree(reference.prepared, folder)
        ended = Running(work.do, folder, log).end()
        if ended.status and not ended.is_refusal:
            return f"with {size} KiB: no error of the domain in one line: {ended.said}"
        if ended.status and "Traceback" in log.read_text(errors="replace"):
            return f"with {size} KiB: a traceback before {ended.said}"
        if ended.status and reference.old is not None and state_or_nothing(work, folder) != reference.old:
            return f"with {size} KiB: the earlier results have changed"
        if left := [path.name for path in folder.rglob("*partial*")]:
            return f"with {size} KiB: {left[0]} is left"
        subprocess.run(["mount", "-o", "remount,size=200m", disk], check=True)
        return wrong_end(work, reference, folder, Running(work.do, folder, log).end())
