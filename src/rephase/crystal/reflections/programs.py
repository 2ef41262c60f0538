"""Readers for the lists of other programs: XDS_ASCII, merged SCALEPACK and FullProf."""

import re
from collections.abc import Callable

import numpy as np

from rephase.crystal.cell import Cell
from rephase.crystal.reflections.listing import Listing, listing_of
from rephase.crystal.reflections.table import Fields, fixed_table, fortran_fields, spaced_table
from rephase.errors import ReflectionError

_NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
_XDS = re.compile(r"!FORMAT=XDS_ASCII")
_XDS_ITEMS = {"h": "H", "k": "K", "l": "L", "I": "IOBS", "sigma": "SIGMA(IOBS)"}
_SCALEPACK = re.compile(rf"[ ]*1[ ]*\n[ ]*-\d+[ ]*\n((?:[ ]*{_NUMBER}){{6}})[ ]+(\S[^\n]*)\n")
_SCALEPACK_FIELDS: Fields = ((0, 4), (4, 8), (8, 12), (12, 20), (20, 28), (28, 36), (36, 44))  # 3I4, 4F8.1
_FULLPROF = re.compile(rf"[^\n]*\n[ ]*(\([^\n()]*\))[^\n]*\n[ ]*({_NUMBER})[ ]+(\d+)(?:[ ]+(\d+))?[^\n]*\n")


def program_of(text: str) -> Callable[..., Listing] | None:
    """Find the reader for the list of another program; None if the text is no such list."""
    readers = {_XDS: _from_xds, _SCALEPACK: _from_scalepack, _FULLPROF: _from_fullprof}
    return next((reader for mark, reader in readers.items() if mark.match(text)), None)


def _from_xds(text: str, *, name: str) -> Listing:
    """Read XDS_ASCII.HKL from CORRECT or XSCALE (Kabsch 2010, doi:10.1107/S0907444909047337).

    A negative σ marks misfits.
    """
    header = "\n".join(re.findall(r"^!.*", text, re.MULTILINE))
    items = {label: int(place) - 1 for label, place in re.findall(r"^!ITEM_(\S+)=\s*(\d{1,3})\b", header, re.MULTILINE)}
    if missing := [label for label in _XDS_ITEMS.values() if label not in items]:
        raise ReflectionError(f"{name}: XDS_ASCII without !ITEM_{missing[0]} in its header; get the file again")
    lines = [line for line in text.split("\n") if line.strip() and not line.startswith("!")]
    if not lines:
        raise ReflectionError(f"{name}: XDS_ASCII without reflections; get the file again")
    places = [items[label] for label in _XDS_ITEMS.values()]
    columns = dict(zip(_XDS_ITEMS, spaced_table(lines, places, name=name, comments="!").T))
    cell = _header_numbers(header, "UNIT_CELL_CONSTANTS", 6)
    group, wavelength = _header_numbers(header, "SPACE_GROUP_NUMBER", 1), _header_numbers(header, "X-RAY_WAVELENGTH", 1)
    return listing_of(
        columns,
        cell=Cell(*cell) if cell else None,
        space_group=int(group[0]) if group and group[0] else None,
        wavelength=wavelength[0] if wavelength and 0.01 < wavelength[0] < 100 else None,
    )


def _header_numbers(header: str, key: str, count: int) -> list[float] | None:
    """The numbers after ``KEY=`` in a header; None if there are none."""
    found = re.search(rf"{key}=((?:\s*{_NUMBER}){{{count}}})", header)
    return [float(word) for word in found[1].split()] if found else None


def _from_scalepack(text: str, *, name: str) -> Listing:
    """Read merged SCALEPACK: three header lines, then h k l I σ, or I+ σ+ I- σ-, in 3I4, 4F8.1."""
    header = _SCALEPACK.match(text)
    if header is None:
        raise ReflectionError(f"{name}: no header of SCALEPACK; expected three lines, the third with cell and group")
    table = fixed_table(_body(text, header), _SCALEPACK_FIELDS)
    if table is None:
        raise ReflectionError(f"{name}: merged SCALEPACK, but not in the columns 3I4, 4F8.1; get the file again")
    has_mate = np.isfinite(table[:, 5])
    mates = np.vstack([table[:, :5], np.column_stack([-table[:, :3], table[:, 5:]])[has_mate]])
    columns = dict(zip(("h", "k", "l", "I", "sigma"), mates.T))
    return listing_of(columns, cell=Cell(*map(float, header[1].split())), space_group=header[2].strip())


def _from_fullprof(text: str, *, name: str) -> Listing:
    """Read FullProf's `.int`: title, Fortran format, wavelength and kind of data; then h k l, I or F, σ, a code."""
    header = _FULLPROF.match(text)
    fields = fortran_fields(header[1]) if header else None
    if header is None or fields is None or len(fields) < 5:
        raise ReflectionError(
            f"{name}: this looks like FullProf's .int, but its second line is not a format of h k l I σ such as "
            "(3i4,2f8.2,i4); correct it, or write SHELX HKLF 4"
        )
    if header[3] not in "01" or header[4] not in (None, "0"):
        raise ReflectionError(
            f"{name}: FullProf's .int with the codes {header[3]} {header[4]} after the wavelength: expected 0 or 1 "
            "(intensities or amplitudes) and 0 (no twin); write SHELX HKLF 4"
        )
    lines = _body(text, header)
    if lines and len(lines[0].split()) < 4:
        raise ReflectionError(
            f"{name}: FullProf's .int with {lines[0].strip()[:80]!r} after its header, as lists with propagation "
            "vectors have: not supported; write the reflections of the nuclear cell as SHELX HKLF 4"
        )
    table = fixed_table(lines, fields[:5])
    if table is None:
        table = spaced_table(lines, range(5), name=f"{name} (FullProf's .int, {header[1]})")
    columns = dict(zip(("h", "k", "l", "I" if header[3] == "0" else "F", "sigma"), table.T))
    return listing_of(columns, wavelength=float(header[2]) if 0.01 < float(header[2]) < 100 else None)


def _body(text: str, header: re.Match[str]) -> list[str]:
    """The non-blank lines after a header."""
    return [line for line in text[header.end() :].split("\n") if line.strip()]
