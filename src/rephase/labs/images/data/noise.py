"""What makes images harder, for experiments: fewer photons, noise, another scale, fewer labels.

Every function gives a sample the same numbers whenever it is asked for, from the seed and the number of the sample
alone: an image is as noisy in each epoch, and in the test of another model.
"""

from collections.abc import Callable

import numpy as np
import torch

from rephase.config.images import ImageNoise
from rephase.labs.images.data.batch import ImageBatch

_PHOTONS, _GAUSSIAN, _LABELS = 11, 12, 13  # streams of random numbers, apart from those of the data sets


def with_noise(batch: ImageBatch, samples: np.ndarray, noise: ImageNoise, *, seed: int) -> ImageBatch:
    """Everything that a configuration asks for: photons taken away, then Gaussian noise, then the scale."""
    if noise.photons < 1:
        batch = with_fewer_photons(batch, samples, noise.photons, seed=seed)
    if noise.gaussian > 0:
        batch = with_gaussian_noise(batch, samples, noise.gaussian, seed=seed)
    return scaled(batch, noise.scale)


def with_fewer_photons(batch: ImageBatch, samples: np.ndarray, share: float, *, seed: int) -> ImageBatch:
    """Images as a weaker pulse would have given them.

    Each photon is kept with the probability `share`. Counts that follow Poisson's law do so again: this is exactly an
    exposure with that share of the fluence, background included, where a count is a photon. Counts are rounded first.

    Parameters
    ----------
    batch
        Images in counts.
    samples
        Numbers of its samples, [batch].
    share
        Between 0 and 1.
    seed
        Of the data set.
    """
    counts = batch.image.round().clamp(min=0).to(torch.int64).numpy()
    kept = _for_each(samples, [seed, _PHOTONS], lambda rng, row: rng.binomial(counts[row], share))
    return batch._replace(image=torch.as_tensor(kept).to(batch.image))


def with_gaussian_noise(batch: ImageBatch, samples: np.ndarray, level: float, *, seed: int) -> ImageBatch:
    """Images with noise of `level` times their mean measured count, standard deviation.

    Counts below zero become zero, which adds a background: where nothing was counted 0.4 of the standard deviation on
    average, less where the image is brighter.

    Parameters are those of `with_fewer_photons`.
    """
    shape = batch.image.shape[1:]
    drawn = _for_each(samples, [seed, _GAUSSIAN], lambda rng, _: rng.standard_normal(shape, np.float32))
    measured = torch.where(batch.mask, batch.image, 0)
    mean = measured.sum((1, 2)) / batch.mask.sum((1, 2))
    noisy = batch.image + level * mean[:, None, None] * torch.as_tensor(drawn).to(batch.image)
    return batch._replace(image=noisy.clamp(min=0))


def scaled(batch: ImageBatch, factor: float) -> ImageBatch:
    """Images in other units: every count times `factor`, which may span decades."""
    return batch if factor == 1 else batch._replace(image=batch.image * factor)


def labelled_part(parents: np.ndarray, fraction: float, *, seed: int) -> np.ndarray:
    """Which samples keep their labels, boolean [n]: all those of `fraction` of the parents, at least of one.

    A smaller fraction is part of every larger one.

    Parameters
    ----------
    parents
        Number of the droplet or particle that each sample shows, [n].
    fraction
        Above 0, at most 1.
    seed
        Of the data set.
    """
    every = np.unique(parents)
    order = np.random.default_rng([seed, _LABELS]).permutation(every)
    return np.isin(parents, order[: max(1, round(fraction * len(every)))])


def _for_each(
    samples: np.ndarray, seeds: list[int], draw: Callable[[np.random.Generator, int], np.ndarray]
) -> np.ndarray:
    """What is drawn for each sample from a generator of its own; `draw` gets that and the place in the batch."""
    return np.stack([draw(np.random.default_rng([*seeds, int(sample)]), row) for row, sample in enumerate(samples)])
