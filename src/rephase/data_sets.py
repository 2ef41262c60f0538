"""Data sets built before a run, by shards: each shard is a process of its own, on any engine."""

from collections.abc import Iterator
from pathlib import Path

from rephase.config import load_cluster, load_config
from rephase.engines import Task, check_engine, run_tasks, threads_of
from rephase.engines.progress import Progress, shown
from rephase.errors import ConfigError, PipelineError, check_count
from rephase.files.writing import only_writer
from rephase.laboratories import LABORATORIES, check_work
from rephase.labs.laboratory import DataSet
from rephase.learning.store import Shard
from rephase.pipeline import find_notebooks
from rephase.runs import Run, open_run


def build_data_sets(
    config: str | Path = "quick",
    overrides: list[str] | tuple[str, ...] = (),
    *,
    out: str | Path | None = None,
    only: list[str] | tuple[str, ...] = (),
    engine: str = "local",
    jobs: int = 1,
    cluster: str | Path | None = None,
) -> list[Path]:
    """Build every data set that the notebooks of some laboratories would build, with the same bytes.

    A shard whose worker on a cluster is lost is started again and builds only what is missing; on this machine, a
    shard whose process is lost counts as failed, and the next call builds only what is missing.

    Parameters
    ----------
    config, overrides, out, only
        As in `run_notebooks`, which then finds the data sets whole.
    engine
        As in `run_tasks`.
    jobs
        Number of shards; all are built at the same time, as far as there are workers.
    cluster
        YAML file of a `ClusterConfig`.

    Returns
    -------
    list of Path
        The stores.

    Raises
    ------
    ConfigError
        The configuration, the number of jobs or the engine is wrong, or the laboratories have no data sets.
    PipelineError
        A shard failed, or the scheduler was lost and did not come back.
    """
    check_count("jobs", jobs, remedy="give the number of shards that are built at the same time")
    check_engine(engine)
    options, laboratories = load_cluster(cluster), _laboratories(only)
    check_work(load_config(config, overrides), laboratories)
    run = open_run(out, config, overrides)
    if not (names := [each.name for each in _data_sets(run, laboratories)]):
        raise ConfigError(f"--only {','.join(only)}: its notebooks build no data set; run them")
    threads = threads_of(engine, jobs=jobs, cluster=options)
    tasks = [_task(run, laboratories, Shard(number + 1, jobs), threads) for number in range(jobs)]
    progress = Progress(tasks, f"data sets {', '.join(names)}")
    with (
        only_writer(run.folder),
        run_tasks(tasks, engine, jobs=jobs, cluster=options) as outcomes,
        shown(progress) as show,
    ):
        for outcome in outcomes:
            if outcome is not None:
                progress.end(outcome)
            show()
    for number, error in sorted(progress.errors.items()):
        if error:
            raise PipelineError(f"{tasks[number].name} failed: {error}; give the same command again: it continues")
    return [run.folder / "data" / f"{name}.zarr" for name in names]


def build_shard(run: Run, only: list[str] | tuple[str, ...], shard: Shard) -> None:
    """Build one shard of every data set, in this process."""
    for data_set in _data_sets(run, _laboratories(only)):
        data_set.build(shard)


def _laboratories(only: list[str] | tuple[str, ...]) -> list[str]:
    return list(dict.fromkeys(each.laboratory for each in find_notebooks(only)))


def _data_sets(run: Run, laboratories: list[str]) -> Iterator[DataSet]:
    for name in laboratories:
        yield from LABORATORIES[name].data_sets(run)


def _task(run: Run, laboratories: list[str], shard: Shard, threads: int) -> Task:
    arguments = ["data", "--config", str(run.folder / "config.yaml"), "--out", str(run.folder)]
    arguments += ["--only", ",".join(laboratories), "--shard", str(shard), "--workers", str(threads)]
    return Task(f"shard {shard}", tuple(arguments), run.folder, Path.cwd(), threads)
