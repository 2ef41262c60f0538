"""The order in which a trainer sees the samples of a data set."""

from collections.abc import Iterator

import numpy as np


class Batches:
    """Lists of sample numbers. With a seed their order depends on the epoch alone, so a resumed run repeats it."""

    def __init__(self, samples: np.ndarray, batch_size: int, seed: int | None):
        self.samples, self.batch_size, self.seed, self.epoch = samples, batch_size, seed, 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the order; the trainer calls this."""
        self.epoch = epoch

    def __len__(self) -> int:
        return -(-len(self.samples) // self.batch_size)

    def __iter__(self) -> Iterator[list[int]]:
        order = self.samples
        if self.seed is not None:
            order = np.random.default_rng([self.seed, self.epoch]).permutation(order)
        return (order[i : i + self.batch_size].tolist() for i in range(0, len(order), self.batch_size))
