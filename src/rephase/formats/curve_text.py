"""Scattering curves in text: a table of numbers among lines of words, with columns recognised by name."""

import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from itertools import groupby
from typing import NamedTuple

import numpy as np

from rephase.errors import CurveError
from rephase.formats.curve_columns import SPACES, named_columns, placed_columns
from rephase.formats.curve_units import COMMENT, Columns, units_said_of_q

_LONGEST = 1000  # characters of a line of words that are searched
_MOST_NUMBERS = 8  # most lines of numbers before a table, such as counts of points and parameters
_DECIMAL_COMMA = re.compile(r"(?=.*[;\t ])(?!.*[.])(?!.*,\s).*\d,\d")
_PLAIN = re.compile(r"[\d.eE+\-\s]+")
_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eEdD][+-]?\d+|(?<=[.\d])[+-]\d{3})?")
_NO_NUMBER = re.compile(r"|[+-]?(?:nan|inf(?:inity)?)|n/?a|null|none|--|\*+|-?1\.#\w+", re.IGNORECASE)
_PROGRAMS = {
    r"\s*%(?:File|Counts|Sample)\b": "a BerSANS file: counts of a detector, or parameters; average it to a curve first",
    r"[\s#]*G N O M\b": "an output of GNOM, with a fit and p(r); give the original curve",
    r"\s*ALV-": "a correlation function of an ALV correlator, not a scattering curve",
    r"\s*\{\s*(?:EDF|HeaderID)": "an image in EDF; average it to a curve first",
}


class TextCurve(NamedTuple):
    """Columns of a text, its units of q, and notes on changes, as sentences."""

    columns: Columns
    q_units: set[str]
    notes: tuple[str, ...]


class _Line(NamedTuple):
    number: int
    text: str
    values: list[float] | None
    """None if the line does not consist of numbers."""


class _Table(NamedTuple):
    values: np.ndarray
    header: list[str]
    others: list[str]
    """Lines of words between and after the rows."""
    notes: tuple[str, ...]


def read_curve_text(name: str, text: str) -> TextCurve:
    """Read the curve of a text: q, I, σ, dq by the names above them, or without names in this order.

    The rows are the longest run of lines with equally many numbers. Text before, between and after them is left out,
    and so are columns with other names, such as a fit.

    Raises
    ------
    CurveError
        The file has another format, there is no table, rows differ in length, or a fit stands in place of σ.
    """
    _check_program(name, text)
    table = _table(name, [_Line(number, line, _numbers(line)) for number, line in _lines(text)])
    found = named_columns(name, table.header, table.values) or placed_columns(name, table.values)
    units = units_said_of_q([*table.header, *(line for line in table.others if "unit" in line.lower())])
    return TextCurve(found[0], units, (*table.notes, *found[1]))


def _check_program(name: str, text: str) -> None:
    for pattern, told in _PROGRAMS.items():
        if re.match(pattern, text, re.IGNORECASE | re.DOTALL):
            raise CurveError(f"{name}: this is {told}")
    if "\0" in text:
        raise CurveError(f"{name}: a binary file: expected columns of text, XML or HDF5; export the curve as text")


def _lines(text: str) -> Iterator[tuple[int, str]]:
    return ((number, line) for number, line in enumerate(text.split("\n"), 1) if line.strip())


def _numbers(line: str) -> list[float] | None:
    """The fields of a line of numbers, NaN for missing-value marks; None if a field is a word."""
    if _PLAIN.fullmatch(line):
        with suppress(ValueError):
            return [float(field) for field in line.split()]
    line = re.sub(r"\"([^\"]*)\"|'([^']*)'", _unquoted, line.strip()).replace("−", "-")
    if not line or line[0] in COMMENT:
        return None
    if _DECIMAL_COMMA.match(line):
        line = line.replace(",", ".")
    fields = re.split(SPACES, line.strip(" \t,;|"))
    is_number = [_NUMBER.fullmatch(field) is not None for field in fields]
    if not any(is_number) or not all(ok or _NO_NUMBER.fullmatch(field) for field, ok in zip(fields, is_number)):
        return None
    return [_value(field) if ok else np.nan for field, ok in zip(fields, is_number)]


def _unquoted(quoted: re.Match[str]) -> str:
    """Remove the quotation marks of a field, and replace its decimal comma by a point."""
    field = (quoted[1] or quoted[2] or "").strip()
    return field.replace(",", ".") if re.fullmatch(r"[+-]?\d*,\d+(?:[eE][+-]?\d+)?", field) else field


def _value(field: str) -> float:
    """Parse a number, also in Fortran's notation: 1.2D-01, and 1.2-101 for exponents of three digits."""
    return float(re.sub(r"(?<=[.\d])[dD]?(?=[+-]\d)|[dD]", "e", field) if not re.search("[eE]", field) else field)


def _table(name: str, lines: list[_Line]) -> _Table:
    rows = [line for line in lines if line.values is not None]
    runs = [list(run) for _, run in groupby(rows, key=lambda line: len(line.values or ()))]
    table = max((run for run in runs if len(run[0].values or ()) > 1), key=len, default=[])
    if not table:
        raise CurveError(f"{name}: no columns of numbers: expected q, I, σ in every row")
    table = _without_header(table, lines)
    first, last = table[0].number, table[-1].number
    before = [line for line in rows if line.number < first]
    astray = [line for line in rows if line.number > last] or (before if len(before) > _MOST_NUMBERS else [])
    if astray:
        counts = ", ".join(map(str, sorted({len(line.values or ()) for line in (*table, *astray)})))
        raise CurveError(
            f"{name}: {counts} columns of numbers: expected q, I, σ in every row; correct or delete line "
            f"{astray[0].number}"
        )
    others = [line for line in lines if line.number > first and line.values is None and not _is_comment(line.text)]
    _check_between(name, [line for line in others if line.number < last])
    header = [line.text[:_LONGEST] for line in lines if line.number < first or _is_comment(line.text)]
    notes = (*_on_lines("of other numbers before the rows", before), *_on_lines("of words among the rows", others))
    return _Table(np.array([line.values for line in table]), header, [line.text for line in others], notes)


def _without_header(table: list[_Line], lines: list[_Line]) -> list[_Line]:
    """Drop leading header lines with as many numbers as the rows: words and a smaller first number follow them."""
    words = [line.number for line in lines if line.values is None and not _is_comment(line.text)]
    for n in range(min(_MOST_NUMBERS, len(table) - 1), 0, -1):
        (*_, before), (after, *_) = table[:n], table[n:]
        falls = (before.values or [0])[0] >= (after.values or [0])[0]
        if falls and any(before.number < number < after.number for number in words):
            return table[n:]
    return table


def _is_comment(line: str) -> bool:
    return line.lstrip()[0] in COMMENT


def _check_between(name: str, lines: Iterable[_Line]) -> None:
    """Raise if a line between the rows is a damaged row: its first word is a number."""
    for line in lines:
        if _numbers(re.split(SPACES, line.text.strip())[0]):
            raise CurveError(f"{name}: line {line.number}: {line.text.strip()[:60]!r}: expected numbers; delete it")


def _on_lines(what: str, lines: list[_Line]) -> list[str]:
    if not lines:
        return []
    return [
        f"{len(lines)} lines {what}, the first in line {lines[0].number} ({lines[0].text.strip()[:40]!r}): left out"
    ]
