"""The tables of a sweep: the state of every run, and the results of those that are done."""

from contextlib import suppress
from pathlib import Path
from typing import Any

import pandas as pd

from rephase.engines import Outcome
from rephase.engines.progress import DONE, FAILED, WAITING
from rephase.errors import PipelineError, RephaseError
from rephase.files.writing import ResultSet, write_whole
from rephase.sweeps.points import point_folder

_RESULTS, _STATUS = "results.csv", "status.csv"


class SweepTables:
    """``results.csv`` and ``status.csv`` of a sweep, written again whenever a run has ended.

    What an earlier process of the sweep has finished is in them from the start.

    Parameters
    ----------
    folder
        Sweep folder; it is created if missing.
    points
        What each run changes in the configuration.

    Raises
    ------
    ConfigError
        The folder cannot be written, or a table there was not written by rephase.
    """

    def __init__(self, folder: Path, points: list[dict[str, Any]]):
        self._files, self._points = ResultSet(folder, (_RESULTS, _STATUS)), points
        self._folders = [point_folder(folder, point) for point in points]
        self._tables: list[pd.DataFrame | None] = [None] * len(points)
        self._errors = [""] * len(points)
        before = _done_before(folder / _STATUS)
        for number, path in enumerate(self._folders):
            if path.name in before:
                self.read(number)

    def read(self, number: int) -> Outcome:
        """Read the results of a run that is done; return its outcome, with any error of them."""
        try:
            self._tables[number] = _results(self._folders[number], self._points[number])
        except PipelineError as error:
            self._errors[number] = str(error)
        return Outcome(number, self._errors[number])

    def end(self, outcome: Outcome) -> Outcome:
        """Take in a run that has ended, and write the tables; return its outcome, with any error of its results."""
        number, error = outcome
        self._tables[number], self._errors[number] = None, error
        if not error:
            self.read(number)
        with suppress(RephaseError):  # raised at the end, by `write`, so that it does not stop the other runs
            self.write()
        return Outcome(number, self._errors[number])

    def write(self) -> pd.DataFrame:
        """Write both tables; return the results.

        Raises
        ------
        ConfigError
            A table was changed after it was written.
        """
        tables = [table for table in self._tables if table is not None and len(table.columns)]
        results = pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()
        with self._files.staged() as stage:
            write_whole(stage / _STATUS, self.status().to_csv(index=False))
            write_whole(stage / _RESULTS, results.to_csv(index=False))
        return results

    def status(self) -> pd.DataFrame:
        """Return what each run changes, and its folder, state and error."""
        rows = [
            {**point, "folder": path.name, "state": self._state(number), "error": self._errors[number]}
            for number, (point, path) in enumerate(zip(self._points, self._folders))
        ]
        return pd.DataFrame(rows).sort_values("folder")

    @property
    def n_waiting(self) -> int:
        """Number of runs that have neither succeeded nor failed."""
        return sum(self._state(number) == WAITING for number in range(len(self._points)))

    def _state(self, number: int) -> str:
        if self._errors[number]:
            return FAILED
        return WAITING if self._tables[number] is None else DONE


def _done_before(path: Path) -> set[str]:
    """Return the folders of the runs that an earlier process finished, by the table of states that it left."""
    try:
        table = pd.read_csv(path, dtype=str)
        return set(table["folder"][table["state"] == DONE])
    except (OSError, ValueError, KeyError):  # there is none, or it is damaged: those runs are only looked at again
        return set()


def _results(folder: Path, point: dict[str, Any]) -> pd.DataFrame:
    """Read the results of a point and add its parameters; empty if its notebooks score nothing."""
    path = folder / _RESULTS
    if not path.is_file():
        return pd.DataFrame()
    try:
        table = pd.read_csv(path)
    except (OSError, ValueError) as error:
        raise PipelineError(f"{path}: damaged ({error}); delete it and run the sweep again") from error
    return table.assign(**{key: str(v) if isinstance(v, (list, dict)) else v for key, v in point.items()})
