"""Coefficients of the maps 2F_o - F_c and F_o - F_c of a `Model`, for viewers."""

from typing import NamedTuple

import numpy as np

from rephase.crystal.symmetry import key_of
from rephase.refinement.model import Model


class MapCoefficients(NamedTuple):
    """One reflection of each class of equivalents: ``hkl`` [n, 3], F_c, 2F_o - F_c and F_o - F_c, complex [n]."""

    hkl: np.ndarray
    calculated: np.ndarray
    density: np.ndarray
    difference: np.ndarray


def map_coefficients(model: Model) -> MapCoefficients:
    """Compute the coefficients in electrons per cell, with the phases of the model.

    F_o is put on the scale of F_c and corrected for extinction by the ratio of the observed to the calculated
    intensity. Friedel mates are averaged, which leaves out the part of f'' that has no real density.
    """
    data, group = model.data, model.symmetry
    ratio = np.sqrt(np.maximum(data.intensity, 0) / np.maximum(model.intensity_calc, 1e-30))
    representative = group.representative(data.hkl)
    images, shifts = group.equivalents(data.hkl)
    row = np.arange(len(data))
    same = (images == representative).all(-1)
    is_mate = ~same.any(0)
    operation = np.where(is_mate, (-images == representative).all(-1).argmax(0), same.argmax(0))
    F = model.F * np.exp(1j * shifts[operation, row])
    F = np.where(is_mate, F.conj(), F)
    _, first, of_row = np.unique(key_of(representative), return_index=True, return_inverse=True)

    def mean(column: np.ndarray) -> np.ndarray:
        return (np.bincount(of_row, column.real) + 1j * np.bincount(of_row, column.imag)) / np.bincount(of_row)

    calculated, observed = mean(F), mean(F * ratio)
    return MapCoefficients(representative[first], calculated, 2 * observed - calculated, observed - calculated)
