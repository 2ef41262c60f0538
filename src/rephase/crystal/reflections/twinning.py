"""Twinning in merged intensities: the L test, twin laws of the lattice, and the twin fraction of each law."""

import math
from typing import NamedTuple

import gemmi
import numpy as np

from rephase.crystal.reflections import Reflections
from rephase.crystal.shells import smooth_mean
from rephase.crystal.symmetry import rows_of

_STRONG = 8.0  # mean I/σ of the shells that are tested; noise hides what twinning does to weak intensities
_PER_SHELL = 100
_OBLIQUITY = 1.0  # degrees between the lattice and its image under a law
_NEIGHBOURS = 2 * np.array([step for step in np.ndindex(3, 3, 3) if step > (1, 1, 1)]) - 2
CENTRIC = 2 / math.pi  # mean |I1 - I2| / (I1 + I2) of independent centric intensities
ACENTRIC = 1 / 2  # of independent acentric ones


class Expected(NamedTuple):
    """Expected <|L|>, <L²> and <|E² - 1|> of intensities."""

    mean_l: float
    mean_l_squared: float
    mean_e_squared: float


CENTRIC_SINGLE, ACENTRIC_SINGLE = Expected(CENTRIC, 1 / 2, 0.968), Expected(ACENTRIC, 1 / 3, 0.736)
CENTRIC_TWIN, ACENTRIC_TWIN = ACENTRIC_SINGLE, Expected(3 / 8, 1 / 5, 0.541)  # two domains of equal volume


class LTest(NamedTuple):
    """Statistics that twinning lowers.

    ``mean_l`` = <|L|> and ``mean_l_squared`` = <L²> over ``n`` pairs of neighbours, ``su`` the uncertainty of <|L|>;
    ``mean_e_squared`` = <|E² - 1|>; ``single`` and ``twin`` are the values expected without twinning and for a perfect
    twin.
    """

    mean_l: float
    mean_l_squared: float
    su: float
    mean_e_squared: float
    n: int
    single: Expected
    twin: Expected


class LawTest(NamedTuple):
    """How equal the intensities are that a twin law relates.

    ``law`` [3, 3] takes h to h' = law h; ``r`` is ``sum |I - I'| / sum (I + I')`` over ``n`` pairs; ``fraction`` is
    the volume of the smaller domain by the H test, 0.5 where the intensities are equal.
    """

    law: np.ndarray
    r: float
    fraction: float
    n: int


def l_test(data: Reflections) -> LTest | None:
    """Compare reflections with neighbours of nearly the same d: ``L = (I1 - I2) / (I1 + I2)`` of I over its mean.

    Neighbours differ by even indices, so that a pseudo-translation does not affect them. Reflections that are centric
    in a group without a centre are left out. None if there are no pairs of strong shells.

    Parameters
    ----------
    data
        Merged reflections.

    References
    ----------
    Padilla & Yeates (2003), Acta Cryst. D59, 1124-1130.
    """
    strong = _strong(data)
    if not len(strong):
        return None
    hkl, value = data.hkl[strong], _normalised(data)[strong]
    rows = rows_of(data.group.representative(hkl[None] + _NEIGHBOURS[:, None]), hkl)
    step, first = np.nonzero(rows >= 0)
    second = rows[step, first]
    is_pair = first != second
    first, second = first[is_pair], second[is_pair]
    if not len(first):
        return None
    L = _contrast(value[first], value[second])
    is_centric = data.group.is_centrosymmetric
    # each reflection is in many pairs, so the number of independent ones is near that of the reflections
    su = float(np.abs(L).std() / math.sqrt(len(strong)))
    e_squared = float(np.abs(value - 1).mean())
    expected = (CENTRIC_SINGLE, CENTRIC_TWIN) if is_centric else (ACENTRIC_SINGLE, ACENTRIC_TWIN)
    return LTest(float(np.abs(L).mean()), float((L**2).mean()), su, e_squared, len(first), *expected)


def twin_laws(data: Reflections) -> np.ndarray:
    """Rotations [n, 3, 3] of the lattice, within 1° of obliquity, that are not in the Laue group; h' = law h.

    One of each coset is listed: merohedral and pseudo-merohedral laws, in the axes of the data.
    """
    cell, entry = gemmi.UnitCell(*data.cell.parameters), data.group.table_entry
    laws = [] if entry is None else gemmi.find_twin_laws(cell, entry, _OBLIQUITY, False)
    rotations = np.array([law.rot for law in laws], float).reshape(-1, 3, 3) / gemmi.Op.DEN
    return np.rint(np.swapaxes(rotations, 1, 2)).astype(int)


def law_test(data: Reflections, law: np.ndarray) -> LawTest | None:
    """Compare the intensities of merged data that a law [3, 3] relates; None if there are no strong pairs.

    The H test ``<|H|> = (1 - 2α) <|H|>_single`` with H = (I - I') / (I + I') assumes that the intensities of a single
    crystal are independent; a structure with pseudo-symmetry gives a fraction that is too high.

    References
    ----------
    Yeates (1988), Acta Cryst. A44, 142-144.
    """
    strong = _strong(data)
    hkl, intensity = data.hkl[strong], data.intensity[strong]
    rows = rows_of(data.group.representative(hkl @ law.T), hkl)
    pairs = (rows >= 0) & (rows != np.arange(len(hkl)))
    if not pairs.any():
        return None
    one, other = intensity[pairs], intensity[rows[pairs]]
    independent = CENTRIC if data.group.is_centrosymmetric else ACENTRIC
    mean_h = float(np.abs(_contrast(one, other)).mean())
    fraction = min(max((1 - mean_h / independent) / 2, 0.0), 0.5)
    return LawTest(law, float(np.abs(one - other).sum() / (one + other).sum()), fraction, int(pairs.sum()))


def _strong(data: Reflections) -> np.ndarray:
    """Rows of the reflections in the shells, from low angles on, whose mean I/σ is high; general ones only."""
    order = np.argsort(-data.d_hkl, kind="stable")
    shells = np.array_split(order, max(len(order) // _PER_SHELL, 1))
    is_weak = [(data.intensity[shell] / data.sigma[shell]).mean() < _STRONG for shell in shells]
    n_strong = is_weak.index(True) if True in is_weak else len(shells)
    rows = np.sort(np.concatenate(shells[:n_strong])) if n_strong else order[:0]
    return rows[data.group.is_centric(data.hkl[rows]) == data.group.is_centrosymmetric]


def _normalised(data: Reflections) -> np.ndarray:
    """E² [n] of merged data, with the intensities as measured."""
    value = data.intensity / data.group.epsilon(data.hkl)
    return value / smooth_mean(data.d_hkl, value)


def _contrast(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """(I1 - I2) / (I1 + I2) of intensities [n], negative ones as 0; 0 where both are."""
    one, other = np.maximum(one, 0), np.maximum(other, 0)
    total = one + other
    return np.divide(one - other, total, out=np.zeros_like(total), where=total > 0)
