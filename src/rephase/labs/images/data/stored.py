"""Stored datasets of images: a source of shots, its store, splits by droplet or particle, noise, network input."""

from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

from rephase.config.images import ImageDataConfig
from rephase.config.sections import fingerprint
from rephase.formats.label_sets import LabelSet
from rephase.labs.images.data.batch import ImageBatch
from rephase.labs.images.data.noise import labelled_part, with_noise
from rephase.learning.batches import SplitData, shuffled_splits
from rephase.learning.store import Shard, Store
from rephase.optics.correlation import correlation_map

_NOT_MEASURED = -1.0  # in the store; counts are never negative


class ImageSource(Protocol):
    """A source of shots.

    ``parents`` [n_samples] is the number of the droplet or particle of each shot; ``identity`` fixes the shots.
    """

    config: ImageDataConfig
    label_set: LabelSet
    parents: np.ndarray
    identity: dict[str, Any]

    def shots(self, rows: slice) -> ImageBatch:
        """The shots of a range of samples that starts and ends with a parent; the same at every call."""

    def draw(self, n: int, rng: np.random.Generator) -> ImageBatch:
        """Draw `n` new shots of new parents."""


class ImageData(SplitData[ImageBatch]):
    """Stored shots; indexing with a list of samples reads only these, and returns the input of a network.

    The configuration selects raw counts with its noise, or their correlation maps, [ring, Δ] with half as many
    rings as pixels. A parent is in one split only. ``train`` has only the shots whose labels are used; every shot of
    ``validation`` and ``test`` has its labels.

    Parameters
    ----------
    source
        Source of the shots.
    store
        Store that holds the shots.
    maps
        Store of their correlation maps, if these are the input; None: maps are computed when shots are read.
    """

    config: ImageDataConfig

    def __init__(self, source: ImageSource, store: Store, maps: Store | None = None):
        self.source, self.store, self.maps, self.config = source, store, maps, source.config
        self.labels = store.load("labels")
        self.built_with = {"n_labels": self.labels.shape[1]}
        self.splits = _splits(source)

    @property
    def label_names(self) -> tuple[str, ...]:
        """Names of the labels in order."""
        return self.source.label_set.names

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the input: [y, x] or [ring, Δ]."""
        return self.config.shape

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, samples: list[int] | np.ndarray | torch.Tensor) -> ImageBatch:
        numbers = np.asarray(samples)
        labels = self.labels[numbers].float()
        if self.maps is not None:
            stored = torch.as_tensor(self.maps.take("map", numbers))
            mask = ~stored.isnan()
            return ImageBatch(torch.where(mask, stored, 0), mask, labels)
        return _degraded(_stored_shots(self.store, numbers, labels), numbers, self.config, self.config.seed)

    def draw(self, n: int, rng: np.random.Generator) -> ImageBatch:
        """Draw `n` new shots of droplets or particles that are in no split."""
        return _degraded(self.source.draw(n, rng), np.arange(n), self.config, int(rng.integers(1 << 62)))


def _stored_shots(store: Store, samples: np.ndarray, labels: torch.Tensor) -> ImageBatch:
    stored = torch.as_tensor(store.take("image", samples))
    return ImageBatch(stored.clamp(min=0), stored != _NOT_MEASURED, labels)


def _degraded(shots: ImageBatch, samples: np.ndarray, config: ImageDataConfig, seed: int) -> ImageBatch:
    """Add the noise of a configuration to shots, and turn them into the input of a network."""
    return input_of(with_noise(shots, samples, config.noise, seed=seed), config)


def input_of(shots: ImageBatch, config: ImageDataConfig) -> ImageBatch:
    """Turn shots into the network input of a configuration: the shots, or their correlation maps [ring, Δ]."""
    if config.input == "image":
        return shots
    rings, angles = config.shape
    image, mask = correlation_map(shots.image, shots.mask, n_q=rings, n_delta=angles)
    return shots._replace(image=image, mask=mask)


def store_images(path: Path, source: ImageSource, *, workers: int = 1) -> ImageData:
    """Open the store of a source, and build its missing chunks; likewise correlation maps, if these are the input.

    Raises
    ------
    StoreError
        The folder holds another dataset or a damaged chunk, or the disk is full.
    """
    store = fill_shots(path, source, workers=workers)
    store.check()
    if source.config.input == "image":
        return ImageData(source, store)
    maps = fill_maps(store, source, workers=workers)
    maps.check()
    return ImageData(source, store, maps)


def fill_shots(path: Path, source: ImageSource, *, workers: int = 1, shard: Shard | None = None) -> Store:
    """Open the store of a source, and build the missing chunks, or those of a shard."""
    size, n_labels = source.config.size, len(source.label_set.names)
    layout = {"image": ((size, size), "float32"), "labels": ((n_labels,), "bool")}
    store = Store(path, layout, len(source.parents), source.config.chunk, source.identity)

    def build(rows: slice) -> dict[str, np.ndarray]:
        shots = source.shots(rows)
        image = torch.where(shots.mask, shots.image, _NOT_MEASURED)
        return {"image": image.numpy(), "labels": shots.labels.bool().numpy()}

    store.fill(build, workers=workers, label="diffraction images", shard=shard)
    return store


def fill_maps(images: Store, source: ImageSource, *, workers: int = 1, shard: Shard | None = None) -> Store:
    """Open the store of correlation maps of stored shots, noise included, and build what is missing, or a shard of it.

    It lies within the store of the images; NaN stands where no pair was measured. A shard needs the same shard of the
    images.
    """
    config = source.config
    noise = {"noise": config.noise.model_dump(mode="json"), "seed": config.seed}
    path, layout = images.path / f"correlation-{fingerprint(noise)}", {"map": (tuple(config.shape), "float32")}
    store = Store(path, layout, images.n_samples, images.chunk, source.identity | noise)

    def build(rows: slice) -> dict[str, np.ndarray]:
        samples = np.arange(rows.start, rows.stop)
        shots = _stored_shots(images, samples, torch.zeros(len(samples), 0))  # maps do not depend on the labels
        shots = _degraded(shots, samples, config, config.seed)
        return {"map": torch.where(shots.mask, shots.image, torch.nan).numpy()}

    store.fill(build, workers=workers, label="correlation maps", shard=shard)
    return store


def _splits(source: ImageSource) -> dict[str, np.ndarray]:
    """Return the samples of each split; in ``train`` only those whose labels are used."""
    config, parents = source.config, source.parents
    by_parent = shuffled_splits(int(parents.max()) + 1, config.split, config.seed)
    splits = {name: np.flatnonzero(np.isin(parents, part)) for name, part in by_parent.items()}
    kept = labelled_part(parents[splits["train"]], config.label_fraction, seed=config.seed)
    return splits | {"train": splits["train"][kept]}
