"""Figures of patterns at grazing incidence: what is drawn is what was given."""

import matplotlib.pyplot as plt
import numpy as np
import pytest

from rephase.labs.scattering.figures import pattern_prediction, predicted_image

ROWS, COLUMNS = np.linspace(0.05, 0.95, 10), np.linspace(0.0, 1.9, 20)
AXES = {"exit angle (degrees)": ROWS, "angle from the plane of incidence (degrees)": COLUMNS}


@pytest.fixture
def drawn():
    rng = np.random.default_rng(0)
    expected = np.broadcast_to(100 * np.exp(-3 * ROWS)[:, None] * np.ones(20), (5, 10, 20))
    mask = np.ones((10, 20), bool)
    mask[:, :2] = False
    return np.where(mask, rng.poisson(expected[0]), 0), mask, expected


def test_image_shows_counts_and_residuals_where_measured(drawn):
    counts, mask, expected = drawn
    figure = predicted_image(*drawn, AXES)
    measured, mean, residual = (ax.images[0].get_array() for ax in figure.axes[:3])
    assert np.array_equal(np.ma.filled(measured, np.nan)[mask], np.maximum(counts, 0.3)[mask])
    assert np.allclose(np.ma.filled(mean, np.nan)[mask], expected[0][mask])
    assert np.std(residual.compressed()) == pytest.approx(1, abs=0.2)
    assert all(np.ma.getmaskarray(values)[:, :2].all() for values in (measured, mean, residual))
    assert figure.axes[0].images[0].get_extent() == pytest.approx((-0.05, 1.95, 0.0, 1.0))
    plt.close(figure)


class OneCut:
    """What a run has saved of a cut."""

    def arrays(self, name):
        assert name == "posterior_gisaxs"
        return {
            "axes": np.array(["exit angle (degrees)"]),
            "axis_0": ROWS,
            "counts": np.full(10, 9),
            "mask": ROWS > 0.1,
            "methods": np.array(["flow", "Markov chains"]),
            "expected": np.full((2, 6, 10), 9.5),
        }


def test_cuts_are_curves():
    figure = pattern_prediction(OneCut(), "gisaxs")
    assert figure.axes[1].get_xlabel() == "exit angle (degrees)"
    assert len(figure.axes[0].collections) >= 2
    plt.close(figure)
