"""Commands of rephase that run in processes of their own: on this machine, on a Dask cluster, by SLURM or PBS."""

import time
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, closing

from rephase.config.clusters import ClusterConfig
from rephase.engines.batch import BATCH_SYSTEMS
from rephase.engines.clusters import OWN_CLUSTER, check_address, own_cluster, run_on_cluster, scheduler_at
from rephase.engines.tasks import POLL, Outcome, Task, run_task
from rephase.errors import ConfigError, nearest_name
from rephase.processes import available_cores, end_children

LOCAL = "local"


def run_tasks(
    tasks: Sequence[Task], engine: str, *, jobs: int = 1, cluster: ClusterConfig | None = None
) -> AbstractContextManager[Iterator[Outcome | None]]:
    """Run commands, each in a process of its own; a context with the outcomes in the order in which they come.

    A command that fails is an outcome, and does not stop the others. One whose worker is lost is run again.

    Parameters
    ----------
    tasks
        The commands.
    engine
        ``local``: processes of this machine. ``dask``: workers of a Dask cluster on this machine. ``slurm``, ``pbs``:
        workers that are jobs of a batch system. Any other text: the address of a Dask scheduler.
    jobs
        Number of commands at the same time; with a cluster that has a maximum of workers, that maximum counts.
    cluster
        Number of workers of ``dask``, ``slurm`` and ``pbs``, and what a job asks for.

    Returns
    -------
    context of an iterator
        `Outcome` of a command that has ended; None several times a second in between, so that progress can be shown.

    Raises
    ------
    ConfigError
        No scheduler answers at the address, or the batch system refuses the jobs; nothing has been run.
    PipelineError
        The scheduler was lost and did not come back.
    """
    if engine == LOCAL:
        return closing(_run_locally(tasks, jobs))
    if engine == OWN_CLUSTER or engine in BATCH_SYSTEMS:
        return closing(run_on_cluster(tasks, own_cluster(engine, cluster or ClusterConfig(), jobs)))
    return closing(run_on_cluster(tasks, scheduler_at(engine)))


def check_engine(engine: str) -> None:
    """Raise `ConfigError` unless this is the name of an engine or has the form of an address; no scheduler is asked."""
    names = (LOCAL, OWN_CLUSTER, *BATCH_SYSTEMS)
    if engine in names:
        return
    try:
        check_address(engine)
    except ValueError as error:
        raise ConfigError(
            f"engine {engine!r}: expected {', '.join(names)}, or the address of a scheduler such as tcp://host:8786 "
            f"({error}); {nearest_name(engine, names)}"
        ) from error


def threads_of(engine: str, *, jobs: int, cluster: ClusterConfig) -> int:
    """Return the number of threads of a command: its share of the cores of this machine, or the cores of its job."""
    return cluster.cores if engine in BATCH_SYSTEMS else max(1, available_cores() // jobs)


def _run_locally(tasks: Sequence[Task], jobs: int) -> Generator[Outcome | None, None, None]:
    """Run commands in threads that each wait for a process."""
    with ThreadPoolExecutor(jobs) as pool:
        try:
            futures = [pool.submit(run_task, task) for task in tasks]
            waiting = dict(enumerate(futures))
            while waiting:
                for number in [number for number, future in waiting.items() if future.done()]:
                    future = waiting.pop(number)
                    yield Outcome(number, str(future.exception() or future.result()))
                yield None
                time.sleep(POLL)
        except BaseException:  # interrupted: end the commands first, then the threads that wait for them
            pool.shutdown(wait=False, cancel_futures=True)
            end_children()
            raise


__all__ = ["BATCH_SYSTEMS", "LOCAL", "Outcome", "Task", "check_engine", "run_tasks", "threads_of"]
