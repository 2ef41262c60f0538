"""The parts that all datasets share: samples in splits, and the order in which a trainer sees them."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cached_property
from typing import Any, Protocol, TypeVar, cast

import numpy as np
import torch
from pydantic import BaseModel
from torch.utils.data import DataLoader, Dataset

from rephase.config.sections import SplitConfig
from rephase.devices import is_held, loader_options

BatchType = TypeVar("BatchType")
Drawn = TypeVar("Drawn", covariant=True)
Tensors = TypeVar("Tensors", bound=tuple[torch.Tensor, ...])
_CPU = torch.device("cpu")
_READ = 256  # samples read at once for the memory of a GPU


def on_device(batch: Tensors, device: torch.device | str) -> Tensors:
    """Move every tensor of a batch to a device."""
    make = cast(Callable[..., Tensors], type(batch))
    return make(*(field.to(device) for field in batch))


class Batches:
    """Lists of sample numbers. With a seed, their order depends only on the epoch, so a resumed run repeats it.

    Each of `n_ranks` processes, numbered by `rank`, gets its part of every batch. A part without a sample has the first
    one of the batch, which then counts as none, so that all processes take the same number of steps.
    """

    def __init__(self, samples: np.ndarray, batch_size: int, seed: int | None, *, rank: int = 0, n_ranks: int = 1):
        self.samples, self.batch_size, self.seed, self.rank, self.n_ranks = samples, batch_size, seed, rank, n_ranks
        self.epoch, self._begun = 0, (0, 0)

    def set_epoch(self, epoch: int) -> None:
        """Choose the order of an epoch; the trainer calls this."""
        self.epoch = epoch

    def resume(self, epoch: int, n_done: int) -> None:
        """Continue in an epoch of which the first batches are done."""
        self.epoch, self._begun = epoch, (epoch, n_done)

    def counts(self, number: int) -> tuple[int, int]:
        """Return the number of samples in the part of this process of a batch, and in the whole batch."""
        own, n = self._part(number)
        return own.stop - own.start, n

    def __len__(self) -> int:
        return -(-len(self.samples) // self.batch_size)

    def __iter__(self) -> Iterator[list[int]]:
        order, (epoch, n_done) = self.samples, self._begun
        if self.seed is not None:
            order = np.random.default_rng([self.seed, self.epoch]).permutation(order)
        return (self._batch(order, number) for number in range(n_done if epoch == self.epoch else 0, len(self)))

    def _batch(self, order: np.ndarray, number: int) -> list[int]:
        batch = order[number * self.batch_size : (number + 1) * self.batch_size]
        own, _ = self._part(number)
        part: list[int] = (batch[own] if own.stop > own.start else batch[:1]).tolist()
        return part

    def _part(self, number: int) -> tuple[slice, int]:
        """Return the places of the part of this process in a batch, and the size of the batch."""
        n = min(self.batch_size, len(self.samples) - number * self.batch_size)
        return slice(self.rank * n // self.n_ranks, (self.rank + 1) * n // self.n_ranks), n


class Source(Protocol[Drawn]):
    """A source from which new samples can be drawn."""

    def draw(self, n: int, rng: np.random.Generator) -> Drawn:
        """Return a batch of `n` new samples."""


class Loader(Protocol[Drawn]):
    """What a trainer takes its batches from, in the order of its ``sampler``."""

    sampler: Any

    def __len__(self) -> int:
        """Return the number of batches of an epoch."""

    def __iter__(self) -> Iterator[Drawn]:
        """Yield the batches of an epoch."""


class StreamedData(Dataset[BatchType]):
    """Samples generated on the fly; batch `i` is always the same."""

    def __init__(self, source: Source[BatchType], n_samples: int, batch_size: int, *, seed: int):
        self.source, self.n_samples, self.batch_size, self.seed = source, n_samples, batch_size, seed

    def __len__(self) -> int:
        return -(-self.n_samples // self.batch_size)

    def __getitem__(self, batch: list[int]) -> BatchType:
        (number,) = batch
        size = min(self.batch_size, self.n_samples - number * self.batch_size)
        return self.source.draw(size, np.random.default_rng([self.seed, 7, number]))

    def loader(self, device: torch.device = _CPU) -> Loader[BatchType]:
        """Return a loader of all batches for a device, in an order that changes from epoch to epoch."""
        return loader_of(self, Batches(np.arange(len(self)), 1, self.seed), device)


def shuffled_splits(n: int, split: SplitConfig, seed: int) -> dict[str, np.ndarray]:
    """Divide the numbers 0 to n - 1 at random into ``train``, ``validation`` and ``test``, each sorted."""
    shuffled = np.random.default_rng([seed, 1]).permutation(n)
    shares = np.cumsum([split.train, split.validation])
    parts = np.split(shuffled, np.rint(n * shares).astype(int))
    return {name: np.sort(part) for name, part in zip(split.shares(), parts)}


class SplitData(Dataset[BatchType], ABC):
    """Samples in splits; a subclass returns batches of stored samples and draws new samples of the same kind.

    ``config`` is the configuration of the dataset, and ``splits`` has the sample numbers of each split by name. The
    first axis of every field of a batch is that of the samples. ``built_with`` has the arguments, besides the shape,
    that the constructors of models need.
    """

    config: BaseModel
    splits: dict[str, np.ndarray]
    built_with: Mapping[str, Any] = {}

    @property
    @abstractmethod
    def shape(self) -> tuple[int, ...]:
        """Shape of one sample, for which models are built: a grid of reflections, or an image."""

    @abstractmethod
    def __getitem__(self, samples: list[int] | np.ndarray | torch.Tensor) -> BatchType:
        """Return the batch of a list of sample numbers."""

    @abstractmethod
    def draw(self, n: int, rng: np.random.Generator) -> BatchType:
        """Return a batch of `n` new samples of the kind used for training."""

    def batches(self, split: str, batch_size: int = 64) -> Iterator[BatchType]:
        """Yield the samples of a split in order, batch by batch."""
        for first in range(0, len(self.splits[split]), batch_size):
            yield self[self.splits[split][first : first + batch_size]]

    def loader(
        self,
        split: str,
        batch_size: int,
        *,
        seed: int | None = None,
        rank: int = 0,
        n_ranks: int = 1,
        device: torch.device = _CPU,
    ) -> Loader[BatchType]:
        """Return the batches of a split for a trainer, or the parts of one of several processes, as in `Batches`.

        If a seed is given, they are shuffled again in each epoch. A GPU holds the samples in its memory if they fit;
        otherwise worker processes read them ahead.
        """
        order = Batches(self.splits[split], batch_size, seed, rank=rank, n_ranks=n_ranks)
        if device.type != "cpu" and is_held(len(order.samples) * bytes_of(cast(Any, self[order.samples[:1]])), device):
            return loader_of(HeldData(self, order.samples, device), order, _CPU)
        return loader_of(self, order, device)


def loader_of(data: Dataset[BatchType], order: Iterable[Any], device: torch.device) -> Loader[BatchType]:
    """Return a loader that yields batches in an order, the same ones for every device."""
    return DataLoader(data, sampler=order, batch_size=None, **loader_options(device))


def bytes_of(batch: tuple[torch.Tensor, ...]) -> int:
    """Return the memory of the tensors of a batch, each as if it were contiguous."""
    return sum(field.numel() * field.element_size() for field in batch)


class HeldData(Dataset[BatchType]):
    """Some samples of a dataset in the memory of a device, from where batches are taken without a copy over the bus.

    They are read when the first batch is.
    """

    def __init__(self, data: SplitData[BatchType], samples: np.ndarray, device: torch.device):
        self.data, self.samples, self.device = data, np.sort(samples), device

    @cached_property
    def fields(self) -> Any:
        """All samples as one batch on the device."""
        pieces = (self.samples[first : first + _READ] for first in range(0, len(self.samples), _READ))
        parts = [on_device(cast(Any, self.data[piece]), self.device) for piece in pieces]
        return type(parts[0])(*(torch.cat(fields) for fields in zip(*parts)))

    def __getitem__(self, samples: list[int]) -> BatchType:
        rows = torch.as_tensor(np.searchsorted(self.samples, samples), device=self.device)
        return cast(BatchType, type(self.fields)(*(field[rows] for field in self.fields)))
