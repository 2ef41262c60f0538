"""How many hydrogen atoms an atom carries, and in which geometry, by the lengths and angles of its bonds."""

import numpy as np

from rephase.refinement.sites import Sites
from rephase.refinement.surroundings import Surroundings, is_metal

WATER = 3  # AFIX 3: hydrogen atoms keep the direction in which they were found
_SATURATED = 2.53  # sum of two bond orders of carbon: on 577 atoms, CH2 is at 2.49 and below, CH at 2.58 and above
_LINEAR = np.radians(150.0)
_DISTANCES = {  # Å below -70 °C, as SHELXL: Sheldrick (2015), doi:10.1107/S2053229614024218
    ("C", 13): 1.00, ("C", 23): 0.99, ("C", 33): 0.98, ("C", 43): 0.95, ("C", 93): 0.95, ("C", 137): 0.98,
    ("C", 163): 0.95, ("N", 13): 1.00, ("N", 23): 0.91, ("N", 43): 0.88, ("N", 93): 0.88, ("N", 137): 0.91,
    ("N", 33): 0.91, ("O", 83): 0.84, ("O", 147): 0.84, ("O", 3): 0.84, ("N", 3): 0.91,
}  # fmt: skip


def distance_to_hydrogen(element: str, afix: int, temperature: float | None = None) -> float:
    """Return the distance in Å at a temperature in K (None: below 203 K): shorter by 0.01 or 0.02 Å when warmer."""
    warm = 0.0 if temperature is None else 0.01 * ((temperature > 203) + (temperature > 253))
    return _DISTANCES[element, afix] - warm


def kinds(around: Surroundings, sites: Sites) -> np.ndarray:
    """Return the AFIX code [m] that the bonds of each atom allow, 0 for no hydrogen atoms.

    Codes on carbon are certain as far as bonds go; those on nitrogen and oxygen are possible and want evidence. An
    oxygen atom with bonds to metals only, or none, may be water (3).
    """
    element = np.array(sites.elements, dtype=object)[around.atom]
    return np.select(
        [element == "C", element == "N", element == "O"],
        [_on_carbon(around, sites), _on_nitrogen(around, sites), _on_oxygen(around, sites)],
        0,
    )


def free_valence(around: Surroundings, sites: Sites) -> np.ndarray:
    """Return the valence [m] that bonds leave free: 4, 3 or 2 less the orders of bonds, 0.6 of those to metals."""
    element = np.array(sites.elements, dtype=object)[around.atom]
    return (
        np.select([element == "C", element == "N"], [4.0, 3.0], 2.0)
        - around.order.sum(1)
        - 0.6 * _metals(around, sites).sum(1)
    )


def _angle(around: Surroundings) -> np.ndarray:
    """Return the angle [m] between the first two bonds, radians."""
    first, second = around.vector[:, 0], around.vector[:, 1]
    length = np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1)
    return np.arccos(np.clip((first * second).sum(1) / np.maximum(length, 1e-12), -1, 1))


def _height(around: Surroundings) -> np.ndarray:
    """Return the distance [m] in units of a bond of an atom from the plane of the ends of its first three bonds."""
    unit = around.vector[:, :3] / np.maximum(np.linalg.norm(around.vector[:, :3], axis=-1, keepdims=True), 1e-12)
    normal = np.cross(unit[:, 0] - unit[:, 1], unit[:, 1] - unit[:, 2])
    return np.abs((normal * unit[:, 0]).sum(1)) / np.maximum(np.linalg.norm(normal, axis=1), 1e-12)


def _metals(around: Surroundings, sites: Sites) -> np.ndarray:
    """[m, 6], whether each neighbour is a metal."""
    return (around.neighbour >= 0) & np.append(is_metal(sites.elements), False)[around.neighbour]


def _on_carbon(around: Surroundings, sites: Sites) -> np.ndarray:
    n, valence = around.n_bonds, around.order.sum(1)
    to_carbon = np.array([*(e == "C" for e in sites.elements), False], bool)[around.neighbour[:, 0]]
    is_bent = _angle(around) < _LINEAR
    return np.select(
        [
            (n == 1) & (valence > 2.4) & to_carbon,
            (n == 1) & (valence > 1.55) & to_carbon,
            (n == 1) & (valence < 1.9),
            (n == 2) & is_bent & (valence < _SATURATED),
            (n == 2) & is_bent & (valence < 3.9),
            (n == 3) & (_height(around) > 0.18) & (valence < 4.2),
        ],
        [163, 93, 137, 23, 43, 13],
        0,
    )


def _on_nitrogen(around: Surroundings, sites: Sites) -> np.ndarray:
    n, valence, has_metal = around.n_bonds, around.order.sum(1), _metals(around, sites).any(1)
    is_bent = _angle(around) < _LINEAR
    return np.select(
        [
            (n == 1) & (valence > 1.15) & (valence < 1.8),
            (n == 1) & (valence <= 1.15),
            (n == 2) & is_bent & has_metal & (valence < 1.3),
            (n == 2) & is_bent & ~has_metal & (valence < 2.05),
            (n == 2) & is_bent & ~has_metal,
            (n == 3) & (_height(around) > 0.2) & (valence < 3.3),
        ],
        [93, 137, 23, 23, 43, 13],
        0,
    )


def _on_oxygen(around: Surroundings, sites: Sites) -> np.ndarray:
    n_metals, valence = _metals(around, sites).sum(1), around.order.sum(1)
    is_alcohol = (around.n_bonds - n_metals == 1) & (valence < np.where(n_metals == 0, 1.6, 1.15)) & (n_metals < 2)
    return np.select([n_metals == around.n_bonds, is_alcohol], [WATER, 147], 0)
