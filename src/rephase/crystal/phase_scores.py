"""The only function that scores phases against a reference, maximised over allowed origins and both enantiomorphs."""

from typing import NamedTuple

import numpy as np
import pandas as pd
import torch

from rephase.crystal.cell import Cell
from rephase.crystal.phases import align_list, phase_difference
from rephase.crystal.shells import shell_index, shell_limits
from rephase.crystal.symmetry import Symmetry


class PhaseScores(NamedTuple):
    """Scores of each trial [n_trials], and of each trial in shells of d.

    ``map_cc`` is the Pearson correlation of the two maps over the cell, F(000) excluded; ``mean_phase_error_weighted``
    is the mean |Δφ| in degrees, weighted by the true amplitude; ``shells`` has the columns trial, d_max_shell,
    d_min_shell, n, map_cc and mean_phase_error_weighted.
    """

    map_cc: np.ndarray
    mean_phase_error_weighted: np.ndarray
    shells: pd.DataFrame


def score_phases(
    F_pred: np.ndarray,
    F_true: np.ndarray,
    *,
    hkl: np.ndarray,
    cell: Cell,
    symmetry: Symmetry,
    n_shells: int = 5,
) -> PhaseScores:
    """Score structure factors against the true ones.

    The scores do not change when the origin shifts by an allowed vector or the structure is inverted. Without symmetry,
    phases are scored in P 1, where any shift is allowed.

    Parameters
    ----------
    F_pred
        Complex [n_trials, n_refl] or [n_refl].
    F_true
        Complex [n_refl].
    hkl
        Miller indices [n_refl, 3], one per class of equivalents.
    cell, symmetry
        Cell and space group of the reflections.
    n_shells
        Number of resolution shells, of equal volume in reciprocal space.
    """
    pred = torch.as_tensor(np.atleast_2d(F_pred), dtype=torch.complex128)
    true = torch.as_tensor(np.asarray(F_true), dtype=torch.complex128)
    count = torch.as_tensor(symmetry.multiplicity(hkl), dtype=torch.float64)
    weight = count * pred.abs() * true.abs()
    aligned = align_list(pred, true, torch.as_tensor(np.asarray(hkl)), symmetry.origins, weight).F
    error = torch.rad2deg(phase_difference(aligned.angle(), true.angle()).abs())

    def scores(part: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
        own, reference, n = aligned[:, part], true[part], count[part]
        product = (n * (own * reference.conj()).real).sum(1)
        norm = ((n * own.abs() ** 2).sum(1) * (n * reference.abs() ** 2).sum()).sqrt()
        size = n * reference.abs()
        return (product / norm).numpy(), ((error[:, part] * size).sum(1) / size.sum()).numpy()

    d_hkl = cell.d_spacing(hkl)
    limits = shell_limits(float(d_hkl.max()), float(d_hkl.min()), n_shells)
    shell = torch.as_tensor(shell_index(d_hkl, limits))
    rows = [
        {
            "trial": trial,
            "d_max_shell": limits[i],
            "d_min_shell": limits[i + 1],
            "n": int((shell == i).sum()),
            "map_cc": cc,
            "mean_phase_error_weighted": mean_error,
        }
        for i in range(n_shells)
        if (shell == i).any()
        for trial, (cc, mean_error) in enumerate(zip(*scores(shell == i)))
    ]
    return PhaseScores(*scores(torch.ones(len(true), dtype=torch.bool)), pd.DataFrame(rows))
