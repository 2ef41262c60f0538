"""Commands on runs: ``rephase run | sweep | data | figures | weights``."""

from pathlib import Path
from typing import Annotated

import typer

from rephase.commands.options import Device, Engine
from rephase.files.writing import writable_folder
from rephase.paths import RUNS

Config = Annotated[str, typer.Option(help="a YAML file, or the name of one in configs/")]
Changes = Annotated[list[str] | None, typer.Option("--set", help="path.to.key=value; may be repeated")]
RunFolder = Annotated[
    Path | None, typer.Option("--out", help="run folder", show_default="runs/NAME-FINGERPRINT of the configuration")
]
Only = Annotated[
    str, typer.Option(help="notebook numbers or laboratories, e.g. 01,02 or waves; or all", show_default="01-06,08")
]


def _names(only: str) -> list[str]:
    return [name.strip() for name in only.split(",") if name.strip()]


def run(
    config: Config = "quick",
    set_: Changes = None,
    out: RunFolder = None,
    only: Only = "",
    device: Device = "auto",
    workers: Annotated[int, typer.Option(help="number of parallel workers that build data")] = 2,
) -> None:
    """Run the notebooks headless and write results, figures and a report."""
    from rephase.laboratories import load_installed
    from rephase.pipeline import run_notebooks

    load_installed()
    finished = run_notebooks(config, set_ or [], out=out, only=_names(only), device=device, workers=workers)
    typer.echo(f"report: {finished.folder / 'report.html'}")


def sweep(
    source: Annotated[str, typer.Argument(help="a YAML file, or the name of one in configs/sweeps/")],
    engine: Engine = "local",
    jobs: Annotated[int, typer.Option(help="number of simultaneous runs")] = 1,
    device: Device = "auto",
    out: Annotated[Path | None, typer.Option(help="sweep folder", show_default="runs/sweeps/NAME-FINGERPRINT")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="print job script and runs, and start nothing")] = False,
) -> None:
    """Run a configuration for every combination of swept parameters and seeds, and collect the results in one table."""
    import pandas as pd

    from rephase.laboratories import load_installed
    from rephase.sweeps import plan_of_sweep, run_sweep

    load_installed()
    if dry_run:
        typer.echo(plan_of_sweep(source, engine=engine, jobs=jobs, device=device, out=out))
        return
    folder = run_sweep(source, engine=engine, jobs=jobs, device=device, out=out)
    failed = pd.read_csv(folder / "status.csv").dropna(subset="error")
    for _, point in failed.iterrows():
        typer.echo(f"failed: {point['folder']}: {point['error']}", err=True)
    typer.echo(f"table: {folder / 'results.csv'}")
    raise typer.Exit(1 if len(failed) else 0)


def data(
    config: Config = "quick",
    set_: Changes = None,
    out: RunFolder = None,
    only: Only = "",
    engine: Engine = "local",
    jobs: Annotated[int, typer.Option(help="number of shards that are built at the same time")] = 1,
    cluster: Annotated[
        Path | None, typer.Option(help="YAML file with the keys of a sweep's section cluster, for slurm and pbs")
    ] = None,
    workers: Annotated[int, typer.Option(help="with --shard: number of parallel workers")] = 2,
    shard: Annotated[str, typer.Option(help="build only this shard, in this process, e.g. 2/4")] = "",
) -> None:
    """Build the data sets of the notebooks, so that `rephase run` with the same options finds them."""
    from rephase.data_sets import build_data_sets, build_shard
    from rephase.laboratories import load_installed
    from rephase.learning.store import Shard
    from rephase.runs import open_run

    load_installed()
    if shard:
        build_shard(open_run(out, config, set_ or [], workers=workers), _names(only), Shard.parse(shard))
        return
    stores = build_data_sets(config, set_ or [], out=out, only=_names(only), engine=engine, jobs=jobs, cluster=cluster)
    for path in stores:
        typer.echo(f"data set: {path}")


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
