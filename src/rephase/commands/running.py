"""Commands on runs: ``rephase run | train | sweep | figures | weights``."""

from pathlib import Path
from typing import Annotated

import typer

from rephase.commands.options import Configuration, Device, Minutes, Overrides, RunFolder, Workers
from rephase.deadlines import pause_after
from rephase.errors import ConfigError, OutOfTime
from rephase.files.writing import writable_folder
from rephase.paths import RUNS
from rephase.processes import end_with_parent


def run(
    config: Configuration = "quick",
    set_: Overrides = None,
    out: RunFolder = None,
    only: Annotated[
        str, typer.Option(help="notebook numbers or laboratories, e.g. 01,02 or waves; or all", show_default="01-06,08")
    ] = "",
    device: Device = "auto",
    workers: Workers = 2,
    minutes: Minutes = None,
) -> None:
    """Run the notebooks headless and write results, figures and a report."""
    from rephase.laboratories import load_installed
    from rephase.pipeline import run_notebooks

    load_installed()
    names = _names(only)
    with pause_after(minutes):
        finished = run_notebooks(config, set_ or [], out=out, only=names, device=device, workers=workers)
    typer.echo(f"report: {finished.folder / 'report.html'}")


def _names(listed: str) -> list[str]:
    return [name.strip() for name in listed.split(",") if name.strip()]


def train(
    config: Configuration = "quick",
    set_: Overrides = None,
    out: RunFolder = None,
    only: Annotated[str, typer.Option(help="laboratories, e.g. crystals,waves; or all", show_default="crystals")] = "",
    models: Annotated[str, typer.Option(help="names of models, e.g. unet3d,mlp", show_default="all")] = "",
    device: Device = "auto",
    workers: Workers = 2,
    minutes: Minutes = None,
    devices: Annotated[int, typer.Option(help="devices of each node")] = 1,
    nodes: Annotated[int, typer.Option(help="number of machines, in a job of SLURM")] = 1,
    strategy: Annotated[str, typer.Option(help="how several devices share a training: auto or ddp")] = "auto",
) -> None:
    """Train the models of a run, so that `rephase run` with the same options finds them finished."""
    from rephase.laboratories import load_installed
    from rephase.ranks import Ranks, starter_of_ranks
    from rephase.trainings import run_trainings

    load_installed()
    ranks = Ranks(devices, nodes, strategy)
    if ranks.own() > 0 and starter_of_ranks() == "Lightning":
        end_with_parent()  # the first process; else this one could wait for it for ever
    chosen, given = {"only": _names(only), "models": _names(models)}, set_ or []
    try:
        with pause_after(minutes):
            trained = run_trainings(config, given, out=out, **chosen, device=device, workers=workers, ranks=ranks)
    except OutOfTime:
        if ranks.own() == 0:
            raise
        return  # the first process says so; the failure of another would be taken for one of the training
    for training in trained if ranks.own() == 0 else ():
        typer.echo(f"trained: {training.folder}")


def sweep(
    source: Annotated[str, typer.Argument(help="a YAML file, or the name of one in configs/sweeps/")],
    engine: Annotated[str, typer.Option(help="local, dask, or the address of a Dask scheduler")] = "local",
    jobs: Annotated[int, typer.Option(help="number of simultaneous runs")] = 1,
    device: Device = "auto",
    out: Annotated[Path | None, typer.Option(help="sweep folder", show_default="runs/sweeps/NAME-FINGERPRINT")] = None,
    minutes: Minutes = None,
) -> None:
    """Run a configuration for every combination of swept parameters and seeds, and collect the results in one table."""
    import pandas as pd

    from rephase.laboratories import load_installed
    from rephase.sweeps import run_sweep

    load_installed()
    if minutes is not None and engine not in ("local", "dask"):
        raise ConfigError(f"minutes = {minutes}: expected none with a scheduler, whose workers have their own limits")
    with pause_after(minutes):
        folder = run_sweep(source, engine=engine, jobs=jobs, device=device, out=out)
    failed = pd.read_csv(folder / "status.csv").dropna(subset="error")
    for _, point in failed.iterrows():
        typer.echo(f"failed: {point['folder']}: {point['error']}", err=True)
    typer.echo(f"table: {folder / 'results.csv'}")
    raise typer.Exit(1 if len(failed) else 0)


def figures(folder: Annotated[Path, typer.Argument(help="a run folder")]) -> None:
    """Redraw every figure of a run from its saved results, as PDF and PNG."""
    from rephase.figures import draw_all
    from rephase.laboratories import load_installed
    from rephase.runs import read_run

    load_installed()
    run = read_run(folder)
    writable_folder(run.folder / "figures", name="RUN")
    for name, outcome in draw_all(run).items():
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
