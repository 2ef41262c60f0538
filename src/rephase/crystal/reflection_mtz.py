"""Reflections in MTZ files, read and written."""

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import gemmi
import numpy as np

from rephase.crystal.cell import Cell
from rephase.crystal.reflection_columns import Listing
from rephase.crystal.symmetry import Symmetry, find_symmetry
from rephase.errors import ReflectionError, nearest_name
from rephase.reading import file_bytes, plain_copy
from rephase.writing import write_whole

_SIGMA_TYPES = {"J": "Q", "K": "M", "F": "Q", "G": "L"}  # by the type of the value, in the order of preference


def from_mtz(path: Path, *, name: str, column: str | None = None) -> Listing:
    """Read intensities, else amplitudes, of an MTZ file; with PHI where there is one.

    Columns of the two Friedel mates, I(+) and I(-), are read as separate reflections.

    Raises
    ------
    ReflectionError
        A damaged file, or one without the column that is asked for.
    """
    mtz = open_mtz(path, name)
    columns = list(mtz.columns)
    value = _mtz_column(columns, name, column)
    mates = [value]
    if value.type in "KG" and column is None:
        mates = [one for one in columns if one.type == value.type][:2]
    signs = [-1 if "(-)" in one.label else 1 for one in mates]
    phases = sorted((one for one in columns if one.type == "P"), key=lambda one: one.label != "PHI")
    wavelength = next((one.wavelength for one in mtz.datasets if one.id == value.dataset_id), 0.0)
    miller = mtz.make_miller_array()
    return Listing(
        np.concatenate([sign * miller for sign in signs]),
        np.concatenate([_floats(one) for one in mates]),
        np.concatenate([_floats(_sigma_column(columns, one), len(miller)) for one in mates]),
        np.concatenate([sign * _floats(phases[0]) for sign in signs]) if phases else None,
        value.type in "FG",
        Cell(*mtz.cell.parameters),
        find_symmetry(mtz.spacegroup.xhm()) if mtz.spacegroup else None,
        wavelength if 0.01 < wavelength < 100 else None,
    )


def write_mtz(
    path: str | Path, hkl: np.ndarray, amplitude: np.ndarray, phi: np.ndarray, fom: np.ndarray,
    cell: Cell, symmetry: Symmetry,
) -> None:  # fmt: skip
    """Write an MTZ file with the columns H K L F PHI FOM; the phases in degrees.

    Parameters
    ----------
    hkl
        [n_refl, 3].
    amplitude, phi, fom
        [n_refl]; phi in radians, fom 0–1.
    """
    columns = {"F": ("F", amplitude), "PHI": ("P", np.degrees(phi)), "FOM": ("W", fom)}
    write_mtz_columns(path, hkl, columns, cell, symmetry)


def write_mtz_columns(
    path: str | Path, hkl: np.ndarray, columns: Mapping[str, tuple[str, np.ndarray]], cell: Cell, symmetry: Symmetry
) -> None:
    """Write an MTZ file with H K L and any columns.

    A group that is not in the tables is expanded to P 1.

    Parameters
    ----------
    hkl
        [n_refl, 3].
    columns
        The MTZ type and the values [n_refl] of each label; phases (type P) in degrees.
    """
    group, values = symmetry.table_entry, {label: np.asarray(column) for label, (_, column) in columns.items()}
    if group is None:
        group = gemmi.SpaceGroup("P 1")
        values = {label: _expanded(symmetry, hkl, *column) for label, column in columns.items()}
        hkl = symmetry.expand(hkl, np.zeros(len(hkl)))[0]
    mtz = gemmi.Mtz(with_base=True)
    mtz.title = "rephase"
    mtz.spacegroup = group
    mtz.set_cell_for_all(gemmi.UnitCell(*cell.parameters))
    mtz.add_dataset("rephase")
    mtz.set_cell_for_all(gemmi.UnitCell(*cell.parameters))
    for label, (kind, _) in columns.items():
        mtz.add_column(label, kind)
    mtz.set_data(np.column_stack([hkl, *values.values()]).astype(np.float32))
    write_whole(Path(path), mtz.write_to_bytes())


def _expanded(symmetry: Symmetry, hkl: np.ndarray, kind: str, column: np.ndarray) -> np.ndarray:
    """A column of an MTZ file for every equivalent; phases in degrees move with them."""
    if kind == "P":
        return np.degrees(np.angle(symmetry.expand(hkl, np.exp(1j * np.radians(column)))[1]))
    return symmetry.expand(hkl, np.asarray(column, dtype=float))[1]


def open_mtz(path: Path, name: str) -> gemmi.Mtz:
    """Read an MTZ file whole, or raise `ReflectionError`."""
    content = file_bytes(path, ReflectionError)
    _check_mtz_size(content, name)
    try:
        with plain_copy(content) as copy:
            mtz = gemmi.read_mtz_file(copy)
        if len(mtz.batches):
            mtz.switch_to_original_hkl()
    except (ValueError, RuntimeError, IndexError, MemoryError, OSError) as error:
        raise ReflectionError(f"{name}: not a complete MTZ file ({error}); get the file again") from error
    return mtz


def _check_mtz_size(content: bytes, name: str) -> None:
    """Raise unless header and data are where the first bytes say: wrong ones would ask for any amount of memory."""
    order: Literal["little", "big"] = "big" if content[9:10] == b"\x11" else "little"
    word = int.from_bytes(content[4:8], order, signed=True)
    start = 4 * ((int.from_bytes(content[12:20], order, signed=True) if word == -1 else word) - 1)
    header = content[start:] if start >= 80 else b""
    records = [header[at : at + 80] for at in range(0, min(len(header), 80 * 10000), 80)]
    counts = [record.split() for record in records if record.startswith(b"NCOL")]
    if content[8:10] not in (b"DA", b"\x11\x11") or not header.startswith(b"VERS") or not counts:
        raise ReflectionError(f"{name}: not a complete MTZ file (no header where it should be); get the file again")
    if not all(record.isascii() for record in records if record[:4] in (b"COLU", b"SYMI")):
        raise ReflectionError(f"{name}: the MTZ file has damaged column labels; get the file again")
    for words in counts:
        is_whole = len(words) >= 4 and all(word.isdigit() for word in words[1:4])
        if not is_whole or 80 + 4 * int(words[1]) * int(words[2]) > start:
            raise ReflectionError(f"{name}: not a complete MTZ file (fewer data than its header says); get it again")


def _mtz_column(columns: list[gemmi.Mtz.Column], name: str, column: str | None) -> gemmi.Mtz.Column:
    """The column asked for, else intensities before amplitudes, with their σ before those without."""
    known = {one.label: one for one in columns}
    if column is not None and column not in known:
        raise ReflectionError(f"{name}: no column {column!r}; {nearest_name(column, known)}")
    if column is not None and known[column].type not in _SIGMA_TYPES:
        raise ReflectionError(f"{name}: column {column!r} has type {known[column].type}; expected J, K, F or G")
    if column is not None:
        return known[column]
    measured = [one for one in columns if one.type in _SIGMA_TYPES]
    if not measured:
        raise ReflectionError(f"{name}: no intensities or amplitudes among the columns {', '.join(known)}")
    order = list(_SIGMA_TYPES)
    return min(measured, key=lambda one: (order.index(one.type), _sigma_column(columns, one) is None))


def _sigma_column(columns: list[gemmi.Mtz.Column], value: gemmi.Mtz.Column) -> gemmi.Mtz.Column | None:
    """The column named SIG and the value's label, else the next one unless named for another; of the type of a σ."""
    possible = [one for one in columns if one.type == _SIGMA_TYPES[value.type]]
    others = {f"SIG{one.label}" for one in columns if one.label != value.label}
    named = [one for one in possible if one.label == f"SIG{value.label}"]
    following = [one for one in possible if one.idx == value.idx + 1 and one.label not in others]
    return next(iter(named + following), None)


def _floats(column: gemmi.Mtz.Column | None, count: int = 0) -> np.ndarray:
    return np.full(count, np.nan) if column is None else np.array(column.array, dtype=float)
