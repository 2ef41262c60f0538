"""Many crystals at once: each solved in its own folder, with one table and one page that links them."""

import hashlib
import os
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, astuple, fields
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pandas as pd
from tqdm import tqdm

from rephase.config.sections import fingerprint
from rephase.errors import RephaseError
from rephase.files.reading import stem_of
from rephase.files.writing import ResultSet, only_writer
from rephase.labs.solving.index_page import index_page
from rephase.labs.solving.request import Request, solve_file
from rephase.labs.solving.row import Row, row_of
from rephase.paths import RUNS
from rephase.sources import source_files

TABLE, PAGE = "results.csv", "index.html"
_COLUMNS = [field.name for field in fields(Row)]
_PRINTED = 7  # columns of the printed table


class Batch(NamedTuple):
    """The rows of the files that were given, and the page of the folder."""

    rows: list[Row]
    page: Path

    @property
    def failed(self) -> list[Row]:
        """Rows of the files that could not be solved."""
        return [row for row in self.rows if row.reason]

    def text(self) -> str:
        """The table as text, with dashes for what is unknown."""
        table = _table(self.rows).iloc[:, :_PRINTED]
        return table.replace("", "–").to_string(index=False)


def default_folder(given: Sequence[Path]) -> Path:
    """Return ``runs/solve/NAME``, named after the folder that was given or that has the first file."""
    first = Path(os.path.abspath(given[0]))
    return RUNS / "solve" / (first if first.is_dir() else first.parent).name


def solve_many(files: Sequence[Path], folder: Path, request: Request, *, again: bool = False) -> Batch:
    """Solve the crystals of several files; a file that fails is recorded with its reason and passed over.

    The table and the page are written after each crystal. A second call skips the crystals that were solved from the
    same inputs with the same options and code.

    Parameters
    ----------
    files
        Reflection files.
    folder
        Folder of the results, with a subfolder for each file.
    request
        Options, the same for all files.
    again
        Whether finished crystals are solved again.

    Raises
    ------
    ConfigError, DiskError
        The folder cannot be written, or would lose files that rephase did not write.
    """
    results = ResultSet(folder, (TABLE, PAGE), files)
    named = folder_names(files)
    with only_writer(results.folder):
        rows = _earlier_rows(results.folder)
        with tqdm(named.items(), unit="crystal", desc=results.folder.name) as bar:
            for name, file in bar:
                bar.set_postfix_str(name)
                state = _state(file, request)
                if again or not _is_finished(rows.get(name), state, results.folder):
                    rows[name] = _solved(file, results.folder / name, request, state)
                    _write(results, rows.values())
        _write(results, rows.values())
    return Batch([rows[name] for name in named], results.folder / PAGE)


def folder_names(files: Sequence[Path]) -> dict[str, Path]:
    """Name the results of each file: by its stem; files of the same stem also by their folder, then by a number."""
    stems = Counter(stem_of(file).lower() for file in files)
    named: dict[str, Path] = {}
    for file in files:
        stem = stem_of(file)
        name = base = stem if stems[stem.lower()] == 1 else f"{file.absolute().parent.name}-{stem}"
        number = 2
        while name in named:
            name, number = f"{base}-{number}", number + 1
        named[name] = file
    return named


def _solved(file: Path, out: Path, request: Request, state: str) -> Row:
    """Solve one crystal; the row of a failure has its reason."""
    start = time.perf_counter()
    try:
        solution = solve_file(file, out, request)
        return row_of(solution, file, out, formula=request.formula, seconds=time.perf_counter() - start, state=state)
    except (RephaseError, OSError) as error:
        reason = str(error)
    except (MemoryError, ArithmeticError, LookupError, RuntimeError, TypeError, ValueError) as error:
        reason = f"{type(error).__name__}: {error}"  # of one crystal among many: the others are solved all the same
    return Row(name=out.name, verdict="failed", file=os.path.abspath(file), reason=str(RephaseError(reason)))


def _is_finished(row: Row | None, state: str, folder: Path) -> bool:
    return row is not None and row.state == state and (folder / row.name / "solution.json").is_file()


def _state(file: Path, request: Request) -> str:
    """Fingerprint the options, the code, and the files that are read."""
    options = {key: str(value) for key, value in asdict(request).items() if key != "device"}
    inputs = sorted({path for path in request.inputs(file) if path.is_file()})
    return fingerprint([options, _code(), *(hashlib.sha256(path.read_bytes()).hexdigest() for path in inputs)])


@cache
def _code() -> str:
    """Fingerprint of the code that solves."""
    return fingerprint([hashlib.sha256(path.read_bytes()).hexdigest() for path in source_files("rephase.labs.solving")])


def _earlier_rows(folder: Path) -> dict[str, Row]:
    """Rows of the table so far whose file still exists; none if there is no table or another version wrote it."""
    path = folder / TABLE
    if not path.is_file():
        return {}
    table = pd.read_csv(path, dtype=str, keep_default_na=False)
    if list(table.columns) != _COLUMNS:
        return {}
    rows = [Row(*values) for values in table.itertuples(index=False, name=None)]
    return {row.name: row for row in rows if os.path.isfile(row.file)}


def _write(results: ResultSet, rows: Iterable[Row]) -> None:
    rows = list(rows)
    with results.staged() as stage:
        _table(rows).to_csv(stage / TABLE, index=False)
        (stage / PAGE).write_text(index_page(results.folder.name, rows), encoding="utf-8")


def _table(rows: Iterable[Row]) -> pd.DataFrame:
    return pd.DataFrame(map(astuple, rows), columns=_COLUMNS)
