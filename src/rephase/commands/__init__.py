"""The commands: ``rephase run | train | sweep | figures | solve | complete | weights | fetch-cod | bench``."""

import typer

from rephase.commands.benchmarks import bench
from rephase.commands.downloads import fetch_cod
from rephase.commands.running import figures, run, sweep, train, weights
from rephase.commands.solving import complete, solve

app = typer.Typer(
    add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False, help="Recover lost phases."
)
for command in (run, train, sweep, figures, solve, complete, weights, fetch_cod, bench):
    app.command()(command)
