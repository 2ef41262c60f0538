"""The processes of rephase: their threads, final message and exit status, and how they end with their parent."""

# Only these modules are imported before Ctrl-C is handled; slower ones are imported where they are used.
import gc
import math
import os
import signal
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from io import TextIOWrapper

from rephase.errors import ConfigError, DiskError, OutOfTime, RephaseError

TYPE_CHECKING = False
if TYPE_CHECKING:
    import subprocess
    from pathlib import Path

INTERRUPTED = 130  # the exit status that shells report for a command ended by Ctrl-C
PAUSED = 75  # the exit status of a command whose time was over: EX_TEMPFAIL of sysexits.h, "try again later"
THREADS = "OMP_NUM_THREADS"  # environment variable that sets the number of threads of torch and BLAS
_ASLEEP = {"OMP_WAIT_POLICY": "passive", "OPENBLAS_THREAD_TIMEOUT": "4"}  # of threads that wait for work
_HELD = "REPHASE_STDIN_IS_HELD"  # set in the environment of a process whose stdin stays open while its parent lives
PARENT = "REPHASE_PARENT"  # set in the environment of a process: the number of the process that it must not outlive
_PR_SET_PDEATHSIG = 1  # of prctl(2)
_children: "set[subprocess.Popen[str]]" = set()


def status_of(command: Callable[[], object]) -> int:
    """Run a command and return its exit status; an error that the user can fix is printed as one line on stderr.

    An interruption (Ctrl-C) prints one line and returns status 130, whatever error a library turns it into. A command
    whose time was over prints where it paused and returns status 75. If the reader of stdout or stderr has closed it,
    the command ends quietly. Each warning is one line on stderr.
    """
    interruptions: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, _: _interrupt(interruptions, number))
    try:
        status = _status(command, interruptions)
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN if interruptions else before)
    return status


def _status(command: Callable[[], object], interruptions: list[int]) -> int:
    try:
        _open_streams()
        _watch_parent()
        limit_threads()
        with _plain_warnings():
            returned = command()
        sys.stdout.flush()
        status, line = returned if isinstance(returned, int) else 0, ""
    except SystemExit as error:
        status, line = error.code if isinstance(error.code, int) else 1, ""
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.__stdout__.fileno() if sys.__stdout__ else 1)
        status, line = 1, ""
    except OutOfTime as error:
        status, line = PAUSED, str(error)
    except BaseException as error:
        status, line = 2, "" if interruptions else _line(error)
        if not line and not interruptions:
            raise
    if interruptions:
        status, line = INTERRUPTED, "interrupted"
    if line:
        _print_error(line)
    return status


@contextmanager
def _plain_warnings() -> Iterator[None]:
    """Print each warning once, without its location in the code."""
    said: set[str] = set()

    def show(message: Warning | str, *_: object, **__: object) -> None:
        line = f"warning: {RephaseError(str(message))}"
        if line not in said:
            said.add(line)
            _print_error(line)

    with warnings.catch_warnings():
        warnings.showwarning = show
        yield


@contextmanager
def log_level(name: str, level: int) -> Iterator[None]:
    """Set the level of a library's logger, and restore the previous level afterwards."""
    import logging

    logger = logging.getLogger(name)
    before = logger.level
    logger.setLevel(level)
    try:
        yield
    finally:
        logger.setLevel(before)


def _print_error(line: str) -> None:
    with suppress(OSError):
        print(line, file=sys.stderr, flush=True)


def _line(error: BaseException) -> str:
    """Return the message of an error that is not a bug in rephase; empty for any other error."""
    import typer

    if isinstance(error, RephaseError):
        return f"{type(error).__name__}: {error}"
    if isinstance(error, typer.TyperException):
        return f"ConfigError: {ConfigError(error.format_message())} See --help"
    if isinstance(error, OSError):
        where = f"{error.filename}: " if error.filename else ""
        return f"DiskError: {DiskError(f'{where}{error.strerror or error}')}"
    if isinstance(error, MemoryError):
        return "MemoryError: there is not enough memory; give less data at once, or use a machine with more memory"
    return ""


def _interrupt(interruptions: list[int], number: int) -> None:
    interruptions.append(number)
    if "logging" in sys.modules:  # libraries would log the errors that the interruption causes
        sys.modules["logging"].disable()
    sys.unraisablehook = lambda _: None  # Python prints what is raised in its callbacks, such as those of imports
    raise KeyboardInterrupt


def _open_streams() -> None:
    """Reopen the streams that the caller closed, before a file gets their numbers; make any name printable."""
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest free number
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115  stays open to the end
        elif isinstance(stream := getattr(sys, name), TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def run_child(arguments: list[str], *, folder: "Path", environment: dict[str, str]) -> tuple[int, str]:
    """Run ``rephase`` in a process that ends when this one does, however it ends; return its status and stderr."""
    import subprocess

    with subprocess.Popen(
        [sys.executable, "-m", "rephase.cli", *arguments],
        cwd=folder,
        env=environment | {_HELD: "1"},
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        errors="replace",
    ) as process:
        _children.add(process)
        try:
            said = process.stderr.read() if process.stderr else ""
        finally:
            _children.remove(process)
    return process.returncode, said


def end_children() -> None:
    """End the child processes that threads of this process wait for."""
    for process in tuple(_children):
        process.terminate()


def end_with_parent() -> None:
    """Make Linux kill this process when the thread that started it ends, even during a library call."""
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


@contextmanager
def many_imports() -> Iterator[None]:
    """Import modules without searching for garbage among their objects, now or later: they stay until the end.

    Importing torch makes so many objects that the searches, which find nothing, take a sixth of the time.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if was_on:
            gc.enable()


def available_cores() -> int:
    """Return the number of cores that this process may use: in a container or a batch job, fewer than there are.

    `dask.system.cpu_count` finds the same number, but its import takes half of the time of ``rephase --help``.
    """
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return int(min(allowed, cores_of_group()))


def cores_of_group(mounted: str = "/sys/fs/cgroup", own: str = "/proc/self/cgroup") -> float:
    """Return the cores whose time the control group of this process may use up, rounded up; infinite if any number.

    Parameters
    ----------
    mounted
        Folder of the control groups of Linux, version 1 or 2.
    own
        File whose last line ends with the group of this process.
    """
    with suppress(OSError):
        group, version_1 = _read(own).split(":")[-1], ("cpu.cfs_quota_us", "cpu.cfs_period_us")
        for folder, names in ((group, ("cpu.max",)), ("/cpu,cpuacct", version_1), ("/cpuacct,cpu", version_1)):
            with suppress(OSError, ValueError):  # no such group, or no limit: "max"
                quota, period = (int(word) for name in names for word in _read(f"{mounted}{folder}/{name}").split())
                return math.ceil(quota / period) if quota > 0 else math.inf  # no limit: -1
    return math.inf


def _read(path: str) -> str:
    with open(path) as file:
        return file.read().strip()


def limit_threads() -> None:
    """Limit the threads of the libraries, in this process and its children, to the cores that it may use.

    Libraries count all cores of the machine, and computations become many times slower when their threads share a
    few cores. Threads that wait for work sleep: by default they spin, and where other processes share the cores, as
    several solutions at once do, most of the time is spent on that. This must be called before the libraries are
    imported; what the user has set is kept.
    """
    for name, value in _ASLEEP.items():
        os.environ.setdefault(name, value)
    if (cores := available_cores()) < (os.cpu_count() or 1):
        os.environ.setdefault(THREADS, str(cores))


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Let BLAS use one thread: on the small matrices of a refinement more threads take twice as long."""
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1, user_api="blas"):
        yield


def prepare_kernel() -> None:
    """Prepare the kernel of a notebook before its first cell."""
    end_with_parent()
    limit_threads()


def _watch_parent() -> None:
    """End with the parent that holds our stdin, on any system, or that is named; even if it had ended before this."""
    if (parent := os.environ.pop(PARENT, None)) is not None:
        end_with_parent()
        if os.getppid() != int(parent):
            os._exit(INTERRUPTED)
    if os.environ.pop(_HELD, None) is not None:
        import threading

        end_with_parent()
        threading.Thread(target=_wait_for_parent, daemon=True).start()


def _wait_for_parent() -> None:
    while os.read(0, 1):
        pass
    os._exit(INTERRUPTED)
