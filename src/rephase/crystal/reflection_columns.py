"""What a file of reflections says, as a `Listing`; lists in columns: SHELX HKLF 3 and 4, or with spaces between."""

import re
import warnings
from itertools import takewhile
from typing import NamedTuple

import numpy as np

from rephase.crystal.cell import Cell
from rephase.crystal.shelx import Instructions
from rephase.crystal.symmetry import SpaceGroup
from rephase.errors import ReflectionError

_FIELDS = ((0, 4), (4, 8), (8, 12), (12, 20), (20, 28))  # 3I4, 2F8.2
_LAST_ROW = re.compile(r"^[ \t]*[-+]?0[ \t]+[-+]?0[ \t]+[-+]?0(?=[ \t\r\n]|\Z)[^\n]*", re.MULTILINE)
_ROW = re.compile(  # of a reflection, with spaces between the fields or in fixed columns
    r"[ \t]*(?:[-+]?\d{1,4}[ \t]+){3}[-+]?[\d.]+(?:[eE][-+]?\d+)?(?=\s|\Z)"
    r"|[ \d+-]{11}\d[ \d.+-]{7}[\d.][ \d.+-]{7}[\d.]"
)
_NUMBER = re.compile(r"[-+]?(\d+(\.\d*)?|\.\d+)([eE][-+]?\d+)?|[-+]?(nan|inf)", re.IGNORECASE)
_SAMPLE = 200  # lines on which the two readings are compared


class Listing(NamedTuple):
    """The columns of a file: ``hkl [n, 3]``, ``value`` and ``sigma [n]`` as written, ``phi [n]`` in degrees.

    NaN marks a value that the file leaves open.
    """

    hkl: np.ndarray
    value: np.ndarray
    sigma: np.ndarray | None = None
    phi_deg: np.ndarray | None = None
    is_amplitude: bool = False
    cell: Cell | None = None
    space_group: SpaceGroup | None = None
    wavelength: float | None = None


def from_columns(text: str, *, name: str, instructions: Instructions | None = None) -> Listing:
    """Read h k l I σ in the fixed columns of HKLF 4 (fields may touch), or with spaces between; ends at 0 0 0.

    Lines of words before the first reflection are skipped.

    Raises
    ------
    ReflectionError
        A field that is not a number, too few columns, or twinned data (HKLF 5).

    Warns
    -----
    UserWarning
        A header that is skipped, reflections after 0 0 0, a crystal that is twinned.
    """
    lines = _lines_of_list(text, name)
    if not lines:
        raise ReflectionError(f"{name}: no reflections; expected lines of h k l I σ, an MTZ file or a CIF")
    table = _fixed(lines)
    if table is None:
        table = _spaced(lines, name)
    if (instructions and instructions.hklf == 5) or (table.shape[1] == 6 and (table[:, 5] < 0).any()):
        raise ReflectionError(f"{name}: HKLF 5 (overlapping reflections of a twin) is not supported; write HKLF 4 data")
    finite = np.isfinite(table[:, :4]).all(1)
    if not finite.all():
        raise ReflectionError(f"{name}: {lines[int(finite.argmin())].strip()[:80]!r}: expected finite h, k, l and I")
    if instructions is None:
        return Listing(table[:, :3], table[:, 3], table[:, 4])
    if instructions.is_twinned:
        warnings.warn(
            f"{name}: the instructions beside it say that the crystal is twinned (TWIN, BASF): each intensity is a sum "
            "over the domains, and phases may fail; give detwinned data if there are any",
            stacklevel=2,
        )
    if instructions.hklf not in (3, 4):
        raise ReflectionError(f"{name}: HKLF {instructions.hklf} is not supported; expected HKLF 4, or 3 for |F|")
    hkl = table[:, :3] @ instructions.matrix.T
    return Listing(
        np.where(np.abs(hkl - np.rint(hkl)) < 0.01, np.rint(hkl), hkl),
        table[:, 3] * instructions.scale,
        table[:, 4] * abs(instructions.scale),
        None,
        instructions.hklf == 3,
        instructions.cell,
        instructions.symmetry,
        instructions.wavelength,
    )


def _lines_of_list(text: str, name: str) -> list[str]:
    """The lines between header and 0 0 0 that are not blank; a warning where reflections follow it."""
    last = _LAST_ROW.search(text)
    lines = [line for line in text[: last.start() if last else None].splitlines() if line.strip()]
    lines = _without_header(lines, name)
    if last is None:
        return lines
    if not lines:
        raise ReflectionError(f"{name}: 0 0 0 in row 1 ends an HKLF 4 list; leave F(000) out")
    rest = (line for line in text[last.end() :].splitlines() if line.strip() and not _LAST_ROW.match(line))
    if n_left := len(list(takewhile(_ROW.match, rest))):
        warnings.warn(
            f"{name}: {n_left} reflections after the row 0 0 0, which ends an HKLF 4 list, are left out; "
            "delete that row if they belong to the list",
            stacklevel=2,
        )
    return lines


def _without_header(lines: list[str], name: str) -> list[str]:
    """The lines from the first that may be a reflection on; a warning that shows the words that are left out."""
    header = list(takewhile(_is_header, lines))
    words = [line.strip() for line in header if not line.lstrip().startswith("#")]
    if words and len(header) < len(lines):
        warnings.warn(
            f"{name}: {len(words)} lines of a header are left out, the last is {words[-1][:80]!r}; the columns are "
            "read as h k l I σ",
            stacklevel=4,
        )
    return lines[len(header) :]


def _is_header(line: str) -> bool:
    """A comment, or words with fewer numbers than h k l I among them."""
    if line.lstrip().startswith("#"):
        return True
    return line.lstrip()[0].isalpha() and sum(_NUMBER.fullmatch(word) is not None for word in line.split()) < 4


def _fixed(lines: list[str]) -> np.ndarray | None:
    """The table [n, 6] of fixed columns; None where a field is no number or the lines read otherwise with spaces."""
    try:
        raw = np.array(lines, dtype="S32").view("S1").reshape(len(lines), 32)
        field = lambda a, b: np.ascontiguousarray(raw[:, a:b]).view(f"S{b - a}").ravel()  # noqa: E731
        table = np.stack([field(a, b).astype(int if b <= 12 else float) for a, b in _FIELDS], axis=1)
        batch = field(28, 32)
        batch[np.char.strip(batch) == b""] = b"1"
        table = np.column_stack([table, batch.astype(float)])
    except ValueError:
        return None
    return None if any(_reads_otherwise(line.split(), row[:5]) for line, row in zip(lines[:_SAMPLE], table)) else table


def _reads_otherwise(words: list[str], row: np.ndarray) -> bool:
    """Whether a line is complete with spaces between its fields, and says something else than its fixed columns."""
    if len(words) < 5 or not all(re.fullmatch(r"[-+]?\d{1,4}", word) for word in words[:3]):
        return False
    try:
        return not np.allclose([float(word) for word in words[:5]], row, rtol=0.01, atol=0.01)
    except ValueError:
        return False


def _spaced(lines: list[str], name: str) -> np.ndarray:
    """The table [n, 5] of fields with spaces between; σ is NaN where there are only four."""
    first = next((line for line in lines if not line.lstrip().startswith("#")), "")
    count = len(first.split())
    if count < 4:
        raise ReflectionError(f"{name}: {first[:80]!r}: {count} columns; expected at least four: h k l I, and σ")
    try:
        table = np.loadtxt(lines, usecols=range(min(count, 5)), ndmin=2, comments="#")
    except ValueError as error:
        raise ReflectionError(f"{name}: {error}; expected numbers in the columns h k l I σ") from error
    return table if table.shape[1] == 5 else np.column_stack([table, np.full(len(table), np.nan)])
