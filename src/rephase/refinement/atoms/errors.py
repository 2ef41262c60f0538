"""Uncertainty of the structure factors of refined atoms, for observed and unobserved reflections."""

from typing import NamedTuple

import numpy as np

from rephase.crystal.cell import Cell
from rephase.refinement.atoms.factors import N_PARAMETERS, AtomFactors, AtomList, n_keeping
from rephase.refinement.atoms.rice import log_likelihood

INFLATIONS = np.geomspace(0.1, 1000, 25)
_CORRELATIONS = np.array([0.0, 0.2, 0.4, 0.6, 0.7, 0.8, 0.85, 0.9, 0.93, 0.96, 0.98, 0.99, 1.0])
_LARGEST_SPREAD = 1.0  # relative variance of an atom's contribution


class Errors(NamedTuple):
    """Variances [n] of each atom: ``position`` along any direction in Å^2, ``electrons`` relative, ``u_iso`` in Å^4."""

    position: np.ndarray
    electrons: np.ndarray
    u_iso: np.ndarray


class Trust(NamedTuple):
    """Correlation of F_calc with the true F apart from atomic errors; factor by which their variance is inflated."""

    correlation: float
    inflation: float


def errors_of(atoms: AtomList, covariance: np.ndarray, cell: Cell) -> Errors:
    """Return the errors of atoms from the covariance [5n, 5n] of a fit."""
    n = len(atoms)
    blocks = covariance.reshape(N_PARAMETERS, n, N_PARAMETERS, n)
    own = np.stack([blocks[:, i, :, i] for i in range(n)])
    metric = cell.orthogonalisation.T @ cell.orthogonalisation
    position = np.einsum("nij,ij->n", own[:, :3, :3], metric) / 3
    return Errors(position, own[:, 3, 3] / atoms.electrons**2, own[:, 4, 4])


def blurred(
    factors: AtomFactors, atoms: AtomList, errors: Errors, inflation: float, epsilon: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the expected F, complex [n_refl] in electrons, and its variance [n_refl], for atoms with errors.

    A positional error damps an atom as a displacement does, ``<exp(2 pi i h.δ)> = exp(-8 pi^2 σ^2 s^2) = D``, and adds
    a variance ``f^2 (1 - D^2)``; errors of electrons and U spread its magnitude.
    """
    s_squared = factors.s_squared
    U = inflation * errors.position
    F = factors.F(AtomList(atoms.xyz_frac, atoms.electrons, atoms.u_iso + U))
    damping = np.exp(-16 * np.pi**2 * U[:, None] * s_squared)
    spread = errors.electrons[:, None] + errors.u_iso[:, None] * (8 * np.pi**2 * s_squared) ** 2
    spread = np.minimum(inflation * spread, _LARGEST_SPREAD)
    order = n_keeping(atoms.xyz_frac, factors.cell, factors.symmetry)[:, None]  # images that coincide
    power = order * factors.sizes(atoms) ** 2 * (1 - damping + damping * spread)
    return F, epsilon * len(factors.symmetry.point_group) * power.sum(0)


def calibrated(
    amplitude: np.ndarray, F: np.ndarray, variance: np.ndarray, wilson: np.ndarray, is_centric: np.ndarray
) -> Trust:
    """Return the likeliest trust, given amplitudes [n] that were not used for F and variance [n_inflations, n].

    ``wilson`` [n] is the expected intensity without a model.
    """
    p = _CORRELATIONS[:, None, None]
    total = p**2 * variance + (1 - p**2) * wilson
    value = log_likelihood(amplitude, p * np.abs(F), total, is_centric).sum(-1)
    best = np.unravel_index(value.argmax(), value.shape)
    return Trust(float(_CORRELATIONS[best[0]]), float(INFLATIONS[best[1]]))
