"""Arguments and options that several commands share."""

from pathlib import Path
from typing import Annotated

import typer

Device = Annotated[str, typer.Option(help="auto, cpu or cuda")]
Configuration = Annotated[str, typer.Option(help="a YAML file, or the name of one in configs/")]
Overrides = Annotated[list[str] | None, typer.Option("--set", help="path.to.key=value; may be repeated")]
RunFolder = Annotated[
    Path | None, typer.Option("--out", help="run folder", show_default="runs/NAME-FINGERPRINT of the configuration")
]
Only = Annotated[
    str, typer.Option(help="notebook numbers or laboratories, e.g. 01,02 or waves; or all", show_default="01-06,08")
]
Workers = Annotated[int, typer.Option(help="number of parallel workers that build data")]
Minutes = Annotated[
    float | None,
    typer.Option(help="pause after so many minutes; the same command continues", show_default="no limit"),
]
Engine = Annotated[str, typer.Option(help="local, dask, slurm, pbs, or the address of a Dask scheduler")]
Measured = Annotated[
    Path,
    typer.Argument(
        metavar="FILE",
        help="reflection file: COD or CIF, SHELX .hkl, .fcf, MTZ, XDS_ASCII, SCALEPACK, FullProf .int, CSV",
    ),
]
CellText = Annotated[str, typer.Option(help="unit cell a,b,c,alpha,beta,gamma (Å, degrees), if the file has none")]
GroupText = Annotated[str, typer.Option(help="space group, symbol or number, if the file has none, e.g. 'P 21/c'")]
Column = Annotated[str, typer.Option(help="label of the data column, if an MTZ or a CIF file has several")]
Effort = Annotated[float, typer.Option(help="upper limit of the search effort; 10 searches up to ten times as long")]
Seed = Annotated[int, typer.Option(help="seed of the random starts", min=0, max=2**63 - 1)]


def names_of(listed: str) -> list[str]:
    """Split names separated by commas."""
    return [name.strip() for name in listed.split(",") if name.strip()]
