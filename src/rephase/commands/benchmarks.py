"""The command ``rephase bench``."""

import subprocess
import sys
from typing import Annotated

import typer

from rephase.errors import ConfigError, nearest_name
from rephase.paths import BENCHMARKS


def bench(
    name: Annotated[str, typer.Argument(help="name of a file in benchmarks/; without one, all are listed")] = "",
    options: Annotated[list[str] | None, typer.Argument(help="options of the benchmark, after --")] = None,
) -> None:
    """Run a benchmark from benchmarks/."""
    if not BENCHMARKS.is_dir():
        raise ConfigError("benchmarks are not part of the package; work in a checkout of rephase")
    known = sorted(path.stem for path in BENCHMARKS.glob("*.py"))
    if not name:
        typer.echo("\n".join(known))
        return
    if name not in known:
        raise ConfigError(f"no benchmark {name!r}; {nearest_name(name, known)}")
    raise typer.Exit(
        subprocess.run([sys.executable, str(BENCHMARKS / f"{name}.py"), *(options or [])], check=False).returncode
    )
