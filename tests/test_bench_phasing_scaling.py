"""``rephase bench phasing_scaling``: what is counted, and a small run."""

import runpy
import sys

import numpy as np
import pytest

from rephase.paths import BENCHMARKS

SCRIPT = str(BENCHMARKS / "phasing_scaling.py")


@pytest.fixture
def bench(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))

    def run(*given):
        monkeypatch.setattr(sys, "argv", [SCRIPT, *map(str, given)])
        runpy.run_path(SCRIPT, run_name="__main__")

    return run


def test_the_most_confident_of_the_starts_counts():
    table_of = runpy.run_path(SCRIPT)["table_of"]
    agreement = np.array([[[0.2, 0.95]], [[0.8, 0.6]]])  # start, steps, crystal
    confidence = np.array([[[0.3, 0.4]], [[0.5, 0.9]]])
    table = table_of(agreement, confidence, [6], [1, 2]).set_index("starts")
    assert table.loc[1, ["first", "first>=0.9", "any"]].tolist() == [0.5, 0.5, 0.5]
    assert table.loc[2, ["first", "first>=0.9", "any"]].tolist() == [0.5, 0.0, 1.0]
    assert table["mean"].tolist() == pytest.approx([0.575, 0.6375])


def test_a_small_run_prints_a_row_for_each_pair(bench, capsys):
    bench("--crystals", 1, "--steps", 1, 2, "--starts", 1, 2, "--device", "cpu")
    said = capsys.readouterr().out.splitlines()
    assert "1 random crystals" in said[0]
    assert said[1].split() == ["steps", "starts", "first", "first>=0.9", "any", "mean", "cpu_s"]
    assert [line.split()[:2] for line in said[2:]] == [["1", "1"], ["1", "2"], ["2", "1"], ["2", "2"]]


def test_wrong_calls_end_with_one_line(bench):
    with pytest.raises(SystemExit, match="^ConfigError: .*d_min"):
        bench("--crystals", 1, "--d-min", 2, 1)
    with pytest.raises(SystemExit, match="^WeightsError: "):
        bench("--network", "nowhere")
    with pytest.raises(SystemExit, match="^DeviceError: .*'gpu'"):
        bench("--device", "gpu")
    for wrong in ("--crystals", "--steps", "--starts"):
        with pytest.raises(SystemExit, match="2"):
            bench(wrong, 0)
