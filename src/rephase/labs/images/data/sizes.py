"""Resampling of images of any size and shape to the square grid of a network, with their masks."""

import math
from functools import lru_cache

import torch

Masked = tuple[torch.Tensor, torch.Tensor]
"""Images [batch, y, x] in counts, and their mask, boolean of the same shape, True = measured."""


def resize(image: torch.Tensor, mask: torch.Tensor, size: int) -> Masked:
    """Resample images to `size` x `size`: each new pixel is the mean count of the measured area below it.

    Images that are not square are first padded evenly with unmeasured pixels. Values remain counts per pixel of the
    detector, whatever the size. A new pixel is measured if at least half of its area was.

    Parameters
    ----------
    image
        Counts [batch, y, x].
    mask
        Boolean [batch, y, x], True = measured.
    size
        Pixels along each side of the result.

    Returns
    -------
    tuple of torch.Tensor
        Counts [batch, size, size], 0 where not measured, and the mask.
    """
    weights, counts = mask.to(image.dtype), torch.where(mask, image, 0)
    y, x = (_overlaps(n, max(image.shape[1:]), size, image) for n in image.shape[1:])
    area, total = (y @ values @ x.T for values in (weights, counts))
    return _measured(total, area)


def to_cartesian(polar: torch.Tensor, mask: torch.Tensor, size: int) -> Masked:
    """Resample images from polar to Cartesian coordinates by bilinear interpolation of the counts.

    Ring i of n has the radius (i + 1/2)/n of half the width of the result, point j of m the angle 2π j/m from +x (to
    the right) towards +y (down the rows). The corners lie outside all rings and are not measured.

    Parameters
    ----------
    polar
        Counts per pixel of the detector, [batch, ring, angle].
    mask
        Boolean [batch, ring, angle], True = measured.
    size
        Pixels along each side of the result.
    """
    finer = size * math.ceil(polar.shape[1] / size)  # fine enough to hit every ring; the mean over pixels follows
    grid, inside = (part.to(polar) for part in _polar_grid(finer, polar.shape[2]))
    around = torch.stack([torch.where(mask, polar, 0), mask.to(polar.dtype)], dim=1)
    around = torch.cat([around, around[..., :1]], dim=3)  # the column at 2π is that at 0
    sampled = torch.nn.functional.grid_sample(
        around, grid.expand(len(polar), -1, -1, -1), padding_mode="border", align_corners=False
    )
    total, area = (sampled * inside).unbind(1)
    return resize(*_measured(total, area), size)


def _measured(total: torch.Tensor, area: torch.Tensor) -> Masked:
    mask = area >= 0.5 - 1e-4
    return torch.where(mask, total / torch.where(mask, area, 1), 0), mask


def _overlaps(n: int, side: int, size: int, like: torch.Tensor) -> torch.Tensor:
    """Fraction of each of `size` new pixels that covers each of `n` old ones in the middle of `side`, [size, n]."""
    old = torch.arange(n + 1, dtype=torch.float64) + (side - n) / 2
    new = torch.arange(size + 1, dtype=torch.float64) * side / size
    last, first = torch.minimum(new[1:, None], old[1:]), torch.maximum(new[:-1, None], old[:-1])
    return ((last - first).clamp(min=0) * size / side).to(like)


@lru_cache(maxsize=1)
def _polar_grid(size: int, n_angles: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Locate each pixel of `size` x `size` in polar images with one more angle; also 1 inside the circle, else 0."""
    axis = (2 * torch.arange(size, dtype=torch.float64) + 1) / size - 1
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    turn = (torch.atan2(y, x) / (2 * torch.pi)) % 1
    angle = (2 * turn * n_angles + 1) / (n_angles + 1) - 1
    radius = torch.hypot(x, y)
    return torch.stack([angle, 2 * radius - 1], dim=-1).float(), (radius <= 1).float()
