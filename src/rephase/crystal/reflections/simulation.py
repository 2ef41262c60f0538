"""Simulated measurements: reflections of a known crystal with noise and gaps, and their true phases."""

from typing import NamedTuple

import numpy as np
import torch

from rephase.crystal.cell import Cell
from rephase.crystal.phase_scores import PhaseScores, score_phases
from rephase.crystal.phases import wrap
from rephase.crystal.reflections import Reflections
from rephase.crystal.reflections.statistics import unique_hkl
from rephase.crystal.structure_factors import structure_factors
from rephase.crystal.structures import Crystal
from rephase.crystal.symmetry import Symmetry, find_symmetry, rows_of, unique_rows
from rephase.errors import ReflectionError

SOLVED, WELL_SOLVED = 0.7, 0.9  # smallest map_cc of phases that count as right, and as good


class Truth(NamedTuple):
    """The true F, complex [n_refl], of every measurable reflection ``hkl [n_refl, 3]``."""

    hkl: np.ndarray
    F: np.ndarray

    def score(self, F: np.ndarray, data: Reflections, *, n_shells: int = 5) -> PhaseScores:
        """Score F, complex [n_trials, n_refl] or [n_refl], of a merged list; see `score_phases`."""
        rows = rows_of(data.hkl, self.hkl)
        if (rows < 0).any():
            raise ReflectionError(
                f"{data.name}: {data.hkl[rows < 0][0].tolist()} is not among the true reflections; score a list of the "
                "same cell, group and sphere"
            )
        true = self.F[rows]
        return score_phases(F, true, hkl=data.hkl, cell=data.cell, symmetry=data.group, n_shells=n_shells)


def simulate_reflections(
    crystal: Crystal,
    d_min: float,
    *,
    noise: float = 0.0,
    background: float = 0.0,
    leak: float = 0.0,
    missing: float = 0.0,
    strongest_missing: int = 0,
    missing_cone: float = 0.0,
    n_each: int = 1,
    seed: int = 0,
) -> tuple[Reflections, Truth]:
    """Simulate measured intensities |F_calc|^2, without dispersion.

    Parameters
    ----------
    d_min
        Resolution limit in Å.
    noise
        Relative standard deviation of |F|, as from residual errors of absorption and scaling.
    background
        Standard deviation added to every intensity, relative to the mean; it makes weak intensities negative.
    leak
        Mean intensity of the systematic absences relative to the mean of all others, exponentially distributed, as from
        multiple diffraction and λ/2; 0 leaves the absences out of the list.
    missing
        Fraction of the reflections that is left out, 0–1.
    strongest_missing
        Number of the strongest reflections that are left out, as by overloads and the beam stop.
    missing_cone
        Half-angle in degrees; reflections are left out if all their equivalents are closer to c* than this.
    n_each
        Number of measurements of each reflection.
    seed
        Seed of the noise and the gaps.

    Raises
    ------
    ReflectionError
        `d_min` or the gaps leave too few reflections.
    """
    symmetry, rng = find_symmetry(crystal.space_group), np.random.default_rng(seed)
    hkl = unique_hkl(crystal.cell, symmetry, d_min)
    F = structure_factors(crystal, hkl, energy_kev=None)
    square = np.abs(F) ** 2
    if leak:
        absent = _absences(crystal.cell, symmetry, d_min)
        hkl, F = np.concatenate([hkl, absent]), np.append(F, np.zeros(len(absent)))
        square = np.append(square, leak * square.mean() * rng.exponential(size=len(absent)))
    intensity = square * (1 + noise * rng.normal(size=(n_each, len(square)))) ** 2
    kept = (rng.random(len(F)) >= missing) & ~_in_cone(hkl, crystal.cell, symmetry, missing_cone)
    kept[np.argsort(-square)[:strongest_missing]] = False
    spread = background * square.mean()
    if spread:
        intensity = intensity + spread * rng.normal(size=intensity.shape)
    sigma = np.maximum(np.hypot(2 * max(noise, 0.001) * square, spread), 1e-6 * square.max())
    columns = np.tile(hkl[kept], (n_each, 1)), intensity[:, kept].ravel(), np.tile(sigma[kept], n_each)
    is_merged = n_each == 1 and not leak
    return Reflections(*columns, crystal.cell, symmetry, name=crystal.name, is_merged=is_merged), Truth(hkl, F)


def _absences(cell: Cell, symmetry: Symmetry, d_min: float) -> np.ndarray:
    """List one reflection [n, 3] of each class of systematic absences."""
    possible = unique_hkl(cell, find_symmetry("P 1"), d_min)
    return unique_rows(symmetry.representative(possible[symmetry.is_absent(possible)]))


def _in_cone(hkl: np.ndarray, cell: Cell, symmetry: Symmetry, half_angle: float) -> np.ndarray:
    """Find the reflections [n] that lie, with all equivalents, within an angle (degrees) of ±c*."""
    images, _ = symmetry.equivalents(hkl)
    vectors = images @ np.linalg.inv(cell.orthogonalisation)
    axis = np.array([0, 0, 1]) @ np.linalg.inv(cell.orthogonalisation)
    cosine = np.abs(vectors @ axis) / np.linalg.norm(vectors, axis=-1) / np.linalg.norm(axis)
    return (cosine > np.cos(np.radians(half_angle)) + 1e-9).all(0)  # at angle 0, none despite rounding


def random_phases(hkl: np.ndarray, symmetry: Symmetry, n: int, rng: np.random.Generator) -> np.ndarray:
    """Draw `n` sets of random phases [n, n_refl] in radians; a centric reflection gets one of its two phases."""
    centric = symmetry.centric_phase(hkl)
    either = centric + np.pi * rng.integers(0, 2, (n, len(hkl)))
    phi = np.where(np.isnan(centric), rng.uniform(-np.pi, np.pi, (n, len(hkl))), either)
    return wrap(torch.as_tensor(phi)).numpy()
