"""Reflections in text columns: SHELX HKLF 3 and 4, separated by spaces or commas, with or without a header."""

import re
import warnings
from itertools import takewhile

import numpy as np

from rephase.crystal.reflections.listing import Listing, listing_of
from rephase.crystal.reflections.names import COMMENTS, SEPARATORS, column_roles, fields_of, names_indices
from rephase.crystal.reflections.table import HKLF4, HKLM, fixed_table, spaced_table, without_comments, word_counts
from rephase.crystal.shelx import Instructions
from rephase.errors import ReflectionError

_LAST_ROW = re.compile(r"^[ \t]*[-+]?0[ \t]+[-+]?0[ \t]+[-+]?0(?=[ \t\n]|\Z)[^\n]*", re.MULTILINE)
_ROW = re.compile(  # a reflection, with spaces between the fields or in fixed columns
    r"[ \t]*(?:[-+]?\d{1,4}[ \t]+){3}[-+]?[\d.]+(?:[eE][-+]?\d+)?(?=\s|\Z)"
    r"|[ \d+-]{11}\d[ \d.+-]{7}[\d.][ \d.+-]{7}[\d.]"
)
_NUMBER = re.compile(r"[-+]?(\d+([.,]\d*)?|\.\d+)([eE][-+]?\d+)?|[-+]?(nan|inf)", re.IGNORECASE)
_WORDS = re.compile(r"[\s,;\"]+")
_ROLES = {"h": 0, "k": 1, "l": 2, "I": 3, "sigma": 4}  # without a header
_LIKE_THE_VALUE = 0.25  # median |σ/I - 1| of strong reflections; if lower, σ may be a calculated intensity
_AS_SPREAD = 0.5  # lowest ratio of the standard deviations of a calculated and a measured intensity
_HIGHEST_ORDER = 9  # largest |m| of satellites


def from_columns(text: str, *, name: str, instructions: Instructions | None = None) -> Listing:
    """Read h k l I σ up to 0 0 0, in the fixed columns of HKLF 4 (fields may touch) or with separators.

    A header may name the columns. Other lines of words before the first reflection are skipped.

    Raises
    ------
    ReflectionError
        A field is not a number, columns are missing, lines have unequal lengths, or the data are twinned (HKLF 5).

    Warns
    -----
    UserWarning
        A header is skipped, columns are ignored or ambiguous, reflections follow 0 0 0, or the crystal is twinned.
    """
    lines, roles = _lines_of_list(text, name)
    if not lines:
        raise ReflectionError(f"{name}: no reflections; expected lines of h k l I σ, an MTZ file or a CIF")
    columns = _columns(lines, roles, name)
    _check_twin(columns, instructions, name)
    _check_finite(columns, lines, name, may_be_empty=roles is not None)
    listing = listing_of(columns)
    return listing if instructions is None else _as_instructed(listing, instructions, name)


def _check_finite(columns: dict[str, np.ndarray], lines: list[str], name: str, *, may_be_empty: bool) -> None:
    """Raise for a row without h, k, l and a value; with named columns the value may be missing."""
    value = next(columns[role] for role in ("I", "F", "phi") if role in columns)
    is_whole = np.isfinite([columns["h"], columns["k"], columns["l"]]).all(0)
    is_whole &= np.isfinite(value) | (np.isnan(value) & may_be_empty)
    if not is_whole.all():
        raise ReflectionError(f"{name}: {lines[int(is_whole.argmin())].strip()[:80]!r}: expected finite h, k, l and I")


def _as_instructed(listing: Listing, instructions: Instructions, name: str) -> Listing:
    """Apply the HKLF matrix and scale of the instructions to a listing, and add cell and group."""
    if instructions.is_twinned:
        warnings.warn(
            f"{name}: the .ins or .res beside it says that the crystal is twinned (TWIN, BASF): each intensity is a "
            "sum over the domains, and phasing may fail; give detwinned data if available",
            stacklevel=3,
        )
    if instructions.hklf not in (3, 4):
        raise ReflectionError(f"{name}: HKLF {instructions.hklf} is not supported; expected HKLF 4, or 3 for |F|")
    hkl = listing.hkl @ instructions.matrix.T
    return listing._replace(
        hkl=np.where(np.abs(hkl - np.rint(hkl)) < 0.01, np.rint(hkl), hkl),
        value=listing.value * instructions.scale,
        sigma=None if listing.sigma is None else listing.sigma * abs(instructions.scale),
        is_amplitude=listing.is_amplitude or instructions.hklf == 3,
        cell=instructions.cell,
        space_group=instructions.symmetry,
        wavelength=instructions.wavelength,
        radiation=instructions.radiation,
        temperature=instructions.temperature,
        formula=instructions.formula,
    )


def _check_twin(columns: dict[str, np.ndarray], instructions: Instructions | None, name: str) -> None:
    """Raise for HKLF 5: overlapping reflections share one intensity, and all but the last have a negative batch.

    Single reflections with batch -1 are the R-free set of an HKLF 4 list.
    """
    batch = columns.get("batch", np.ones(len(columns["h"])))
    is_same = np.all([np.diff(columns[role]) == 0 for role in ("I", "sigma") if role in columns], axis=0)
    overlaps = (batch[:-1] < 0) & is_same
    is_twin = overlaps.sum() > (batch < 0).sum() / 2 or (instructions is None and (batch < -1).any())
    if is_twin or (instructions is not None and instructions.hklf == 5):
        raise ReflectionError(f"{name}: HKLF 5 (overlapping reflections of a twin) is not supported; write HKLF 4 data")


def _lines_of_list(text: str, name: str) -> tuple[list[str], dict[str, int] | None]:
    """The non-blank lines between header and 0 0 0, and the roles of their columns if the header names them."""
    last = _LAST_ROW.search(text)
    lines = [line for line in text[: last.start() if last else None].split("\n") if line.strip()]
    lines, roles = _without_header(lines, name)
    if last is None:
        return _with_spaces(lines), roles
    if not lines:
        raise ReflectionError(f"{name}: 0 0 0 in row 1 ends an HKLF 4 list; leave F(000) out")
    rest = (line for line in text[last.end() :].split("\n") if line.strip() and not _LAST_ROW.match(line))
    if n_left := len(list(takewhile(_ROW.match, rest))):
        warnings.warn(
            f"{name}: {n_left} reflections after the row 0 0 0, which ends an HKLF 4 list, are left out; "
            "delete that row if they belong to the list",
            stacklevel=3,
        )
    return _with_spaces(lines), roles


def _without_header(lines: list[str], name: str) -> tuple[list[str], dict[str, int] | None]:
    """The lines from the first possible reflection on, and the column roles that the last header line names.

    A warning shows the header lines that are ignored.
    """
    header = list(takewhile(_is_header, lines))
    named = [line for line in header if any(map(str.isalnum, line))]
    roles = _roles(named[-1], lines[len(header)], name) if named and len(header) < len(lines) else None
    words = [line.strip() for line in named if not line.lstrip().startswith(tuple(COMMENTS))]
    if len(words) > (roles is not None) and len(header) < len(lines):
        warnings.warn(
            f"{name}: {len(words)} lines of a header are left out, the last is {words[-1][:80]!r}; the columns are "
            f"read as {' '.join(sorted(roles, key=roles.__getitem__)) if roles else 'h k l I σ'}",
            stacklevel=4,
        )
    return lines[len(header) :], roles


def _roles(header: str, row: str, name: str) -> dict[str, int] | None:
    """The column roles that a header names, if it has as many names as the first row has fields.

    Raises
    ------
    ReflectionError
        The header names columns, but not h, k, l and a value, so the intensity cannot be identified.
    """
    names, fields = (fields_of(line.partition("#")[0]) for line in (header.lstrip(f"{COMMENTS} \t"), row))
    roles = column_roles(header) if len(names) == len(fields) else None
    is_table = any(sign in header for sign in SEPARATORS) or names_indices(names)
    if roles is None and len(names) == len(fields) and is_table:
        raise ReflectionError(
            f"{name}: the columns are called {', '.join(names)[:80]}: expected h, k, l, I or F, and sigma; rename them"
        )
    return roles


def _is_header(line: str) -> bool:
    """Whether a line is a comment, a rule, or words with fewer than the four numbers of h k l I."""
    plain = line.lstrip(f' "{SEPARATORS}')
    if not any(map(str.isalnum, plain)) or plain.startswith(tuple(COMMENTS)):
        return True
    return plain[0].isalpha() and sum(_NUMBER.fullmatch(word) is not None for word in _WORDS.split(plain)) < 4


def _with_spaces(lines: list[str]) -> list[str]:
    """Replace separators and quotes by spaces, empty fields by ``nan``, and decimal commas by points."""
    first = lines[0] if lines else ""
    separator = next((sign for sign in SEPARATORS if sign in first), None)
    if separator is None:
        return lines
    text = "\n".join(lines).replace('"', "")
    if separator == "," and re.search(r"\d,\d", first) and len(first.split()) > 3 and ", " not in first:
        return text.replace(",", ".").split("\n")
    if separator != ",":
        text = text.replace(",", ".")
    text = re.sub(rf"(?m)(?:^|(?<={separator}))(?= *(?:{separator}|$))", "nan", text)
    return text.replace(separator, " ").split("\n")


def _columns(lines: list[str], roles: dict[str, int] | None, name: str) -> dict[str, np.ndarray]:
    """The columns [n] by role, from the header or else as h k l I σ batch or h k l m I σ."""
    usual = roles is None or {"I" if role == "F" else role: place for role, place in roles.items()} == _ROLES
    if not usual and roles is not None:
        table = spaced_table(lines, list(roles.values()), name=name)
        return dict(zip(roles, table.T))
    columns = _unnamed_columns(lines, name)
    if roles is None:
        _check_sigma(columns, name)
    elif "F" in roles:
        columns["F"] = columns.pop("I")
    return columns


def _check_sigma(columns: dict[str, np.ndarray], name: str) -> None:
    """Raise if the column in the place of σ follows the intensity: it is then calculated, not σ."""
    value, sigma = columns["I"], columns.get("sigma")
    if sigma is None or not (bright := (value > 0) & (value >= np.median(value))).any():
        return
    value, sigma = value[bright], sigma[bright]
    is_as_large = np.median(np.abs(sigma / value - 1)) < _LIKE_THE_VALUE
    if is_as_large and np.std(sigma) > _AS_SPREAD * np.std(value) > 0:  # σ of weak data is as large, but uniform
        raise ReflectionError(
            f"{name}: the fifth column is as large as the fourth, like calculated beside measured intensities, and no "
            "line names the columns: expected h k l I σ; write the names above them, such as h k l Fc^2 Fo^2 sigma"
        )


def _unnamed_columns(lines: list[str], name: str) -> dict[str, np.ndarray]:
    table = fixed_table(lines, HKLF4, integers=(0, 1, 2, 5))
    if table is not None:
        _warn_if_two_readings(lines, table, name)
        return dict(zip(("h", "k", "l", "I", "sigma", "batch"), [*table[:, :5].T, np.nan_to_num(table[:, 5], nan=1)]))
    table = fixed_table(lines, HKLM, n_needed=6, integers=(0, 1, 2, 3))
    if table is not None and _are_orders(table[:, 3]):
        return dict(zip(("h", "k", "l", "m", "I", "sigma"), table.T))
    return _spaced_columns(without_comments(lines), name)


def _warn_if_two_readings(lines: list[str], table: np.ndarray, name: str) -> None:
    """Warn if fields touch in every line, so that splitting at spaces would give another valid list."""
    if len(lines[0][:28].split()) >= 5 or (word_counts([line[:28] for line in lines]) >= 5).any():
        return
    counts = word_counts(lines)
    if counts.min() >= 5 and counts.min() == counts.max():
        warnings.warn(
            f"{name}: fields touch in every line; {lines[0].strip()[:80]!r} is read in fixed columns (3I4, 2F8) as "
            f"I = {table[0, 3]:g}, σ = {table[0, 4]:g}; if that is wrong, put spaces between all fields",
            stacklevel=6,
        )


def _spaced_columns(lines: list[str], name: str) -> dict[str, np.ndarray]:
    """The columns, from splitting each line at spaces."""
    counts = word_counts(lines)
    fewest, most = int(counts.min()), int(counts.max())
    if overflowing := next((line for line in lines if "**" in line), None):
        raise ReflectionError(
            f"{name}: {overflowing.strip()[:80]!r}: asterisks, where a number did not fit its field; leave the "
            "line out, or write the list again on a smaller scale"
        )
    if fewest < 4:
        line = lines[int(counts.argmin())]
        raise ReflectionError(
            f"{name}: {line.strip()[:80]!r}: {fewest} columns; expected at least four: h k l I, and σ"
        )
    if fewest < most and fewest < 6:
        shown = lines[int((counts != counts[0]).argmax())].strip()[:80]
        raise ReflectionError(
            f"{name}: lines of {fewest} to {most} columns, for instance {shown!r}: expected the same number in each; "
            "fields touch or are missing: put a space between all of them"
        )
    if fewest < 6:
        return dict(zip(("h", "k", "l", "I", "sigma"), spaced_table(lines, range(min(fewest, 5)), name=name).T))
    return _six_columns(lines, name)


def _six_columns(lines: list[str], name: str) -> dict[str, np.ndarray]:
    """Read six columns: the sixth is a batch number, or σ if the fourth is a satellite order, or is ignored."""
    try:
        *columns, sixth = spaced_table(lines, range(6), name=name).T
    except ReflectionError:
        *columns, sixth = *spaced_table(lines, range(5), name=name).T, np.full(len(lines), np.nan)
    are_intensities = np.median(np.abs(columns[4])) > np.median(np.abs(columns[3]))
    if _are_orders(columns[3]) and are_intensities and (sixth > 0).all() and not (sixth == sixth[0]).all():
        return dict(zip(("h", "k", "l", "m", "I", "sigma"), [*columns, sixth]))
    if (sixth == np.rint(sixth)).all():
        return dict(zip(("h", "k", "l", "I", "sigma", "batch"), [*columns, sixth]))
    warnings.warn(
        f"{name}: {lines[0].strip()[:80]!r} has more than h k l I σ; the columns from the sixth on are not read",
        stacklevel=6,
    )
    return dict(zip(("h", "k", "l", "I", "sigma"), columns))


def _are_orders(column: np.ndarray) -> bool:
    """Whether all values are small integers, like the index m of satellites."""
    return bool((np.abs(column) <= _HIGHEST_ORDER).all() and (column == np.rint(column)).all())
