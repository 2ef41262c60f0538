"""Figures of posteriors of images: patterns and samples, calibration, comparison of methods, a measured scan."""

from functools import partial

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from rephase.plots import TWO_COLUMNS, colour, draw_loss_curves, draw_words, label, name_powers
from rephase.runs import Run

_CHANNELS = ("#0072B2", "#D55E00")
_DIM_AND_BRIGHT = {"test:dim": "o", "test:bright": "*"}


def wave_posteriors(run: Run, kind: str) -> Figure:
    """Pattern, truth, mean and spread of posterior samples, and two samples, for each channel of each object."""
    arrays = run.arrays(f"wave_examples_{kind}")
    n, n_channels = arrays["truth"].shape[:2]
    figure, axes = plt.subplots(
        n * n_channels, 6, figsize=(TWO_COLUMNS, 1.2 * n * n_channels + 0.3), squeeze=False, layout="constrained"
    )
    for row, ax in enumerate(axes):
        example, channel = divmod(row, n_channels)
        _draw_pattern(ax[0], arrays, example, is_shown=channel == 0)
        ends = {"vmin": arrays["bounds"][channel].min(), "vmax": arrays["bounds"][channel].max(), "cmap": "viridis"}
        images = [arrays[name][example, channel] for name in ("truth", "mean")]
        images += [*arrays["samples"][:, example, channel]]
        for place, image in zip((1, 2, 4, 5), images):
            drawn = ax[place].imshow(image, **ends)
        spread = ax[3].imshow(arrays["spread"][example, channel], cmap="magma", vmin=0)
        figure.colorbar(spread, ax=ax[3], shrink=0.9)
        unit = {"1": ""}.get(str(arrays["units"][channel]), f" ({arrays['units'][channel]})")
        figure.colorbar(drawn, ax=ax[5], shrink=0.9).set_label(f"{arrays['names'][channel]}{unit}")
        for one in ax:
            one.set(xticks=[], yticks=[])
            one.spines[:].set_visible(False)
    for ax, title in zip(axes[0], ("pattern", "truth", "mean", "spread", "a sample", "another")):
        ax.set_title(title)
    return figure


def _draw_pattern(ax: Axes, arrays: dict[str, np.ndarray], example: int, *, is_shown: bool) -> None:
    """Draw the first hologram, or the mean of the frames, over the photons; grey: not measured."""
    ax.set_frame_on(is_shown)
    if not is_shown:
        return
    seen = arrays["pattern"][example] / arrays["photons"][example]
    ax.set_facecolor("0.7")
    if len(seen) > 4:  # frames of a scan, whose intensities span decades
        ax.imshow(seen.mean(0), cmap="inferno", norm=LogNorm(np.nanmax(seen) * 1e-4, np.nanmax(seen)))
    else:
        ax.imshow(seen[0], cmap="gray")
    ax.set_ylabel(f"10$^{{{np.log10(arrays['photons'][example]):.1f}}}$ photons", fontsize=7)


def wave_calibration(run: Run, kind: str) -> Figure:
    """Coverage of central intervals of pixels against their level; deviance of samples and of the truth.

    The band is two standard errors of the coverage, from its variation between patterns.
    """
    table, predictive = run.table(f"wave_coverage_{kind}"), run.table(f"wave_predictive_{kind}")
    figure, (left, right) = plt.subplots(1, 2, figsize=(TWO_COLUMNS, 2.8), layout="constrained")
    left.plot([0, 1], [0, 1], "--", color="0.6", label="calibrated")
    for (name, part), tint in zip(table.groupby("channel", sort=False), _CHANNELS):
        level, share, error = (part[column] for column in ("level", "coverage", "error"))
        left.plot(level, share, "-o", color=tint, label=str(name))
        left.fill_between(level, share - 2 * error, share + 2 * error, color=tint, alpha=0.25, linewidth=0)
    left.set(xlabel="level of the interval", ylabel="coverage of pixels", xlim=(0, 1), ylim=(0, 1), aspect="equal")
    left.legend(loc="upper left")
    for column, mark, name in (("deviance", "o", "posterior samples"), ("deviance of the truth", "_", "truth")):
        right.plot(
            predictive["photons"], predictive[column], mark, color="0.3" if mark == "_" else _CHANNELS[0], label=name
        )
    right.set(xscale="log", yscale="log", xlabel=_photons(kind), ylabel="deviance per measured pixel")
    for which in "xy":
        name_powers(right, which)
    right.legend()
    return figure


def _photons(kind: str) -> str:
    return {"holography": "photons in an empty pixel", "ptychography": "photons in an empty frame"}[kind]


def wave_opponents(run: Run, kind: str) -> Figure:
    """Error against time per pattern for each method on dim and bright patterns; Fourier ring correlation."""
    results, rings = run.table(f"wave_results_{kind}_routes"), run.table(f"wave_rings_{kind}")
    figure, (left, right) = plt.subplots(1, 2, figsize=(TWO_COLUMNS, 2.8), layout="constrained")
    for split, mark in _DIM_AND_BRIGHT.items():
        part = results[results["split"] == split].pivot_table(index="model", columns="metric", values="value")
        for name, scores in part.iterrows():
            left.plot(scores["seconds"], scores["wave_error"], mark, color=colour(str(name)))
        left.plot([], [], mark, color="0.4", label=split.split(":")[1])
    left.set(xscale="log", yscale="log", xlabel="time per pattern (s)", ylabel="relative error of the wave")
    for which in "xy":
        name_powers(left, which)
    left.legend()
    for name, part in rings.groupby("model", sort=False):
        right.plot(
            part["ring"] / (2 * part["ring"].max()),
            part["correlation"],
            color=colour(str(name)),
            label=label(str(name)),
        )
    right.set(xlabel="spatial frequency (cycles per pixel)", ylabel="Fourier ring correlation")
    right.set_ylim(min(0, 1.05 * rings["correlation"].min()), 1.02)
    figure.legend(*right.get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return figure


def wave_loss_curve(run: Run, kind: str) -> Figure:
    """Training and validation loss against the epoch, in nats per unknown."""
    curves: dict[str, pd.DataFrame] = {"image_flow": run.table(f"wave_curve_{kind}")}
    if curves["image_flow"].empty:
        return draw_words("weights are given: nothing was trained")
    return draw_loss_curves(curves, "nats per unknown")


def ptychography_measured(run: Run) -> Figure:
    """A frame of a measured scan, amplitude and phase of the reconstructed object, the probe, and the misfit."""
    arrays = run.arrays("ptychography_measured")
    if not arrays:
        return draw_words("no measured scan in this configuration")
    figure, axes = plt.subplots(1, 5, figsize=(TWO_COLUMNS, 1.9), layout="constrained", width_ratios=(1, 1, 1, 1, 1.2))
    frame = np.where(arrays["mask"], arrays["frame"], np.nan)
    scanned, probe = arrays["object"], np.abs(arrays["probe"])
    rows, columns = _scanned(arrays["positions"], scanned.shape, probe.shape)
    inside = scanned[rows, columns]
    limits = {"vmin": 0, "vmax": np.quantile(np.abs(inside), 0.99)}
    axes[0].imshow(frame, cmap="inferno"), axes[0].set_title("a frame")
    axes[1].imshow(np.abs(inside), cmap="gray", **limits), axes[1].set_title("amplitude")
    phase = np.angle(inside * np.exp(-1j * np.angle(inside.mean())))
    most = np.quantile(np.abs(phase), 0.99)
    drawn = axes[2].imshow(phase, cmap="RdBu_r", vmin=-most, vmax=most)
    axes[2].set_title("phase (rad)"), figure.colorbar(drawn, ax=axes[2], shrink=0.6)
    axes[3].imshow(probe, cmap="magma"), axes[3].set_title("|probe|")
    for ax in axes[:4]:
        ax.set(xticks=[], yticks=[])
    axes[1].set_xlabel(f"{arrays['pixel_nm'] * inside.shape[1] * 1e-3:.3g} µm wide", fontsize=7)
    axes[4].plot(np.arange(len(arrays["misfit"])) + 1, arrays["misfit"], color="black")
    axes[4].axhline(0.25, ls="--", color="0.6")
    axes[4].set(xlabel="epoch", ylabel="misfit per pixel", yscale="log")
    return figure


def _scanned(positions: np.ndarray, object_shape: tuple[int, ...], probe_shape: tuple[int, ...]) -> tuple[slice, ...]:
    """Rows and columns of the object that are within a quarter of the probe size of a scan position."""
    middle = np.array(object_shape) / 2
    low, high = positions.min(0) + middle, positions.max(0) + middle
    reach = np.array(probe_shape) / 4
    return tuple(slice(int(max(0, a - r)), int(b + r) + 1) for a, b, r in zip(low, high, reach))


WAVE_FIGURES = {
    f"{kind}_{name}": partial(make, kind=kind)
    for kind in ("holography", "ptychography")
    for name, make in {
        "posteriors": wave_posteriors,
        "calibration": wave_calibration,
        "opponents": wave_opponents,
        "loss_curve": wave_loss_curve,
    }.items()
} | {"ptychography_measured": ptychography_measured}
