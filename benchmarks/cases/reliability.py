"""How often solutions that a network ranked are right, against the probability that is stated for them."""

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from scipy.optimize import minimize
from scipy.stats import binomtest

from rephase.crystal.reflections.simulation import SOLVED
from rephase.plots import ONE_COLUMN, STYLE, plain
from rephase.solvers.claims import LARGEST_LEAD, SMALLEST_LEAD, Calibration
from rephase.solvers.trials import N_KEPT

_LIMITS = [0.0, 0.2, 0.5, 0.8, 0.95, 1.0]  # classes of the probability
_WORDS = {"d_min": "{} Å", "effort": "effort {}"}  # of values in the legend of a figure
_FEWEST = 20  # solutions for a fit
_SCALE = np.array([np.log(10), np.log(N_KEPT), 0.05])  # of ln lead, ln n_agree and R: slopes for these are of one size
_PENALTY = 0.1  # of the squares of these slopes: rows that a line separates would make them infinite


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


def draw_reliability(table: pd.DataFrame, keys: Sequence[str]) -> Figure:
    """Draw a table of `reliability`: a line for each value of the keys, with intervals of 95 % confidence (Wilson)."""
    differing = [key for key in keys if table[key].nunique() > 1]
    with plt.style.context(STYLE):
        figure, ax = plt.subplots(figsize=(1.5 * ONE_COLUMN, 4.2))
        ax.plot([0, 1], [0, 1], "--", color="0.6", label="stated = right")
        for _, part in table.groupby(list(keys), sort=False):
            each = part.sort_values("stated")
            n, right = each["n"], each["right"].to_numpy()
            tests = [binomtest(round(share * of), of) for share, of in zip(right, n)]
            limits = np.array([test.proportion_ci(method="wilson") for test in tests]).T
            words = [_WORDS.get(key, "{}").format(plain(each[key].iloc[0], longest=34)) for key in differing]
            name = ", ".join([*words, f"n = {n.sum()}"])
            ax.errorbar(each["stated"], right, np.abs(limits - right), fmt="o-", ms=3, elinewidth=0.7, label=name)
        ax.set(xlabel="stated probability", ylabel="share that is right", xlim=(-0.03, 1.03), ylim=(-0.03, 1.03))
        ax.set_aspect("equal")
        ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.18))
    return figure


def stated_by(calibration: Calibration | None, table: pd.DataFrame) -> pd.DataFrame:
    """Return the rows that have a lead with the probability of a calibration, if there is one and none states any."""
    if calibration is None or table["probability"].notna().any():
        return table
    stated = table.dropna(subset="lead")
    found = [
        calibration.probability(*figures) for figures in zip(stated["lead"], stated["n_agree"], stated["r_factor"])
    ]
    return stated.assign(probability=found)


def fitted(table: pd.DataFrame) -> Calibration | None:
    """Fit a calibration to the rows that have a lead, by maximum likelihood with a preference for small slopes.

    None if there are too few rows, or if they are all right or all wrong.
    """
    led = table.dropna(subset="lead")
    sign = np.where(led["map_cc"] >= SOLVED, 1.0, -1.0)
    if len(led) < _FEWEST or abs(sign.sum()) == len(led):
        return None
    lead = led["lead"].clip(SMALLEST_LEAD, LARGEST_LEAD)
    x = np.stack([np.log(lead), np.log(led["n_agree"]), led["r_factor"]], axis=1).astype(float)
    shift = x.mean(0)
    x = (x - shift) / _SCALE

    def loss(w: np.ndarray) -> float:
        return float(np.logaddexp(0, -sign * (w[0] + x @ w[1:])).sum() + _PENALTY * (w[1:] ** 2).sum())

    w = minimize(loss, np.zeros(1 + x.shape[1])).x
    slopes = w[1:] / _SCALE
    return Calibration(float(w[0] - slopes @ shift), *slopes.tolist())
