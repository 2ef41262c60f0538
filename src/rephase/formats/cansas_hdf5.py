"""Small-angle scattering in HDF5 (NXcanSAS): a group of the class SASdata with Q, I, Idev, Qdev and Mask."""

from pathlib import Path
from typing import NamedTuple

import h5py
import numpy as np

from rephase.errors import CurveError
from rephase.formats.curve_units import Columns
from rephase.formats.hdf5 import Hdf5File, attribute, open_hdf5

_MOST_POINTS = 10**7


class CansasCurve(NamedTuple):
    """Columns of a canSAS file, the units of q and I as written, and notes on changes, as sentences."""

    columns: Columns
    units: tuple[str, str]
    notes: tuple[str, ...] = ()


def read_cansas_hdf5(path: Path, entry: str | None = None) -> CansasCurve:
    """Read one curve.

    Parameters
    ----------
    path
        Path of the file.
    entry
        Path of the group, if the file has several curves.

    Raises
    ------
    CurveError
        The file is not HDF5; it has no curve, or several curves and `entry` is missing; or columns are missing, are not
        numbers, or claim more points than the file has.
    """
    with open_hdf5(path, CurveError) as file:
        group = _sas_data(file, entry)
        of_q, of_i = (_dataset(file, group, key) for key in ("Q", "I"))
        columns = (
            _values(file, of_q),
            _values(file, of_i),
            _optional(file, group, attribute(of_i, "uncertainties"), "Idev"),
            _optional(file, group, attribute(of_q, "resolutions"), "Qdev", "dQ", "dQw"),
        )
        is_hidden = _optional(file, group, attribute(group, "mask"), "Mask")
        units = (attribute(of_q, "units", "unit"), attribute(of_i, "units", "unit"))
    return CansasCurve(columns, units) if is_hidden is None else _unhidden(path.name, columns, units, is_hidden != 0)


def _unhidden(name: str, columns: Columns, units: tuple[str, str], is_hidden: np.ndarray) -> CansasCurve:
    """Remove the points that the mask of a file hides."""
    if any(column is not None and column.shape != is_hidden.shape for column in columns):
        raise CurveError(f"{name}: {len(is_hidden)} values of Mask: expected as many as in every column")
    if is_hidden.all():
        raise CurveError(f"{name}: Mask is 1 everywhere: expected 1 only for points to leave out; invert or delete it")
    if not is_hidden.any():
        return CansasCurve(columns, units)
    q, intensity, *rest = columns
    sigma, dq = (None if column is None else column[~is_hidden] for column in rest)
    note = f"{int(is_hidden.sum())} points where the Mask of the file is 1: left out"
    return CansasCurve((q[~is_hidden], intensity[~is_hidden], sigma, dq), units, (note,))


def _sas_data(file: Hdf5File, entry: str | None) -> h5py.Group:
    """The group with the curve."""
    if entry is not None:
        found = file.group(entry)
        if found is None or not _has_curve(file, found):
            raise CurveError(f"{file.path.name}: entry = {entry!r}: expected a group with Q and I")
        return found
    groups = [item for item in file.items() if isinstance(item, h5py.Group) and _has_curve(file, item)]
    if len(groups) != 1:
        names = ", ".join(str(group.name) for group in groups) or "none"
        raise CurveError(f"{file.path.name}: expected one group with Q and I, found: {names}; give entry=NAME of one")
    return groups[0]


def _has_curve(file: Hdf5File, group: h5py.Group) -> bool:
    return all(isinstance(file.find(key, group), h5py.Dataset) for key in ("Q", "I"))


def _dataset(file: Hdf5File, group: h5py.Group, key: str) -> h5py.Dataset:
    found = file.dataset(key, group)
    if found is None:
        raise CurveError(f"{file.path.name}: no {key} in {group.name}: expected Q and I")
    return found


def _values(file: Hdf5File, item: h5py.Dataset) -> np.ndarray:
    if max(item.shape, default=0) != item.size:
        raise CurveError(f"{file.path.name}: {item.name} has shape {item.shape}: expected one curve of numbers, [n]")
    if item.size > _MOST_POINTS:
        raise CurveError(f"{file.path.name}: {item.name} has {item.size:,} points: expected at most {_MOST_POINTS:,}")
    return file.numbers(item).astype(np.float64).ravel()


def _optional(file: Hdf5File, group: h5py.Group, told: str, *usual: str) -> np.ndarray | None:
    """Find the dataset that an attribute names, or one with a usual name; None if there is none."""
    found = (file.dataset(key, group) for key in (told, *usual) if key)
    item = next((item for item in found if item is not None), None)
    return None if item is None else _values(file, item)
