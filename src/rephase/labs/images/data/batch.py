"""The batch that every dataset of diffraction images gives to a network."""

from typing import NamedTuple

import torch


class ImageBatch(NamedTuple):
    """Diffraction images with their labels.

    ``image`` [batch, y, x], float: counts (photons or detector units) as measured, neither scaled nor background
    corrected, the beam near the middle; a pixel that was not measured may hold anything. ``mask`` [batch, y, x], bool:
    True = measured. ``labels`` [batch, n_labels], float: 1 where the image has the feature, 0 where not, in the order
    of the dataset's names; an image may have several or none.
    """

    image: torch.Tensor
    mask: torch.Tensor
    labels: torch.Tensor
