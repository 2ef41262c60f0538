"""How often solutions that a network ranked are right, against the probability that is stated for them."""

import numpy as np
import pandas as pd
from scipy.optimize import minimize

from rephase.crystal.reflections.simulation import SOLVED
from rephase.solvers.claims import LARGEST_LEAD, Calibration

_LIMITS = [0.0, 0.2, 0.5, 0.8, 0.95, 1.0]  # classes of the probability
_FEWEST = 20  # solutions for a fit
_SCALE = 0.05  # of leads and of misfits, so that the coefficients of the fit are of the same size
_PENALTY = 0.01  # of the squares of these coefficients: rows that a line separates would make them infinite


def reliability(table: pd.DataFrame, keys: tuple[str, ...]) -> pd.DataFrame:
    """Compare the probability of each solution with the truth, in classes: ``n``, means of ``stated`` and ``right``.

    Rows without a probability are left out.
    """
    judged = table.dropna(subset="probability")
    stated, right = judged["probability"].astype(float), judged["map_cc"] >= SOLVED
    classes = pd.cut(stated, _LIMITS, include_lowest=True).astype(str).rename("class")
    groups = judged.assign(stated=stated, right=right).groupby([*keys, classes], sort=False)
    means = groups[["stated", "right"]].mean().assign(n=groups.size()).reset_index()
    return means.rename(columns={"class": "probability"}).sort_values([*keys, "probability"])[
        [*keys, "probability", "n", "stated", "right"]
    ]


def stated_by(calibration: Calibration | None, table: pd.DataFrame) -> pd.DataFrame:
    """Return the rows that have a lead with the probability of a calibration, if there is one and none states any."""
    if calibration is None or table["probability"].notna().any():
        return table
    stated = table.dropna(subset="lead")
    found = [calibration.probability(*figures) for figures in zip(stated["lead"], stated["r_factor"])]
    return stated.assign(probability=found)


def fitted(table: pd.DataFrame) -> Calibration | None:
    """Fit a calibration to the rows that have a lead, by maximum likelihood with a weak preference for small slopes.

    None if there are too few rows, or if they are all right or all wrong.
    """
    led = table.dropna(subset="lead")
    sign = np.where(led["map_cc"] >= SOLVED, 1.0, -1.0)
    if len(led) < _FEWEST or abs(sign.sum()) == len(led):
        return None
    x = np.stack([led["lead"].clip(upper=LARGEST_LEAD), led["r_factor"]], axis=1).astype(float)
    shift = x.mean(0)
    x = (x - shift) / _SCALE

    def loss(w: np.ndarray) -> float:
        return float(np.logaddexp(0, -sign * (w[0] + x @ w[1:])).sum() + _PENALTY * (w[1:] ** 2).sum())

    w = minimize(loss, np.zeros(1 + x.shape[1])).x
    slopes = w[1:] / _SCALE
    return Calibration(float(w[0] - slopes @ shift), *slopes.tolist())
