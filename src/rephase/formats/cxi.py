"""Single shots in CXI and other HDF5 files: a listing of each file, and its images one at a time."""

import io
import math
import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import h5py
import numpy as np

from rephase.errors import ImageError
from rephase.files.writing import disk_errors, write_whole
from rephase.formats.damaged_files import damage_named
from rephase.formats.hdf5 import Hdf5File, open_hdf5
from rephase.formats.hdf5_detectors import (
    JOULE_PER_EV,
    MASKS,
    MISSING,
    check_mask_dataset,
    measured_by,
    photon_energy_ev,
)
from rephase.formats.label_sets import LabelSet
from rephase.formats.nexus_images import NexusFrames, frames_of
from rephase.formats.shots import LeftOut, Listing, Shot, check_layout, check_number, has_gap

__all__ = ["JOULE_PER_EV", "list_cxi", "read_cxi", "write_cxi"]

_IMAGES = ("instrument_1/detector_1/data", "data_1/data", "image_1/data")
_LABELS = "note_1/data"
_MOST_NAMED = 1000  # missing entries with a row of their own


def list_cxi(path: Path, labels: LabelSet | None) -> Listing:
    """List the shots of a CXI or another HDF5 file without reading an image.

    Each ``/entry_N`` has an image, or a stack [n, y, x] of images, in ``instrument_1/detector_1/data`` (the layout of
    CXIDB 94), ``data_1/data`` or ``image_1/data``, and beside it optionally a ``mask``: booleans, True = measured, or
    CXI bits. Labels are in ``note_1/data``, [n_labels] or [n, n_labels], the photon energy is in ``instrument_1``
    (see `photon_energy_ev`). An entry without an image, or with an invalid image or labels, is left out and listed by
    name. A NeXus file, such as an Eiger master file, has its frames in ``entry/data``, possibly in linked files in the
    same folder, and optionally a ``pixel_mask``. Any other file must have exactly one dataset of images. If `labels`
    is None, labels are not read.

    Raises
    ------
    ImageError
        The file is truncated, is not HDF5, or has no image.
    """
    with open_hdf5(path, ImageError) as file:
        if numbers := _entry_numbers(file):
            named, more = _named(numbers, file)
            parts = {name: partial(_shots_of_entry, file, name, labels) for name in named}
            listing = _listing(path, parts)
            return listing._replace(left_out=[*listing.left_out, *more])
        if frames := frames_of(file):
            parts = {name: partial(_shots_of_frames, file, frames, name) for name in frames.names}
            return _listing(path, parts)._replace(linked=frames.linked)
        image = _only_images(file)
        mask = next(filter(None, (file.dataset(name, image.parent) for name in MASKS)), None)
        return Listing(_stack(file, path.stem, image, image.name, mask, None, labels), [])


def read_cxi(shot: Shot) -> tuple[np.ndarray, np.ndarray]:
    """Read one image: its numbers as stored, and the measured pixels according to its mask, boolean.

    Raises
    ------
    ImageError
        The image is damaged, or no longer there.
    """
    with open_hdf5(shot.path, ImageError) as file:
        image = _part(file, shot.dataset, shot.row)
        if shot.mask is None:
            return image, np.ones(image.shape, dtype=bool)
        return image, measured_by(_part(file, shot.mask, shot.row), shot.mask)


def write_cxi(path: Path, image: np.ndarray, mask: np.ndarray, labels: np.ndarray) -> Path:
    """Write shots as one stack, in the layout that `list_cxi` reads; whole or not at all.

    Parameters
    ----------
    path
        Path of the file; its folder is created.
    image, mask
        Counts [n, y, x], and a boolean mask [n, y, x], True for measured pixels.
    labels
        0 or 1, [n, n_labels].

    Raises
    ------
    DiskError
        The disk is full, the folder cannot be written, and so on.
    """
    mask = mask & ~np.stack([has_gap(shot) for shot in image])  # also saturated pixels, which readers mask anyway
    content = io.BytesIO()
    with h5py.File(content, "w") as file:
        file["cxi_version"], file["number_of_entries"] = 160, 1
        entry = file.create_group("entry_1")
        detector = entry.create_group(_IMAGES[0].rpartition("/")[0])
        detector.create_dataset("data", data=image, compression="gzip", chunks=(1, *image.shape[1:]))
        detector.create_dataset("mask", data=np.where(mask, 0, MISSING).astype(np.uint32), compression="gzip")
        entry[_LABELS] = labels.astype(np.uint8)
    with disk_errors(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, content.getvalue())
    return path


def _listing(path: Path, parts: Mapping[str, Callable[[], list[Shot]]]) -> Listing:
    """List the shots of each part of a file; unusable parts are left out, with reasons."""
    shots: list[Shot] = []
    left_out: list[LeftOut] = []
    for name, shots_of in parts.items():
        try:
            with damage_named(name, "HDF5", ImageError):
                shots += shots_of()
        except ImageError as error:
            left_out.append(LeftOut(path.name, name, str(error)))
    return Listing(shots, left_out)


def _entry_numbers(file: Hdf5File) -> list[int]:
    """Numbers of the entries, including missing ones in between or up to the count that the file states."""
    numbers = [int(found[1]) for name in file.root if (found := re.fullmatch(r"entry_(\d{1,18})", name))]
    if not numbers:
        return []
    told = file.find("number_of_entries")
    if isinstance(told, h5py.Dataset) and told.shape == () and told.dtype.kind in "iu":
        numbers.append(int(told[()]))
    last = max(numbers)
    check_number("entries", last)
    return list(range(1, last + 1))


def _named(numbers: list[int], file: Hdf5File) -> tuple[list[str], list[LeftOut]]:
    """Names of the entries, with at most a thousand missing ones; one row counts the other missing entries."""
    missing = [number for number in numbers if f"entry_{number}" not in file.root]
    dropped = set(missing[_MOST_NAMED:])
    names = [f"entry_{number}" for number in numbers if number not in dropped]
    if not dropped:
        return names, []
    return names, [LeftOut(file.path.name, f"entry_{min(dropped)} …", f"{len(dropped):,} more entries are missing")]


def _shots_of_entry(file: Hdf5File, name: str, labels: LabelSet | None) -> list[Shot]:
    entry = file.group(name)
    if entry is None:
        raise ImageError("the entry is missing")
    image = next((found for key in _IMAGES if isinstance(found := file.find(key, entry), h5py.Dataset)), None)
    if image is None:
        raise ImageError(f"no image; looked for {', '.join(_IMAGES)}")
    mask = file.dataset("mask", image.parent)
    return _stack(file, f"{file.path.stem}/{name}", image, image.name, mask, entry, labels)


def _shots_of_frames(file: Hdf5File, frames: NexusFrames, name: str) -> list[Shot]:
    image = file.dataset(name, frames.entry)
    if image is None:
        raise ImageError(f"no frames in {frames.entry.name}/{name}")
    mask = None if frames.mask is None else file.dataset(frames.mask, frames.entry)
    called = f"{file.path.stem}/{name.rpartition('/')[2]}"
    return _stack(file, called, image, f"{frames.entry.name}/{name}", mask, frames.entry, None)


def _stack(
    file: Hdf5File,
    name: str,
    image: h5py.Dataset,
    dataset: str,
    mask: h5py.Dataset | None,
    entry: h5py.Group | None,
    labels: LabelSet | None,
) -> list[Shot]:
    """The shots of a dataset with one or several images."""
    check_layout(image.shape or (), image.dtype)
    file.check_stored(image)
    if mask is not None:
        check_mask_dataset(mask, image.shape)
        file.check_stored(mask)
    energy_ev = float("nan") if entry is None else photon_energy_ev(file, entry)[0]
    shot = Shot(file.path, name, dataset, mask=None if mask is None else mask.name, energy_ev=energy_ev)
    each = _labels_of(file, image, entry, labels)
    if image.ndim == 2:
        return [shot._replace(labels=each[0])]
    return [shot._replace(name=f"{name}[{row}]", row=row, labels=own) for row, own in enumerate(each)]


def _labels_of(
    file: Hdf5File, image: h5py.Dataset, entry: h5py.Group | None, labels: LabelSet | None
) -> Sequence[np.ndarray | None]:
    """Labels of each image of a dataset; None if there are none, or if `labels` is None."""
    noted = None if labels is None or entry is None else file.dataset(_LABELS, entry)
    n_images = math.prod(image.shape[:-2])
    if noted is None or labels is None:
        return [None] * n_images
    if noted.size != n_images * len(labels.names) or (image.ndim == 3 and len(noted) != n_images):
        raise ImageError(
            f"labels of shape {noted.shape} for {n_images} images: expected {len(labels.names)} numbers for each, in "
            f"the order {', '.join(labels.names)}"
        )
    return [labels.check(one) for one in file.numbers(noted).reshape(n_images, -1)]


def _only_images(file: Hdf5File) -> h5py.Dataset:
    """The one dataset of a file without entries that can hold images."""
    found = [item for item in file.items() if _holds_images(item)]
    if len(found) != 1:
        names = ", ".join(str(item.name) for item in found) or "none"
        raise ImageError(f"{file.path}: no entry_N, so one dataset [y, x] or [n, y, x] was expected; found: {names}")
    return found[0]


def _holds_images(item: h5py.HLObject) -> bool:
    is_mask = item.name.rpartition("/")[2] in MASKS
    return isinstance(item, h5py.Dataset) and item.ndim in (2, 3) and not is_mask


def _part(file: Hdf5File, name: str, row: int | None) -> np.ndarray:
    """Read one row of a stack; a two-dimensional mask applies to all rows."""
    dataset = file.dataset(name)
    if dataset is None:
        raise ImageError(f"{file.path}: {name} cannot be read: it is no longer there; copy it again")
    with damage_named(f"{file.path}: {name}", "HDF5", ImageError):
        return file.numbers(dataset) if row is None or dataset.ndim == 2 else np.asarray(dataset[row])
