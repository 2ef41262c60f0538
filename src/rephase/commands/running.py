"""Commands on runs: ``rephase run | figures | weights``."""

from pathlib import Path
from typing import Annotated

import typer

from rephase.commands.options import Configuration, Device, Minutes, Only, Overrides, RunFolder, Workers, names_of
from rephase.deadlines import pause_after
from rephase.errors import ConfigError
from rephase.files.writing import writable_folder
from rephase.paths import RUNS


def run(
    config: Configuration = "quick",
    set_: Overrides = None,
    out: RunFolder = None,
    only: Only = "",
    device: Device = "auto",
    workers: Workers = 2,
    minutes: Minutes = None,
) -> None:
    """Run the notebooks headless and write results, figures and a report."""
    from rephase.laboratories import load_installed
    from rephase.pipeline import run_notebooks

    load_installed()
    with pause_after(minutes):
        finished = run_notebooks(config, set_ or [], out=out, only=names_of(only), device=device, workers=workers)
    typer.echo(f"report: {finished.folder / 'report.html'}")


def figures(
    folder: Annotated[
        Path | None, typer.Argument(metavar="RUN", help="a run folder", show_default="the newest in runs/ with results")
    ] = None,
) -> None:
    """Make every figure (PDF, PNG) and table (LaTeX, CSV) of a run again from its saved results."""
    from rephase.figures import draw_all
    from rephase.laboratories import load_installed
    from rephase.runs import newest_run, read_run

    load_installed()
    run = read_run(folder or newest_run())
    if not any(run.folder.glob("tables/*.csv")) and not any(run.folder.glob("arrays/*.npz")):
        raise ConfigError(f"{run.folder}: no results yet; run its notebooks with `rephase run`")
    for name in ("figures", "tables"):
        writable_folder(run.folder / name, name="RUN")
    for name, outcome in draw_all(run):
        typer.echo(f"{name}: {outcome}")


def weights(
    folder: Annotated[Path, typer.Argument(metavar="RUN", help="run folder with trained models")],
    out: Annotated[Path | None, typer.Option(help="weights folder", show_default="runs/weights")] = None,
    suffix: Annotated[str, typer.Option(help="suffix of each model's name")] = "",
) -> None:
    """Write the best weights of a run's models, with their cards, for `complete` and the notebooks that read them."""
    from rephase.laboratories import load_installed
    from rephase.runs import read_run
    from rephase.shipping import ship_weights

    load_installed()
    run, where = read_run(folder), writable_folder(out or RUNS / "weights", name="--out")
    for path in ship_weights(run, where, suffix=suffix):
        typer.echo(f"{path}: {path.stat().st_size / 1e6:.2f} MB")
