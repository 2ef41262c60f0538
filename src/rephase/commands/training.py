"""The command ``rephase train``."""

from typing import Annotated

import typer

from rephase.commands.options import Configuration, Device, Minutes, Overrides, RunFolder, Workers, names_of
from rephase.deadlines import pause_after
from rephase.errors import OutOfTime


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
    from rephase.ranks import Ranks
    from rephase.trainings import run_trainings

    load_installed()
    ranks = Ranks(devices, nodes, strategy)
    chosen, given = {"only": names_of(only), "models": names_of(models)}, set_ or []
    try:
        with pause_after(minutes):
            trained = run_trainings(config, given, out=out, **chosen, device=device, workers=workers, ranks=ranks)
    except OutOfTime:
        if ranks.own() == 0:
            raise
        return  # the first process says so; the failure of another would be taken for one of the training
    for training in trained if ranks.own() == 0 else ():
        typer.echo(f"trained: {training.folder}")
