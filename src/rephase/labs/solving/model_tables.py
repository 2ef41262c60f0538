"""Tables of a refined model: R1 in resolution shells, atoms in the cell."""

import numpy as np
import pandas as pd

from rephase.crystal.shells import shell_index, shell_limits
from rephase.refinement.model import OBSERVED, Model


def r1_by_resolution(model: Model, n_shells: int = 10) -> pd.DataFrame:
    """R1 of a model in shells of equal volume in reciprocal space; shells without an observed reflection are left out.

    Columns: ``d_max``, ``d_min`` (Å), ``n``, ``n_observed`` with I > 2σ, ``r1`` over these and ``r1_all``, see
    `Statistics`.
    """
    data = model.data
    limits = shell_limits(float(data.d_hkl.max()), data.d_min, n_shells)
    index = shell_index(data.d_hkl, limits)
    amplitude_obs, amplitude_calc = (np.sqrt(np.maximum(I, 0)) for I in (data.intensity, model.intensity_calc))
    difference = np.abs(amplitude_obs - amplitude_calc)
    is_observed = data.intensity > OBSERVED * data.sigma

    def total(column: np.ndarray) -> np.ndarray:
        return np.bincount(index, column, n_shells)

    n_observed = total(is_observed).astype(int)
    with np.errstate(divide="ignore", invalid="ignore"):
        table = pd.DataFrame(
            {
                "d_max": limits[:-1],
                "d_min": limits[1:],
                "n": total(np.ones(len(index))).astype(int),
                "n_observed": n_observed,
                "r1": total(difference * is_observed) / total(amplitude_obs * is_observed),
                "r1_all": total(difference) / total(amplitude_obs),
            }
        )
    return table[n_observed > 0].reset_index(drop=True)


def amplitudes(model: Model) -> tuple[np.ndarray, np.ndarray]:
    """Observed and calculated amplitudes [n_refl] in electrons per cell."""
    observed, calculated = (np.sqrt(np.maximum(I, 0)) for I in (model.data.intensity, model.intensity_calc))
    return observed / model.scale, calculated / model.scale
