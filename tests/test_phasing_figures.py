"""Figures of networks that find phases: what is drawn is what was given."""

import matplotlib.pyplot as plt
import pandas as pd

from rephase.labs.phasing.figures import learning_curve

COLUMNS = ("validation_loss", "train_loss", "solved_any", "solved_first", "mean_map_cc", "chance_map_cc")


class Networks:
    """What a run has saved of the trainings of two networks."""

    def tables(self, prefix):
        assert prefix == "phasing_curve"
        curve = pd.DataFrame({"crystals_seen": [32, 64]} | {name: [0.5, 0.4] for name in COLUMNS})
        return {"small": curve, "large": curve / 2}


def test_each_network_has_its_own_learning_curves():
    figure = learning_curve(Networks())
    losses, shares = figure.axes[0::2], figure.axes[1::2]
    assert [ax.get_ylabel() for ax in losses] == ["loss of small", "loss of large"]
    for ax, factor in zip(losses, (1, 0.5)):
        assert [line.get_ydata().tolist() for line in ax.lines] == [[0.5 * factor, 0.4 * factor]] * 2
    assert [len(ax.lines) for ax in shares] == [4, 4]
    assert len({(line.get_color(), line.get_linestyle()) for line in shares[0].lines}) == 4
    plt.close(figure)
