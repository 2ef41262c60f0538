"""Idealised positions of riding hydrogen atoms for each AFIX code of SHELXL."""

import numpy as np

from rephase.refinement.surroundings import Surroundings

N_NEIGHBOURS = {13: 3, 23: 2, 33: 1, 43: 2, 83: 1, 93: 1, 137: 1, 147: 1, 163: 1}  # that each AFIX code needs
N_HYDROGEN = {13: 1, 23: 2, 33: 3, 43: 1, 83: 1, 93: 2, 137: 3, 147: 1, 163: 1}  # that each AFIX code places
ROTATING = (33, 83, 137, 147)  # groups with a torsion about the bond of their parent
_TETRAHEDRAL = np.radians(109.5)
_TRIGONAL = np.radians(120.0)
_TORSIONS = {33: (0, 120, 240), 83: (0,), 93: (0, 180), 137: (0, 120, 240), 147: (0,)}  # degrees, from the first one
_STAGGERED = np.pi  # torsion to the shortest other bond of the neighbour


def directions(around: Surroundings, afix: int, torsion: np.ndarray | float = _STAGGERED) -> np.ndarray:
    """Return unit vectors [m, k, 3] along Cartesian axes from the parents to their k hydrogen atoms.

    Parameters
    ----------
    around
        Surroundings of the m parents.
    afix
        Code of the geometry; each parent has the number of neighbours that it needs.
    torsion
        [m] or a number, radians: torsion of the first hydrogen atom of a rotating group to `Surroundings.beyond`.
    """
    unit = _unit(around.vector)
    if afix == 13:
        return _opposite_three(unit)
    if afix == 23:
        return _opposite_pair(unit)
    if afix == 43:
        return _unit(-unit[:, :2].sum(1, keepdims=True))
    if afix == 163:
        return -unit[:, :1]
    turns = np.radians(_TORSIONS[afix]) + (0.0 if afix == 93 else np.asarray(torsion)[..., None])
    return _about_bond(
        around, _TRIGONAL if afix == 93 else _TETRAHEDRAL, np.broadcast_to(turns, (len(unit), turns.shape[-1]))
    )


def torsions(around: Surroundings, direction: np.ndarray) -> np.ndarray:
    """Return the torsion [m], radians, of a hydrogen atom along ``direction [m, 3]`` to `Surroundings.beyond`."""
    _, first, second = _frame(around)
    return np.arctan2((direction * second).sum(-1), (direction * first).sum(-1))


def _opposite_three(unit: np.ndarray) -> np.ndarray:
    """Make the same angle with three bonds."""
    normal = np.cross(unit[:, 0] - unit[:, 1], unit[:, 1] - unit[:, 2])
    away = -np.sign((normal * unit[:, :3].sum(1)).sum(-1, keepdims=True))
    return _unit(away * normal)[:, None]


def _opposite_pair(unit: np.ndarray) -> np.ndarray:
    """Place two hydrogen atoms opposite two bonds; the angle H-C-H opens as X-C-X closes, as in SHELXL."""
    middle = _unit(-unit[:, :2].sum(1))
    normal = _unit(np.cross(unit[:, 0], unit[:, 1]))
    between = np.degrees(np.arccos(np.clip((unit[:, 0] * unit[:, 1]).sum(-1), -1, 1)))
    half = np.radians(109.0 - 0.135 * (between - 104.0))[:, None] / 2
    return np.stack([np.cos(half) * middle + np.sin(half) * normal, np.cos(half) * middle - np.sin(half) * normal], 1)


def _about_bond(around: Surroundings, angle: float, turns: np.ndarray) -> np.ndarray:
    """Return unit vectors at `angle` from the bond and at torsions ``turns [m, k]``."""
    bond, first, second = (axis[:, None] for axis in _frame(around))
    across = np.cos(turns)[..., None] * first + np.sin(turns)[..., None] * second
    return np.cos(angle) * bond + np.sin(angle) * across


def _frame(around: Surroundings) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return unit vectors [m, 3]: along the first bond, across it towards `beyond`, and normal to both."""
    bond = _unit(around.vector[:, 0])
    anywhere = np.eye(3)[np.abs(bond).argmin(1)]
    beyond = _unit(around.beyond)
    is_bent = np.linalg.norm(np.cross(beyond, bond), axis=-1, keepdims=True) > 0.2
    reference = np.where(is_bent, beyond, anywhere)
    first = _unit(reference - (reference * bond).sum(-1, keepdims=True) * bond)
    return bond, first, np.cross(bond, first)


def _unit(vector: np.ndarray) -> np.ndarray:
    return vector / np.maximum(np.linalg.norm(vector, axis=-1, keepdims=True), 1e-12)
