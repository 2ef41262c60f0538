"""What a sweep will run, checked as a whole before anything starts."""

import shlex
from pathlib import Path
from typing import Any, NamedTuple

from rephase.config import Config, SweepConfig, config_of, config_values, find_config, load_sweep, override_of
from rephase.devices import check_device_name
from rephase.engines import BATCH_SYSTEMS, Task, check_engine, threads_of
from rephase.engines.batch import job_script
from rephase.errors import blamed_on, check_count
from rephase.paths import RUNS
from rephase.pipeline import Notebook, find_notebooks
from rephase.sweeps.points import point_folder, sweep_points


class SweepPlan(NamedTuple):
    """The runs of a sweep: what each changes, its resolved configuration and its command; and where they run."""

    sweep: SweepConfig
    folder: Path
    notebooks: list[Notebook]
    points: list[dict[str, Any]]
    configs: list[Config]
    tasks: list[Task]
    engine: str
    jobs: int

    def __str__(self) -> str:
        """Show what would be started: the script of a job, if a batch system starts it, and every command."""
        script = [job_script(self.engine, self.sweep.cluster)] if self.engine in BATCH_SYSTEMS else []
        commands = [shlex.join(["rephase", *task.arguments]) for task in self.tasks]
        return "\n".join([*script, f"{len(self.tasks)} runs in {self.folder}:", *commands])


def plan_sweep(
    source: str | Path, *, engine: str = "local", jobs: int = 1, device: str = "auto", out: str | Path | None = None
) -> SweepPlan:
    """Plan a sweep, and check what can be checked without a run; nothing is written, and no scheduler is asked.

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

    Raises
    ------
    ConfigError
        The sweep, the configuration of a run (which is named), the number of jobs or the engine is wrong.
    DeviceError
        The name of the device is unknown.
    """
    check_count("jobs", jobs, remedy="give the number of runs at the same time")
    check_engine(engine)
    check_device_name(device)
    sweep, name = load_sweep(source)
    with blamed_on(str(source)):
        notebooks = find_notebooks(sweep.only)
    folder = (Path(out) if out else RUNS / "sweeps" / f"{name}-{sweep.fingerprint()}").resolve()
    points, threads = sweep_points(sweep), threads_of(engine, jobs=jobs, cluster=sweep.cluster)
    configs = _checked_configs(sweep, points, str(source))
    tasks = [_task(sweep, point, point_folder(folder, point), device, threads) for point in points]
    return SweepPlan(sweep, folder, notebooks, points, configs, tasks, engine, jobs)


def _checked_configs(sweep: SweepConfig, points: list[dict[str, Any]], source: str) -> list[Config]:
    """Resolve the configuration of every run; a sweep can have hundreds, so their base is read only once."""
    configs = []
    with blamed_on(source):
        base = config_values(sweep.base)
        for point in points:
            with blamed_on(f"the run with {', '.join(f'{key}={value}' for key, value in point.items())}"):
                configs.append(config_of(base, _overrides(sweep, point), sweep.base))
    return configs


def _overrides(sweep: SweepConfig, point: dict[str, Any]) -> list[str]:
    return [*sweep.overrides, *(override_of(key, value) for key, value in point.items())]


def _task(sweep: SweepConfig, point: dict[str, Any], folder: Path, device: str, threads: int) -> Task:
    """Return the command that runs one point."""
    base = str(find_config(sweep.base).resolve())
    arguments = ["run", "--config", base, "--out", str(folder), "--device", device, "--workers", str(threads)]
    arguments += [part for override in _overrides(sweep, point) for part in ("--set", override)]
    arguments += ["--only", ",".join(sweep.only)] if sweep.only else []
    return Task(folder.name, tuple(arguments), folder, Path.cwd(), threads)
