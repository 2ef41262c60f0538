"""Image formats by file suffix: listing of the shots of a file, and reading of one shot."""

import math
import struct
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import tifffile

from rephase.errors import ImageError
from rephase.formats.cxi import list_cxi, read_cxi
from rephase.formats.damaged_files import check_claim, damage_named
from rephase.formats.label_sets import LabelSet
from rephase.formats.shots import MOST_PIXELS, LeftOut, Listing, Shot, check_layout

Numbers = tuple[np.ndarray, np.ndarray]
"""An image as stored in its file, and a boolean mask, True for measured pixels."""


class Format(NamedTuple):
    """Functions that list the shots of a file, and read one shot."""

    list: Callable[[Path, LabelSet | None], Listing]
    read: Callable[[Shot], Numbers]


def format_of(path: Path) -> Format:
    """Find the format of a file by its suffix.

    Raises
    ------
    ImageError
        The suffix belongs to an unsupported format, which the message names.
    """
    if told := FOREIGN.get(path.suffix.lower()):
        raise ImageError(f"{path.name}: this is {told}: expected {', '.join(FORMATS)}; convert it, e.g. by fabio")
    return FORMATS[path.suffix.lower()]


def mapped(path: Path) -> np.ndarray:
    """Map the array of a NumPy file without loading it.

    Raises
    ------
    ImageError
        The file does not exist, is damaged, or contains Python objects.
    """
    with damage_named(str(path), "NumPy", ImageError):
        return np.lib.format.open_memmap(path, mode="r")


def _list_numpy(path: Path, _: LabelSet | None) -> Listing:
    array = mapped(path)
    return Listing(_shots_of(path, array.shape, array.dtype), [])


def _read_numpy(shot: Shot) -> Numbers:
    return _unmasked(_row(mapped(shot.path), shot.row))


def _list_tiff(path: Path, _: LabelSet | None) -> Listing:
    with damage_named(str(path), "TIFF", ImageError), tifffile.TiffFile(path) as file:
        _check_pages(path, file)
        images, *others = file.series
        _check_grey(path, images)
        shots = _shots_of(path, images.shape, images.dtype)
        _check_claims(path, images)
        shapes = [other.shape for other in others]
    return Listing(shots, [LeftOut(path.name, path.stem, f"pages of another shape, {shape}") for shape in shapes])


def _check_pages(path: Path, file: tifffile.TiffFile) -> None:
    """Raise if the pages, each of which points to the next, form a circle."""
    layout, handle, seen = file.tiff, file.filehandle, set[int]()

    def number(at: int, size: int, kind: str) -> int:
        handle.seek(at)
        return int(struct.unpack(kind, handle.read(size))[0])

    page = number(layout.offsetsize, layout.offsetsize, layout.offsetformat)
    while page:
        if page in seen:
            raise ImageError(f"{path.name} cannot be read: damaged, its pages form a circle; copy it again")
        seen.add(page)
        n_tags = number(page, layout.tagnosize, layout.tagnoformat)
        end = page + layout.tagnosize + n_tags * layout.tagsize
        page = number(end, layout.offsetsize, layout.offsetformat)


def _check_grey(path: Path, images: tifffile.TiffPageSeries) -> None:
    """Raise unless each pixel has one count."""
    page = images.keyframe
    if page.samplesperpixel != 1 or "S" in images.axes or page.photometric == tifffile.PHOTOMETRIC.PALETTE:
        raise ImageError(
            f"{path.name}: {page.samplesperpixel} samples per pixel, or a palette: expected one count for each; save "
            "one channel as grey"
        )


def _check_claims(path: Path, images: tifffile.TiffPageSeries) -> None:
    """Raise unless the file can contain the bytes of the images."""
    page = images.keyframe
    is_packed = page.compression != tifffile.COMPRESSION.NONE
    check_claim(path.name, images.nbytes, path.stat().st_size, ImageError, is_packed=is_packed)
    if math.prod(page.chunks) > MOST_PIXELS:
        raise ImageError(f"{path.name}: tiles of {page.chunks} pixels: expected at most {MOST_PIXELS:,} in all")


def _read_tiff(shot: Shot) -> Numbers:
    with damage_named(str(shot.path), "TIFF", ImageError), tifffile.TiffFile(shot.path) as file:
        if file.series[0].dataoffset is not None:  # one block, of which ImageJ describes only the first image
            return _unmasked(_row(tifffile.memmap(shot.path, mode="r"), shot.row))
        return _unmasked(file.asarray(key=shot.row or 0, series=0))


def _shots_of(path: Path, shape: tuple[int, ...], dtype: np.dtype) -> list[Shot]:
    """The images of an array in a file."""
    check_layout(shape, dtype)
    if len(shape) == 2:
        return [Shot(path, path.stem)]
    return [Shot(path, f"{path.stem}[{row}]", row=row) for row in range(shape[0])]


def _row(array: np.ndarray, row: int | None) -> np.ndarray:
    return array if row is None else array[row]


def _unmasked(array: np.ndarray) -> Numbers:
    return array, np.ones(array.shape, dtype=bool)


_NUMPY, _TIFF, _HDF5 = Format(_list_numpy, _read_numpy), Format(_list_tiff, _read_tiff), Format(list_cxi, read_cxi)
FORMATS = {
    ".npy": _NUMPY,
    ".tif": _TIFF,
    ".tiff": _TIFF,
    ".h5": _HDF5,
    ".hdf5": _HDF5,
    ".cxi": _HDF5,
    ".nxs": _HDF5,
}
"""Readable formats by suffix."""
FOREIGN = {
    ".edf": "an image in EDF (ESRF)",
    ".cbf": "an image in CBF (Dectris)",
    ".mccd": "an image of a MarCCD",
    ".spe": "an image in SPE (Princeton Instruments)",
    ".img": "an image in SMV (ADSC)",
    ".mar3450": "an image of a mar345",
    ".npz": "an archive of NumPy arrays",
    ".mat": "a file of MATLAB",
    ".raw": "an image without a header",
}
"""Unsupported formats by suffix, with their names."""
