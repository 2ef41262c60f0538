"""Sweeps: runs of one configuration over lists and grids of parameters and seeds, one process for each run."""

from pathlib import Path

import pandas as pd

from rephase.deadlines import check_time, is_time_over
from rephase.engines import run_tasks
from rephase.engines.progress import Progress, shown
from rephase.files.writing import only_writer
from rephase.laboratories import LABORATORIES
from rephase.pipeline import is_run_whole
from rephase.plots import save_figure
from rephase.report import write_sweep_report
from rephase.sweeps.plans import SweepPlan, plan_sweep
from rephase.sweeps.points import sweep_points
from rephase.sweeps.tables import SweepTables


def run_sweep(plan: SweepPlan) -> Path:
    """Run a configuration over lists and grids of parameters and seeds, each run in its own folder.

    Each run is a separate process. A failed run is recorded and does not stop the others. A run whose worker is lost
    continues from its checkpoints on another. When the sweep is run again, finished runs and notebooks are skipped.

    Returns
    -------
    Path
        The sweep folder, with ``results.csv`` (every result with its parameters) and ``status.csv``, which are written
        again after each run.

    Raises
    ------
    ConfigError
        The tables would replace files that rephase did not write, or the engine cannot be reached; nothing has been
        run.
    PipelineError
        The scheduler was lost and did not come back.
    DiskError
        Another process is working on the same sweep, or the folder cannot be written.
    OutOfTime
        The time given to the command is over; the next call continues the runs.
    """
    sweep, tasks, folder = plan.sweep, plan.tasks, plan.folder
    tables = SweepTables(folder, plan.points)
    with only_writer(folder):
        progress = Progress(tasks, folder.name)
        left = _unfinished(plan, tables, progress)
        waiting = [tasks[number] for number in left]
        with (
            run_tasks(waiting, plan.engine, jobs=plan.jobs, cluster=sweep.cluster) as outcomes,
            shown(progress) as show,
        ):
            show()
            for outcome in outcomes:
                if outcome is not None and not (outcome.error and is_time_over()):  # else it was paused
                    progress.end(tables.end(outcome._replace(number=left[outcome.number])))
                show()
        results = tables.write()
        if tables.n_waiting:
            check_time(f"the runs of {folder.name}")
    if len(results) and sweep.curve_over:
        _draw_curves(results, sweep.curve_over, folder / "figures")
    write_sweep_report(folder, tables.status(), results)
    return folder


def _unfinished(plan: SweepPlan, tables: SweepTables, progress: Progress) -> list[int]:
    """Return the numbers of the runs that are not whole; a process only to find that all is done takes seconds."""
    left = []
    for number, (task, config) in enumerate(zip(plan.tasks, plan.configs)):
        if is_run_whole(task.folder, config, plan.notebooks):
            progress.end(tables.read(number))
        else:
            left.append(number)
    return left


def _draw_curves(table: pd.DataFrame, x: str, folder: Path) -> None:
    """Draw the learning curve of every laboratory that has one and has scores in the table."""
    for name, laboratory in LABORATORIES.items():
        if laboratory.learning_curve is not None:
            save_figure(laboratory.learning_curve(table, x), folder, f"{name}_learning_curve")


__all__ = ["SweepPlan", "plan_sweep", "run_sweep", "sweep_points"]
