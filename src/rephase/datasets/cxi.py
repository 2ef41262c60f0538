"""Single shots in CXI and other HDF5 files: what a file holds, and its images one by one."""

import math
import re
import struct
import tokenize
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import h5py
import numpy as np

from rephase.datasets.image_labels import LabelSet
from rephase.errors import ImageError

JOULE_PER_EV = 1.602176634e-19  # exact, SI 2019
_MISSING = 0x200
UNUSABLE = 0x0FF | _MISSING  # bits of a CXI mask: all up to "bad", and "missing" (Maia, Nat. Methods 9, 854, 2012)
SMALLEST = 16  # pixels along a side
_MOST_PIXELS, _MOST_IMAGES = 2**26, 10**6  # of an image, of a file: what claims more has a damaged header

_IMAGES = ("instrument_1/detector_1/data", "data_1/data", "image_1/data")
_LABELS, _ENERGY = "note_1/data", "instrument_1/source_1/energy"

_DAMAGED = (  # what h5py, tifffile and NumPy raise of files whose bytes are lost or changed
    ValueError, TypeError, LookupError, ArithmeticError, OSError, MemoryError, RuntimeError, SyntaxError,
    struct.error, tokenize.TokenError, zlib.error,
)  # fmt: skip


class Shot(NamedTuple):
    """Where one image is, and what its file says of it.

    ``row`` is its place in a stack of images, None where it is alone. ``labels`` is None where there are none, and
    ``energy_ev`` NaN.
    """

    path: Path
    name: str
    dataset: str = ""
    row: int | None = None
    mask: str | None = None
    energy_ev: float = float("nan")
    labels: np.ndarray | None = None


class LeftOut(NamedTuple):
    """What was not read, and why."""

    file: str
    name: str
    reason: str


class Listing(NamedTuple):
    """The shots of a file, and its entries that are not among them."""

    shots: list[Shot]
    left_out: list[LeftOut]


class Pixels(NamedTuple):
    """One image: counts [y, x], float32, and what was measured of them, boolean [y, x]."""

    image: np.ndarray
    mask: np.ndarray


def list_cxi(path: Path, labels: LabelSet | None) -> Listing:
    """List the shots of a CXI or another HDF5 file without reading an image.

    Each ``/entry_N`` has its image, or a stack [n, y, x] of them, in ``instrument_1/detector_1/data`` (the layout of
    CXIDB 94), ``data_1/data`` or ``image_1/data``; beside it a ``mask`` in the bits of CXI. Labels are in
    ``note_1/data``, [n_labels] or [n, n_labels], the photon energy in J in ``instrument_1/source_1/energy``. An entry
    that lacks its image, or whose image or labels are wrong, is left out by its name. A file without entries must have
    one dataset of images. Where `labels` is None, those of the file are not looked at.

    Raises
    ------
    ImageError
        The file is truncated or no HDF5 file, or has no image.
    """
    with reading(str(path), "HDF5"), h5py.File(path, "r") as file:
        entries = _entries(file)
        if not entries:
            return Listing(_stack(path, path.stem, file, _only_images(path, file), None, labels), [])
        shots: list[Shot] = []
        left_out: list[LeftOut] = []
        for name in entries:
            try:
                with reading(name, "HDF5"):
                    shots += _shots_of_entry(path, name, file, labels)
            except ImageError as error:
                left_out.append(LeftOut(path.name, name, str(error)))
    return Listing(shots, left_out)


def read_cxi(shot: Shot) -> Pixels:
    """Read one image.

    Raises
    ------
    ImageError
        It is damaged, or no longer there.
    """
    with reading(f"{shot.path}: {shot.dataset}", "HDF5"), h5py.File(shot.path, "r") as file:
        image = as_counts(_part(file[shot.dataset], shot.row))
        bits = 0 if shot.mask is None else np.asarray(_part(file[shot.mask], shot.row)).astype(np.int64)
    return Pixels(image, np.broadcast_to((bits & UNUSABLE) == 0, image.shape))


@contextmanager
def reading(name: str, kind: str) -> Iterator[None]:
    """What a reader of `kind` raises of a damaged file is an `ImageError` that names what was read."""
    try:
        yield
    except ImageError:
        raise
    except FileNotFoundError as error:
        raise ImageError(f"{name}: no such file") from error
    except _DAMAGED as error:
        raise ImageError(
            f"{name} cannot be read: damaged, truncated, or no {kind} file ({error}); copy it again, or save it anew "
            "without compression"
        ) from error


def write_cxi(path: Path, image: np.ndarray, mask: np.ndarray, labels: np.ndarray) -> Path:
    """Write shots as one stack, in the layout that `list_cxi` reads; whole or not at all.

    Parameters
    ----------
    path
        Of the file; its folder is made.
    image, mask
        Counts [n, y, x], and what was measured of them, boolean.
    labels
        0 or 1, [n, n_labels].
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.partial")
    with h5py.File(partial, "w") as file:
        file["cxi_version"], file["number_of_entries"] = 160, 1
        entry = file.create_group("entry_1")
        detector = entry.create_group(_IMAGES[0].rpartition("/")[0])
        detector.create_dataset("data", data=image, compression="gzip", chunks=(1, *image.shape[1:]))
        detector.create_dataset("mask", data=np.where(mask, 0, _MISSING).astype(np.uint32), compression="gzip")
        entry[_LABELS] = labels.astype(np.uint8)
    partial.replace(path)
    return path


def check_layout(shape: tuple[int, ...], dtype: np.dtype) -> None:
    """Raise `ImageError` unless an array can be an image [y, x] or a stack of images [n, y, x]."""
    if len(shape) not in (2, 3):
        raise ImageError(f"an array of rank {len(shape)}, shape {shape}: expected an image [y, x] or a stack [n, y, x]")
    if dtype.kind not in "buif":
        raise ImageError(f"numbers of type {dtype}: expected counts, whole or real numbers")
    if min(shape[-2:]) < SMALLEST:
        raise ImageError(f"images of {shape[-2]} x {shape[-1]} pixels: expected at least {SMALLEST} along each side")
    if shape[-2] * shape[-1] > _MOST_PIXELS:
        raise ImageError(
            f"images of {shape[-2]} x {shape[-1]} pixels: expected at most {_MOST_PIXELS:,} in all; its header is "
            "damaged, or the image is to be cut into parts"
        )
    if len(shape) == 3:
        _check_number("images", shape[0])


def as_counts(values: np.ndarray) -> np.ndarray:
    """A copy in single precision; what is too large for that becomes infinite, and `check_counts` refuses it."""
    with np.errstate(over="ignore"):
        return np.array(values, dtype=np.float32)


def check_counts(pixels: Pixels) -> None:
    """Raise `ImageError` if what was measured of an image is nothing, NaN, negative, or the same everywhere."""
    measured = pixels.image[pixels.mask]
    if not len(measured):
        raise ImageError("every pixel is masked: nothing was measured")
    if n := int((~np.isfinite(measured)).sum()):
        raise ImageError(f"{n} measured pixels are NaN or infinite; mask them")
    if measured.min() < 0:
        raise ImageError(f"the smallest count is {measured.min():.6g}: expected none below 0; mask or clip such pixels")
    if measured.min() == measured.max():
        raise ImageError(f"every measured pixel has the count {measured.max():.6g}: a constant image shows nothing")


def _check_number(what: str, number: int) -> None:
    if not 1 <= number <= _MOST_IMAGES:
        raise ImageError(
            f"{number} {what}: expected 1 to {_MOST_IMAGES:,} in a file; its header is damaged, or it is to be split"
        )


def _entries(file: h5py.File) -> list[str]:
    """Names of the entries, those included that are missing between the first and the last, or counted by the file."""
    numbers = [int(found[1]) for name in file if (found := re.fullmatch(r"entry_(\d+)", name))]
    if not numbers:
        return []
    told = file.get("number_of_entries")
    is_number = isinstance(told, h5py.Dataset) and told.shape == () and told.dtype.kind in "iu"
    last = max(int(told[()]) if is_number else 0, *numbers)
    _check_number("entries", last)
    return [f"entry_{number}" for number in range(1, last + 1)]


def _shots_of_entry(path: Path, name: str, file: h5py.File, labels: LabelSet | None) -> list[Shot]:
    entry = file.get(name)
    if not isinstance(entry, h5py.Group):
        raise ImageError("the entry is missing")
    image = next((found for key in _IMAGES if isinstance(found := entry.get(key), h5py.Dataset)), None)
    if image is None:
        raise ImageError(f"no image; looked for {', '.join(_IMAGES)}")
    return _stack(path, f"{path.stem}/{name}", file, image, entry, labels)


def _stack(
    path: Path, name: str, file: h5py.File, image: h5py.Dataset, entry: h5py.Group | None, labels: LabelSet | None
) -> list[Shot]:
    """The shots of a dataset, one image or several."""
    check_layout(image.shape or (), image.dtype)
    if not (image.id.get_storage_size() or image.is_virtual or image.external):
        raise ImageError(f"{image.name} of shape {image.shape} is empty: nothing was ever written to it")
    mask = _dataset(image.parent, "mask")
    where = {"path": path, "dataset": image.name, "mask": _mask_name(image, mask), "energy_ev": _energy_ev(entry)}
    each = _labels_of(image, entry, labels)
    if image.ndim == 2:
        return [Shot(name=name, labels=each[0], **where)]
    return [Shot(name=f"{name}[{row}]", row=row, labels=own, **where) for row, own in enumerate(each)]


def _labels_of(image: h5py.Dataset, entry: h5py.Group | None, labels: LabelSet | None) -> Sequence[np.ndarray | None]:
    """Labels of each image of a dataset; None where there are none, or none are asked for."""
    noted = None if labels is None else _dataset(entry, _LABELS)
    n_images = math.prod(image.shape[:-2])
    if noted is None or labels is None:
        return [None] * n_images
    if noted.size != n_images * len(labels.names) or (image.ndim == 3 and len(noted) != n_images):
        raise ImageError(
            f"labels of shape {noted.shape} of {n_images} images: expected {len(labels.names)} numbers for each, in "
            f"the order {', '.join(labels.names)}"
        )
    return [labels.check(one) for one in noted[()].reshape(n_images, -1)]


def _dataset(group: h5py.Group | None, key: str) -> h5py.Dataset | None:
    """A dataset by its name, None where nothing has this name; anything else under it is an `ImageError`."""
    found = None if group is None else group.get(key)
    if found is not None and (not isinstance(found, h5py.Dataset) or found.shape is None):
        raise ImageError(f"{found.name} is a group, or empty: expected a dataset of numbers")
    return found


def _mask_name(image: h5py.Dataset, mask: h5py.Dataset | None) -> str | None:
    if mask is None:
        return None
    if mask.shape not in (image.shape, image.shape[-2:]) or mask.dtype.kind not in "bui":
        raise ImageError(f"a mask of shape {mask.shape}, {mask.dtype}: expected bits, of the shape {image.shape}")
    return str(mask.name)


def _energy_ev(entry: h5py.Group | None) -> float:
    """Photon energy in eV; NaN where there is none that can be one in J."""
    noted = None if entry is None else entry.get(_ENERGY)
    if not isinstance(noted, h5py.Dataset) or noted.dtype.kind not in "iuf" or not noted.size:
        return float("nan")
    energy = noted[(0,) * noted.ndim] / JOULE_PER_EV
    return float(energy) if 1 <= energy <= 1e6 else float("nan")


def _only_images(path: Path, file: h5py.File) -> h5py.Dataset:
    """The one dataset of a file without entries that can hold images."""
    found: list[h5py.Dataset] = []
    file.visititems(lambda name, item: found.append(item) if _holds_images(item) else None)
    if len(found) != 1:
        names = ", ".join(str(item.name) for item in found) or "none"
        raise ImageError(f"{path}: no entry_N, so one dataset [y, x] or [n, y, x] was expected; there are: {names}")
    return found[0]


def _holds_images(item: h5py.HLObject) -> bool:
    return isinstance(item, h5py.Dataset) and item.ndim in (2, 3) and item.name.rpartition("/")[2] != "mask"


def _part(dataset: h5py.Dataset, row: int | None) -> np.ndarray:
    """The image of a row of a stack; a mask may be one for all."""
    return dataset[()] if row is None or dataset.ndim == 2 else dataset[row]
