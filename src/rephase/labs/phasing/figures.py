"""Figures of networks that find phases: learning curves, the maps of one start, and all starts of a crystal."""

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from rephase.crystal.density import refine
from rephase.crystal.reflections.simulation import SOLVED
from rephase.labs.phasing.scores import SEEN
from rephase.plots import TWO_COLUMNS, Frame, cell_plane, label
from rephase.runs import Run

_SHARES = {
    "solved_any": ("any start is right", "#0072B2"),
    "solved_first": ("the first is right", "#D55E00"),
    "mean_map_cc": ("mean map_cc", "#009E73"),
}
_GREY, _BLUE, _RED = "0.65", "#0072B2", "#D55E00"
_COLUMNS = 4  # maps in a row of the film
_FINER = 4  # points of a drawn map for each point of the grid


def learning_curve(run: Run) -> Figure:
    """Losses, and shares and map_cc of the validation crystals, against the crystals seen; first: most confident.

    Each network has a row.
    """
    curves = run.tables("phasing_curve")
    size = (TWO_COLUMNS, 0.6 + 2.2 * len(curves))
    figure, rows = plt.subplots(len(curves), 2, figsize=size, sharex="col", squeeze=False)
    for (losses, shares), (name, curve) in zip(rows, curves.items()):
        losses.plot(curve[SEEN], curve["validation_loss"], "-o", color="black", label="validation")
        losses.plot(curve[SEEN], curve["train_loss"], "--", color="black", label="training")
        for column, (said, tint) in _SHARES.items():
            shares.plot(curve[SEEN], curve[column], "-o", color=tint, label=said)
        shares.plot(curve[SEEN], curve["chance_map_cc"], ":", color=_SHARES["mean_map_cc"][1], label="random phases")
        losses.set(ylabel="loss (phasor misfit)" if len(curves) == 1 else f"loss of {label(name)}")
        shares.set(ylabel="share of the crystals, map_cc", ylim=(-0.02, 1.02))
    for above, below in zip(rows[0], rows[-1]):
        below.set(xlabel="crystals seen", xlim=(0, None))
        below.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        above.legend(loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=2)
    return figure


def phasing_film(run: Run) -> Figure:
    """Maps of the start that is ranked first after 0, 1, 2, 4 ... steps and at the end, beside the true map.

    Each panel is the largest density along the shortest axis of the reduced cell, on one scale of σ of the map.
    """
    film = run.arrays("phasing_film")
    agreement, n_steps = film["map_cc"][:, film["confidence"][-1].argmax()], len(film["maps"]) - 1
    shown = _steps_shown(n_steps)
    maps = [*film["maps"][shown], film["true"]]
    titles = [f"step {step}: map_cc {agreement[step]:.2f}" for step in shown]
    frame = Frame.along(0, film["cell"].tolist())
    width, height = frame.extent()
    n_rows = -(-len(maps) // _COLUMNS)
    size = (TWO_COLUMNS, 0.4 + n_rows * (0.2 + (TWO_COLUMNS - 1.4) / _COLUMNS * height / width))
    figure, axes = plt.subplots(n_rows, _COLUMNS, figsize=size, sharex=True, sharey=True, squeeze=False)
    norm = Normalize(vmin=0, vmax=float(film["true"].max()))
    for ax, values, title in zip(axes.flat, maps, [*titles, "true map"]):
        image = cell_plane(ax, _projection(values), frame, norm)
        ax.set_title(title)
        ax.label_outer()
    for ax in axes.flat[len(maps) :]:
        ax.remove()
    figure.colorbar(image, ax=list(axes.flat[: len(maps)]), label="density (σ)", shrink=0.6, aspect=30)
    return figure


def _steps_shown(n_steps: int) -> list[int]:
    """List 0, the powers of two, and the last step; at most seven with the last."""
    return [0, *(2**k for k in range(5) if 2**k < n_steps), n_steps]


def _projection(values: np.ndarray) -> np.ndarray:
    """Return the largest density of a map [x, y, z] along x, on a finer grid."""
    fine = refine(torch.as_tensor(values), tuple(_FINER * n for n in values.shape))
    return fine.amax(0).numpy()


def phasing_starts(run: Run) -> Figure:
    """map_cc and confidence of every start against the step, and map_cc against confidence at the end."""
    film = run.arrays("phasing_film")
    agreement, confidence = film["map_cc"], film["confidence"]
    first, is_right = confidence[-1].argmax(), agreement[-1] >= SOLVED
    figure, (of_maps, of_network, ends) = plt.subplots(1, 3, figsize=(TWO_COLUMNS, 2.7))
    steps = np.arange(len(agreement))
    for start in np.argsort(np.arange(len(is_right)) == first, kind="stable"):  # the first one on top
        tint = _RED if start == first else _BLUE if is_right[start] else _GREY
        style = {"color": tint, "linewidth": 1.8 if start == first else 0.8}
        of_maps.plot(steps, agreement[:, start], **style)
        of_network.plot(steps[1:], confidence[1:, start], **style)  # before the first step it is 1 by definition
        ends.plot(confidence[-1, start], agreement[-1, start], "o", color=tint)
    of_maps.set(xlabel="step", ylabel="map_cc")
    of_network.set(xlabel="step", ylabel="confidence")
    ends.set(xlabel="confidence at the end", ylabel="map_cc at the end")
    for ax in (of_maps, ends):
        ax.axhline(SOLVED, color="0.4", linestyle=":", linewidth=0.8)
        ax.set_ylim(min(-0.05, agreement.min() - 0.05), 1.03)
    for ax in (of_maps, of_network):
        ax.set_xlim(0, len(steps) - 1)
        ax.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    kinds = {_RED: "ranked first", _BLUE: f"another right one (map_cc ≥ {SOLVED:g})", _GREY: "a wrong one"}
    figure.legend(
        [Line2D([], [], color=tint, marker="o") for tint in kinds], kinds.values(), loc="outside upper center", ncols=3
    )
    return figure
