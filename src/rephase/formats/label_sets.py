"""Labels of images: their names in order, and the pairs that exclude each other."""

from typing import NamedTuple

import numpy as np

from rephase.errors import ImageError


class LabelSet(NamedTuple):
    """Names in the order of the last axis of every label array, and pairs that no image can have together."""

    names: tuple[str, ...]
    exclusive: tuple[tuple[str, str], ...] = ()

    def check(self, values: np.ndarray) -> np.ndarray:
        """Check the labels of one image, and return them as booleans [n_labels].

        Raises
        ------
        ImageError
            The number of labels is wrong, a label is neither 0 nor 1, or two labels exclude each other.
        """
        flat = np.asarray(values).ravel()
        if flat.dtype.kind not in "buif" or len(flat) != len(self.names):
            raise ImageError(
                f"labels of shape {np.shape(values)}, {flat.dtype}: expected {len(self.names)} numbers, in the order "
                f"{', '.join(self.names)}"
            )
        if not np.isin(flat, (0, 1)).all():
            raise ImageError(f"labels {flat.tolist()}: expected 0 or 1 for each")
        carried = {name for name, value in zip(self.names, flat) if value}
        for pair in self.exclusive:
            if carried.issuperset(pair):
                raise ImageError(f"labels {' and '.join(pair)} exclude each other; correct them or leave the image out")
        return flat.astype(bool)
