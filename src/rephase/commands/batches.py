"""Commands that share work among processes and machines: ``rephase sweep | data``."""

from pathlib import Path
from typing import Annotated

import typer

from rephase.commands.options import Configuration, Device, Engine, Minutes, Only, Overrides, RunFolder, names_of
from rephase.deadlines import pause_after
from rephase.errors import ConfigError


def sweep(
    source: Annotated[str, typer.Argument(help="a YAML file, or the name of one in configs/sweeps/")],
    engine: Engine = "local",
    jobs: Annotated[int, typer.Option(help="number of simultaneous runs")] = 1,
    device: Device = "auto",
    out: Annotated[Path | None, typer.Option(help="sweep folder", show_default="runs/sweeps/NAME-FINGERPRINT")] = None,
    minutes: Minutes = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="print job script and runs, and start nothing")] = False,
) -> None:
    """Run a configuration for every combination of swept parameters and seeds, and collect the results in one table."""
    import pandas as pd

    from rephase.laboratories import load_installed
    from rephase.sweeps import plan_sweep, run_sweep

    load_installed()
    if minutes is not None and engine not in ("local", "dask"):
        raise ConfigError(f"minutes = {minutes}: expected none with a scheduler, whose workers have their own limits")
    plan = plan_sweep(source, engine=engine, jobs=jobs, device=device, out=out)
    if dry_run:
        typer.echo(str(plan))
        return
    with pause_after(minutes):
        folder = run_sweep(plan)
    failed = pd.read_csv(folder / "status.csv").dropna(subset="error")
    for _, point in failed.iterrows():
        typer.echo(f"failed: {point['folder']}: {point['error']}", err=True)
    typer.echo(f"table: {folder / 'results.csv'}")
    raise typer.Exit(1 if len(failed) else 0)


def data(
    config: Configuration = "quick",
    set_: Overrides = None,
    out: RunFolder = None,
    only: Only = "",
    engine: Engine = "local",
    jobs: Annotated[int, typer.Option(help="number of shards that are built at the same time")] = 1,
    cluster: Annotated[
        Path | None, typer.Option(help="YAML file with the keys of a sweep's section cluster, for slurm and pbs")
    ] = None,
    workers: Annotated[
        int | None, typer.Option(help="with --shard: number of parallel workers", show_default="2")
    ] = None,
    shard: Annotated[str, typer.Option(help="build only this shard, in this process, e.g. 2/4")] = "",
) -> None:
    """Build the data sets of the notebooks, so that `rephase run` with the same options finds them."""
    from rephase.data_sets import build_data_sets, build_shard
    from rephase.laboratories import load_installed
    from rephase.learning.store import Shard
    from rephase.runs import open_run

    load_installed()
    if shard:
        if engine != "local" or jobs != 1 or cluster is not None:
            raise ConfigError(
                f"--shard {shard}: expected no --engine, --jobs or --cluster: it is built in this process"
            )
        run = open_run(out, config, set_ or [], workers=2 if workers is None else workers)
        build_shard(run, names_of(only), Shard.parse(shard))
        return
    if workers is not None:
        raise ConfigError(f"--workers {workers}: expected --shard; without it, give --jobs")
    stores = build_data_sets(
        config, set_ or [], out=out, only=names_of(only), engine=engine, jobs=jobs, cluster=cluster
    )
    for path in stores:
        typer.echo(f"data set: {path}")
