"""Reflections in MTZ files, read and written."""

import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Literal, NamedTuple

import gemmi
import numpy as np

from rephase.crystal.cell import Cell
from rephase.crystal.reflections.listing import Listing
from rephase.crystal.symmetry import Symmetry, find_symmetry
from rephase.errors import CifError, ReflectionError, SymmetryError, nearest_name
from rephase.files.reading import plain_copy
from rephase.files.writing import write_whole

_SIGMA_TYPES = {"J": "Q", "K": "M", "F": "Q", "G": "L"}  # type of σ for each type of value, in order of preference
_WHOLE = 256  # M/ISYM is at least this for partially recorded reflections
_PARTIAL = "partially recorded; sum them with their other parts first"


def from_mtz(content: bytes, *, name: str, column: str | None = None) -> Listing:
    """Read intensities or, without them, amplitudes of an MTZ file; also PHI if there is one.

    Columns of the two Friedel mates, I(+) and I(-), are read as separate reflections. Among columns with values, the
    first one is read; columns with a σ come before columns without.

    Raises
    ------
    ReflectionError
        The file is damaged, or lacks the requested column.

    Warns
    -----
    UserWarning
        Several data sets have a suitable column.
    """
    found = open_mtz(content, name)
    columns = list(found.mtz.columns)
    value = _mtz_column(columns, name, column)
    mates = [value]
    if value.type in "KG" and column is None:
        mates = [one for one in columns if (one.type, one.dataset_id) == (value.type, value.dataset_id)][:2]
    signs = [-1 if "(-)" in one.label else 1 for one in mates]
    phase = filled_column(found.mtz, "P", "PHI")
    wavelength = next((one.wavelength for one in found.mtz.datasets if one.id == value.dataset_id), 0.0)
    miller = found.mtz.make_miller_array()
    return Listing(
        np.concatenate([sign * miller for sign in signs]),
        np.concatenate([found.values(one) for one in mates]),
        np.concatenate([found.values(_sigma_column(columns, one)) for one in mates]),
        np.concatenate([sign * found.values(phase) for sign in signs]) if phase else None,
        value.type in "FG",
        found.cell(value.dataset_id),
        found.symmetry,
        wavelength if 0.01 < wavelength < 100 else None,
        marked={_PARTIAL: np.concatenate([found.is_partial] * len(mates))},
    )


def write_mtz(
    path: str | Path,
    hkl: np.ndarray,
    amplitude: np.ndarray,
    phi: np.ndarray,
    fom: np.ndarray,
    cell: Cell,
    symmetry: Symmetry,
    *,
    rivals: Iterable[np.ndarray] = (),
    maps: Mapping[tuple[str, str], np.ndarray] = {},
) -> None:
    """Write an MTZ file with the columns H K L F PHI FOM, PHI_RIVAL1, ..., and those of maps; the phases in degrees.

    Parameters
    ----------
    hkl
        Miller indices [n_refl, 3].
    amplitude, phi, fom
        Columns [n_refl]; phi in radians, fom 0–1.
    rivals
        Alternative phases that explain the amplitudes equally well, each [n_refl], radians.
    maps
        Coefficients of maps, complex [n_refl], by the labels of their amplitude and phase.
    """
    columns = {"F": ("F", amplitude), "PHI": ("P", np.degrees(phi)), "FOM": ("W", fom)}
    columns |= {f"PHI_RIVAL{n}": ("P", np.degrees(rival)) for n, rival in enumerate(rivals, start=1)}
    for (label, phase_label), F in maps.items():
        columns |= {label: ("F", np.abs(F)), phase_label: ("P", np.degrees(np.angle(F)))}
    write_mtz_columns(path, hkl, columns, cell, symmetry)


def write_mtz_columns(
    path: str | Path, hkl: np.ndarray, columns: Mapping[str, tuple[str, np.ndarray]], cell: Cell, symmetry: Symmetry
) -> None:
    """Write an MTZ file with H K L and any columns.

    If the group is not in the tables, the list is expanded to P 1.

    Parameters
    ----------
    hkl
        Miller indices [n_refl, 3].
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
    """Expand a column to all equivalents; phases (degrees) are transformed."""
    if kind == "P":
        return np.degrees(np.angle(symmetry.expand(hkl, np.exp(1j * np.radians(column)))[1]))
    return symmetry.expand(hkl, np.asarray(column, dtype=float))[1]


class OpenMtz(NamedTuple):
    """An MTZ file with original indices, the group of its operations, and a mask [n] of partially recorded rows."""

    mtz: gemmi.Mtz
    symmetry: Symmetry | None
    is_partial: np.ndarray

    def values(self, column: gemmi.Mtz.Column | None) -> np.ndarray:
        """A column [n] with NaN for the file's missing-number flag; all NaN if there is no column."""
        if column is None:
            return np.full(len(self.is_partial), np.nan)
        values = np.array(column.array, dtype=float)
        return np.where(values == self.mtz.valm, np.nan, values)

    def cell(self, dataset_id: int) -> Cell | None:
        """The cell of a data set, or else of the file; None if both are missing or impossible."""
        cells = [one.cell for one in self.mtz.datasets if one.id == dataset_id]
        for cell in (*cells, self.mtz.cell):
            try:
                if cell.is_crystal():
                    return Cell(*cell.parameters)
            except CifError:
                continue
        return None


def open_mtz(content: bytes, name: str) -> OpenMtz:
    """Read an MTZ file, or raise `ReflectionError` if any part is damaged."""
    records = _header_records(content, name)
    try:
        with plain_copy(content) as copy:
            mtz = gemmi.read_mtz_file(copy)
        isym = mtz.column_with_label("M/ISYM")
        is_partial = np.zeros(mtz.nreflections, bool) if isym is None else np.array(isym.array) >= _WHOLE
        mtz.switch_to_original_hkl()
    except (ValueError, RuntimeError, IndexError, MemoryError, OSError, SystemError) as error:
        reason = str(error).partition(": /")[0]  # without the path of the copy
        raise ReflectionError(f"{name}: not a complete MTZ file ({reason}); get the file again") from error
    if [column.type for column in mtz.columns[:3]] != ["H"] * 3:
        raise ReflectionError(f"{name}: the first columns of the MTZ file are not H, K and L; get the file again")
    return OpenMtz(mtz, _symmetry(records, mtz), is_partial)


def filled_column(mtz: gemmi.Mtz, kind: str, label: str) -> gemmi.Mtz.Column | None:
    """Find the column of a type called `label`, or else the first, among columns with values; None if none."""
    columns = [one for one in mtz.columns if one.type == kind and _is_filled(one)]
    return min(columns, key=lambda one: one.label != label, default=None)


def _is_filled(column: gemmi.Mtz.Column) -> bool:
    """Whether a column has a value other than 0."""
    return bool((np.nan_to_num(column.array) != 0).any())


def _symmetry(records: list[bytes], mtz: gemmi.Mtz) -> Symmetry | None:
    """The group of the operations, since its name does not state the setting: F d -3 m has two origins."""
    triplets = [record[4:].decode("ascii").strip().lower() for record in records if record.startswith(b"SYMM")]
    try:
        return find_symmetry(triplets)
    except SymmetryError:
        return find_symmetry(mtz.spacegroup.xhm()) if mtz.spacegroup else None


def _header_records(content: bytes, name: str) -> list[bytes]:
    """Return the header records, after checking positions and sizes, as wrong ones could claim unlimited memory.

    Raises
    ------
    ReflectionError
        Part of the file is missing or damaged.
    """
    order: Literal["little", "big"] = "big" if content[9:10] == b"\x11" else "little"
    word = int.from_bytes(content[4:8], order, signed=True)
    start = 4 * ((int.from_bytes(content[12:20], order, signed=True) if word == -1 else word) - 1)
    header = content[start:] if start >= 80 else b""
    records = [header[at : at + 80] for at in range(0, min(len(header), 80 * 10000), 80)]
    counts = [record.split() for record in records if record.startswith(b"NCOL")]
    if content[8:10] not in (b"DA", b"\x11\x11") or not header.startswith(b"VERS") or not counts:
        raise ReflectionError(f"{name}: not a complete MTZ file (no header where it should be); get the file again")
    if not all(record.isascii() for record in records if record[:4] in (b"COLU", b"SYMI", b"SYMM")):
        raise ReflectionError(f"{name}: the MTZ file has damaged column labels or operations; get the file again")
    for words in counts:
        is_whole = len(words) >= 4 and all(word.isdigit() for word in words[1:4])
        if not is_whole or 80 + 4 * int(words[1]) * int(words[2]) > start:
            raise ReflectionError(f"{name}: not a complete MTZ file (fewer data than its header says); get it again")
    return records[: next((at for at, record in enumerate(records) if record.startswith(b"END ")), len(records))]


def _mtz_column(columns: list[gemmi.Mtz.Column], name: str, column: str | None) -> gemmi.Mtz.Column:
    """Find the requested column; without one, intensities before amplitudes, and columns with a σ before others."""
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

    def rank(one: gemmi.Mtz.Column) -> tuple[int, bool]:
        return order.index(one.type), _sigma_column(columns, one) is None

    filled = [one for one in measured if _is_filled(one)] or measured
    chosen = min(filled, key=rank)
    others = [one.label for one in filled if rank(one) == rank(chosen) and one.dataset_id != chosen.dataset_id]
    if others:
        warnings.warn(
            f"{name}: {chosen.label} is read, not {', '.join(others[:5])} of other data sets; name one with column=",
            stacklevel=4,
        )
    return chosen


def _sigma_column(columns: list[gemmi.Mtz.Column], value: gemmi.Mtz.Column) -> gemmi.Mtz.Column | None:
    """Find the σ column: SIG with the value's label, or else the following one unless named after another column."""
    possible = [one for one in columns if one.type == _SIGMA_TYPES[value.type]]
    others = {f"SIG{one.label}" for one in columns if one.label != value.label}
    named = [one for one in possible if one.label == f"SIG{value.label}"]
    following = [one for one in possible if one.idx == value.idx + 1 and one.label not in others]
    return next(iter(named + following), None)
