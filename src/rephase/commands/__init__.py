"""The commands: ``rephase run | train | data | sweep | figures | solve | complete | weights | fetch-cod | bench``."""

import typer

from rephase.commands.batches import data, sweep
from rephase.commands.benchmarks import bench
from rephase.commands.downloads import fetch_cod
from rephase.commands.running import figures, run, weights
from rephase.commands.solving import complete, solve
from rephase.commands.training import train

app = typer.Typer(
    add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False, help="Recover lost phases."
)
for command in (run, train, data, sweep, figures, solve, complete, weights, fetch_cod, bench):
    app.command()(command)
