"""Draw any laboratory's figures, and write its tables for print, from the saved results of a run."""

from collections.abc import Iterable, Iterator
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure

from rephase.errors import ConfigError, StoreError, nearest_name
from rephase.files.writing import disk_errors, write_whole
from rephase.laboratories import LABORATORIES, all_figures, all_tables
from rephase.plots import STYLE, save_figure
from rephase.runs import Run
from rephase.runs.tables import latex


def draw(run: Run, name: str) -> Figure:
    """Draw the named figure from the saved results of a run, and write it to ``figures/`` as PDF and PNG."""
    known = all_figures()
    if name not in known:
        raise ConfigError(f"no figure {name!r}; {nearest_name(name, known)}")
    with plt.style.context(STYLE):
        figure = known[name](run)
        save_figure(figure, run.folder / "figures", name)
    return figure


def tabulate(run: Run, name: str) -> pd.DataFrame:
    """Make the named table from the saved results of a run; write it to ``tables/`` as CSV and as LaTeX (booktabs)."""
    known = all_tables()
    if name not in known:
        raise ConfigError(f"no table {name!r}; {nearest_name(name, known)}")
    table, folder = known[name](run), run.folder / "tables"
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    is_numbered = isinstance(table.index, pd.RangeIndex)
    write_whole(folder / f"{name}.csv", table.to_csv(index=not is_numbered))
    write_whole(folder / f"{name}.tex", latex(table))
    return table


def draw_all(run: Run, laboratories: Iterable[str] = ()) -> Iterator[tuple[str, Path | str]]:
    """Draw every figure and write every table whose data the run has, of the named laboratories or of all.

    Yields
    ------
    tuple of str and (Path or str)
        Name of a figure or table, and its file, or why it could not be made.

    Raises
    ------
    StoreError
        Saved results are damaged; all that could be made without them was made before.
    """
    damaged = None
    for laboratory in laboratories or LABORATORIES:
        for make, folder, suffix, names in (
            (draw, "figures", "png", LABORATORIES[laboratory].figures),
            (tabulate, "tables", "tex", LABORATORIES[laboratory].tables),
        ):
            for name in names:
                try:
                    make(run, name)
                    yield name, run.folder / folder / f"{name}.{suffix}"
                except FileNotFoundError as error:
                    yield name, f"not made: {Path(error.filename).name} does not exist yet"
                except StoreError as error:
                    damaged = damaged or error
                    yield name, f"not made: {error}"
    if damaged:
        raise damaged
