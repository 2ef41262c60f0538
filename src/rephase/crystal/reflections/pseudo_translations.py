"""Pseudo-translations: fractions of lattice vectors that nearly map a structure onto itself, and weak reflections.

A structure that nearly repeats after a translation t is a superstructure of a parent structure with a finer lattice:
reflections with integer h.t are strong, superstructure reflections are weak throughout.
"""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from typing import NamedTuple

import numpy as np

from rephase.crystal.cell import Cell
from rephase.crystal.reflections import Reflections
from rephase.crystal.reflections.statistics import wilson_falloff
from rephase.crystal.symmetry import Symmetry, is_translation, with_translations

_DENOMINATORS = (2, 3, 4, 6, 8)  # of the tested translations, as fractions of the axes
_STEPS = 24  # translations are counted in 24ths, like those of space groups
_SELF_SIMILAR = 0.4  # Patterson function at a translation, relative to the origin; 0.5: two of three atoms repeat
_CLOSEST, _IN_D_MIN = 2.0, 2.0  # Å, and in units of d_min; shorter vectors lie within the Patterson origin peak
_LARGEST_INDEX = 64  # largest index of the lattice in the parent lattice
_WEAK = 0.35  # mean intensity of a weak class, relative to the strong class, at most


@dataclass(frozen=True, eq=False)
class PseudoTranslations:
    """Classes of reflections by h.t modulo 1: class 0 is strong, and symmetry-equivalent classes are merged.

    Parameters
    ----------
    steps
        The group of translations t in 24ths of the axes, lattice translations included, [n, 3].
    symmetry
        Space group of the data.
    keys
        Identifier of each class, [n_classes]; see `class_of`.
    weakness
        Mean of I over Wilson's fall-off in each class, relative to class 0, [n_classes].
    count
        Reflections in each class, [n_classes].
    """

    steps: np.ndarray
    symmetry: Symmetry
    keys: np.ndarray
    weakness: np.ndarray
    count: np.ndarray

    @property
    def weak_classes(self) -> np.ndarray:
        """Indices of the weak classes, the most populated first."""
        return 1 + np.argsort(-self.count[1:], kind="stable")

    @cached_property
    def parent(self) -> Symmetry:
        """The group of the data, with the pseudo-translations as lattice translations."""
        return with_translations(self.symmetry, self.steps / _STEPS)

    @cached_property
    def origins(self) -> np.ndarray:
        """Fractional shifts [n, 3] to origins allowed by the parent but not by the structure; the first is zero.

        Shifts that differ by an allowed shift of the data's group, or by a pseudo-translation, count as one.
        """
        group = self.symmetry
        moved, lattice = group.rotations[group.point_group] - np.eye(3, dtype=int), _lattice(group)
        is_lattice = np.zeros((_STEPS,) * 3, bool)
        is_lattice[tuple(lattice.T)] = True
        kept = [np.zeros(3, dtype=int)]
        for shift in np.rint(self.parent.origins.shifts * _STEPS).astype(int):
            apart = (shift - np.array(kept)[:, None] + self.steps).reshape(-1, 3)
            images = np.einsum("oij,nj->oni", moved, apart) % _STEPS
            if not is_lattice[tuple(np.moveaxis(images, -1, 0))].all(0).any():
                kept.append(shift)
        return np.array(kept) / _STEPS

    def class_of(self, hkl: np.ndarray) -> np.ndarray:
        """Class [n] of any reflections ``hkl [n, 3]``; 0 also for a class without data."""
        keys = _class_keys(np.asarray(hkl), self.steps, self.symmetry)
        place = np.searchsorted(self.keys, keys).clip(max=len(self.keys) - 1)
        return np.where(self.keys[place] == keys, place, 0)

    def __str__(self) -> str:
        """Describe the translations, how many reflections they weaken, and by how much."""
        shown = [
            "(" + " ".join(str(Fraction(int(x), _STEPS)) for x in step) + ")"
            for step in self.steps
            if not is_translation(self.symmetry, step / _STEPS)
        ]
        weak = self.weak_classes
        part = np.average(self.weakness[weak], weights=self.count[weak])
        more = f" and {len(shown) - 3} more" if len(shown) > 3 else ""
        return (
            f"{', '.join(shown[:3])}{more}: {self.count[weak].sum()} of {self.count.sum()} reflections, the "
            f"superstructure reflections, have {part:.1%} of the intensity of the others"
        )


def find_pseudo_translations(data: Reflections) -> PseudoTranslations | None:
    """Find the pseudo-translations of merged data; None if no class of reflections is weak throughout.

    The highest Patterson values at fractions of the lattice generate the group, as long as every class except the
    strong one stays weak. Classes that the space group makes absent do not count, as its centring is in the lattice.

    Parameters
    ----------
    data
        Merged reflections.
    """
    value = data.intensity / (data.group.epsilon(data.hkl) * wilson_falloff(data))
    sums, symmetry = _by_residues(data, value), data.group
    steps = lattice = _lattice(symmetry)
    closest = max(_CLOSEST, _IN_D_MIN * data.d_min)
    largest, rotations = _LARGEST_INDEX * len(lattice), symmetry.rotations[symmetry.point_group]
    for step in _candidates(data, value):
        larger = _generated(steps, rotations @ step % _STEPS, largest)
        if larger is None or len(larger) == len(steps) or _shortest(larger, data.cell, symmetry) < closest:
            continue
        classes = _classes(sums, larger, symmetry)
        if classes.keys[0] == 0 and len(classes.keys) > 1 and (classes.weakness[1:] < _WEAK).all():
            steps = larger
    return None if len(steps) == len(lattice) else PseudoTranslations(steps, symmetry, *_classes(sums, steps, symmetry))


class _Sums(NamedTuple):
    """``residues`` [m, 3] of indices modulo 24, with the sums [m] of weighted intensity and weight, and counts [m]."""

    residues: np.ndarray
    value: np.ndarray
    weight: np.ndarray
    n_each: np.ndarray


class _Weakness(NamedTuple):
    """``keys``, ``weakness`` and count of each class, [n_classes], as in `PseudoTranslations`."""

    keys: np.ndarray
    weakness: np.ndarray
    n_each: np.ndarray


def _by_residues(data: Reflections, value: np.ndarray) -> _Sums:
    cells = np.ravel_multi_index(tuple((data.hkl % _STEPS).T), (_STEPS,) * 3)
    weight = data.group.multiplicity(data.hkl)
    sums = [np.bincount(cells, column, _STEPS**3) for column in (value * weight, weight, np.ones(len(data)))]
    there = np.flatnonzero(sums[2])
    residues = np.stack(np.unravel_index(there, (_STEPS,) * 3), axis=1)
    return _Sums(residues, *(column[there] for column in sums))


def _classes(sums: _Sums, steps: np.ndarray, symmetry: Symmetry) -> _Weakness:
    keys, of = np.unique(_class_keys(sums.residues, steps, symmetry), return_inverse=True)
    value, weight, count = (np.bincount(of.ravel(), column) for column in sums[1:])
    mean = value / weight
    return _Weakness(keys, mean / mean[0], count.astype(int))


def _candidates(data: Reflections, value: np.ndarray) -> list[np.ndarray]:
    """Vectors [3] in 24ths of the axes at which the Patterson function is high, the highest first."""
    found: dict[tuple[int, ...], float] = {}
    for n in _DENOMINATORS:
        patterson = patterson_at_fractions(data, value, n)
        for place in np.argwhere(patterson >= _SELF_SIMILAR):
            found[tuple(int(i) * _STEPS // n for i in place)] = float(patterson[tuple(place)])
    return [np.array(step) for step in sorted(found, key=lambda step: -found[step])]


def patterson_at_fractions(data: Reflections, value: np.ndarray, n: int) -> np.ndarray:
    """Patterson function [n, n, n] at multiples of 1/n of the axes, relative to the origin.

    ``sum_h I(h) cos(2 pi h.t)`` depends only on h modulo n, so the intensities are summed by residue before an FFT.

    Parameters
    ----------
    data
        Merged reflections.
    value
        Intensities, [n_refl].
    """
    residues, cells = data.hkl % n, np.indices((n, n, n)).reshape(3, -1).T

    def flat(places: np.ndarray) -> np.ndarray:
        return np.ravel_multi_index(tuple(places.T), (n, n, n))

    listed = np.bincount(flat(residues), value * data.group.multiplicity(data.hkl), n**3)
    total = np.zeros(n**3)
    for rotation in data.group.rotations[data.group.point_group]:
        for sign in (1, -1):
            total += np.bincount(flat(sign * cells @ rotation % n), listed, n**3)
    patterson = np.fft.fftn(total.reshape(n, n, n)).real
    return patterson / patterson[0, 0, 0] if patterson[0, 0, 0] > 0 else np.zeros((n, n, n))


def _lattice(symmetry: Symmetry) -> np.ndarray:
    """Centring translations [n, 3] in 24ths, including zero."""
    pure = (symmetry.rotations == np.eye(3)).all((1, 2))
    return np.rint(symmetry.translations[pure] * _STEPS).astype(int) % _STEPS


def _generated(group: np.ndarray, steps: np.ndarray, largest: int) -> np.ndarray | None:
    """Extend a group of translations [n, 3] by more steps; None if it would exceed `largest`."""
    for step in steps:
        if (group == step).all(1).any():
            continue
        order = next(k for k in itertools.count(1) if (group == k * step % _STEPS).all(1).any())
        if order * len(group) > largest:
            return None
        group = np.concatenate([(group + k * step) % _STEPS for k in range(order)])
    return group


def _shortest(group: np.ndarray, cell: Cell, symmetry: Symmetry) -> float:
    """Length in Å of the shortest translation of a group that is not a lattice translation."""
    around = np.array(list(itertools.product((-1, 0, 1), repeat=3)))
    steps = np.array([step for step in group if not is_translation(symmetry, step / _STEPS)])
    vectors = (steps[:, None] / _STEPS - around[None]) @ cell.orthogonalisation.T
    return float(np.linalg.norm(vectors, axis=-1).min())


def _class_keys(hkl: np.ndarray, steps: np.ndarray, symmetry: Symmetry) -> np.ndarray:
    """One integer [n] per class: the smallest, over equivalents, that encodes h.t for all generators; 0: strong."""
    generators = np.array(list(_generators(steps)))
    place = _STEPS ** np.arange(len(generators))
    smallest = np.full(len(hkl), np.iinfo(np.int64).max)
    for rotation in symmetry.rotations[symmetry.point_group]:
        residues = (hkl @ rotation @ generators.T) % _STEPS
        for values in (residues, -residues % _STEPS):
            np.minimum(smallest, values @ place, out=smallest)
    return smallest


def _generators(steps: np.ndarray) -> Iterator[np.ndarray]:
    """Yield translations of a group [n, 3] that generate the others."""
    group = np.zeros((1, 3), dtype=int)
    for step in steps[np.lexsort(steps.T)]:
        larger = _generated(group, step[None], len(steps))
        if larger is not None and len(larger) > len(group):
            group = larger
            yield step
