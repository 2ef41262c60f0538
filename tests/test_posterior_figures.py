"""Figures of posteriors draw what they are given."""

from itertools import combinations

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch

from rephase.inference.calibration import ecdf_band
from rephase.labs.scattering.drawing import (
    calibration,
    corner,
    draw_coverage,
    draw_ranks,
    draw_tarp,
    predicted_curve,
    tints_of,
)

NAMES, UNITS = ("radius", "spread"), ("nm", "")


@pytest.fixture(autouse=True)
def axes():
    yield plt.subplots()[1]
    plt.close("all")


def even_ranks(n=200):
    """Two parameters with ranks as uniform as can be, and with all ranks in the middle."""
    ranks = (torch.arange(n, dtype=torch.double) + 0.5) / n
    return torch.stack([ranks, 0.25 + ranks / 2], dim=1)


def test_curve_of_uniform_ranks_is_within_the_band_and_a_wide_one_is_not(axes):
    draw_ranks(axes, even_ranks(), NAMES)
    band, curves = ecdf_band(200), {line.get_label(): line.get_ydata() for line in axes.lines}
    is_within = {name: bool(((curves[name] >= band.low) & (curves[name] <= band.high)).all()) for name in NAMES}
    assert is_within == {"radius": True, "spread": False}


def test_coverage_is_drawn_against_the_level(axes):
    draw_coverage(axes, even_ranks(), NAMES)
    uniform, wide = axes.lines
    assert uniform.get_ydata() == pytest.approx(uniform.get_xdata(), abs=0.011)
    assert wide.get_ydata() == pytest.approx(np.minimum(1, 2 * wide.get_xdata()), abs=0.021)


def test_expected_coverage_of_each_method_is_drawn(axes):
    draw_tarp(axes, {"flow": even_ranks()[:, 0], "MCMC": even_ranks()[:, 1]})
    right, wide = axes.lines
    assert right.get_ydata() == pytest.approx(right.get_xdata(), abs=0.006)
    assert wide.get_ydata()[[9, 49, 89]].tolist() == pytest.approx([0, 0.5, 1], abs=0.006)
    assert right.get_color() != wide.get_color()


def test_calibration_shows_all_three():
    figure = calibration(even_ranks(), {"flow": even_ranks()[:, 0]}, NAMES)
    assert [len(ax.lines) for ax in figure.axes] == [3, 2, 1]


def test_more_parameters_than_colours_are_distinguished(axes):
    draw_ranks(axes, torch.rand(50, 9, generator=torch.Generator().manual_seed(0)), "abcdefghi")
    assert len({(line.get_color(), line.get_linestyle()) for line in axes.lines[:9]}) == 9


def test_no_two_methods_have_the_same_colour():
    assert len({*tints_of(["another", "nsf", "one more", "Markov chains", "a third"])}) == 5


@pytest.mark.parametrize("n", [4, 8])
def test_nothing_that_is_written_on_a_corner_lies_over_another(n):
    units = ("1/nm^2", "nm", "", "1/pixel")
    drawn = np.random.default_rng(0).random((500, n)) * 10.0 ** -(np.arange(n) % 5)
    figure = corner({"nsf": drawn}, ["background"] * n, [units[i % 4] for i in range(n)])
    figure.draw_without_rendering()
    assert overlapping(figure) == []


def overlapping(figure):
    """Pairs of axis and tick labels whose places on the page have a part in common."""
    written = []
    for axis in (axis for ax in figure.axes if ax.axison for axis in (ax.xaxis, ax.yaxis)):
        low, high = axis.get_view_interval()
        written += [axis.label, *(tick.label1 for tick in axis.get_major_ticks() if low <= tick.get_loc() <= high)]
    places = [(text.get_text(), text.get_window_extent()) for text in written if text.get_visible() and text.get_text()]
    return [(a, b) for (a, place), (b, other) in combinations(places, 2) if place.overlaps(other)]


def test_corner_shows_each_pair_once_with_contours_around_the_draws_and_the_truth():
    rng = np.random.default_rng(0)
    drawn = rng.normal(size=(20_000, 2)) * [0.1, 2.0] + [5.0, -3.0]
    figure = corner({"flow": drawn}, NAMES, UNITS, truth=np.array([5.1, -2.0]))
    cells = np.array(figure.axes).reshape(2, 2)
    assert not cells[0, 1].axison
    assert (cells[1, 0].get_xlabel(), cells[1, 0].get_ylabel()) == ("radius\n(nm)", "spread")
    (contours,) = cells[1, 0].collections
    outer, inner = sorted(contours.get_paths(), key=lambda path: -np.ptp(path.vertices[:, 0]))
    for path, share in ((outer, 0.9), (inner, 0.5)):
        assert path.contains_points(drawn).mean() == pytest.approx(share, abs=0.06)
    assert [line.get_xdata()[0] for line in cells[0, 0].lines] == [5.1]


def test_predicted_curve_leaves_out_what_was_hidden():
    q, mask = np.geomspace(0.1, 1, 10), np.arange(10) > 1
    counts = np.where(mask, 120.0, 0.0)
    figure = predicted_curve(q, counts, mask, {"flow": np.full((5, 10), 100.0)}, x_label="q (1/nm)")
    above, below = figure.axes
    measured, residual = above.lines[0].get_ydata(), below.lines[0].get_ydata()
    assert np.isnan(measured).tolist() == (~mask).tolist()
    assert residual[mask] == pytest.approx(np.full(8, 2.0))
    assert np.isnan(residual[~mask]).all()
    assert below.get_xlabel() == "q (1/nm)"
