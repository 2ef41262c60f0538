"""Axis-level drawing: reciprocal planes, resolution axes, slices and isosurfaces. No data are computed here."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.path import Path as Outline
from matplotlib.ticker import LogFormatterSciNotation, LogLocator, MaxNLocator, NullFormatter
from matplotlib.transforms import Affine2D
from mpl_toolkits.mplot3d.art3d import Poly3DCollection
from mpl_toolkits.mplot3d.axes3d import Axes3D
from skimage.measure import marching_cubes

from rephase.files.writing import disk_errors, write_whole

STYLE = Path(__file__).with_name("rephase.mplstyle")
ONE_COLUMN, TWO_COLUMNS = 3.4, 7.0  # inches
PHASE_MAP = "twilight"
_D_TICKS = (5.0, 3.0, 2.0, 1.5, 1.2, 1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.35, 0.3, 0.25, 0.2)
_BETWEEN = (2.5, 1.7, 1.4, 1.3, 1.1, 1.05, 0.95, 0.85, 0.75, 0.65, 0.55, 0.45, 0.37, 0.33, 0.27, 0.22)
_APART = 0.07  # least distance of labels of a resolution axis, relative to its length
_FINEST = 300  # most points along the edge of a map that are visible in print

COLOURS = {
    "linear": "#56B4E9",
    "mlp": "#0072B2",
    "cnn3d": "#E69F00",
    "unet3d": "#D55E00",
    "nearest_neighbour": "#009E73",
    "parent_phases": "#CC79A7",
    "chance": "#999999",
    "unet": "#E69F00",
    "fourier_unet": "#D55E00",
    "transformer": "#0072B2",
    "gan": "#CC79A7",
    "zero_fill": "#999999",
    "wilson": "#009E73",
    "atoms": "#000000",
    "shell_median": "#000000",
    "raar": "#0072B2",
    "classical": "#000000",
    "direct_methods": "#56B4E9",
    "charge_flipping": "#E69F00",
    "difference_map": "#009E73",
    "hio": "#CC79A7",
    "low_density_elimination": "#D55E00",
    "learned": "#882255",
    "auto": "#999933",
    "resnet18": "#0072B2",
    "resnet34": "#56B4E9",
    "resnet50": "#CC79A7",
    "vgg16": "#D55E00",
    "vgg19": "#E69F00",
    "most_common": "#999999",
    "frequencies": "#000000",
    "image_flow": "#0072B2",
    "estimate": "#999999",
    "estimate_engine": "#E69F00",
    "engine": "#000000",
    "flow": "#0072B2",
    "flow_engine": "#D55E00",
    "nsf": "#0072B2",
    "Markov chains": "#D55E00",
    "rephase": "#D55E00",
    "gemmi": "#0072B2",
    "numpy": "#009E73",
    "Dans_Diffraction": "#CC79A7",
    "sasmodels": "#0072B2",
    "bornagain": "#0072B2",
    "pymsft": "#0072B2",
    "cctbx": "#0072B2",
}
LABELS = {
    "linear": "linear",
    "mlp": "MLP",
    "cnn3d": "3D-CNN",
    "unet3d": "3D-UNet",
    "nearest_neighbour": "nearest neighbour",
    "parent_phases": "parent's phases",
    "chance": "chance",
    "single_atom": "one atom moved",
    "all_atoms": "all atoms moved",
    "strain": "strained, all atoms moved",
    "unet": "U-Net",
    "fourier_unet": "Fourier U-Net",
    "transformer": "transformer",
    "gan": "GAN",
    "zero_fill": "zero",
    "wilson": "Wilson amplitude",
    "shell_median": "true shell median",
    "raar": "RAAR",
    "classical": "RAAR and direct methods",
    "direct_methods": "direct methods",
    "charge_flipping": "charge flipping",
    "difference_map": "difference map",
    "hio": "HIO",
    "low_density_elimination": "low-density elimination",
    "learned": "network and classical trials",
    "auto": "network or classical trials",
    "resnet18": "ResNet-18",
    "resnet34": "ResNet-34",
    "resnet50": "ResNet-50",
    "vgg16": "VGG-16",
    "vgg19": "VGG-19",
    "most_common": "most common labels",
    "frequencies": "label frequencies",
    "image_flow": "image flow",
    "estimate": "cheap estimate",
    "estimate_engine": "refined estimate",
    "engine": "iterative engine",
    "flow": "posterior centre",
    "flow_engine": "refined posterior centre",
    "nsf": "flow",
    "log": "log activation, raw counts",
    "log_scaled": "log activation, counts in units of the data",
    "leaky_relu": "leaky ReLU, scaled images",
    "correlation": "correlation map",
    "gaussian": "noise, σ / mean count",
    "photons": "fraction of the photons",
    "scale": "scale factor of the counts",
    "label_fraction": "fraction of the training droplets with labels",
    "macro_f1": "macro-F1",
    "bornagain": "BornAgain",
    "pymsft": "pyMSFT",
    "n_streamed": "training samples, generated on the fly",
}


def colour(model: str) -> str:
    """Return the colour of a model or solver, the same in every figure; black if none is defined."""
    return COLOURS.get(model, "black")


def label(name: str) -> str:
    """Return the label of a model, a solver, a perturbation or a swept parameter in figures."""
    return LABELS.get(name, plain(name))


def plain(text: object, *, longest: int = 60) -> str:
    """Prepare text from data for a figure: on one line, shortened in the middle, never parsed as mathematics."""
    line = "".join(letter if letter.isprintable() else " " for letter in str(text))
    if len(line) > longest:
        line = f"{line[: longest // 2 - 1]} … {line[len(line) - longest // 2 + 2 :]}"
    return line.replace("$", r"\$")


def save_figure(figure: Figure, folder: Path, name: str) -> list[Path]:
    """Write a figure as PDF and as PNG (300 dpi).

    Raises
    ------
    DiskError
        The disk is full, or the folder cannot be written.
    """
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{name}.pdf", folder / f"{name}.png"]
    for path in paths:
        drawn, kind = io.BytesIO(), path.suffix[1:]
        with plt.style.context(STYLE):  # sets the resolution, for every caller
            figure.savefig(drawn, format=kind, metadata={"CreationDate": None} if kind == "pdf" else None)
        figure.set_layout_engine("none")  # the layout of the first format is that of the next
        write_whole(path, drawn.getvalue())
    plt.close(figure)
    return paths


def draw_words(words: str) -> Figure:
    """Return a figure that contains only words, for when there is nothing to draw."""
    figure = plt.figure(figsize=(TWO_COLUMNS, 0.5))
    figure.text(0.5, 0.5, words, ha="center", va="center")
    return figure


def draw_loss_curves(curves: dict[str, pd.DataFrame], loss: str) -> Figure:
    """Draw training and validation loss against epoch, from tables ``epoch, train_loss, validation_loss``."""
    figure, ax = plt.subplots(figsize=(ONE_COLUMN * 1.3, 2.6))
    for name, curve in curves.items():
        ax.plot(curve["epoch"] + 1, curve["validation_loss"], "-o", color=colour(name), label=label(name))
        ax.plot(curve["epoch"] + 1, curve["train_loss"], "--", color=colour(name), alpha=0.7)
    ax.plot([], [], "-o", color="0.3", label="validation")
    ax.plot([], [], "--", color="0.3", label="training")
    losses = pd.concat([curve[["train_loss", "validation_loss"]] for curve in curves.values()])
    low, high = losses.min(axis=None), losses.max(axis=None)
    ax.set(xlabel="epoch", ylabel=f"loss ({loss})", yscale="log" if high > 5 * low > 0 else "linear")
    ax.set_xlim(0.5, max(curve["epoch"].max() for curve in curves.values()) + 1.5)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    if high > 5 * low > 0:
        name_powers(ax, "y")
    ax.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return figure


def resolution_axis(ax: Axes, d_min: float, d_max: float = np.inf) -> None:
    """Label an x axis in 1/d^2 with d in Å, from d_max to d_min."""
    left, right = d_max**-2.0, d_min**-2.0
    kept: list[float] = []
    for d in (*_D_TICKS, *_BETWEEN):
        is_free = all(abs(d**-2.0 - other**-2.0) > _APART * (right - left) for other in kept)
        if left <= d**-2.0 <= right and is_free and (d in _D_TICKS or len(kept) < 4):
            kept.append(d)
    ax.set_xticks([d**-2.0 for d in kept], [f"{d:g}" for d in kept])
    ax.set_xlim(left, right)
    ax.set_xlabel("d (Å)")


def name_powers(ax: Axes, which: str) -> None:
    """Label 1, 2 and 5 times each power of ten on the logarithmic axis x or y, and let it span a decade at least.

    Labels between those would overlap, and an axis shorter than a decade could have none.
    """
    axis = {"x": ax.xaxis, "y": ax.yaxis}[which]
    low, high = axis.get_view_interval()
    reach = max(1.0, (10 * low / high) ** 0.5)
    ax.set(**{f"{which}lim": (low / reach, high * reach)})
    axis.set_major_locator(LogLocator(subs=(1, 2, 5) if high < 1e3 * low else (1,)))
    axis.set_major_formatter("{x:g}" if high < 1e5 else LogFormatterSciNotation())
    axis.set_minor_formatter(NullFormatter())


def reciprocal_plane(
    ax: Axes, values: np.ndarray, h_max: tuple[int, int], norm: Normalize, *, cmap: str = "viridis"
) -> AxesImage:
    """Draw a plane [h, k] with h to the right, k upwards and the origin in the centre."""
    h, k = h_max
    ax.xaxis.set_major_locator(MaxNLocator(4, integer=True))
    ax.yaxis.set_major_locator(MaxNLocator(4, integer=True))
    return ax.imshow(
        np.fft.fftshift(values).T,
        origin="lower",
        extent=(-h - 0.5, h + 0.5, -k - 0.5, k + 0.5),
        interpolation="nearest",
        norm=norm,
        cmap=cmap,
    )


def density_slice(ax: Axes, density: np.ndarray, limits: tuple[float, float], extent: tuple[float, float]) -> AxesImage:
    """Draw a section [x, y] of a map in e/Å^3 with x to the right, y upwards; `extent` in Å."""
    return ax.imshow(
        density.T,
        origin="lower",
        extent=(0, extent[0], 0, extent[1]),
        vmin=limits[0],
        vmax=limits[1],
        cmap="magma",
        interpolation="bilinear",
    )


class Frame(NamedTuple):
    """Two cell axes of a plane: their names, lengths in Å, and the angle between them in degrees."""

    names: tuple[str, str]
    lengths: tuple[float, float]
    angle: float

    @classmethod
    def along(cls, axis: int, parameters: Sequence[float]) -> "Frame":
        """Return the plane seen along a cell axis (0, 1, 2), for the parameters a, b, c (Å), α, β, γ (degrees)."""
        across, up = (other for other in range(3) if other != axis)
        return cls(("abc"[across], "abc"[up]), (parameters[across], parameters[up]), parameters[3 + axis])

    def place(self, u: np.ndarray, v: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Convert fractional coordinates along the two axes to positions in Å, to the right and upwards."""
        along = self.lengths[1] * np.asarray(v)
        right = self.lengths[0] * np.asarray(u) + along * np.cos(np.radians(self.angle))
        return right, along * np.sin(np.radians(self.angle))

    def extent(self) -> tuple[float, float]:
        """Width and height of the cell's outline in Å."""
        right, upwards = self.place(np.array([0, 1, 0, 1]), np.array([0, 0, 1, 1]))
        return float(np.ptp(right)), float(np.ptp(upwards))


def cell_plane(ax: Axes, values: np.ndarray, frame: Frame, norm: Normalize) -> AxesImage:
    """Draw the positive part of values [u, v] over one cell in its true shape."""
    closed = np.maximum(np.pad(_as_printed(values), [(0, 1)] * 2, mode="wrap"), 0)
    u, v = 0.5 / (np.array(closed.shape) - 1)  # half a pixel: their centres are the points of the grid
    corners = np.transpose(frame.place(np.array([0, 1, 1, 0]), np.array([0, 0, 1, 1])))
    (a, _), (b, height) = corners[1], corners[3]
    image = ax.imshow(
        closed.T,
        origin="lower",
        extent=(-u, 1 + u, -v, 1 + v),
        transform=Affine2D(np.array([[a, b, 0], [0, height, 0], [0, 0, 1]])) + ax.transData,
        interpolation="bilinear",
        norm=norm,
        cmap="magma",
    )
    image.set_clip_path(Outline(corners), transform=ax.transData)
    across, up = frame.names
    upwards = f"{up} (Å)" if np.isclose(frame.angle, 90) else f"⊥ {across} (Å)"
    (left, bottom), (right, top) = corners.min(0), corners.max(0)
    ax.set(aspect="equal", xlim=(left, right), ylim=(bottom, top), xlabel=f"{across} (Å)", ylabel=upwards)
    return image


def _as_printed(values: np.ndarray) -> np.ndarray:
    """Reduce values [u, v] to the points visible in print, each with the largest of the values that fall on it."""
    for axis, n in enumerate(values.shape):
        m = min(n, _FINEST)
        values = np.maximum.reduceat(values, np.arange(m) * n // m, axis=axis)
    return values


def histogram(ax: Axes, values: np.ndarray, edges: np.ndarray, tint: str, name: str) -> None:
    """Draw a normalised histogram as filled steps; values outside the edges count in the norm but are not drawn."""
    share, _ = np.histogram(values, edges)
    ax.stairs(share / max(1, len(values)) / np.diff(edges), edges, color=tint, label=name)
    ax.stairs(share / max(1, len(values)) / np.diff(edges), edges, color=tint, fill=True, alpha=0.15)


def surface(density: np.ndarray, level: float) -> tuple[np.ndarray, np.ndarray]:
    """Return vertices [n, 3] in fractions of the cell, and faces [m, 3], where a periodic map has a value."""
    wrapped = np.pad(density, [(0, 1)] * 3, mode="wrap")
    vertices, faces, _, _ = marching_cubes(wrapped, level)
    return vertices / np.array(density.shape), faces


def isosurface(ax: Axes3D, density: np.ndarray, level: float, face: str) -> None:
    """Draw an isosurface of the density over one cell; the map is continued periodically to the far faces."""
    vertices, faces = surface(density, level)
    mesh = Poly3DCollection(vertices[faces], facecolors=face, shade=True)
    ax.add_collection3d(mesh)
    ax.set(xlim=(0, 1), ylim=(0, 1), zlim=(0, 1))
    ax.set_box_aspect((1, 1, 1), zoom=0.9)  # leaves room for the label of z
    ax.set_xlabel("x", labelpad=-8), ax.set_ylabel("y", labelpad=-8), ax.set_zlabel("z", labelpad=-8)
    ax.set(xticks=[0, 0.5, 1], yticks=[0.5, 1], zticks=[0, 0.5, 1])
    ax.tick_params(pad=-3, labelsize=5)
