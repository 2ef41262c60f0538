"""Results of the suite: their file, the spread of rounds, and the table for readers."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from measuring.timing import OURS, Row
from rephase.errors import ConfigError
from rephase.files.writing import write_whole
from rephase.paths import RUNS

FORMAT = 1
FOLDER = RUNS / "bench"
_PREFIXES = ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs"))


def write_table(name: str, table: pd.DataFrame) -> None:
    """Write the rows of one benchmark to ``runs/bench/NAME.csv``."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    table.to_csv(FOLDER / f"{name}.csv", index=False)


def write_results(path: Path, results: dict[str, object]) -> None:
    """Write everything that was measured, as JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, json.dumps({"format": FORMAT, **results}, indent=1))


def read_results(path: Path) -> dict[str, object]:
    """Read a file of `write_results`.

    Raises
    ------
    ConfigError
        It is missing or damaged, or of another format.
    """
    remedy = "give the bench.json of an earlier `rephase bench`"
    try:
        results = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise ConfigError(f"--against {path}: cannot be read ({error}); {remedy}") from None
    if not isinstance(results, dict) or results.get("format") != FORMAT:
        found = results.get("format", "none") if isinstance(results, dict) else "none"
        raise ConfigError(f"--against {path}: format {found}, expected {FORMAT}; {remedy} of this version")
    try:
        [_checked(row) for row in results["rows"]]
        dict(results["machine"])
        dict(results["programs"])
        float(results["moments"]["start"]["load"])
    except (KeyError, TypeError, ValueError) as error:
        raise ConfigError(f"--against {path}: damaged ({type(error).__name__}: {error}); {remedy}") from None
    return results


def _checked(row: Row) -> None:
    """Raise an error if a row lacks what a comparison needs."""
    _ = str(row["name"]), int(row["size"]), str(row["unit"]), str(row["axis"])
    for values in (row["values"][OURS], *dict(row["values"]).values()):
        if not values or not (np.isfinite(values).all() and min(values) >= 0):
            raise ValueError(f"{row['name']}: values {values}")


def shown(value: float, unit: str) -> str:
    """Return a value with three digits and its unit.

    >>> shown(0.01234, "s"), shown(512.3, "MB")
    ('12.3 ms', '512 MB')
    """
    factor, name = _scale(value, unit)
    return f"{_digits(value / factor)} {name}"


def _scale(value: float, unit: str) -> tuple[float, str]:
    """Return the factor and the name of the unit in which a value is printed."""
    return (1.0, unit) if unit != "s" else next((p for p in _PREFIXES if value >= p[0]), _PREFIXES[-1])


def _digits(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def spread(values: Sequence[float], unit: str) -> str:
    """Return the median, and the quartiles in brackets, in one unit.

    >>> spread([0.0123, 0.0101, 0.0234], "s")
    '12.3 (11.2 to 17.8) ms'
    """
    factor, name = _scale(float(np.median(values)), unit)
    return f"{quartiles(np.array(values) / factor)} {name}"


def quartiles(values: np.ndarray, sign: str = "") -> str:
    """Return the median with a sign behind it, and the quartiles in brackets."""
    low, middle, high = map(_digits, np.percentile(values, [25, 50, 75]))
    return f"{middle}{sign} ({low} to {high})"


def ratios(row: Row) -> dict[str, np.ndarray]:
    """Return the value of each peer over that of rephase in the same round."""
    ours = np.array(row["values"][OURS])
    return {name: np.array(values) / ours for name, values in row["values"].items() if name != OURS}


def title(row: Row) -> str:
    """Return the name of a row, with its size if there are several."""
    axis = str(row["axis"]) if row["size"] != 1 else str(row["axis"]).removesuffix("s")
    return f"{row['name']}, {row['size']:,} {axis}" if axis else str(row["name"])


def lines(rows: Iterable[Row]) -> list[tuple[str, str, str, str]]:
    """Return the cells of a table: the row, what a value is per, the value, and the peers."""
    table = []
    for row in rows:
        peers = [f"{name} {quartiles(ratio, '×')}" for name, ratio in ratios(row).items()]
        value = f"{spread(row['values'][OURS], row['unit'])}, {len(row['values'][OURS])} rounds"
        skipped = [f"{name}: {reason.partition(';')[0]}" for name, reason in row["skipped"].items()]
        table.append((title(row), str(row["per"]), value, "; ".join(peers + skipped)))
    return table


HEAD = ("", "per", "rephase: median (quartiles)", "peers: times as long as rephase (quartiles)")


def markdown(results: dict[str, object]) -> str:
    """Return the table with its head in Markdown."""
    parts = [*head(results), ""]
    for line in (HEAD, ("---",) * 4, *lines(results["rows"])):
        cells = (cell.replace("|", r"\|") for cell in line)  # a bar ends a cell
        parts.append(f"| {' | '.join(cells)} |")
    return "\n".join(parts) + "\n"


def plain(results: dict[str, object]) -> str:
    """Return the table with its head for a terminal."""
    return "\n".join([*head(results), "", plain_rows(results["rows"])])


def plain_rows(rows: Iterable[Row]) -> str:
    """Return the table alone for a terminal."""
    table = [HEAD, *lines(rows)]
    widths = [max(len(cells[i]) for cells in table) for i in range(3)]
    return "\n".join("  ".join([*(c.ljust(w) for c, w in zip(cells, widths)), cells[3]]).rstrip() for cells in table)


def head(results: dict[str, object]) -> list[str]:
    """Return lines that describe the machine, the versions, and what is missing or failed."""
    said = [", ".join(f"{key} {value}" for key, value in results[part].items()) for part in ("machine", "programs")]
    said.append("; ".join(f"{when} {m['time']}, load {m['load']}" for when, m in results["moments"].items()))
    return [
        *(f"{line}  " for line in said),
        *(f"{name}: {reason}  " for part in ("missing", "failed") for name, reason in results[part].items()),
    ]
