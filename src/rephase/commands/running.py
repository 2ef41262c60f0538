"""Commands on runs: ``rephase run | sweep | figures | weights``."""

from pathlib import Path
from typing import Annotated

import typer

from rephase.commands.options import Device
from rephase.errors import ConfigError
from rephase.files.writing import writable_folder
from rephase.paths import RUNS


def run(
    config: Annotated[str, typer.Option(help="a YAML file, or the name of one in configs/")] = "quick",
    set_: Annotated[list[str] | None, typer.Option("--set", help="path.to.key=value; may be repeated")] = None,
    out: Annotated[
        Path | None, typer.Option(help="run folder", show_default="runs/NAME-FINGERPRINT of the configuration")
    ] = None,
    only: Annotated[
        str, typer.Option(help="notebook numbers or laboratories, e.g. 01,02 or waves; or all", show_default="01-06,08")
    ] = "",
    device: Device = "auto",
    workers: Annotated[int, typer.Option(help="number of parallel workers that build data")] = 2,
) -> None:
    """Run the notebooks headless and write results, figures and a report."""
    from rephase.laboratories import load_installed
    from rephase.pipeline import run_notebooks

    load_installed()
    names = [name.strip() for name in only.split(",") if name.strip()]
    finished = run_notebooks(config, set_ or [], out=out, only=names, device=device, workers=workers)
    typer.echo(f"report: {finished.folder / 'report.html'}")


def sweep(
    source: Annotated[str, typer.Argument(help="a YAML file, or the name of one in configs/sweeps/")],
    engine: Annotated[str, typer.Option(help="local, dask, or the address of a Dask scheduler")] = "local",
    jobs: Annotated[int, typer.Option(help="number of simultaneous runs")] = 1,
    device: Device = "auto",
    out: Annotated[Path | None, typer.Option(help="sweep folder", show_default="runs/sweeps/NAME-FINGERPRINT")] = None,
) -> None:
    """Run a configuration for every combination of swept parameters and seeds, and collect the results in one table."""
    import pandas as pd

    from rephase.laboratories import load_installed
    from rephase.sweeps import run_sweep

    load_installed()
    folder = run_sweep(source, engine=engine, jobs=jobs, device=device, out=out)
    failed = pd.read_csv(folder / "status.csv").dropna(subset="error")
    for _, point in failed.iterrows():
        typer.echo(f"failed: {point['folder']}: {point['error']}", err=True)
    typer.echo(f"table: {folder / 'results.csv'}")
    raise typer.Exit(1 if len(failed) else 0)


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
