"""The files that a command or a configuration reads, with those beside them that belong to them."""

import glob
import os
from collections.abc import Iterator
from itertools import chain
from pathlib import Path


def with_neighbours(*named: str | Path | None) -> Iterator[Path]:
    """List the existing files that a configuration names, and their neighbours with the same stem."""
    for file in named:
        if file is not None and os.path.isfile(file):
            path = Path(file)
            yield from path.parent.glob(f"{glob.escape(path.stem)}.*")


def read_with(*files: Path | None) -> list[Path]:
    """List the input files of a command and the neighbours that share their first word, which readers may also open."""
    given = [file for file in files if file is not None]
    beside = [file.parent.glob(f"{glob.escape(file.name.split('.')[0])}.*") for file in given]
    return [*given, *chain.from_iterable(beside)]
