"""Restraints on displacements, and the origin along polar axes, as rows of least squares on the slots of the atoms."""

from typing import NamedTuple

import gemmi
import numpy as np

from rephase.crystal.cell import Cell
from rephase.crystal.symmetry import Symmetry
from rephase.refinement.atoms.restraints import close_pairs
from rephase.refinement.factors import N_SLOTS
from rephase.refinement.parameters import u_equivalent_row
from rephase.refinement.sites import Sites, isotropic_u

BONDED = 1.75  # Å
SIMILAR_SD = 0.04  # Å^2, between U_eq of bonded atoms; the SIMU of SHELXL
ISOTROPIC_SD = 0.1  # Å^2, between U_ij and those of an isotropic atom; the ISOR of SHELXL


class Rows(NamedTuple):
    """Coefficients [m, 10 n_atoms] of the slots, and the residuals [m], both in standard deviations."""

    coefficients: np.ndarray
    residuals: np.ndarray


def displacement_rows(sites: Sites, cell: Cell, symmetry: Symmetry) -> Rows:
    """Return weak restraints: bonded atoms have similar U_eq, and anisotropic ones are not far from isotropic."""
    own = sites.parent < 0
    to_equivalent, u_eq = u_equivalent_row(cell), sites.u_equivalent(cell)
    pairs = close_pairs(sites.xyz_frac, cell, symmetry, BONDED)
    pairs = pairs.take((own & ~sites.is_hydrogen)[np.stack([pairs.first, pairs.second])].all(0))
    similar = np.zeros((len(pairs.first), len(sites), N_SLOTS))
    row = np.arange(len(similar))
    similar[row, pairs.first, 3:9] = -to_equivalent / SIMILAR_SD
    similar[row, pairs.second, 3:9] += to_equivalent / SIMILAR_SD
    apart = (u_eq[pairs.second] - u_eq[pairs.first]) / SIMILAR_SD
    shaped = np.flatnonzero(own & sites.is_anisotropic)
    deviation = np.eye(6) - np.outer(isotropic_u(np.ones(1), cell)[0], to_equivalent)
    isotropic = np.zeros((len(shaped), 6, len(sites), N_SLOTS))
    isotropic[np.arange(len(shaped)), :, shaped, 3:9] = deviation / ISOTROPIC_SD
    shape = (sites.U[shaped] @ deviation.T / ISOTROPIC_SD).ravel()
    blocks = [block.reshape(-1, len(sites) * N_SLOTS) for block in (similar, isotropic)]
    return Rows(np.concatenate(blocks), np.concatenate([apart, shape]))


def origin_rows(sites: Sites, cell: Cell, symmetry: Symmetry) -> Rows:
    """Return one row for each polar direction: atoms, weighted by electrons, do not move along it together.

    Flack & Schwarzenbach (1988), doi:10.1107/S0108767388002697.
    """
    electrons = np.array([gemmi.Element(element).atomic_number for element in sites.elements], float)
    polar = symmetry.origins.polar
    metric = cell.orthogonalisation.T @ cell.orthogonalisation
    along = np.linalg.pinv(polar @ metric @ polar.T) @ polar @ metric if len(polar) else np.zeros((0, 3))
    rows = np.zeros((len(polar), len(sites), N_SLOTS))
    rows[:, :, :3] = along[:, None] * (electrons * sites.occupancy)[:, None]
    return Rows(rows.reshape(len(polar), N_SLOTS * len(sites)), np.zeros(len(polar)))
