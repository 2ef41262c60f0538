"""Figures of perturbed crystals: reciprocal space, perturbations, model scores and densities."""

import html

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import plotly.graph_objects as go
import torch
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullFormatter

from rephase.crystal.density import refine
from rephase.crystal.structure_factors import grid_hkl
from rephase.errors import ConfigError
from rephase.labs.crystals.models.baselines import BASELINES
from rephase.plots import (
    PHASE_MAP,
    STYLE,
    TWO_COLUMNS,
    colour,
    density_slice,
    draw_loss_curves,
    isosurface,
    label,
    plain,
    reciprocal_plane,
    resolution_axis,
    surface,
)
from rephase.runs import Run

SPLIT_TITLES = {"test": "by sample: training crystals", "unseen": "by parent: unseen crystals"}


_BLANK = 1e-6  # amplitudes below this fraction of the largest have no phase to draw


def reciprocal_space(run: Run) -> Figure:
    """|F| of the example crystal in reciprocal space, before and after the perturbation."""
    arrays = run.arrays("example")
    h_max = run.config.crystals.data.h_max
    q = grid_hkl(h_max).reshape(-1, 3) @ arrays["reciprocal"]
    figure = plt.figure(figsize=(TWO_COLUMNS, 3.1))
    for column, key in enumerate(("before", "after")):
        ax = figure.add_subplot(1, 2, column + 1, projection="3d")
        amplitude = np.abs(arrays[key]).ravel()
        strong = (amplitude > 0.02 * amplitude.max()) & (amplitude < amplitude.max())
        points = ax.scatter(
            *q[strong].T,
            c=amplitude[strong],
            s=60 * (amplitude[strong] / amplitude.max()) ** 1.5,
            cmap="viridis",
            vmin=0,
            linewidths=0,
        )
        ax.set(title=f"{plain(run.config.crystals.example)}, {key} the perturbation", box_aspect=(1, 1, 1))
        for axis, name in zip((ax.xaxis, ax.yaxis, ax.zaxis), "xyz"):
            axis.set_label_text(f"q$_{name}$ (Å$^{{-1}}$)")
            axis.labelpad = -4
            axis.set_major_locator(MaxNLocator(4))
        ax.tick_params(pad=-2, labelsize=6)
        figure.colorbar(points, ax=ax, shrink=0.6, pad=0.12, label="|F| (e)")
    return figure


def perturbation_tiles(run: Run) -> Figure:
    """Planes l = 0 ... of |F| and φ of the example crystal, before and after the perturbation."""
    arrays = run.arrays("example")
    h_max = run.config.crystals.data.h_max
    planes = range(min(4, h_max[2] + 1))
    figure, axes = plt.subplots(4, len(planes), figsize=(TWO_COLUMNS, 6.6), sharex=True, sharey=True, squeeze=False)
    top = np.sort(np.abs(arrays["before"]).ravel())[-2]
    for row, (key, kind) in enumerate([("before", "|F|"), ("after", "|F|"), ("before", "φ"), ("after", "φ")]):
        F = arrays[key]
        defined = np.abs(F) > _BLANK * np.abs(F).max()
        for column, l in enumerate(planes):
            ax = axes[row, column]
            if kind == "|F|":
                image = reciprocal_plane(ax, np.abs(F)[:, :, l], h_max[:2], Normalize(0, top))
            else:
                phi = np.where(defined, np.degrees(np.angle(F)), np.nan)[:, :, l]
                image = reciprocal_plane(ax, phi, h_max[:2], Normalize(-180, 180), cmap=PHASE_MAP)
                ax.patch.set(facecolor="white", hatch="xxxxx", edgecolor="0.75", linewidth=0)
            if row == 0:
                ax.set_title(f"l = {l}")
            if column == 0:
                ax.set_ylabel(f"{kind} {key}\nk")
            if row == 3:
                ax.set_xlabel("h")
        bar = figure.colorbar(image, ax=axes[row], shrink=0.9, pad=0.01)
        bar.set_label("|F| (e)" if kind == "|F|" else "φ (°); hatched: undefined")
        if kind == "φ":
            bar.set_ticks([-180, -90, 0, 90, 180])
    return figure


def perturbation_comparison(run: Run) -> Figure:
    """Changes of amplitudes and phases caused by each kind of perturbation, over all crystals."""
    table = run.table("perturbations")
    figure, axes = plt.subplots(1, 2, figsize=(TWO_COLUMNS, 2.5))
    kinds = list(dict.fromkeys(table["kind"]))
    for ax, column, title in zip(
        axes,
        ("amplitude_change", "phase_change_deg"),
        ("Σ| |F| − |F$_{parent}$| | / Σ|F|", "mean |Δφ|, |F|-weighted (°)"),
    ):
        parts = ax.violinplot(
            [table.loc[table["kind"] == kind, column] for kind in kinds], showmedians=True, widths=0.8
        )
        parts["cmedians"].set_color("black")
        ax.set_xticks(range(1, len(kinds) + 1), [label(kind).replace(", ", ",\n") for kind in kinds])
        ax.set_ylabel(title)
        ax.set_ylim(bottom=0)
    return figure


def loss_curves(run: Run) -> Figure:
    """Training and validation loss against the epoch for every model trained so far."""
    return draw_loss_curves(run.tables("curve"), run.config.crystals.training.loss)


def model_comparison(run: Run) -> Figure:
    """Phase loss of every model and baseline: aligned, and without alignment as in the reference work."""
    results = run.results()
    splits = [split for split in SPLIT_TITLES if split in set(results["split"])]
    figure, axes = plt.subplots(1, len(splits), figsize=(TWO_COLUMNS, 2.8), sharey=True, squeeze=False)
    for ax, split in zip(axes[0], splits):
        part = results[results["split"] == split].pivot_table(
            index="model", columns="metric", values="value", sort=False
        )
        y = np.arange(len(part))[::-1]
        aligned, naive = part["phase_loss_aligned"], part["phase_loss_naive"]
        ax.barh(y, aligned, color=[colour(name) for name in part.index], height=0.6)
        ax.plot(naive, y, "|", color="black", markersize=9, label="naive: one hand, one origin")
        for position, value in zip(y, aligned):
            ax.text(
                1.02,
                position,
                f"{value:.3g}" if value < 100 else f"{value:,.0f}",
                transform=ax.get_yaxis_transform(),
                va="center",
                fontsize=7,
            )
        ax.set_yticks(y, [label(name) for name in part.index])
        ax.set(xlabel="Σ (1 − cos Δφ), best over origin and hand", title=SPLIT_TITLES[split])
        if results.loc[results["metric"] == "phase_loss_aligned", "value"].min() < 50:
            ax.set_xscale("symlog", linthresh=1)
        ax.set_xlim(0, 1.05 * max(aligned.max(), naive.max()))
    axes[0, -1].legend(loc="upper center", bbox_to_anchor=(0.5, -0.2))
    return figure


def phase_error_by_resolution(run: Run) -> Figure:
    """Mean phase error against resolution for every model and baseline."""
    tables = run.tables("shells")
    splits = [split for split in SPLIT_TITLES if any(split in set(table["split"]) for table in tables.values())]
    figure, axes = plt.subplots(1, len(splits), figsize=(TWO_COLUMNS, 2.6), sharey=True, squeeze=False)
    for ax, split in zip(axes[0], splits):
        for name, table in tables.items():
            part = table[table["split"] == split]
            middle = (part["d_min"] ** -2.0 + part["d_max"] ** -2.0) / 2
            ax.plot(middle, part["mean_phase_error_deg"], "-o", color=colour(name), label=label(name))
        resolution_axis(ax, float(min(table["d_min"].min() for table in tables.values())))
        ax.set(title=SPLIT_TITLES[split], ylim=(0, 95))
    axes[0, 0].set_ylabel("mean |Δφ| (°)")
    axes[0, -1].legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return figure


def density_slices(run: Run) -> Figure:
    """One section through the true and the reconstructed densities of one training and one unseen crystal."""
    arrays = {name: run.arrays(f"predictions_{name}") for name in run.tables("results")}
    first = next(iter(arrays.values()))
    chosen = [0, len(first["crystal"]) - 1] if len(first["crystal"]) > 1 else [0]
    figure, axes = plt.subplots(
        len(chosen), len(arrays) + 1, figsize=(TWO_COLUMNS, 1.25 * len(chosen) + 0.3), squeeze=False
    )
    for row, sample in zip(axes, chosen):
        true = first["density_true"][sample]
        z = int(np.unravel_index(true.argmax(), true.shape)[2])
        limits = (float(true[:, :, z].min()), float(true[:, :, z].max()))
        panels = [("truth", true), *((label(name), a["density_pred"][sample]) for name, a in arrays.items())]
        for ax, (title, density) in zip(row, panels):
            image = density_slice(ax, density[:, :, z], limits, (1, 1))
            ax.set_title(title.replace(" ", "\n"), fontsize=7)
            ax.set(xticks=[0, 1], yticks=[0, 1] if ax is row[0] else [], xlabel="x/a")
            ax.xaxis.labelpad = -6
        row[0].set_ylabel(f"{plain(first['crystal'][sample])}, z/c = {z / true.shape[2]:.2f}\ny/b", fontsize=7)
        figure.colorbar(image, ax=row, shrink=0.85, pad=0.01).set_label("ρ − ⟨ρ⟩ (e/Å³)", fontsize=7)
    return figure


def density_isosurface(run: Run) -> Figure:
    """Isosurfaces of the density of the first crystal: the truth beside the best model."""
    best = best_model(run)
    arrays = run.arrays(f"predictions_{best}")
    true, pred = arrays["density_true"][0], arrays["density_pred"][0]
    level = 0.3 * float(true.max())
    figure = plt.figure(figsize=(TWO_COLUMNS * 0.75, 2.8))
    for column, (title, density, face) in enumerate([("truth", true, "0.7"), (label(best), pred, colour(best))]):
        ax = figure.add_subplot(1, 2, column + 1, projection="3d")
        if density.max() > level:
            fine = refine(torch.as_tensor(density), tuple(3 * n for n in density.shape)).numpy()
            isosurface(ax, fine, level, face)
        ax.set_title(f"{plain(arrays['crystal'][0])}, {title}:\nρ − ⟨ρ⟩ = {level:.1f} e/Å³")
    return figure


def best_model(run: Run) -> str:
    """The learned model with the smallest aligned phase loss on the test samples."""
    results = run.results()
    chosen = results[(results["metric"] == "phase_loss_aligned") & (results["split"] == "test")]
    return str(chosen[chosen["model"].isin(run.config.crystals.models)].set_index("model")["value"].idxmin())


def density_in_hand(run: Run) -> go.Figure:
    """Interactive isosurfaces of the true and the reconstructed density of the first crystal."""
    best = best_model(run)
    arrays = run.arrays(f"predictions_{best}")
    true, pred = arrays["density_true"][0], arrays["density_pred"][0]
    level = 0.3 * float(true.max())
    parts = {("truth", "#777777"): true, (label(best), colour(best)): pred}
    figure = go.Figure([_surface(density, level, *named) for named, density in parts.items() if density.max() > level])
    figure.update_layout(
        title=f"{html.escape(str(arrays['crystal'][0]))}: ρ − ⟨ρ⟩ = {level:.1f} e/Å³ (click the legend to hide one)",
        scene={"aspectmode": "cube", **{f"{axis}axis": {"range": [0, 1]} for axis in "xyz"}},
        height=480,
        margin={"l": 0, "r": 0, "b": 0, "t": 40},
    )
    return figure


def _surface(density: np.ndarray, level: float, name: str, tint: str) -> go.Mesh3d:
    """Where a density over one cell has a value; the map is refined, and continued periodically to the far faces."""
    vertices, faces = surface(refine(torch.as_tensor(density), tuple(3 * n for n in density.shape)).numpy(), level)
    (x, y, z), (i, j, k) = vertices.T.astype(np.float32), faces.T.astype(np.min_scalar_type(len(vertices)))
    return go.Mesh3d(x=x, y=y, z=z, i=i, j=j, k=k, color=tint, opacity=0.7, name=name, showlegend=True)


def learning_curve(table: pd.DataFrame, x: str) -> Figure:
    """Aligned phase loss against a swept parameter, such as the number of training samples; bands span the seeds.

    Baselines are dashed: the nearest neighbour always searches all stored training samples, whichever parameter is
    swept.
    """
    chosen = table[(table["metric"] == "phase_loss_aligned") & table["split"].isin(list(SPLIT_TITLES))]
    splits = [split for split in SPLIT_TITLES if split in set(chosen["split"])]
    if not splits:
        raise ConfigError(
            f"curve_over = {x}: the results have no phase_loss_aligned; run notebooks 02 to 05, or unset it"
        )
    with plt.style.context(STYLE):
        figure, axes = plt.subplots(1, len(splits), figsize=(TWO_COLUMNS, 2.6), sharey=True, squeeze=False)
        for ax, split in zip(axes[0], splits):
            for name, part in chosen[chosen["split"] == split].groupby("model", sort=False):
                by_x = part.groupby(x)["value"]
                ax.fill_between(
                    by_x.min().index, by_x.min(), by_x.max(), color=colour(str(name)), alpha=0.2, linewidth=0
                )
                style = "--" if name in BASELINES else "-o"
                ax.plot(by_x.mean().index, by_x.mean(), style, color=colour(str(name)), label=label(str(name)))
            ax.set(xscale="log", xlabel=label(x.split(".")[-1]), title=SPLIT_TITLES[split], ylim=(0, None))
            ax.set_xticks(sorted(chosen[x].unique()))
            ax.xaxis.set_major_formatter("{x:g}")
            ax.xaxis.set_minor_formatter(NullFormatter())
        axes[0, 0].set_ylabel("Σ (1 − cos Δφ), best over\norigin and hand")
        axes[0, -1].legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return figure
