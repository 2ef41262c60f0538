"""Whether the bond lengths of a model are all too long or too short, as with a wrong wavelength or cell."""

from typing import NamedTuple

import numpy as np
import scipy

from rephase.crystal.cell import Cell
from rephase.crystal.symmetry import Symmetry
from rephase.refinement.sites import Sites

# Lengths in Å and their shares among the bonds of organic molecules, from the averages of Allen, Kennard, Watson,
# Brammer, Orpen & Taylor (1987), doi:10.1039/p298700000s1
_LENGTHS = {
    ("C", "C"): (
        (1.384, 0.40),
        (1.420, 0.10),
        (1.520, 0.25),
        (1.550, 0.05),  # of quaternary carbon, and of oxalate
        (1.470, 0.10),
        (1.330, 0.05),
        (1.190, 0.05),
    ),
    ("C", "N"): ((1.335, 0.35), (1.375, 0.20), (1.465, 0.25), (1.505, 0.10), (1.140, 0.10)),
    ("C", "O"): ((1.210, 0.25), (1.255, 0.20), (1.360, 0.30), (1.430, 0.25)),
}
_SPREAD = 0.02  # Å about each length
_OUTLIERS = 0.1  # share of bonds with any length
_RANGE = 1.05, 1.75  # Å
_SCALES = np.linspace(0.94, 1.06, 121)  # beyond, a single bond passes for an aromatic one
_FEWEST = 8  # bonds


class BondScale(NamedTuple):
    """The ``factor`` by which the ``n`` bonds are longer than usual, and by how much ln likelihood falls without it."""

    factor: float
    gain: float
    n: int


def bond_scale(sites: Sites, cell: Cell, symmetry: Symmetry) -> BondScale | None:
    """Fit one factor to the lengths of all C-C, C-N and C-O bonds by maximum likelihood.

    None for fewer than eight bonds, or without a maximum from 0.94 to 1.06.
    """
    likelihood, n = np.zeros(len(_SCALES)), 0
    for pair, lengths in _LENGTHS.items():
        found = _distances(sites, pair, cell, symmetry)
        n += len(found)
        likelihood += _log_likelihood(found / _SCALES[:, None], lengths).sum(1)
    best = int(likelihood.argmax())
    if n < _FEWEST or best in (0, len(_SCALES) - 1):  # a maximum at the limit is none
        return None
    return BondScale(float(_SCALES[best]), float(likelihood[best] - likelihood[len(_SCALES) // 2]), n)


def _log_likelihood(distance: np.ndarray, lengths: tuple[tuple[float, float], ...]) -> np.ndarray:
    """Logarithm of the probability density of distances [...] under a sum of normal distributions."""
    mean, share = np.array(lengths).T
    peaks = np.exp(-(((distance[..., None] - mean) / _SPREAD) ** 2) / 2) / (np.sqrt(2 * np.pi) * _SPREAD)
    return np.log((1 - _OUTLIERS) * peaks @ share + _OUTLIERS / (_RANGE[1] - _RANGE[0]))


def _distances(sites: Sites, pair: tuple[str, str], cell: Cell, symmetry: Symmetry) -> np.ndarray:
    """Distances [n] in Å between ordered atoms of two elements that are near enough to be bonded."""
    elements, ordered = np.array(sites.elements), (sites.part == 0) & (sites.occupancy > 0.9)
    one, other = (sites.xyz_frac[ordered & (elements == element)] for element in pair)
    if not len(one) or not len(other):
        return np.zeros(0)
    images = np.einsum("oij,aj->oai", symmetry.rotations, other) + symmetry.translations[:, None]
    steps = np.indices((3, 3, 3)).reshape(3, -1).T - 1
    around = ((images.reshape(-1, 3) - np.floor(images.reshape(-1, 3))) + steps[:, None]).reshape(-1, 3)
    to_cartesian = cell.orthogonalisation.T
    tree, centres = scipy.spatial.cKDTree(around @ to_cartesian), scipy.spatial.cKDTree((one % 1.0) @ to_cartesian)
    found = centres.sparse_distance_matrix(tree, _RANGE[1], output_type="ndarray")["v"]
    found = found[found > _RANGE[0]]
    return np.sort(found)[::2] if pair[0] == pair[1] else found  # each bond between like atoms is met twice
