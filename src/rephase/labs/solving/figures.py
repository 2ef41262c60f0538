"""Figures of real crystals: data quality, solutions, and success rates of the solvers."""

from collections.abc import Callable

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from rephase.crystal.cell import Cell
from rephase.labs.solving.drawing import draw_amplitudes, draw_r1, draw_residuals, draw_trials, draw_wilson
from rephase.labs.solving.molecule_print import draw_molecule
from rephase.labs.solving.pictures import draw_projections
from rephase.labs.solving.record import saved_molecule
from rephase.plots import (
    ONE_COLUMN,
    STYLE,
    TWO_COLUMNS,
    colour,
    draw_words,
    histogram,
    label,
    name_powers,
    resolution_axis,
)
from rephase.runs import Run

_MARKERS = "os^DvPX"
_APART = 0.012  # distance in 1/d² of solvers that are drawn side by side, Å^-2
_BLUE, _RED, _GREY = "#0072B2", "#D55E00", "0.4"


def data_quality(run: Run) -> Figure:
    """Wilson plot, and mean I/σ, completeness and R_int in resolution shells."""
    shells, line = run.table("quality_shells"), run.table("quality_wilson")
    x = _middle(shells)
    figure, axes = plt.subplots(2, 2, figsize=(TWO_COLUMNS, 4.0))
    wilson, strength, complete, r_int = axes.ravel()
    wilson.plot(4 * line["s_squared"], line["log_ratio"], "o", color=_BLUE, label="shells")
    wilson.plot(4 * line["s_squared"], line["line"], "-", color=_RED, label=f"B = {_b_iso(line):.1f} Å²")
    wilson.set_ylabel("ln(⟨I/ε⟩ / Σf²)")
    wilson.legend()
    strength.plot(x, shells["i_over_sigma"], "-o", color=_BLUE)
    strength.axhline(2, color=_GREY, linestyle=":")
    strength.set(ylabel="⟨I/σ⟩", ylim=(0, None))
    complete.plot(x, 100 * shells["completeness"], "-o", color=_BLUE)
    complete.set(ylabel="completeness (%)", ylim=(0, 105))
    r_int.plot(x, 100 * shells["r_int"], "-o", color=_BLUE)
    r_int.set(ylabel="R$_{int}$ (%)", ylim=(0, None))
    if shells["r_int"].isna().all():
        r_int.text(0.5, 0.5, "each reflection measured once", transform=r_int.transAxes, ha="center")
    for ax in axes.ravel():
        resolution_axis(ax, float(shells["d_min"].min()))
    return figure


def _b_iso(line: pd.DataFrame) -> float:
    """Return B in Å^2 of a fitted Wilson line."""
    return float(-np.polyfit(line["s_squared"], line["line"], 1)[0] / 2)


def _middle(shells: pd.DataFrame) -> pd.Series:
    return (shells["d_min"] ** -2.0 + shells["d_max"] ** -2.0) / 2


def e_distribution(run: Run) -> Figure:
    """|E| of acentric and centric reflections beside the distributions of Wilson (1949) for many random atoms."""
    arrays = run.arrays("normalised")
    E, is_centric = arrays["E"], arrays["is_centric"]
    x = np.linspace(0, 3.5, 200)
    acentric, centric = 2 * x * np.exp(-(x**2)), np.sqrt(2 / np.pi) * np.exp(-(x**2) / 2)
    kinds = [(kind, chosen) for kind, chosen in (("acentric", ~is_centric), ("centric", is_centric)) if chosen.any()]
    figure, axes = plt.subplots(1, len(kinds), figsize=(ONE_COLUMN * len(kinds), 2.6), sharey=True, squeeze=False)
    for ax, (kind, chosen) in zip(axes[0], kinds):
        name = f"{chosen.sum():,} {kind} reflections"
        histogram(ax, E[chosen], np.linspace(0, 3.6, 37 if chosen.sum() > 5000 else 19), _BLUE, name)
        ax.plot(x, acentric, color=_RED, label="expected, acentric")
        ax.plot(x, centric, color="black", linestyle="--", label="expected, centric")
        ax.set(xlabel="|E|", xlim=(0, 3.5), ylim=(0, None))
        ax.legend()
    axes[0, 0].set_ylabel("fraction per unit of |E|")
    return figure


def solution_density(run: Run) -> Figure:
    """Maximum projections of the solved density along each cell axis, with its peaks."""
    arrays = run.arrays("solution")
    return draw_projections(arrays["density"], Cell(*arrays["cell"]), arrays["peaks"], str(arrays["title"]))


def solution_shells(run: Run) -> Figure:
    """Figure of merit against resolution, with map correlation and phase error if the truth is known."""
    table = run.table("solution_shells")
    x, is_known = _middle(table), "map_cc" in table
    figure, axes = plt.subplots(
        1, 2 if is_known else 1, figsize=(TWO_COLUMNS if is_known else ONE_COLUMN, 2.5), squeeze=False
    )
    ax = axes[0, 0]
    ax.plot(x, table["mean_fom"], "-o", color=_BLUE, label="figure of merit")
    ax.set(ylabel="figure of merit, map_cc" if is_known else "figure of merit", ylim=(0, 1.05))
    if is_known:
        ax.plot(x, table["map_cc"], "-s", color=_RED, label="map_cc with the truth")
        axes[0, 1].plot(x, table["mean_phase_error_weighted"], "-o", color=_RED, label="solution")
        axes[0, 1].axhline(90, color=_GREY, linestyle=":", label="random phases")
        axes[0, 1].set(ylabel="mean |Δφ|, |F|-weighted (°)", ylim=(0, 95))
        axes[0, 1].legend(loc="center right")
    ax.legend(loc="lower left")
    for ax in axes[0]:
        resolution_axis(ax, float(table["d_min"].min()))
    return figure


def solution_molecule(run: Run) -> Figure:
    """Molecule of the refined model, or of the peaks, with ellipsoids of half the probability."""
    return draw_molecule(*saved_molecule(run))


def solution_r1(run: Run) -> Figure:
    """R1 of the model in resolution shells."""
    statistics = run.table("model_statistics")
    return _of_model(run, "r1_by_resolution", lambda shells: draw_r1(shells, float(statistics["r1"].iloc[0])))


def solution_amplitudes(run: Run) -> Figure:
    """Observed against calculated amplitudes of the model."""
    return _of_model(
        run, "residuals", lambda fit: draw_amplitudes(*fit[["amplitude_obs", "amplitude_calc"]].to_numpy().T)
    )


def solution_residuals(run: Run) -> Figure:
    """Weighted residuals of the model against those of normal errors."""
    return _of_model(run, "residuals", lambda fit: draw_residuals(fit["residual"].to_numpy()))


def _of_model(run: Run, name: str, draw: Callable[[pd.DataFrame], Figure]) -> Figure:
    """Draw a table of the model; say so if there is no model."""
    table = run.table(name)
    return draw_words("No atoms were refined, so there is no model to compare.") if table.empty else draw(table)


def solution_trials(run: Run) -> Figure:
    """Misfits of the trials, and which of them agree."""
    table = run.table("trials")
    if table.empty:
        return draw_words("The trials were not compared.")
    return draw_trials(table["misfit"].to_numpy(), table["agrees"].to_numpy(bool))


def solution_wilson(run: Run) -> Figure:
    """Wilson plot of the reflections that were solved."""
    table = run.table("solution_wilson")
    return draw_wilson(table, _b_iso(table))


def solver_benchmark(run: Run) -> Figure:
    """Solved fraction, map_cc and time of every solver against d_min, beside random phases.

    Lines join means of the solved fraction and medians of map_cc and time; each point is a crystal.
    """
    table = run.table("solver_benchmark")
    d_mins = np.sort(table["d_min"].unique())
    figure, axes = plt.subplots(1, 3, figsize=(TWO_COLUMNS, 2.9))
    solvers = list(dict.fromkeys(table["solver"]))
    for number, solver in enumerate(solvers):
        part = table[table["solver"] == solver].assign(solved=lambda t: 100.0 * (t["map_cc"] >= 0.7))
        line = "--" if solver == "chance" else f"-{_MARKERS[number % len(_MARKERS)]}"
        shift = _APART * (number - (len(solvers) - 1) / 2)
        for ax, column, middle in zip(axes, ("solved", "map_cc", "seconds"), ("mean", "median", "median")):
            by_d = part.groupby("d_min")[column].agg(middle)
            if by_d.notna().any():
                ax.plot(by_d.index**-2.0 + shift, by_d, line, color=colour(solver), label=label(solver), zorder=3)
            if column != "solved":
                ax.plot(part["d_min"] ** -2.0 + shift, part[column], ".", color=colour(solver), alpha=0.5, ms=5, mew=0)
    shares, agreement, seconds = axes
    shares.set(ylabel="solved: map_cc ≥ 0.7 (%)", ylim=(-3, 103))
    agreement.axhline(0.7, color=_GREY, linestyle=":", linewidth=0.8)
    agreement.set(ylabel="map_cc", ylim=(min(0, table["map_cc"].min()) - 0.05, 1.03))
    seconds.set(ylabel="time for a crystal (s)", yscale="log")
    seconds.set_ylim(table["seconds"].min() / 2, table["seconds"].max() * 2)
    name_powers(seconds, "y")
    margin = _APART * (len(solvers) / 2 + 1)
    for ax in axes:
        ax.set(xlim=(d_mins[-1] ** -2.0 - margin, d_mins[0] ** -2.0 + margin))
        ax.set_xticks(d_mins**-2.0, [f"{d:g}" for d in d_mins])
        ax.set_xlabel("d$_{min}$ (Å)")
    figure.legend(*shares.get_legend_handles_labels(), loc="outside upper center", ncols=3)
    return figure


def compared_crystals(run: Run) -> Figure:
    """Random crystals of the benchmark, beside the real ones if the configuration gives a folder of them."""
    return random_crystals({name: run.table(f"compared_{name}") for name in ("crystals", "amplitudes", "shells")})


def random_crystals(tables: dict[str, pd.DataFrame]) -> Figure:
    """Compare sets of crystals: volume per atom, shortest contacts, |E| and Wilson plot.

    `tables` are those of `compare_structures`; the Wilson plot shows medians and interquartile bands over the crystals.
    """
    crystals, amplitudes, shells = (tables[name] for name in ("crystals", "amplitudes", "shells"))
    tints = dict(zip(dict.fromkeys(crystals["source"]), ("#0072B2", "#D55E00", "#009E73")))
    with plt.style.context(STYLE):
        figure, axes = plt.subplots(2, 3, figsize=(TWO_COLUMNS, 4.2))
        volume, heavy, gap, acentric, centric, wilson = axes.ravel()
        for source, tint in tints.items():
            own = crystals[crystals["source"] == source]
            name = f"{source} ({len(own)})"
            histogram(volume, own["volume_per_atom"], np.arange(12, 27, 1.0), tint, name)
            histogram(heavy, own["heavy"], np.arange(2.4, 4.01, 0.1), tint, name)
            histogram(gap, own["gap"], np.arange(-1.2, 0.41, 0.1), tint, name)
            by_kind = amplitudes[amplitudes["source"] == source].groupby("is_centric")["E"]
            for ax, is_centric in ((acentric, False), (centric, True)):
                if is_centric in by_kind.groups:
                    histogram(ax, by_kind.get_group(is_centric), np.arange(0, 3.51, 0.25), tint, name)
            _wilson_band(wilson, shells[shells["source"] == source], tint, name)
        x = np.linspace(0, 3.5, 200)
        acentric.plot(x, 2 * x * np.exp(-(x**2)), "k:", label="Wilson (1949)")
        centric.plot(x, np.sqrt(2 / np.pi) * np.exp(-(x**2) / 2), "k:", label="Wilson (1949)")
        volume.set(xlabel="volume per non-H atom (Å³)", ylabel="fraction per Å³")
        heavy.set(xlabel="shortest contact, no H (Å)", ylabel="fraction per Å")
        gap.set(xlabel="shortest contact − Σ radii (Å)", ylabel="fraction per Å")
        acentric.set(xlabel="|E|, acentric reflections", ylabel="fraction per unit")
        centric.set(xlabel="|E|, centric reflections", ylabel="fraction per unit")
        wilson.set(xlabel="1/d² (Å$^{-2}$)", ylabel="ln(⟨|F|²⟩ / Σf²)")
        for ax in axes.ravel()[:5]:
            ax.set_ylim(bottom=0)
        entries = {name: handle for ax in axes.flat for handle, name in zip(*ax.get_legend_handles_labels())}
        figure.legend(entries.values(), entries.keys(), loc="outside upper center", ncols=3)
    return figure


def _wilson_band(ax: Axes, shells: pd.DataFrame, tint: str, name: str) -> None:
    """Median and quartiles of ln(⟨|F|²⟩/Σf²) over the crystals, in bins of 1/d²."""
    edges = np.linspace(0, shells["inverse_d_squared"].max(), 9)
    by_bin = shells.groupby(pd.cut(shells["inverse_d_squared"], edges), observed=True)
    x = by_bin["inverse_d_squared"].mean()
    low, middle, high = (by_bin["wilson"].quantile(q) for q in (0.25, 0.5, 0.75))
    ax.fill_between(x, low, high, color=tint, alpha=0.2, linewidth=0)
    ax.plot(x, middle, "-o", color=tint, label=name)
