"""Workers of Dask as jobs of a batch system, SLURM or PBS."""

import shutil
import signal
from typing import Any

from rephase.config.clusters import ClusterConfig
from rephase.errors import ConfigError, extra

BATCH_SYSTEMS = {"slurm": "SLURMCluster", "pbs": "PBSCluster"}
"""Classes of dask-jobqueue by the name of the engine."""

_UNKNOWN_SCHEDULER = "tcp://SCHEDULER:PORT"  # in the job script of a dry run


def batch_cluster(engine: str, options: ClusterConfig, refusals: list[str]) -> Any:
    """Start a scheduler whose workers are jobs; why the batch system refuses a job is added to `refusals`.

    Raises
    ------
    ConfigError
        The batch system is not installed on this machine.
    """
    kind = _class_of(engine)
    base: Any = kind.job_cls
    if shutil.which(base.submit_command) is None:
        raise ConfigError(
            f"engine {engine!r}: {engine.upper()} is not installed here (no command {base.submit_command}); give the "
            "command on a machine that submits jobs, or give local or dask"
        )
    from distributed.deploy.spec import ProcessInterface

    class Job(base):  # type: ignore[misc]
        """A job that keeps why it was refused; Dask would only log it."""

        async def start(self) -> None:
            try:
                await super().start()
            except (OSError, RuntimeError, ValueError) as error:  # ValueError: no number of a job in the answer
                refusals.append(str(error).rpartition("stderr:")[2].strip())
                await ProcessInterface.start(self)  # without it the cluster could not be closed

    cluster = type("Cluster", (kind,), {"job_cls": Job})
    return cluster(**_job(engine, options), scheduler_options={"dashboard_address": ":0"})


def job_script(engine: str, options: ClusterConfig) -> str:
    """Return the script of the jobs that would be submitted; nothing is started."""
    job = _class_of(engine).job_cls(_UNKNOWN_SCHEDULER, name="rephase", **_job(engine, options))
    return str(job.job_script())


def _class_of(engine: str) -> Any:
    """Return the class of the clusters of a batch system; its import would change what Ctrl-C does."""
    handler = signal.getsignal(signal.SIGINT)
    try:
        with extra("clusters"):
            import dask_jobqueue
    finally:
        signal.signal(signal.SIGINT, handler)
    return getattr(dask_jobqueue, BATCH_SYSTEMS[engine])


def _job(engine: str, options: ClusterConfig) -> dict[str, Any]:
    """Translate the options of a job for dask-jobqueue: one thread of Dask, because a worker has one command."""
    memory = max(1, round(1000 * options.memory))  # MB
    minutes = max(1, round(60 * options.walltime))
    booked: dict[str, Any] = {"resource_spec": f"select=1:ncpus={options.cores}:mem={memory}MB"}
    if engine == "slurm":
        booked = {"job_cpu": options.cores, "job_mem": f"{memory}M"}
    return booked | {
        "job_name": "rephase",
        "queue": options.queue,
        "account": options.account,
        "cores": 1,
        "processes": 1,
        "memory": f"{memory}MB",
        "walltime": f"{minutes // 60:02d}:{minutes % 60:02d}:00",
        "job_extra_directives": list(options.directives),
        "job_script_prologue": list(options.before),
        "interface": options.interface,
        "log_directory": None if options.logs is None else str(options.logs),
    }
