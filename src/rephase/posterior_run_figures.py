"""The figures of posteriors that a run draws for its notebooks, for any kind of experiment with parameters."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure

from rephase.plots import TWO_COLUMNS, draw_loss_curves, plain, said
from rephase.posterior_figures import calibration, corner, predicted_curve, tints_of
from rephase.posteriors import flow_name, section_of
from rephase.runs import Run

_SHOWN = {"Markov chains": "Markov chains", "nsf": "flow"}  # methods by what figures know them as
_SCORES = {"c2st": ("C2ST against Markov chains", 0.5), "coverage_90": ("coverage of 90 %", 0.9),
           "deviance": ("deviance / points", 1.0)}  # fmt: skip


def posterior_loss_curves(run: Run, kind: str) -> Figure:
    """Training and validation loss of every flow of a kind."""
    if not section_of(run.config, kind).models:
        return said("weights are given: nothing was trained")
    return draw_loss_curves(run.tables(f"posterior_curve_{kind}"), "nll, nats/parameter")


def posterior_calibration(run: Run, kind: str) -> Figure:
    """Ranks and coverage of each parameter, and of all at once by random points, of the flow that is asked."""
    name = flow_name(section_of(run.config, kind))
    arrays = run.arrays(f"calibration_{kind}_{name}")
    return calibration(
        torch.as_tensor(arrays["ranks"]), {"nsf": torch.as_tensor(arrays["tarp"])}, [*map(_words, arrays["names"])]
    )


def posterior_corner(run: Run, kind: str) -> Figure:
    """Samples of the flow and of Markov chains for the pattern of the run."""
    arrays = run.arrays(f"posterior_{kind}")
    samples = {name: arrays["samples"][[*arrays["methods"]].index(method)] for name, method in _SHOWN.items()}
    truth = arrays["truth"] if np.isfinite(arrays["truth"]).all() else None
    return corner(samples, [*map(_words, arrays["names"])], [*map(str, arrays["units"])], truth)


def posterior_prediction(run: Run, kind: str) -> Figure:
    """The pattern of the run, a curve, beside what samples of the flow and of Markov chains expect."""
    arrays = run.arrays(f"posterior_{kind}")
    expected = {name: arrays["expected"][[*arrays["methods"]].index(method)] for name, method in _SHOWN.items()}
    (axis,) = arrays["axes"]
    return predicted_curve(arrays["axis_0"], arrays["counts"], arrays["mask"], expected, x_label=str(axis))


def posterior_losses(run: Run, kind: str) -> Figure:
    """What each way of training reaches in each case of the experiment; dashed: what the right posterior has."""
    table = run.table(f"posterior_losses_{kind}")
    cases, methods = table["case"].unique(), table["method"].unique()
    figure, axes = plt.subplots(1, len(_SCORES), figsize=(TWO_COLUMNS, 2.8))
    for ax, (score, (title, right)) in zip(axes, _SCORES.items()):
        ax.axhline(right, linestyle="--", color="0.6", linewidth=0.8)
        for number, (method, tint) in enumerate(zip(methods, tints_of(methods))):
            shift = (number - (len(methods) - 1) / 2) * 0.13
            _draw_method(ax, table[table["method"] == method], score, shift, tint, str(method))
        ax.set_xticks(range(len(cases)), cases, rotation=30, ha="right", fontsize=7)
        ax.set(title=title, yscale="log" if score == "deviance" else "linear")
    axes[0].set(ylim=(0.45, 1.03))
    axes[1].set(ylim=(-0.03, 1.03))
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return figure


def _draw_method(ax: plt.Axes, part: pd.DataFrame, score: str, shift: float, tint: str, name: str) -> None:
    ax.plot(np.arange(len(part)) + shift, part[score], "o", color=tint, markersize=4, label=name)


def _words(name: object) -> str:
    return plain(name).replace("_", " ")
