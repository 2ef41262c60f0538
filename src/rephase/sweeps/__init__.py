"""Sweeps: runs of one configuration over lists and grids of parameters and seeds, one process for each run."""

import shlex
from pathlib import Path
from typing import Any

import pandas as pd

from rephase.config import SweepConfig, find_config, load_sweep, override_of
from rephase.deadlines import check_time, is_time_over
from rephase.devices import check_device_name
from rephase.engines import BATCH_SYSTEMS, Task, check_engine, run_tasks, threads_of
from rephase.engines.batch import job_script
from rephase.engines.progress import Progress, shown
from rephase.errors import check_count
from rephase.files.writing import only_writer
from rephase.laboratories import LABORATORIES
from rephase.paths import RUNS
from rephase.plots import save_figure
from rephase.report import write_sweep_report
from rephase.sweeps.points import point_folder, sweep_points
from rephase.sweeps.tables import SweepTables


def run_sweep(
    source: str | Path, *, engine: str = "local", jobs: int = 1, device: str = "auto", out: str | Path | None = None
) -> Path:
    """Run a configuration over lists and grids of parameters and seeds, each run in its own folder.

    Each run is a separate process. A failed run is recorded and does not stop the others. A run whose worker is lost
    continues from its checkpoints on another. When the sweep is run again, finished notebooks are skipped.

    Parameters
    ----------
    source
        YAML file of a `SweepConfig`, or the name of one in ``configs/sweeps/``.
    engine, jobs
        As in `run_tasks`.
    device
        As in `open_run`.
    out
        Sweep folder; by default ``runs/sweeps/NAME-FINGERPRINT``.

    Returns
    -------
    Path
        The sweep folder, with ``results.csv`` (every result with its parameters) and ``status.csv``, which are written
        again after each run.

    Raises
    ------
    ConfigError
        The sweep, the number of jobs or the engine is wrong, or the tables would replace files that rephase did not
        write; nothing has been run.
    PipelineError
        The scheduler was lost and did not come back.
    DiskError
        Another process is working on the same sweep, or the folder cannot be written.
    DeviceError
        The name of the device is unknown; nothing has been run.
    OutOfTime
        The time given to the command is over; the next call continues the runs.
    """
    sweep, tasks, folder = _plan(source, engine, jobs, device, out)
    tables = SweepTables(folder, sweep_points(sweep))
    with only_writer(folder):
        progress = Progress(tasks, folder.name)
        with run_tasks(tasks, engine, jobs=jobs, cluster=sweep.cluster) as outcomes, shown(progress) as show:
            for outcome in outcomes:
                if outcome is not None and not (outcome.error and is_time_over()):  # else it was paused
                    progress.end(tables.end(outcome))
                show()
        results = tables.write()
        if tables.n_waiting:
            check_time(f"the runs of {folder.name}")
    if len(results) and sweep.curve_over:
        _draw_curves(results, sweep.curve_over, folder / "figures")
    write_sweep_report(folder, tables.status(), results)
    return folder


def plan_of_sweep(
    source: str | Path, *, engine: str = "local", jobs: int = 1, device: str = "auto", out: str | Path | None = None
) -> str:
    """Return what `run_sweep` would start: the script of a job, if a batch system starts it, and every command."""
    sweep, tasks, folder = _plan(source, engine, jobs, device, out)
    script = [job_script(engine, sweep.cluster)] if engine in BATCH_SYSTEMS else []
    commands = [shlex.join(["rephase", *task.arguments]) for task in tasks]
    return "\n".join([*script, f"{len(tasks)} runs in {folder}:", *commands])


def _plan(
    source: str | Path, engine: str, jobs: int, device: str, out: str | Path | None
) -> tuple[SweepConfig, list[Task], Path]:
    check_count("jobs", jobs, remedy="give the number of runs at the same time")
    check_engine(engine)
    check_device_name(device)
    sweep, name = load_sweep(source)
    folder = (Path(out) if out else RUNS / "sweeps" / f"{name}-{sweep.fingerprint()}").resolve()
    threads = threads_of(engine, jobs=jobs, cluster=sweep.cluster)
    tasks = [_task(sweep, point, point_folder(folder, point), device, threads) for point in sweep_points(sweep)]
    return sweep, tasks, folder


def _task(sweep: SweepConfig, point: dict[str, Any], folder: Path, device: str, threads: int) -> Task:
    """Return the command that runs one point."""
    overrides = [*sweep.overrides, *(override_of(key, value) for key, value in point.items())]
    base = str(find_config(sweep.base).resolve())
    arguments = ["run", "--config", base, "--out", str(folder), "--device", device, "--workers", str(threads)]
    arguments += [part for override in overrides for part in ("--set", override)]
    arguments += ["--only", ",".join(sweep.only)] if sweep.only else []
    return Task(folder.name, tuple(arguments), folder, Path.cwd(), threads)


def _draw_curves(table: pd.DataFrame, x: str, folder: Path) -> None:
    """Draw the learning curve of every laboratory that has one and has scores in the table."""
    for name, laboratory in LABORATORIES.items():
        if laboratory.learning_curve is not None:
            save_figure(laboratory.learning_curve(table, x), folder, f"{name}_learning_curve")


__all__ = ["plan_of_sweep", "run_sweep", "sweep_points"]
