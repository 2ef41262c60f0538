"""Every data set of diffraction images by its kind: simulated droplets, simulated particles, or measured shots."""

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
    """The labelled images of a file or a folder; each shows something of its own."""

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
        """No image can be drawn that is not there: `ImageError`."""
        return self.files.draw(n, rng)


IMAGE_SOURCES: dict[str, Callable[[ImageDataConfig], ImageSource]] = {
    "droplets": DropletShots,
    "single_particles": ParticleShots,
    "file": FileShots,
}
"""Where images come from, by the kind of data set."""


def label_set_of(config: ImageDataConfig) -> LabelSet:
    """The labels of the data set of a configuration; no image is read for them."""
    if config.kind == "file":
        return LabelSet(config.file.labels) if config.file.labels else DROPLET_LABEL_SET
    return IMAGE_SOURCES[config.kind](config).label_set


def open_images(path: Path, config: ImageDataConfig, *, workers: int = 1) -> ImageData:
    """Open the data set of images of a configuration, by its kind; build what is missing of it.

    A chunk depends on the seed and its number alone: killed at any moment and started again, the store ends with the
    same bits. Measured images are resampled once, a chunk of them in memory at a time, whatever the size of the file.

    Parameters
    ----------
    path
        Folder of the store.
    config
        What to simulate or read.
    workers
        Chunks built at the same time.

    Raises
    ------
    OpticsError
        A photon energy or a detector that the simulation does not know.
    ImageError
        No image with labels in the file, or too few to split.
    StoreError
        The folder holds another data set, a damaged chunk, or the disk is full.
    """
    return store_images(path, IMAGE_SOURCES[config.kind](config), workers=workers)


def check_images(config: ImageDataConfig) -> None:
    """Raise before anything is built if the file is not there, or a shot of the configuration cannot be simulated."""
    if config.kind == "file":
        files_of(Path(str(config.file.path)))
    else:
        IMAGE_SOURCES[config.kind](config).draw(1, np.random.default_rng(0))
