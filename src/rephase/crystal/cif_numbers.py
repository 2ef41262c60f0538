"""Columns of numbers in a CIF, with standard uncertainties in brackets."""

import gemmi
import numpy as np

from rephase.crystal.decimal_numbers import decimal_numbers
from rephase.errors import ReflectionError

_LONGEST = 32  # characters of a number
_UNKNOWN = (b"?", b".", b"'?'", b"'.'")


def cif_numbers(column: gemmi.cif.Column, tag: str, *, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Values of a column and their standard uncertainties, both [n]; NaN for ``?``, ``.`` and missing brackets.

    ``12.3(4)`` is 12.3 ± 0.4, ``1.2(34)`` 1.2 ± 3.4, ``120(10)`` 120 ± 10, ``1.2(3)e2`` 120 ± 30.

    Raises
    ------
    ReflectionError
        A value is not a number.
    """
    listed = list(column)
    width = max(map(len, listed), default=1)
    if width > _LONGEST:
        listed, width = [text if len(text) <= _LONGEST else "too long" for text in listed], _LONGEST
    try:
        texts = np.array(listed, dtype=f"S{width}")
    except UnicodeEncodeError:
        texts = np.char.encode(np.array(listed), "ascii", "replace")
    is_unknown = np.isin(texts, _UNKNOWN)
    texts[is_unknown] = b"0"
    try:
        values, sigma = _parsed(texts)
    except ValueError:
        row = _first_wrong(texts)
        raise ReflectionError(
            f"{name}: {tag} = {column[row]!r} in row {row + 1}: expected a number, or ? where it is unknown"
        ) from None
    return np.where(is_unknown, np.nan, values), sigma


def uncertainty_of(text: str) -> float:
    """Return the standard uncertainty in the brackets of one number; 0 if there is none.

    >>> uncertainty_of("10.9(5)")
    0.5
    """
    try:
        _, sigma = _parsed(np.array([text.encode("ascii", "replace")]))
    except ValueError:
        return 0.0
    return float(np.nan_to_num(sigma[0]))


def _first_wrong(texts: np.ndarray) -> int:
    """Find the first row that is not a number, by bisection."""
    start, end = 0, len(texts)
    while end - start > 1:
        middle = (start + end) // 2
        try:
            _parsed(texts[start:middle])
            start = middle
        except ValueError:
            end = middle
    return start


def _parsed(texts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Values and uncertainties [n] of byte strings; raises ValueError if one is not a number."""
    has_brackets = np.char.find(texts, b"(") >= 0
    sigma = np.full(len(texts), np.nan)
    if not has_brackets.any():
        return _floats(texts), sigma
    before, _, after = np.char.partition(texts, b"(").T
    digits, closing, exponent = np.char.partition(after, b")").T
    if (has_brackets & (closing != b")")).any():
        raise ValueError("an open bracket")
    mantissa = np.char.partition(np.char.lower(before), b"e").T[0]
    decimals = np.char.str_len(np.char.partition(mantissa, b".").T[2])
    values, of_mantissa = _floats(np.char.add(before, exponent)), _floats(mantissa)
    power = np.divide(values, of_mantissa, out=np.ones(len(values)), where=of_mantissa != 0)
    last_digit = np.where(np.char.find(digits, b".") >= 0, 1.0, 10.0**-decimals)  # some programs write 12.3(0.4)
    sigma[has_brackets] = _floats(digits[has_brackets]) * (last_digit * power)[has_brackets]
    return values, sigma


def _floats(texts: np.ndarray) -> np.ndarray:
    """Convert byte strings to numbers."""
    return decimal_numbers(np.ascontiguousarray(texts).view(np.uint8).reshape(len(texts), -1))
