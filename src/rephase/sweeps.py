"""Sweeps: runs of one configuration over lists and grids of parameters and seeds, one process for each run."""

import itertools
import os
from collections.abc import Iterator
from concurrent.futures import Executor, ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd
from tqdm import tqdm

from rephase.config import SweepConfig, find_config, load_sweep, override_of
from rephase.config.sections import fingerprint
from rephase.errors import ConfigError, PipelineError, check_count, extra
from rephase.files.writing import ResultSet, only_writer, write_whole
from rephase.laboratories import LABORATORIES
from rephase.paths import RUNS
from rephase.plots import save_figure
from rephase.processes import THREADS, available_cores, end_children, run_child
from rephase.report import write_sweep_report


def run_sweep(
    source: str | Path, *, engine: str = "local", jobs: int = 1, device: str = "auto", out: str | Path | None = None
) -> Path:
    """Run a configuration over lists and grids of parameters and seeds, each run in its own folder.

    Each run is a separate process. A failed run is recorded and does not stop the others. When the sweep is run again,
    finished notebooks are skipped.

    Parameters
    ----------
    source
        YAML file of a `SweepConfig`, or the name of one in ``configs/sweeps/``.
    engine
        ``local`` for processes on this machine, ``dask`` for a local Dask cluster, or the address of a scheduler.
    jobs
        Number of simultaneous runs.
    device
        As in `open_run`.
    out
        Sweep folder; by default ``runs/sweeps/NAME-FINGERPRINT``.

    Returns
    -------
    Path
        The sweep folder, with ``results.csv`` (every result with its parameters) and ``status.csv``.

    Raises
    ------
    ConfigError
        The sweep, the number of jobs or the engine is wrong, or the tables would replace files that rephase did not
        write; nothing has been run.
    DiskError
        Another process is working on the same sweep, or the folder cannot be written.
    """
    check_count("jobs", jobs, remedy="give the number of runs at the same time")
    sweep, name = load_sweep(source)
    default = RUNS / "sweeps" / f"{name}-{fingerprint(sweep.model_dump(mode='json'))}"
    results = ResultSet(Path(out) if out else default, ("results.csv", "status.csv"))
    folder = results.folder.resolve()
    with only_writer(folder):
        points = sweep_points(sweep)
        errors = _run_points(sweep, points, folder, engine, jobs, device)
        tables = []
        for number, point in enumerate(points):
            try:
                tables += [] if errors[number] else [_results(folder, point)]
            except PipelineError as error:
                errors[number] = str(error)
        status = [
            {**point, "folder": _point_folder(folder, point).name, "error": error}
            for point, error in zip(points, errors)
        ]
        table = pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()
        with results.staged() as stage:
            _write_table(stage / "status.csv", pd.DataFrame(status).sort_values("folder"))
            _write_table(stage / "results.csv", table)
    if len(table) and sweep.curve_over:
        _draw_curves(table, sweep.curve_over, folder / "figures")
    write_sweep_report(folder, pd.DataFrame(status), table)
    return folder


def _draw_curves(table: pd.DataFrame, x: str, folder: Path) -> None:
    """Draw the learning curve of every laboratory that has one and has scores in the table."""
    for name, laboratory in LABORATORIES.items():
        if laboratory.learning_curve is not None:
            save_figure(laboratory.learning_curve(table, x), folder, f"{name}_learning_curve")


def _run_points(
    sweep: SweepConfig, points: list[dict[str, Any]], folder: Path, engine: str, jobs: int, device: str
) -> list[str]:
    """Run every point; return the error of each, empty if there was none."""
    threads = max(1, available_cores() // jobs)
    with _executor(engine, jobs) as pool:
        futures = [
            pool.submit(_run_point, sweep, point, str(_point_folder(folder, point)), device, threads)
            for point in points
        ]
        for _ in tqdm(as_completed(futures), total=len(futures), unit="run", desc=folder.name):
            pass
    return [str(future.exception() or future.result()) for future in futures]


def sweep_points(sweep: SweepConfig) -> list[dict[str, Any]]:
    """List every combination of the grid, the cases and the seeds, as overrides by path."""
    grids = [dict(zip(sweep.grid, values)) for values in itertools.product(*sweep.grid.values())]
    return [
        grid | dict(entry) | {"seed": seed} for grid in grids for entry in (sweep.cases or [{}]) for seed in sweep.seeds
    ]


@contextmanager
def _executor(engine: str, jobs: int) -> Iterator[Executor]:
    """Open an executor: threads that each wait for a process, or a Dask cluster that runs the processes."""
    if engine == "local":
        with ThreadPoolExecutor(jobs) as pool:
            try:
                yield pool
            except BaseException:  # interrupted: end the runs first, then the threads that wait for them
                pool.shutdown(wait=False, cancel_futures=True)
                end_children()
                raise
        return
    with _dask_client(engine, jobs) as client, client.get_executor() as pool:
        yield pool


def _dask_client(engine: str, jobs: int) -> Any:
    with extra("clusters"):
        from distributed import Client

    if engine == "dask":
        return Client(n_workers=jobs, threads_per_worker=1, dashboard_address=None)
    try:
        return Client(engine)
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"engine {engine!r}: no scheduler answers there ({error}); give local, dask, or an address such as "
            "tcp://host:8786"
        ) from error


def _run_point(sweep: SweepConfig, point: dict[str, Any], folder: str, device: str, threads: int) -> str:
    """Run one point in its own process; return the last line of its error, empty if there was none."""
    overrides = [*sweep.overrides, *(override_of(key, value) for key, value in point.items())]
    arguments = [
        "run",
        "--config",
        str(find_config(sweep.base).resolve()),
        "--out",
        folder,
        "--device",
        device,
        "--workers",
        str(threads),
    ]
    arguments += [part for override in overrides for part in ("--set", override)]
    arguments += ["--only", ",".join(sweep.only)] if sweep.only else []
    status, said = run_child(arguments, folder=Path.cwd(), environment=os.environ | {THREADS: str(threads)})
    return (said.strip().splitlines() or [f"stopped with status {status}"])[-1] if status else ""


def _point_folder(folder: Path, point: dict[str, Any]) -> Path:
    words = ",".join(f"{key.split('.')[-1]}={value}" for key, value in point.items())
    plain = "".join(c if c.isascii() and c.isprintable() and c not in "/\\" else "_" for c in words.replace(" ", ""))
    return folder / f"{plain[:100]}-{fingerprint(point)}"


def _results(folder: Path, point: dict[str, Any]) -> pd.DataFrame:
    """Read the results of a point and add its parameters; empty if its notebooks score nothing."""
    path = _point_folder(folder, point) / "results.csv"
    if not path.is_file():
        return pd.DataFrame()
    try:
        table = pd.read_csv(path)
    except (OSError, ValueError) as error:
        raise PipelineError(f"{path}: damaged ({error}); delete it and run the sweep again") from error
    return table.assign(**{key: str(v) if isinstance(v, (list, dict)) else v for key, v in point.items()})


def _write_table(path: Path, table: pd.DataFrame) -> None:
    write_whole(path, table.to_csv(index=False))
