"""Arguments and options that several commands share."""

from pathlib import Path
from typing import Annotated

import typer

Device = Annotated[str, typer.Option(help="auto, cpu or cuda")]
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
