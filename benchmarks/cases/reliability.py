"""How often solutions that a network ranked are right, against the probability that is stated for them."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from scipy.optimize import minimize
from scipy.stats import binomtest

from rephase.crystal.reflections.simulation import SOLVED
from rephase.plots import ONE_COLUMN, STYLE, plain
from rephase.solvers.claims import LARGEST_LEAD, SMALLEST_LEAD, Calibration

_LIMITS = [0.0, 0.2, 0.5, 0.8, 0.95, 1.0]  # classes of the probability
_APART = 0.008  # of the points of several lines, so that no interval covers another
_FEWEST = 20  # solutions for a fit
_SCALE = np.array([2.3, 3.2, 0.05])  # of logarithms of lead and agreement, and of misfits, for coefficients alike
_PENALTY = 0.1  # of the squares of these: best of 0.01 to 1 for answers left out of the fit, at 1.5 and at 2 Å


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


def draw_reliability(table: pd.DataFrame) -> Figure:
    """Draw a table of `reliability`, with a line for each kind of data and limit, and intervals of 95 % confidence."""
    with plt.style.context(STYLE):
        figure, ax = plt.subplots(figsize=(1.2 * ONE_COLUMN, 4.0))
        ax.plot([0, 1], [0, 1], "--", color="0.6", label="calibrated")
        groups = table.groupby(["data", "d_min"], sort=False)
        for number, ((data, d_min), part) in enumerate(groups):
            each = part.sort_values("stated")
            n, right = each["n"], each["right"].to_numpy()
            tests = [binomtest(round(share * of), of) for share, of in zip(right, n)]
            limits = np.array([test.proportion_ci(method="wilson") for test in tests]).T
            place = each["stated"] + _APART * (number - (len(groups) - 1) / 2)
            name = f"{plain(data, longest=40)}, {d_min:g} Å (n = {n.sum()})"
            ax.errorbar(place, right, np.abs(limits - right), fmt="o-", ms=3, elinewidth=0.7, label=name)
        ax.set(xlabel="stated probability", ylabel="share that is right", xlim=(0, 1.02), ylim=(0, 1.02))
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
