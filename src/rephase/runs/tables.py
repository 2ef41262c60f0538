"""Tables for display in notebooks: their text is escaped, whatever it contains."""

from numbers import Number

import pandas as pd
from pandas.io.formats.style import Styler


def left_out(reason: str, **named: str) -> pd.DataFrame:
    """Return one row that names the omitted work in its own columns, and the reason in the column ``left out``."""
    return pd.DataFrame({**{column: [name] for column, name in named.items()}, "left out": [reason]})


def styled(table: pd.DataFrame, pattern: str | None = None, *, precision: int | None = None) -> Styler:
    """Style a table for display, in HTML that escapes everything that comes from data.

    Parameters
    ----------
    table
        Table to show.
    pattern
        Format of numbers, e.g. ``"{:.3g}"``.
    precision
        Digits after the decimal point, if no pattern is given.
    """
    text = table.map(lambda value: value if isinstance(value, Number) or value is None else str(value))
    made = text.style.format(pattern, precision=precision, escape="html")
    return (
        made.format_index(escape="html", axis=0)
        .format_index(escape="html", axis=1)
        .format_index_names(escape="html", axis=0)
        .format_index_names(escape="html", axis=1)
    )
