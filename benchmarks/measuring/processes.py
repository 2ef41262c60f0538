"""Clock time and peak memory of a command: of its process and of all that it starts."""

import subprocess
import time
from pathlib import Path

_SHORTEST, _LONGEST = 0.001, 0.02  # seconds between two looks at the memory; a twentieth of the time so far
_PAGE = 4096 / 1e6  # MB
_PROC = Path("/proc")


def run_command(words: list[str]) -> dict[str, float]:
    """Run a command; return its clock time (``s``) and its peak memory (``MB``, where the system has /proc).

    The memory is the resident set of the process and its descendants, seen every 1 to 20 ms. Pages that several share,
    such as those of libraries, count once. (``ru_maxrss`` would include what this process held when it forked.)

    Raises
    ------
    subprocess.CalledProcessError
        The command failed; its output is attached.
    """
    peak, start = 0.0, time.perf_counter()
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        while True:
            try:
                so_far = time.perf_counter() - start
                said, _ = process.communicate(timeout=min(_LONGEST, max(_SHORTEST, so_far / 20)))
                break
            except subprocess.TimeoutExpired:
                peak = max(peak, resident(process.pid))
    seconds = time.perf_counter() - start
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, words, said)
    return {"s": seconds, "MB": peak} if _PROC.is_dir() else {"s": seconds}


def resident(pid: int) -> float:
    """Return the MB that a process and its descendants hold: their own pages, and the most shared ones of any."""
    own, shared = 0, 0
    for process in family(pid):
        try:
            pages = [int(word) for word in (_PROC / str(process) / "statm").read_text().split()]
        except (OSError, ValueError):  # it has ended
            continue
        own, shared = own + pages[1] - pages[2], max(shared, pages[2])
    return (own + shared) * _PAGE


def family(pid: int) -> list[int]:
    """Return the numbers of a process and of all its descendants."""
    try:
        lists = [path.read_text() for path in (_PROC / str(pid) / "task").glob("*/children")]
    except OSError:
        lists = []
    return [pid, *(member for text in lists for child in text.split() for member in family(int(child)))]
