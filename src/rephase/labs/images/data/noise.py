"""Degraded images for experiments: fewer photons, noise, another scale, fewer labels.

The random numbers of a sample depend only on the seed and the number of the sample: an image has the same noise in
every epoch, and for every model.
"""

from collections.abc import Callable

import numpy as np
import torch

from rephase.config.images import ImageNoise
from rephase.labs.images.data.batch import ImageBatch

_PHOTONS, _GAUSSIAN, _LABELS = 11, 12, 13  # streams of random numbers, separate from those of the datasets


def with_noise(batch: ImageBatch, samples: np.ndarray, noise: ImageNoise, *, seed: int) -> ImageBatch:
    """Apply the changes of a configuration: remove photons, then add Gaussian noise, then scale counts."""
    if noise.photons < 1:
        batch = with_fewer_photons(batch, samples, noise.photons, seed=seed)
    if noise.gaussian > 0:
        batch = with_gaussian_noise(batch, samples, noise.gaussian, seed=seed)
    return scaled(batch, noise.scale)


def with_fewer_photons(batch: ImageBatch, samples: np.ndarray, share: float, *, seed: int) -> ImageBatch:
    """Thin images to those of a weaker pulse.

    Each photon is kept with the probability `share`. Poisson counts remain Poisson counts: if a count is a photon, this
    is exactly an exposure with that fraction of the fluence, background included. Counts are rounded first.

    Parameters
    ----------
    batch
        Images in counts.
    samples
        Numbers of its samples, [batch].
    share
        Probability to keep a photon, 0–1.
    seed
        Seed of the dataset.
    """
    counts = batch.image.round().clamp(min=0).to(torch.int64).numpy()
    kept = _for_each(samples, [seed, _PHOTONS], lambda rng, row: rng.binomial(counts[row], share))
    return batch._replace(image=torch.as_tensor(kept).to(batch.image))


def with_gaussian_noise(batch: ImageBatch, samples: np.ndarray, level: float, *, seed: int) -> ImageBatch:
    """Add Gaussian noise with a standard deviation of `level` times the mean measured count of each image.

    Negative counts become zero, which adds a background: on average 0.4 standard deviations where nothing was counted,
    less where the image is brighter.

    The other parameters are those of `with_fewer_photons`.
    """
    shape = batch.image.shape[1:]
    drawn = _for_each(samples, [seed, _GAUSSIAN], lambda rng, _: rng.standard_normal(shape, np.float32))
    measured = torch.where(batch.mask, batch.image, 0)
    mean = measured.sum((1, 2)) / batch.mask.sum((1, 2))
    noisy = batch.image + level * mean[:, None, None] * torch.as_tensor(drawn).to(batch.image)
    return batch._replace(image=noisy.clamp(min=0))


def scaled(batch: ImageBatch, factor: float) -> ImageBatch:
    """Multiply every count by `factor`, as in other detector units."""
    return batch if factor == 1 else batch._replace(image=batch.image * factor)


def labelled_part(parents: np.ndarray, fraction: float, *, seed: int) -> np.ndarray:
    """Choose the samples that keep their labels, boolean [n]: all samples of `fraction` of the parents, at least one.

    A smaller fraction is a subset of every larger one.

    Parameters
    ----------
    parents
        Number of the droplet or particle that each sample shows, [n].
    fraction
        Fraction of the parents, above 0 and at most 1.
    seed
        Seed of the dataset.
    """
    every = np.unique(parents)
    order = np.random.default_rng([seed, _LABELS]).permutation(every)
    return np.isin(parents, order[: max(1, round(fraction * len(every)))])


def _for_each(
    samples: np.ndarray, seeds: list[int], draw: Callable[[np.random.Generator, int], np.ndarray]
) -> np.ndarray:
    """Draw for each sample with its own generator; `draw` receives the generator and the position in the batch."""
    return np.stack([draw(np.random.default_rng([*seeds, int(sample)]), row) for row, sample in enumerate(samples)])
