"""Workers of Dask: on this machine, as jobs of SLURM or PBS, or of a scheduler that was started elsewhere."""

import logging
import time
import uuid
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from typing import Any, NamedTuple

from rephase.config.clusters import ClusterConfig
from rephase.engines.batch import BATCH_SYSTEMS, batch_cluster
from rephase.engines.tasks import POLL, Outcome, Task, run_task_on_worker
from rephase.errors import ConfigError, PipelineError, extra
from rephase.processes import log_level

OWN_CLUSTER = "dask"
_LOST = ("cancelled", "lost")  # states of a future without its scheduler
_MOST_LOSSES = 10  # times that Dask gives a command up, each after it has lost a few workers
_PATIENCE = 600.0  # seconds until a scheduler that was lost must be back
_TO_CLOSE = 10  # seconds that workers and jobs are given to end
_NOTHING = logging.CRITICAL + 1  # level of a logger that is silent


class Connection(NamedTuple):
    """A client of Dask, and what the batch system said of the jobs that it refused."""

    client: Any
    refusals: list[str]


Connect = Callable[[bool], AbstractContextManager[Connection]]
"""A context of a connection; True if there was one before, which lost its scheduler."""


class _SchedulerLost(Exception):
    """The scheduler has ended, and with it what it knew of our commands."""


def run_on_cluster(tasks: Sequence[Task], connect: Connect) -> Generator[Outcome | None, None, None]:
    """Run commands on workers; when the scheduler is lost, wait for it and submit the unfinished ones again."""
    left, losses, is_lost = dict(enumerate(tasks)), Counter[int](), False
    while left:
        try:
            with connect(is_lost) as connection:
                for outcome in _outcomes(connection, left, losses):
                    if outcome is not None:
                        del left[outcome.number]
                    yield outcome
        except _SchedulerLost:
            is_lost = True
        except TimeoutError as error:
            done = f"{len(tasks) - len(left)} of {len(tasks)} are finished"
            raise PipelineError(f"{error}; {done}; start it, and give the same command again: it continues") from error


def _outcomes(
    connection: Connection, left: dict[int, Task], losses: Counter[int]
) -> Generator[Outcome | None, None, None]:
    """Submit commands and yield their outcomes, None in between, until all have ended."""
    client = connection.client
    futures = {number: _submit(client, task) for number, task in left.items()}
    while futures:
        for number in [number for number, future in futures.items() if future.done() and future.status not in _LOST]:
            future = futures.pop(number)
            if _is_worker_lost(future) and losses[number] < _MOST_LOSSES:
                losses[number] += 1
                futures[number] = _submit(client, left[number])
            else:
                yield Outcome(number, _error_of(future))
        if client.status != "running" or any(future.status in _LOST for future in futures.values()):
            raise _SchedulerLost
        if connection.refusals and not client.scheduler_info()["workers"]:
            raise ConfigError(
                f"no worker can be started: {connection.refusals[-1]}; correct the section cluster, and try --dry-run"
            )
        yield None
        time.sleep(POLL)


def _submit(client: Any, task: Task) -> Any:
    return client.submit(run_task_on_worker, task, key=f"rephase-{uuid.uuid4().hex}", pure=False)


def _is_worker_lost(future: Any) -> bool:
    from distributed import KilledWorker

    return future.status == "error" and isinstance(future.exception(timeout=_PATIENCE), KilledWorker)


def _error_of(future: Any) -> str:
    """Return what a command that has ended said of its error; the scheduler may end while it is fetched."""
    from distributed import CancelledError, TimeoutError
    from distributed.comm.core import CommClosedError

    try:
        error = future.exception(timeout=_PATIENCE)
        return str(error) if error else str(future.result(timeout=_PATIENCE))
    except (CancelledError, CommClosedError, TimeoutError) as lost:
        raise _SchedulerLost from lost


def check_address(address: str) -> None:
    """Raise `ValueError` unless this has the form of an address; a client that cannot read it would hang at its end."""
    with extra("clusters"):
        from distributed.comm.addressing import get_address_host_port

    get_address_host_port(address)


def scheduler_at(address: str) -> Connect:
    """Connect to a scheduler that was started elsewhere; one that was lost is waited for."""

    @contextmanager
    def connect(is_lost: bool) -> Iterator[Connection]:
        with _quiet(), _closed_anyway(_wait_for_scheduler(address) if is_lost else _client(address)) as client:
            yield Connection(client, [])

    return connect


def _client(address: str) -> Any:
    with extra("clusters"):
        from distributed import Client

    try:
        return Client(address, set_as_default=False)
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"engine {address!r}: no scheduler answers there ({error}); give local, dask, slurm, pbs, or an address "
            "such as tcp://host:8786"
        ) from error


def _wait_for_scheduler(address: str) -> Any:
    """Connect to a scheduler that is being started again; `TimeoutError` if it does not come back."""
    end = time.monotonic() + _PATIENCE
    while True:
        try:
            return _client(address)
        except ConfigError as error:
            if time.monotonic() > end:
                waited = (
                    f"engine {address!r}: the scheduler has ended and was not back within {_PATIENCE / 60:.0f} minutes"
                )
                raise TimeoutError(waited) from error
            time.sleep(1)


def own_cluster(engine: str, options: ClusterConfig, jobs: int) -> Connect:
    """Start workers on this machine or as jobs of a batch system, more of them while commands are waiting."""

    @contextmanager
    def connect(_: bool) -> Iterator[Connection]:
        with extra("clusters"):
            from distributed import Client
        refusals: list[str] = []
        maximum = max(options.minimum, options.maximum or jobs)
        with _quiet(), _closed_anyway(_new_cluster(engine, options, refusals)) as cluster:
            # a command counts as half a second of work until one has ended: this asks for one worker for each
            cluster.adapt(minimum=options.minimum, maximum=maximum, target_duration="100ms")
            with _closed_anyway(Client(cluster, set_as_default=False)) as client:
                yield Connection(client, refusals)

    return connect


@contextmanager
def _quiet() -> Iterator[None]:
    """Suppress what Dask logs of workers and schedulers that are lost: they are replaced."""
    with ExitStack() as stack:
        for name in ("distributed", "distributed.client", "tornado.application"):
            stack.enter_context(log_level(name, _NOTHING))
        yield


@contextmanager
def _closed_anyway(opened: Any) -> Iterator[Any]:
    """Close a client or a cluster at the end; closing fails where the scheduler or a job has gone."""
    try:
        yield opened
    finally:
        with suppress(Exception):
            opened.close(timeout=_TO_CLOSE)


def _new_cluster(engine: str, options: ClusterConfig, refusals: list[str]) -> Any:
    if engine in BATCH_SYSTEMS:
        return batch_cluster(engine, options, refusals)
    with extra("clusters"):
        from distributed import LocalCluster

    return LocalCluster(n_workers=0, threads_per_worker=1, dashboard_address=":0", silence_logs=_NOTHING)
