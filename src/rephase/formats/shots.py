"""Shots in files: their locations, omissions with reasons, and the checks that an array is an image."""

import warnings
from pathlib import Path
from typing import NamedTuple

import numpy as np

from rephase.errors import ImageError

SMALLEST = 16  # pixels along a side
MOST_PIXELS, _MOST_IMAGES = 2**26, 10**6  # of an image, of a file; a header that claims more is damaged
# Gaps and bad pixels of Pilatus (-1, -2) and of Eiger, in any type to which they were copied.
_GAPS = (-1, -2, 2**32 - 1, 2**32 - 2)
_SATURATED = 2**16 - 1  # of 16-bit detectors, in any type, if no value is higher


class Shot(NamedTuple):
    """Location of one image, and information about it from its file.

    ``row`` is its position in a stack of images, None for a single image. Missing ``labels`` are None, and a missing
    ``energy_ev`` is NaN.
    """

    path: Path
    name: str
    dataset: str = ""
    row: int | None = None
    mask: str | None = None
    energy_ev: float = float("nan")
    labels: np.ndarray | None = None


class LeftOut(NamedTuple):
    """An item that was not read, and the reason."""

    file: str
    name: str
    reason: str


class Listing(NamedTuple):
    """The shots of a file, its entries that were left out, and the linked files that contain its shots."""

    shots: list[Shot]
    left_out: list[LeftOut]
    linked: tuple[Path, ...] = ()


class Pixels(NamedTuple):
    """One image: counts [y, x], float32, and a mask [y, x], True for measured pixels.

    ``n_gaps`` pixels are measured according to the file's mask, but have a value that cannot be a count.
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
            f"images of {shape[-2]} x {shape[-1]} pixels: expected at most {MOST_PIXELS:,} in all; cut the "
            "image into parts, unless its header is damaged"
        )
    if len(shape) == 3:
        check_number("images", shape[0])


def check_number(what: str, number: int) -> None:
    """Raise `ImageError` unless a file can have this number of images or entries."""
    if not 1 <= number <= _MOST_IMAGES:
        raise ImageError(
            f"{number} {what}: expected 1 to {_MOST_IMAGES:,} in a file; split the file, unless its header is damaged"
        )


def pixels_of(numbers: np.ndarray, mask: np.ndarray) -> Pixels:
    """Convert the stored numbers of an image to counts, and find its measured pixels.

    Pixels are not measured if `mask`, boolean [y, x], hides them, or if their value cannot be a count: NaN, -1 and -2
    (gaps and bad pixels of Pilatus; Eiger has them as unsigned integers of 32 bits), and the largest integer of 16 bits
    or more (saturation). A value too large for single precision becomes infinite, and `check_counts` refuses it.

    Raises
    ------
    ImageError
        The array is not an image [y, x], as happens if a damaged file contradicts its header.
    """
    if numbers.ndim != 2:
        raise ImageError(f"the array read has shape {numbers.shape}: expected an image [y, x]; the file is damaged")
    gaps = has_gap(numbers)
    with np.errstate(over="ignore"):
        image = np.array(numbers, dtype=np.float32)
    return Pixels(image, mask & ~gaps, int((mask & gaps).sum()))


def has_gap(numbers: np.ndarray) -> np.ndarray:
    """Find the values of an array that mark a pixel as not measured, see `pixels_of`."""
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
    """Whether the mask of an image hides more than half of the pixels with counts, as an inverted mask does."""
    has_counts = np.isfinite(pixels.image) & (pixels.image > 0) & ~has_gap(pixels.image)
    return bool((has_counts & ~pixels.mask).sum() > (has_counts & pixels.mask).sum())


def warn_of_masks(path: Path, gaps: dict[str, int], hidden: list[str]) -> None:
    """Warn of pixels whose value cannot be a count, and of masks that hide most of the counts."""
    if n_gaps := sum(gaps.values()):
        warnings.warn(
            f"{path}: {n_gaps:,} pixels of {len(gaps)} images, the first {next(iter(gaps))}, are NaN, -1, "
            "-2 or the largest number of their type: not measured, and masked",
            stacklevel=4,
        )
    if hidden:
        warnings.warn(
            f"{path}: the masks of {len(hidden)} images, the first {hidden[0]}, hide more than half of the pixels that "
            "have counts: expected True (boolean) or 0 (bits) for measured pixels; is the mask inverted?",
            stacklevel=4,
        )


def check_counts(pixels: Pixels) -> None:
    """Raise `ImageError` if an image has no measured pixels, or if these are infinite, negative, or all equal."""
    measured = pixels.image[pixels.mask]
    if not len(measured):
        raise ImageError(
            "every pixel is masked: the mask hides it, or its value is NaN, -1, -2 or the largest number; is the mask "
            "inverted? True (boolean) or 0 (CXI bits) means measured"
        )
    if n := int((~np.isfinite(measured)).sum()):
        raise ImageError(f"{n} measured pixels are NaN or infinite; mask them")
    if measured.min() < 0:
        raise ImageError(f"the smallest count is {measured.min():.6g}: expected 0 or more; mask or clip such pixels")
    if measured.min() == measured.max():
        raise ImageError(
            f"every measured pixel has the count {measured.max():.6g}: the image is constant; leave it out"
        )
