"""The command line: ``rephase run | sweep | figures | bench``."""

import subprocess
import sys
from pathlib import Path
from typing import Annotated

import typer

from rephase.errors import ConfigError, RephaseError, nearest_name
from rephase.paths import BENCHMARKS

app = typer.Typer(
    add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False, help="Recover lost phases."
)

Device = Annotated[str, typer.Option(help="auto, cpu or cuda")]


@app.command()
def run(
    config: Annotated[str, typer.Option(help="a YAML file, or the name of one in configs/")] = "quick",
    set_: Annotated[list[str] | None, typer.Option("--set", help="path.to.key=value; may be repeated")] = None,
    out: Annotated[
        Path | None, typer.Option(help="run folder [default: one of the configuration's own in runs/]")
    ] = None,
    only: Annotated[str, typer.Option(help="numbers of notebooks, e.g. 01,02")] = "",
    device: Device = "auto",
    workers: Annotated[int, typer.Option(help="parallel workers that build data")] = 2,
) -> None:
    """Run the notebooks headless and write results, figures and a report."""
    from rephase.pipeline import run_notebooks

    numbers = [number for number in only.split(",") if number]
    finished = run_notebooks(config, set_ or [], out=out, only=numbers, device=device, workers=workers)
    typer.echo(f"report: {finished.folder / 'report.html'}")


@app.command()
def sweep(
    source: Annotated[str, typer.Argument(help="a YAML file, or the name of one in configs/sweeps/")],
    engine: Annotated[str, typer.Option(help="local, dask, or the address of a Dask scheduler")] = "local",
    jobs: Annotated[int, typer.Option(help="runs at the same time")] = 1,
    device: Device = "auto",
    out: Annotated[Path | None, typer.Option(help="folder of the sweep")] = None,
) -> None:
    """Run a configuration over lists and grids of parameters and seeds, into one table."""
    import pandas as pd

    from rephase.pipeline import run_sweep

    folder = run_sweep(source, engine=engine, jobs=jobs, device=device, out=out)
    failed = pd.read_csv(folder / "status.csv").dropna(subset="error")
    for _, point in failed.iterrows():
        typer.echo(f"failed: {point['folder']}: {point['error']}", err=True)
    typer.echo(f"table: {folder / 'results.csv'}")
    raise typer.Exit(1 if len(failed) else 0)


@app.command()
def figures(folder: Annotated[Path, typer.Argument(help="a run folder")]) -> None:
    """Draw every figure of a run again from its saved results, as PDF and PNG."""
    from rephase.figures import draw_all
    from rephase.runs import read_run

    for name, outcome in draw_all(read_run(folder)).items():
        typer.echo(f"{name}: {outcome}")


@app.command()
def bench(name: Annotated[str, typer.Argument(help="a file of benchmarks/; none lists them")] = "") -> None:
    """Run a benchmark against its peers."""
    known = sorted(path.stem for path in BENCHMARKS.glob("*.py"))
    if not name:
        typer.echo("\n".join(known))
        return
    if name not in known:
        raise ConfigError(f"no benchmark {name!r}; {nearest_name(name, known)}")
    raise typer.Exit(subprocess.run([sys.executable, str(BENCHMARKS / f"{name}.py")], check=False).returncode)


def main() -> None:
    """Run a command; an error that the user can mend is one line without a traceback."""
    try:
        app()
    except RephaseError as error:
        typer.echo(f"{type(error).__name__}: {error}", err=True)
        raise SystemExit(2) from None


if __name__ == "__main__":
    main()
