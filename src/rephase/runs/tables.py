"""Tables for display in notebooks and for print: their text is escaped, whatever it contains."""

from numbers import Number
from typing import Any

import numpy as np
import pandas as pd
from pandas.io.formats.style import Styler

_IN_LATEX = {  # letters that LaTeX's usual fonts lack
    **{"⟨": r"$\langle$", "⟩": r"$\rangle$", "−": "$-$", "–": "--", "…": r"\ldots{}", "≥": r"$\geq$", "≤": r"$\leq$"},
    **{"×": r"$\times$", "±": r"$\pm$", "°": r"$^\circ$", "²": "$^2$", "³": "$^3$", "Å": r"\AA{}", "√": r"$\surd$"},
    **{"α": r"$\alpha$", "β": r"$\beta$", "γ": r"$\gamma$", "σ": r"$\sigma$", "φ": r"$\varphi$", "χ": r"$\chi$"},
    **{"ρ": r"$\rho$", "Δ": r"$\Delta$", "Σ": r"$\Sigma$", "µ": r"$\mu$", "μ": r"$\mu$", "→": r"$\to$"},
    **{"θ": r"$\theta$", "λ": r"$\lambda$", "ε": r"$\epsilon$", "π": r"$\pi$", "⊥": r"$\perp$", "·": r"$\cdot$"},
    **{chr(0x2080 + digit): f"$_{digit}$" for digit in range(10)},
}


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


def latex(table: pd.DataFrame) -> str:
    """Write a table in LaTeX for the package booktabs, numbers with four significant digits, all text escaped."""
    is_numbered = isinstance(table.index, pd.RangeIndex)
    flat = (table if is_numbered else table.reset_index()).map(_printed)
    flat.columns = [" ".join(map(str, name)) if isinstance(name, tuple) else str(name) for name in flat.columns]
    style = flat.style.hide(axis="index").format(escape="latex").format_index(escape="latex", axis=1)
    columns = "".join("r" if is_number else "l" for is_number in _are_numbers(table, is_numbered=is_numbered))
    written = style.to_latex(hrules=True, column_format=columns)
    for letter, command in _IN_LATEX.items():
        written = written.replace(letter, command)
    return written


def _printed(value: Any) -> str:
    if isinstance(value, float | np.floating):
        number = float(value)
        if np.isnan(number):
            return "–"
        return f"{number:.4g}" if abs(number) < 1e4 else f"{number:.0f}"
    return "–" if value is None else " ".join(str(value).split())


def _are_numbers(table: pd.DataFrame, *, is_numbered: bool) -> list[bool]:
    """Whether each printed column holds numbers."""
    flat = table if is_numbered else table.reset_index()
    return [pd.api.types.is_numeric_dtype(dtype) for dtype in flat.dtypes]
