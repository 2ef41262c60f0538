"""Rows of a benchmark in a table that a later run continues."""

from collections.abc import Callable, Iterable
from pathlib import Path

import pandas as pd

Row = dict[str, object]


def read_rows(path: Path) -> list[Row]:
    """Return the rows of an earlier run; none if there was none."""
    return pd.read_csv(path, dtype={"name": str}).to_dict("records") if path.is_file() else []


def replace_rows(path: Path, rows: pd.DataFrame, same: list[str]) -> None:
    """Write rows to a table, in place of earlier ones with the same values in the columns `same`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    every = pd.concat([pd.DataFrame(read_rows(path)), rows])
    every.drop_duplicates(same, keep="last").to_csv(path, index=False)


def continued(path: Path, cases: Iterable[tuple[Row, Callable[[], Row]]]) -> list[Row]:
    """Measure the cases whose keys no row has, append each to the table at once, and return all rows.

    Parameters
    ----------
    cases
        Keys of the row, and the function that measures the rest of it.
    """
    rows = read_rows(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    for keys, measure in cases:
        if any(all(row.get(key) == value for key, value in keys.items()) for row in rows):
            continue
        rows.append(keys | measure())
        pd.DataFrame(rows).to_csv(path, index=False)
        print(*rows[-1].values(), flush=True)
    return rows
