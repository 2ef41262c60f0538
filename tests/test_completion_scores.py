"""Tables of completed amplitudes: what perfect and empty completions score, shells, groups, maps."""

import numpy as np
import pytest
import torch

from rephase.config.completion import MonoclinicConfig
from rephase.labs.completion.data import open_monoclinic
from rephase.labs.completion.models.baselines import ZeroFill
from rephase.labs.completion.scores import COMPLETION_METRICS, MAP_SCORE, N_SHELLS, evaluate_completion
from rephase.runs import COLUMNS

CONFIG = MonoclinicConfig(
    space_groups=("P 1 21/c 1", "C 1 2 1"),
    n_atoms=(5, 8),
    shape=(16, 12, 14),
    d_min=1.2,
    n_samples=24,
    chunk=24,
    measured={"d_min": (1.8, 1.8)},
)


class Perfect:
    def predict(self, batch):
        return batch.F.abs()


class TooStrong:
    """Half as much again in the outermost shell, the truth elsewhere."""

    def predict(self, batch):
        is_outermost = 4 * batch.s_squared * CONFIG.d_min**2 > 1 - 1 / N_SHELLS
        return batch.F.abs() * torch.where(is_outermost, 1.5, 1.0)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return open_monoclinic(tmp_path_factory.mktemp("evaluation") / "data.zarr", CONFIG)


def test_tables_of_a_perfect_and_of_an_empty_completion(data):
    found = {}
    for name, predictor in (("perfect", Perfect()), ("empty", ZeroFill())):
        results, shells = evaluate_completion(name, predictor, data, splits=("train", "test"), seed=5)
        assert list(results.columns) == COLUMNS
        assert set(results["metric"]) == {*COMPLETION_METRICS, MAP_SCORE}
        assert set(results["split"]) >= {"train", "test", "train:C 1 2 1", "train:P 1 21/c 1"}
        assert (results[["experiment", "seed"]] == ["completion", 5]).all(axis=None)
        found[name] = results[results["split"] == "train"].set_index("metric")["value"], shells
    perfect, empty = (scores for scores, _ in found.values())
    assert perfect[["r_factor", "r_factor_missing", "mse", "mse_missing"]].abs().max() < 1e-6
    assert perfect[["ssim", MAP_SCORE]].tolist() == pytest.approx([1, 1], abs=1e-4)
    assert empty["r_factor_missing"] == pytest.approx(1)
    assert 0.3 < empty["r_factor"] < 1
    assert 0.2 < empty[MAP_SCORE] < 0.99
    assert found["empty"][1]["r_factor_missing"].tolist() == pytest.approx([1] * len(found["empty"][1]))
    assert (found["perfect"][1]["r_factor_missing"] < 1e-6).all()


def test_means_of_the_space_groups_are_those_of_the_split(data):
    results, _ = evaluate_completion("empty", ZeroFill(), data, splits=("train",))
    r = results[results["metric"] == "r_factor"].set_index("split")
    parts = r.loc[["train:C 1 2 1", "train:P 1 21/c 1"]]
    assert parts["n"].sum() == r.loc["train", "n"] == len(data.splits["train"])
    assert np.average(parts["value"], weights=parts["n"]) == pytest.approx(r.loc["train", "value"])


def test_shells_hold_the_missing_reflections_and_see_where_the_error_is(data):
    _, shells = evaluate_completion("strong", TooStrong(), data, splits=("train",))
    batch = data[data.splits["train"]]
    assert shells["n"].sum() == int(batch.missing.sum())
    assert shells["d_min"].min() == pytest.approx(CONFIG.d_min)
    assert shells["d_max"].max() <= 2.1
    assert shells["r_factor_missing"].tolist() == pytest.approx([0] * (len(shells) - 1) + [0.5], abs=1e-3)
    outermost = batch.missing & (4 * batch.s_squared * CONFIG.d_min**2 > 1 - 1 / N_SHELLS)
    expected = (0.5 * batch.F.abs() / batch.scale)[outermost].square().mean()
    assert shells["mse_missing"].iloc[-1] == pytest.approx(float(expected), rel=1e-3)
