"""Images, mostly measured, in a file or a folder, read batch by batch."""

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from rephase.config.images import FileConfig
from rephase.config.sections import validate
from rephase.errors import ImageError
from rephase.formats.image_formats import FOREIGN, FORMATS, format_of, mapped
from rephase.formats.label_sets import LabelSet
from rephase.formats.shots import (
    SMALLEST,
    LeftOut,
    Listing,
    Pixels,
    Shot,
    check_counts,
    hides_most,
    pixels_of,
    warn_of_masks,
)
from rephase.labs.images.data.batch import ImageBatch
from rephase.labs.images.data.droplet_labels import DROPLET_LABEL_SET
from rephase.labs.images.data.sizes import resize, to_cartesian
from rephase.learning.batches import SplitData


class ImageFiles(SplitData[ImageBatch]):
    """Images that stay in their files; indexing with a list of samples reads only these.

    Each image is resampled to a square of `size` pixels: from polar coordinates if the configuration says so, padded if
    it is not square, then averaged over the measured area under each new pixel (`rephase.labs.images.data.sizes`). All
    images are in the split ``all``.

    Parameters
    ----------
    shots
        The images.
    left_out
        Everything else in the files, with the reason.
    config
        Path of the files and how to read them.
    size
        Pixels along each side.
    """

    config: FileConfig

    def __init__(self, shots: Sequence[Shot], left_out: Iterable[LeftOut], config: FileConfig, size: int):
        self.shots, self.config, self.size = list(shots), config, size
        self.left_out = pd.DataFrame(left_out, columns=LeftOut._fields)
        self.splits, self._mask = {"all": np.arange(len(self.shots))}, _read_mask(config)

    @property
    def shape(self) -> tuple[int, ...]:
        """Pixels along y and x."""
        return self.size, self.size

    @property
    def names(self) -> list[str]:
        """Names of the images, from their files, entries and positions in a stack."""
        return [shot.name for shot in self.shots]

    @property
    def energy_ev(self) -> np.ndarray:
        """Photon energies in eV, [n]; NaN where the file has none."""
        return np.array([shot.energy_ev for shot in self.shots])

    def __len__(self) -> int:
        return len(self.shots)

    def __getitem__(self, samples: list[int] | np.ndarray | torch.Tensor) -> ImageBatch:
        """Read the images of some samples; ``labels`` is [batch, 0] unless each image has labels.

        Raises
        ------
        ImageError
            An image can no longer be read.
        """
        shots = [self.shots[int(sample)] for sample in samples]
        images = [self._resampled(_read(shot, self._mask)) for shot in shots]
        image, mask = (torch.cat(parts) for parts in zip(*images))
        labels = [() if shot.labels is None else shot.labels for shot in shots]
        if len({len(each) for each in labels}) > 1:
            labels = [()] * len(shots)
        return ImageBatch(image, mask, torch.as_tensor(np.array(labels, dtype=np.float32).reshape(len(shots), -1)))

    def draw(self, n: int, rng: np.random.Generator) -> ImageBatch:
        """Raise, as measured images cannot be drawn anew.

        Raises
        ------
        ImageError
            Always.
        """
        raise ImageError("images of files cannot be drawn anew; set training.n_streamed to 0")

    def labelled(self) -> "ImageFiles":
        """Return the images that have labels.

        Raises
        ------
        ImageError
            No image has labels.
        """
        shots = [shot for shot in self.shots if shot.labels is not None]
        if not shots:
            raise ImageError(
                f"{self.config.path}: none of {len(self.shots)} images has labels; training needs note_1/data"
            )
        without = (LeftOut(s.path.name, s.name, "no labels") for s in self.shots if s.labels is None)
        return ImageFiles(shots, [*self.left_out.itertuples(index=False), *without], self.config, self.size)

    def _resampled(self, pixels: Pixels) -> tuple[torch.Tensor, torch.Tensor]:
        resampled = {"cartesian": resize, "polar": to_cartesian}[self.config.geometry]
        return resampled(torch.as_tensor(pixels.image)[None], torch.as_tensor(pixels.mask.copy())[None], self.size)


def read_images(
    path: str | Path,
    *,
    size: int = 224,
    geometry: str = "cartesian",
    mask: str | Path | None = None,
    labels: LabelSet | None = DROPLET_LABEL_SET,
) -> ImageFiles:
    """Find the images of a file or a folder: NumPy, TIFF, HDF5 and CXI files of images [y, x] or stacks [n, y, x].

    Every image is read and checked once, one in memory at a time; images that cannot be used are listed in ``left_out``
    with the reason. Pixels that hold NaN, -1, -2 or the largest number of their type count as masked.

    Parameters
    ----------
    path
        ``.npy``, ``.tif``, ``.tiff``, ``.h5``, ``.hdf5``, ``.cxi``, ``.nxs``, or a folder with any of them.
    size
        Pixels along each side that the images are resampled to.
    geometry
        ``cartesian``: as the detector sees them; ``polar``: arrays [ring, angle], see `to_cartesian`.
        The images of CXIDB 94 are ``cartesian``: the public script with which its authors read them masks a disc in the
        middle of each array.
    mask
        NumPy file of booleans [y, x], True = measured, which is combined with the mask of every image.
    labels
        Meaning of the labels in the files; None: labels are ignored.

    Raises
    ------
    ImageError
        No image can be used (the message gives the reason for the first), or the mask is not a file of booleans.
    ConfigError
        An unknown geometry.

    Warns
    -----
    UserWarning
        Pixels are marked as unmeasured by their value; masks hide most of the counts.
    """
    if size < SMALLEST:
        raise ImageError(f"size = {size}: expected at least {SMALLEST} pixels along each side")
    names = () if labels is None else labels.names
    values = {"path": str(path), "geometry": geometry, "mask": mask and str(mask), "labels": names}
    config = validate(FileConfig, values, "read_images")
    listed = [_listing(file, labels) for file in files_of(Path(path))]
    linked = {file.resolve() for listing in listed for file in listing.linked}
    shots = [shot for listing in listed for shot in listing.shots if shot.path.resolve() not in linked]
    good, bad = _checked(Path(path), shots, _read_mask(config))
    left_out = [*(row for listing in listed for row in listing.left_out), *bad]
    if not good:
        first = f"{left_out[0].name}: {left_out[0].reason}" if left_out else f"no {', '.join(FORMATS)} file"
        raise ImageError(f"{path}: no image that can be used; {first}")
    return ImageFiles(good, left_out, config, size)


def files_of(path: Path) -> list[Path]:
    """List the files that may hold images: those of a folder in the order of their names, or the one file.

    Raises
    ------
    ImageError
        The file does not exist or is of another type.
    """
    known = FORMATS.keys() | FOREIGN.keys()
    if os.path.isdir(path):
        return sorted(file for file in path.iterdir() if file.suffix.lower() in known and file.is_file())
    if not os.path.isfile(path):
        raise ImageError(f"{path}: no such file or folder")
    if path.suffix.lower() not in known:
        raise ImageError(f"{path}: expected a folder or a file that ends in {', '.join(FORMATS)}")
    return [path]


def _listing(path: Path, labels: LabelSet | None) -> Listing:
    try:
        return format_of(path).list(path, labels)
    except ImageError as error:
        return Listing([], [LeftOut(path.name, path.stem, str(error))])


def _checked(path: Path, shots: list[Shot], mask: np.ndarray | None) -> tuple[list[Shot], list[LeftOut]]:
    """Return the usable shots, and the others with the reason; warn about masked pixels."""
    good: list[Shot] = []
    bad: list[LeftOut] = []
    gaps: dict[str, int] = {}
    hidden: list[str] = []
    for shot in shots:
        try:
            pixels = _read(shot, mask)
            check_counts(pixels)
        except ImageError as error:
            bad.append(LeftOut(shot.path.name, shot.name, str(error)))
            continue
        good.append(shot)
        gaps |= {shot.name: pixels.n_gaps} if pixels.n_gaps else {}
        hidden += [shot.name] if hides_most(pixels) else []
    warn_of_masks(path, gaps, hidden)
    return good, bad


def _read(shot: Shot, mask: np.ndarray | None) -> Pixels:
    numbers, measured = format_of(shot.path).read(shot)
    if mask is None:
        return pixels_of(numbers, measured)
    if mask.shape != numbers.shape:
        raise ImageError(
            f"the mask for every image has shape {mask.shape}: expected the shape of the image, {numbers.shape}"
        )
    return pixels_of(numbers, measured & mask)


def _read_mask(config: FileConfig) -> np.ndarray | None:
    if config.mask is None:
        return None
    try:
        mask = mapped(Path(config.mask))
    except ImageError as error:
        raise ImageError(f"mask: expected a .npy file of booleans; {error}") from error
    if mask.dtype != bool:
        raise ImageError(
            f"mask {config.mask}: numbers of type {mask.dtype}: expected a .npy file of booleans, True where measured"
        )
    return mask
