"""The commands: ``rephase run | sweep | data | figures | solve | complete | weights | fetch-cod | bench``."""

import typer

from rephase.commands.benchmarks import bench
from rephase.commands.downloads import fetch_cod
from rephase.commands.running import data, figures, run, sweep, weights
from rephase.commands.solving import complete, solve

app = typer.Typer(
    add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False, help="Recover lost phases."
)
for command in (run, sweep, data, figures, solve, complete, weights, fetch_cod, bench):
    app.command()(command)
