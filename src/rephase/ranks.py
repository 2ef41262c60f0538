"""The processes that share a training: their number, which one this is, who builds the data, and their end."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Thread

from tqdm import tqdm

from rephase.deadlines import check_time
from rephase.errors import ConfigError, DiskError, TrainingError, check_count, nearest_name
from rephase.files.writing import write_whole
from rephase.processes import PARENT

STRATEGIES = ("auto", "ddp")
_MANUAL = ("MASTER_ADDR", "MASTER_PORT", "NODE_RANK")  # with them, Lightning itself starts the processes of a node
_EVERY = 0.2  # seconds between two looks at the other processes
_SOON = 1.0  # seconds between a broken connection and the end of the process that broke it
_PATIENCE = 3.0  # seconds that an error of this process has to end the training, once another one has ended
_BEAT = 1.0  # seconds between two signs of life of the first process
_READY = "ready"
_SILENCE = 120.0  # seconds without one until it counts as lost; file servers show changes late
_started: list[subprocess.Popen[bytes]] = []  # once, for all trainings of this process
_CONTINUE = "give the same command again: it continues from the last finished epoch"
_NO_JOB = ("bash", "interactive")  # names of SLURM jobs in which Lightning starts the processes itself


@dataclass(frozen=True)
class Ranks:
    """The processes of a training, one for each device of each node.

    Parameters
    ----------
    devices
        Devices of each node.
    nodes
        Number of machines.
    strategy
        How the processes join their gradients, as Lightning names it; ``auto`` is ``ddp`` for several processes.
    """

    devices: int = 1
    nodes: int = 1
    strategy: str = "auto"

    @property
    def count(self) -> int:
        """Number of processes."""
        return self.devices * self.nodes

    def own(self) -> int:
        """Return the number of this process; 0 is the one that builds data, writes and prints."""
        if self.count == 1:
            return 0
        starter, given = starter_of_ranks(), os.environ
        if starter != "Lightning":
            return int(given["RANK" if starter == "torchrun" else "SLURM_PROCID"])
        return int(given.get("NODE_RANK", "0")) * self.devices + int(given.get("LOCAL_RANK", "0"))


ALONE = Ranks()


def starter_of_ranks() -> str:
    """Return who starts the processes, in the order in which Lightning looks: ``torchrun``, ``SLURM`` or itself."""
    if "TORCHELASTIC_RUN_ID" in os.environ:
        return "torchrun"
    is_job = "SLURM_NTASKS" in os.environ and os.environ.get("SLURM_JOB_NAME") not in _NO_JOB
    return "SLURM" if is_job else "Lightning"


def check_ranks(ranks: Ranks) -> None:
    """Raise `ConfigError` if the processes could not find each other, in which case they would wait for ever."""
    check_count("devices", ranks.devices, remedy="give the number of devices of each node")
    check_count("nodes", ranks.nodes, remedy="give the number of machines")
    if ranks.strategy not in STRATEGIES:
        raise ConfigError(f"strategy = {ranks.strategy!r}; {nearest_name(ranks.strategy, STRATEGIES)}")
    if ranks.count == 1:
        return
    given, starter = os.environ, starter_of_ranks()
    if starter != "Lightning":
        n = given["WORLD_SIZE" if starter == "torchrun" else "SLURM_NTASKS"]
        if n != str(ranks.count):
            raise ConfigError(
                f"devices x nodes = {ranks.count}: {starter} starts {n} processes; start one for each device of each "
                "node, in a job of SLURM with srun --ntasks-per-node=DEVICES"
            )
    elif ranks.nodes > 1 and (missing := [name for name in _MANUAL if name not in given]):
        raise ConfigError(
            f"nodes = {ranks.nodes}: expected a job of SLURM, torchrun, or {', '.join(_MANUAL)} in the environment "
            f"(missing: {', '.join(missing)}); start it with srun in a job of SLURM"
        )


@contextmanager
def first_builds(build: Callable[[], None], sign: Path, ranks: Ranks) -> Iterator[None]:
    """Build data in the first process while the others wait for it; what is inside begins in all of them afterwards.

    The first process writes its state and the time to the file `sign`, again and again until it leaves. The others
    trust only what changes, because an earlier command that was killed leaves its last sign.

    Raises
    ------
    TrainingError
        The first process has given no sign for two minutes.
    OutOfTime
        The time given to the command is over.
    """
    if ranks.count == 1:
        build()
        yield
    elif ranks.own():
        _wait_for_first(sign, ranks)
        yield
    else:
        with _signs_of_life(sign) as ready:
            build()
            ready.set()
            yield


@contextmanager
def _signs_of_life(sign: Path) -> Iterator[Event]:
    """Write signs of life from a thread, until the end; they say ``ready`` once the event that is given is set."""
    is_ready, is_over = Event(), Event()
    sign.parent.mkdir(parents=True, exist_ok=True)

    def beat() -> None:
        while not is_over.is_set():
            with suppress(DiskError):  # a full disk stops the work itself, with an error
                write_whole(sign, f"{_READY if is_ready.is_set() else 'building'} {time.time_ns()}")
            is_over.wait(_BEAT)

    thread = Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield is_ready
    finally:
        is_over.set()
        thread.join()
        sign.unlink(missing_ok=True)


def _wait_for_first(sign: Path, ranks: Ranks) -> None:
    """Return once the first process says that it is ready."""
    seen, since = _text_of(sign), time.monotonic()
    while time.monotonic() < since + _SILENCE:
        check_time("the data of another process")
        time.sleep(_EVERY)
        if (said := _text_of(sign)) != seen and said:
            if said.startswith(_READY):
                return
            seen, since = said, time.monotonic()
    raise TrainingError(
        f"rank {ranks.own()} (of 0 to {ranks.count - 1}) waits for the data of rank 0, which has given no sign of life "
        f"for {_SILENCE:g} s; see what it printed; {_CONTINUE}"
    )


def _text_of(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:  # not there yet, or being replaced on a file server
        return ""


@contextmanager
def watched_ranks(ranks: Ranks) -> Iterator[Callable[[list[subprocess.Popen[bytes]]], None]]:
    """Train with other processes, which end with this one; the function that is given is called once they are started.

    When one of them fails, this process, which could wait for it for ever, ends with one line. Processes that SLURM,
    torchrun or another node has started are noticed only by the connections that break.

    Raises
    ------
    TrainingError
        A connection broke, because another process has failed.
    """
    is_over = Event()
    os.environ[PARENT] = str(os.getpid())
    Thread(target=_end_without_others, args=(is_over,), daemon=True).start()
    try:
        yield _started.extend
    except RuntimeError as error:  # of a connection
        if (lost := _lost(_SOON)) is None and _is_of_connection(error):
            lost = TrainingError(
                f"rank {ranks.own()} (of 0 to {ranks.count - 1}) has lost the connection to another rank, which has "
                f"ended or does not answer ({str(error).partition('. ')[0]}); see what it printed; {_CONTINUE}"
            )
        if lost:
            raise lost from error
        raise
    finally:
        os.environ.pop(PARENT, None)
        is_over.set()


def _end_without_others(is_over: Event) -> None:
    """End this process when another one has failed, and no error of this one has ended the training soon after."""
    while (lost := _lost()) is None:
        if is_over.wait(_EVERY):
            return
    if not is_over.wait(_PATIENCE):
        for process in _started:
            process.kill()
        with suppress(OSError):
            tqdm.write(f"{type(lost).__name__}: {lost}", file=sys.stderr)  # not at the end of a progress bar
        os._exit(2)


def _lost(patience: float = 0.0) -> TrainingError | None:
    """Return the error for the first process that has failed, or fails within some seconds; None if none has."""
    end = time.monotonic() + patience
    while not any(process.poll() for process in _started) and time.monotonic() < end:
        time.sleep(_EVERY)
    for number, process in enumerate(_started, 1):
        if process.returncode:
            return TrainingError(
                f"rank {number} (of 0 to {len(_started)}) has ended with status {process.returncode}, and without it "
                f"the others cannot go on; {_CONTINUE}"
            )
    return None


def _is_of_connection(error: RuntimeError) -> bool:
    """Whether a connection between processes broke; Gloo, which joins CPUs, says so only by naming its source file."""
    from torch.distributed import DistError

    return isinstance(error, DistError) or "gloo/" in str(error)
