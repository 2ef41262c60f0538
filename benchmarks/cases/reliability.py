"""How often solutions that a network ranked are right, against the probability that is stated for them."""

import numpy as np
import pandas as pd
from scipy.optimize import minimize

from rephase.crystal.reflections.simulation import SOLVED
from rephase.solvers.claims import LARGEST_LEAD, probability

_LIMITS = [0.0, 0.2, 0.5, 0.8, 0.95, 1.0]  # classes of the probability
_FEWEST = 20  # solutions for a fit


def reliability(table: pd.DataFrame, keys: tuple[str, ...]) -> pd.DataFrame:
    """Compare the probability of each solution with the truth, in classes: ``n``, means of ``stated`` and ``right``.

    Rows without a lead are left out.
    """
    led = table.dropna(subset="lead")
    stated, right = led["lead"].map(probability), led["map_cc"] >= SOLVED
    classes = pd.cut(stated, _LIMITS, include_lowest=True).astype(str).rename("probability")
    groups = led.assign(stated=stated, right=right).groupby([*keys, classes], sort=False)
    means = groups[["stated", "right"]].mean().assign(n=groups.size())
    return means.reset_index().sort_values([*keys, "probability"])[[*keys, "probability", "n", "stated", "right"]]


def fitted(table: pd.DataFrame) -> tuple[float, float]:
    """Fit the intercept and the slope of `probability` to rows that have a lead, by maximum likelihood.

    NaN if there are too few, or if they are all right or all wrong.
    """
    led = table.dropna(subset="lead")
    lead, sign = led["lead"].clip(upper=LARGEST_LEAD).to_numpy(), np.where(led["map_cc"] >= SOLVED, 1.0, -1.0)
    if len(led) < _FEWEST or abs(sign.sum()) == len(led):
        return np.nan, np.nan
    scale = 1 / LARGEST_LEAD  # both parameters are then of the same size

    def loss(w: np.ndarray) -> float:
        return float(np.logaddexp(0, -sign * (w[0] + w[1] * scale * lead)).sum())

    intercept, slope = minimize(loss, np.zeros(2)).x
    return float(intercept), float(scale * slope)
