"""Sources of diffraction images by kind: simulated droplets, simulated particles, or measured shots."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from rephase.config.images import ImageDataConfig
from rephase.errors import ImageError
from rephase.formats.label_sets import LabelSet
from rephase.labs.images.data.batch import ImageBatch
from rephase.labs.images.data.droplet_labels import DROPLET_LABEL_SET
from rephase.labs.images.data.droplets import DropletShots
from rephase.labs.images.data.files import files_of, read_images
from rephase.labs.images.data.single_particles import ParticleShots
from rephase.labs.images.data.stored import ImageData, ImageSource, store_images


class FileShots:
    """The labelled images of a file or a folder; each counts as its own parent."""

    def __init__(self, config: ImageDataConfig):
        given = config.file
        self.config, self.label_set = config, label_set_of(config)
        found = read_images(
            str(given.path), size=config.size, geometry=given.geometry, mask=given.mask, labels=self.label_set
        )
        self.files = found.labelled()
        self.parents = np.arange(len(self.files))
        try:
            config.split.check(len(self.files), "labelled images")
        except ValueError as error:
            raise ImageError(f"{given.path}: {error}") from error
        sizes = {str(path): path.stat().st_size for path in {shot.path for shot in self.files.shots}}
        shown = {"file": given.model_dump(mode="json"), "size": config.size, "chunk": config.chunk}
        self.identity: dict[str, Any] = {"config": shown, "bytes": sizes, "n_samples": len(self.files)}

    def shots(self, rows: slice) -> ImageBatch:
        """The images of a range of samples."""
        return self.files[np.arange(rows.start, rows.stop)]

    def draw(self, n: int, rng: np.random.Generator) -> ImageBatch:
        """Raise `ImageError`: measured images cannot be drawn anew."""
        return self.files.draw(n, rng)


IMAGE_SOURCES: dict[str, Callable[[ImageDataConfig], ImageSource]] = {
    "droplets": DropletShots,
    "single_particles": ParticleShots,
    "file": FileShots,
}
"""Sources of images by the kind of dataset."""


def source_of(config: ImageDataConfig) -> ImageSource:
    """Make the source of the images of a configuration."""
    return IMAGE_SOURCES[config.kind](config)


def label_set_of(config: ImageDataConfig) -> LabelSet:
    """Return the labels of the dataset of a configuration without reading images."""
    if config.kind == "file":
        return LabelSet(config.file.labels) if config.file.labels else DROPLET_LABEL_SET
    return source_of(config).label_set


def open_images(path: Path, config: ImageDataConfig, *, workers: int = 1) -> ImageData:
    """Open the image dataset of a configuration, and build its missing chunks.

    A chunk depends only on the seed and its number: a build that is killed at any moment and restarted ends with the
    same bits. Measured images are resampled once, one chunk in memory at a time, whatever the size of the file.

    Parameters
    ----------
    path
        Folder of the store.
    config
        Settings of the simulation or the file to read.
    workers
        Chunks built at the same time.

    Raises
    ------
    OpticsError
        A photon energy or a detector that the simulation does not support.
    ImageError
        No image with labels in the file, or too few to split.
    StoreError
        The folder holds another dataset or a damaged chunk, or the disk is full.
    """
    return store_images(path, source_of(config), workers=workers)


def check_images(config: ImageDataConfig) -> None:
    """Raise before anything is built if the file does not exist or a shot cannot be simulated."""
    if config.kind == "file":
        files_of(Path(str(config.file.path)))
    else:
        IMAGE_SOURCES[config.kind](config).draw(1, np.random.default_rng(0))
