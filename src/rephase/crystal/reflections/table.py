"""Tables from lines of numbers: in fixed columns, where fields may touch, or with separators between them."""

import re
from collections.abc import Sequence

import numpy as np

from rephase.crystal.decimal_numbers import decimal_numbers
from rephase.errors import ReflectionError

Fields = Sequence[tuple[int, int]]  # start and end column of each field; the first three fields are integers
HKLF4: Fields = ((0, 4), (4, 8), (8, 12), (12, 20), (20, 28), (28, 32))  # 3I4, 2F8.2, I4: h k l I σ batch
HKLM: Fields = ((0, 4), (4, 8), (8, 12), (12, 16), (16, 24), (24, 32))  # 4I4, 2F8.2: h k l m I σ
_BLOCK = 200_000  # lines at a time, to limit memory
_BLANK, _POINT, _TAB = b" .\t"
_FORTRAN_EXPONENT = re.compile(r"(?<=[\d.])[dD](?=[-+]?\d)")
_FORMAT = re.compile(r"(\d*)([ifegdx])(\d*)(?:\.\d+)?", re.IGNORECASE)


def fixed_table(
    lines: list[str], fields: Fields, *, n_needed: int = 4, integers: Sequence[int] = (0, 1, 2)
) -> np.ndarray | None:
    """Read a table [n, n_fields] in fixed columns, NaN for blank fields; None if a line does not fit the columns.

    A line fits if no field is cut in two or holds two words, integers have no decimal point, the first `n_needed`
    fields are not blank, and a field that touches the one before it is filled to its last column.
    """
    tables = []
    for start in range(0, len(lines), _BLOCK):
        try:
            table = _fixed_block(lines[start : start + _BLOCK], fields, n_needed, integers)
        except ValueError:
            return None
        tables.append(table)
    return np.concatenate(tables)


def _fixed_block(lines: list[str], fields: Fields, n_needed: int, integers: Sequence[int]) -> np.ndarray:
    """As `fixed_table`; raises ValueError if a line does not fit the columns."""
    width = fields[-1][1]
    raw = np.array(lines, dtype=f"S{width}").view(np.uint8).reshape(len(lines), width)
    raw = np.where(raw == 0, _BLANK, raw)
    if (raw == _TAB).any():
        raise ValueError("a tab")
    columns = []
    for number, (start, end) in enumerate(fields):
        field = np.ascontiguousarray(raw[:, start:end])
        is_blank = (field == _BLANK).all(1)
        touches = (field[:, 0] != _BLANK) & (raw[:, start - 1] != _BLANK) if start else np.zeros(len(lines), bool)
        has_point = number in integers and (field == _POINT).any()
        if (number < n_needed and is_blank.any()) or (touches & (field[:, -1] == _BLANK)).any() or has_point:
            raise ValueError("a field that is blank, not filled or not an integer")
        column = np.full(len(lines), np.nan)
        column[~is_blank] = decimal_numbers(field[~is_blank])
        columns.append(column)
    return np.column_stack(columns)


def fortran_fields(text: str) -> Fields | None:
    """Parse the fields of a Fortran format such as ``(3i4,2f10.2,i4)``; None if it has other fields than numbers."""
    fields, place = [], 0
    for word in text.strip().strip("()").replace(" ", "").split(","):
        if not (found := _FORMAT.fullmatch(word)):
            return None
        count, kind, width = int(found[1] or 1), found[2].lower(), int(found[3] or 0)
        if kind == "x":
            place += count
            continue
        if not 0 < width < 100 or not 0 < count < 100:
            return None
        fields += [(place + width * number, place + width * (number + 1)) for number in range(count)]
        place += width * count
    return fields


def word_counts(lines: list[str]) -> np.ndarray:
    """Number of words in each line, [n]."""
    return np.fromiter(map(len, map(str.split, lines)), dtype=int, count=len(lines))


def without_comments(lines: list[str]) -> list[str]:
    """Cut each line at a #, and drop lines that are only comments."""
    if not any("#" in line for line in lines):
        return lines
    return [before for line in lines if (before := line.partition("#")[0].rstrip())]


def spaced_table(lines: list[str], columns: Sequence[int], *, name: str, comments: str = "#") -> np.ndarray:
    """Read a table [n, n_columns] from the words at the given positions of each line.

    Raises
    ------
    ReflectionError
        A word is not a number.
    """
    try:
        return np.loadtxt(lines, usecols=list(columns), ndmin=2, comments=comments)
    except (ValueError, IndexError, OverflowError) as error:
        if any(_FORTRAN_EXPONENT.search(line) for line in lines):
            lines = [_FORTRAN_EXPONENT.sub("e", line) for line in lines]
            return spaced_table(lines, columns, name=name, comments=comments)
        raise ReflectionError(f"{name}: {error}; expected numbers in the columns h k l I σ") from error
