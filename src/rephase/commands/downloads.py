"""The command ``rephase fetch-cod``."""

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from rephase.files.writing import writable_folder
from rephase.paths import RUNS


def fetch_cod(
    ids: Annotated[list[str] | None, typer.Argument(help="COD numbers, seven digits each")] = None,
    list_: Annotated[
        Path | None, typer.Option("--list", help="file of COD numbers, one per line; # starts a comment")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="CIF folder", show_default="runs/cod")] = None,
    pause: Annotated[float, typer.Option(help="pause between requests (s)")] = 1.0,
    timeout: Annotated[float, typer.Option(help="time limit of one request (s)")] = 60.0,
    url: Annotated[
        str, typer.Option(help="URL of the folder that holds NUMBER.cif", show_default="the public database")
    ] = "",
) -> None:
    """Download crystal structures from the Crystallography Open Database by number."""
    from tqdm import tqdm

    from rephase.formats import cod

    numbers = [*(ids or []), *(cod.read_numbers(list_) if list_ else [])]
    folder = writable_folder(out or RUNS / "cod", name="--out")
    report = cod.fetch_cod(
        numbers, folder, base_url=url or cod.COD, pause=pause, timeout=timeout, progress=partial(tqdm, unit="file")
    )
    for number, reason in report.failed.items():
        typer.echo(f"failed: {number}: {reason}", err=True)
    typer.echo(f"fetched: {len(report.fetched)}")
    typer.echo(f"already there: {len(report.already_there)}")
    typer.echo(f"failed: {len(report.failed)}")
    typer.echo(f"written: {folder}")
    raise typer.Exit(1 if report.failed else 0)
