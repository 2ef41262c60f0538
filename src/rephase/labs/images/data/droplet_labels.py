"""The eleven labels of images of helium nanodroplets, and how often each combination of them was measured."""

import functools
from typing import NamedTuple

import numpy as np
import pandas as pd

from rephase.formats.label_sets import LabelSet
from rephase.paths import DATA

LABELS = (
    "oblate",
    "round",
    "elliptical",
    "prolate",
    "streak",
    "bent",
    "asymmetric",
    "newton_rings",
    "double_rings",
    "layered",
    "empty",
)
"""Labels of droplet images, in the order of CXIDB 94."""

DROPLET_LABEL_SET = LabelSet(
    LABELS,
    (
        *(("empty", other) for other in LABELS[:-1]),
        *(("prolate", other) for other in ("oblate", "round", "elliptical")),
        *((outline, other) for outline in ("round", "elliptical") for other in ("streak", "bent")),
        ("round", "elliptical"),
    ),
)


class LabelTable(NamedTuple):
    """Combinations of labels, boolean [n, n_labels], and the number of images with each, [n]."""

    combinations: np.ndarray
    images: np.ndarray


@functools.cache
def label_table() -> LabelTable:
    """Read the combinations of 7,264 measured images (Zimmermann et al. 2019, Phys. Rev. E 99, 063309; CXIDB 94)."""
    table = pd.read_csv(DATA / "droplet_labels.csv", comment="#")
    return LabelTable(table[list(LABELS)].to_numpy(bool), table["images"].to_numpy())


def draw_combinations(
    n: int, rng: np.random.Generator, *, power: float = 1.0, among: LabelTable | None = None
) -> np.ndarray:
    """Draw `n` combinations of labels, boolean [n, n_labels].

    Parameters
    ----------
    power
        Combinations are drawn in proportion to this power of their count: 1 as measured, 0 all equally often.
    among
        The combinations to draw from; by default all measured ones.
    """
    table = label_table() if among is None else among
    weights = table.images.astype(float) ** power
    return table.combinations[rng.choice(len(weights), size=n, p=weights / weights.sum())]
