"""Shots in files: where each is, what was left out and why, and what of an array of numbers can be an image."""

import warnings
from pathlib import Path
from typing import NamedTuple

import numpy as np

from rephase.errors import ImageError

SMALLEST = 16  # pixels along a side
MOST_PIXELS, _MOST_IMAGES = 2**26, 10**6  # of an image, of a file: what claims more has a damaged header
# Of Pilatus: gaps and bad pixels; of Eiger the same, in whatever type they were copied to.
_GAPS = (-1, -2, 2**32 - 1, 2**32 - 2)
_SATURATED = 2**16 - 1  # of detectors with 16 bits, in whatever type, where nothing is above it


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
    """The shots of a file, its entries that are not among them, and other files that it has the shots of."""

    shots: list[Shot]
    left_out: list[LeftOut]
    linked: tuple[Path, ...] = ()


class Pixels(NamedTuple):
    """One image: counts [y, x], float32, what was measured of them, boolean [y, x], and how many pixels say it not.

    ``n_gaps`` of those that the mask shows hold a number that no count is.
    """

    image: np.ndarray
    mask: np.ndarray
    n_gaps: int = 0


def check_layout(shape: tuple[int, ...], dtype: np.dtype) -> None:
    """Raise `ImageError` unless an array can be an image [y, x] or a stack of images [n, y, x]."""
    if len(shape) not in (2, 3):
        raise ImageError(f"an array of rank {len(shape)}, shape {shape}: expected an image [y, x] or a stack [n, y, x]")
    if dtype.kind not in "buif":
        raise ImageError(f"numbers of type {dtype}: expected counts, whole or real numbers")
    if min(shape[-2:]) < SMALLEST:
        raise ImageError(f"images of {shape[-2]} x {shape[-1]} pixels: expected at least {SMALLEST} along each side")
    if shape[-2] * shape[-1] > MOST_PIXELS:
        raise ImageError(
            f"images of {shape[-2]} x {shape[-1]} pixels: expected at most {MOST_PIXELS:,} in all; its header is "
            "damaged, or the image is to be cut into parts"
        )
    if len(shape) == 3:
        check_number("images", shape[0])


def check_number(what: str, number: int) -> None:
    """Raise `ImageError` unless a file can have so many images or entries."""
    if not 1 <= number <= _MOST_IMAGES:
        raise ImageError(
            f"{number} {what}: expected 1 to {_MOST_IMAGES:,} in a file; its header is damaged, or it is to be split"
        )


def pixels_of(numbers: np.ndarray, mask: np.ndarray) -> Pixels:
    """Counts of an image as a file holds them, and what was measured of them.

    Not measured is what `mask`, boolean [y, x], hides, and what no count can be: NaN, -1 and -2 (gaps and bad pixels of
    Pilatus; of Eiger as whole numbers of 32 bits without a sign), and the largest whole number of 16 bits or more
    (where a detector was saturated). What is too large for single precision becomes infinite, and `check_counts`
    refuses it.

    Raises
    ------
    ImageError
        No image [y, x], which a damaged file gives although its header tells of one.
    """
    if numbers.ndim != 2:
        raise ImageError(f"what was read has shape {numbers.shape}: expected an image [y, x]; the file is damaged")
    gaps = has_gap(numbers)
    with np.errstate(over="ignore"):
        image = np.array(numbers, dtype=np.float32)
    return Pixels(image, mask & ~gaps, int((mask & gaps).sum()))


def has_gap(numbers: np.ndarray) -> np.ndarray:
    """Where an array holds a number that says that nothing was measured, see `pixels_of`."""
    if numbers.dtype.kind == "f":
        largest = float(np.finfo(numbers.dtype).max)
        marks = [gap for gap in _GAPS if abs(gap) <= largest]
        found = np.isnan(numbers)
    elif numbers.dtype.kind == "b" or numbers.dtype.itemsize == 1:
        return numbers == -1 if numbers.dtype.kind == "i" else np.zeros(numbers.shape, dtype=bool)
    else:
        limits = np.iinfo(numbers.dtype)
        marks = [gap for gap in (*_GAPS, limits.max) if limits.min <= gap <= limits.max]
        found = np.zeros(numbers.shape, dtype=bool)
    found |= np.isin(numbers, np.array(marks, dtype=numbers.dtype))
    if float(numbers[~found].max(initial=0)) == _SATURATED:
        found |= numbers == _SATURATED
    return found


def hides_most(pixels: Pixels) -> bool:
    """Whether the mask of an image hides more than half of its pixels that have counts, as an inverted one does."""
    has_counts = np.isfinite(pixels.image) & (pixels.image > 0) & ~has_gap(pixels.image)
    return bool((has_counts & ~pixels.mask).sum() > (has_counts & pixels.mask).sum())


def warn_of_masks(path: Path, gaps: dict[str, int], hidden: list[str]) -> None:
    """Say how many pixels of which images hold a number that no count is, and whose masks hide most of the counts."""
    if n_gaps := sum(gaps.values()):
        warnings.warn(
            f"{path}: {n_gaps:,} pixels of {len(gaps)} images, the first {next(iter(gaps))}, hold NaN, -1, "
            "-2 or the largest number of their type: not measured, and masked",
            stacklevel=4,
        )
    if hidden:
        warnings.warn(
            f"{path}: the masks of {len(hidden)} images, the first {hidden[0]}, hide more than half of the pixels that "
            "have counts: expected True in booleans, 0 in bits, where measured; is the mask inverted?",
            stacklevel=4,
        )


def check_counts(pixels: Pixels) -> None:
    """Raise `ImageError` if what was measured of an image is nothing, infinite, negative, or the same everywhere."""
    measured = pixels.image[pixels.mask]
    if not len(measured):
        raise ImageError(
            "every pixel is masked: nothing was measured, as the mask hides it or it holds NaN, -1, -2 or the largest "
            "number; is the mask inverted? True in booleans, 0 in bits of CXI is measured"
        )
    if n := int((~np.isfinite(measured)).sum()):
        raise ImageError(f"{n} measured pixels are NaN or infinite; mask them")
    if measured.min() < 0:
        raise ImageError(f"the smallest count is {measured.min():.6g}: expected none below 0; mask or clip such pixels")
    if measured.min() == measured.max():
        raise ImageError(f"every measured pixel has the count {measured.max():.6g}: a constant image shows nothing")
