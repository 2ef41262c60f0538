"""Every data set of diffraction images by its kind: simulated droplets, simulated particles, or measured shots."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from rephase.datasets.droplet_labels import DROPLET_LABEL_SET
from rephase.datasets.droplets import open_droplets
from rephase.datasets.image_data import ImageData, store_images
from rephase.datasets.image_files import read_images
from rephase.datasets.image_labels import LabelSet
from rephase.datasets.images import ImageBatch
from rephase.datasets.single_particles import open_single_particles
from rephase.errors import ImageError
from rephase.image_config import ImageDataConfig


class FileShots:
    """The labelled images of a file or a folder; each shows something of its own."""

    def __init__(self, config: ImageDataConfig):
        given = config.file
        self.config, self.label_set = config, LabelSet(given.labels) if given.labels else DROPLET_LABEL_SET
        found = read_images(str(given.path), size=config.size, geometry=given.geometry, labels=self.label_set)
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


def open_measured(path: Path, config: ImageDataConfig, *, workers: int = 1) -> ImageData:
    """Open the labelled images of the file of a configuration, resampled once into a store.

    A batch of them is in memory at a time, whatever the size of the file.

    Raises
    ------
    ImageError
        No image with labels that can be used, or too few to split.
    StoreError
        The folder holds another data set, a damaged chunk, or the disk is full.
    """
    return store_images(path, FileShots(config), workers=workers)


IMAGE_DATASETS: dict[str, Callable[..., ImageData]] = {
    "droplets": open_droplets,
    "single_particles": open_single_particles,
    "file": open_measured,
}


def open_images(path: Path, config: ImageDataConfig, *, workers: int = 1) -> ImageData:
    """Open the data set of images of a configuration, by its kind; build what is missing of it.

    Parameters
    ----------
    path
        Folder of the store.
    config
        What to simulate or read.
    workers
        Chunks built at the same time.
    """
    return IMAGE_DATASETS[config.kind](path, config, workers=workers)
