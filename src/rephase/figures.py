"""Draw any laboratory's figures, and write its tables for print, from the saved results of a run."""

from collections.abc import Iterable, Iterator
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
from IPython.display import Markdown, display
from matplotlib.figure import Figure
from pandas.io.formats.style import Styler

from rephase.errors import ConfigError, StoreError, nearest_name
from rephase.files.writing import disk_errors, write_whole
from rephase.laboratories import LABORATORIES, all_figures, all_tables
from rephase.plots import STYLE, save_figure
from rephase.runs import Run
from rephase.runs.tables import latex, styled

_LONGEST = 40  # rows of a table in a notebook


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
    damaged = []
    for name, file, made in _each(run, laboratories or LABORATORIES):
        yield name, f"not made: {made}" if isinstance(made, Exception) else file
        damaged += [made] if isinstance(made, StoreError) else []
    if damaged:
        raise damaged[0]


def show_all(run: Run, laboratory: str) -> pd.DataFrame:
    """Draw and show in a notebook every figure and table of a laboratory; return those that are missing, with why."""
    missing = {}
    for name, _, made in _each(run, [laboratory]):
        if isinstance(made, Exception):
            missing[name] = str(made)
        else:
            title = Markdown(f"**{name.replace('_', ' ').capitalize()}**")  # type: ignore[no-untyped-call]
            display(title, _shown(made))  # type: ignore[no-untyped-call]
    return pd.DataFrame({"missing": missing.keys(), "because": missing.values()})


def _shown(made: Figure | pd.DataFrame) -> Figure | Styler:
    if isinstance(made, Figure):
        return made
    table = styled(made.head(_LONGEST), precision=4)
    return table.hide(axis="index") if isinstance(made.index, pd.RangeIndex) else table


def _each(run: Run, laboratories: Iterable[str]) -> Iterator[tuple[str, Path, Figure | pd.DataFrame | Exception]]:
    """Make the figures, then the tables, of laboratories; yield the name of each, its file, and it or its error."""
    for laboratory in laboratories:
        figures, tables = LABORATORIES[laboratory].figures, LABORATORIES[laboratory].tables
        files: dict[str, Path] = {name: run.folder / "figures" / f"{name}.png" for name in figures}
        files |= {name: run.folder / "tables" / f"{name}.tex" for name in tables}
        for name, file in files.items():
            try:
                yield name, file, draw(run, name) if name in figures else tabulate(run, name)
            except FileNotFoundError as error:
                yield name, file, LookupError(f"{Path(error.filename).name} does not exist yet")
            except StoreError as error:
                yield name, file, error
