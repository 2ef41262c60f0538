"""The hand of a model without a centre of symmetry: it is inverted if the Friedel pairs say so."""

from dataclasses import replace
from typing import NamedTuple

import numpy as np

from rephase.crystal.reflections import Reflections
from rephase.crystal.symmetry import Symmetry, find_symmetry
from rephase.refinement.absolute_structure import absolute_structure
from rephase.refinement.model import Model
from rephase.refinement.refine import RefinementOptions, finished, refine

_CYCLES = 6
_BEYOND_HALF = 2.0  # su


class Inversion(NamedTuple):
    """The step to the other hand: ``x' = shift - x`` in the group ``symmetry``."""

    symmetry: Symmetry
    shift: np.ndarray

    def phases(self, phi: np.ndarray, hkl: np.ndarray) -> np.ndarray:
        """Return the phases [..., n] of the inverted structure in radians, [-π, π)."""
        return np.remainder(2 * np.pi * (hkl @ self.shift) - phi + np.pi, 2 * np.pi) - np.pi

    def moved(self, data: Reflections) -> Reflections:
        """Return the reflections in the group of the inverted structure; their indices stay the same."""
        return replace(data, symmetry=self.symmetry)


def inversion_of(symmetry: Symmetry) -> Inversion:
    """Return the inversion that keeps the group, in the right point, or that leads to the enantiomorphic group."""
    shift = symmetry.origins.other_hand
    if shift is not None:
        return Inversion(symmetry, shift)
    mirrored = find_symmetry(symmetry.in_basis(-np.eye(3)).triplets)
    return Inversion(find_symmetry(mirrored.symbol) if mirrored.table_entry else mirrored, np.zeros(3))


def in_right_hand(model: Model, measured: Reflections, *, keeps_hand: bool = False) -> tuple[Model, Inversion | None]:
    """Return the model with its Flack parameter; inverted and refined again if x exceeds 0.5 by two uncertainties.

    Parameters
    ----------
    measured
        The reflections before merging, in the axes of the model.
    keeps_hand
        Whether the hand is given and stays as it is.

    Returns
    -------
    model, inversion
        The inversion that was made; None if the hand was right or the data do not determine it.
    """
    flack = absolute_structure(model, measured)
    if flack is None or keeps_hand or flack.x <= 0.5 + _BEYOND_HALF * flack.su:
        return replace(model, flack=flack), None
    inversion = inversion_of(model.symmetry)
    xyz_frac = inversion.shift - model.sites.xyz_frac
    sites = replace(model.sites, xyz_frac=xyz_frac - np.floor(xyz_frac.mean(0)))  # in the cell again
    options = RefinementOptions(n_cycles=_CYCLES, occupancies=model.occupancies)
    inverted = finished(refine(sites, inversion.moved(model.data), wavelength=model.wavelength, options=options))
    flack = absolute_structure(inverted, inversion.moved(measured))
    return replace(inverted, stated_formula=model.stated_formula, flack=flack), inversion
