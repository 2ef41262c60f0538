"""``rephase bench learned_solver``: its rows and table, rows that are kept, and what it refuses."""

import runpy
import sys

import pandas as pd
import pytest

from rephase.config import load_config
from rephase.labs.phasing.data import PhasingCrystals
from rephase.labs.phasing.models import PHASING_MODELS
from rephase.learning.training import fit
from rephase.paths import BENCHMARKS


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    """The folder of a training of one epoch."""
    folder = tmp_path_factory.mktemp("network")
    overrides = ["phasing.training.epochs=1", "phasing.data.n_epoch=8", "phasing.data.n_validation=1"]
    config = load_config("test", overrides).phasing
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("rephase.labs.phasing.data._MADE_AT_ONCE", 16)  # takes a tenth of the time
        fit(PHASING_MODELS, "recurrent", PhasingCrystals(config.data), config, folder, device="cpu", progress=False)
    return folder


def bench(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["learned_solver.py", *map(str, arguments)])
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    runpy.run_path(str(BENCHMARKS / "learned_solver.py"), run_name="__main__")


@pytest.mark.parametrize("source", ["network", "classical"])
def test_rows_are_scored_summarised_and_kept(network, tmp_path, monkeypatch, capsys, source):
    out = tmp_path / "rows.csv"
    given = ["--network", network, "--random", 2, "--n-atoms", 5, 6, "--d-min", 2.0, "--device", "cpu", "--out", out]
    given += ["--from", source, "--starts", 4, "--steps", 2]
    bench(monkeypatch, *given)
    rows = pd.read_csv(out)
    assert len(rows) == 2
    assert (rows["any"] >= rows["first"]).all()
    assert rows[["first", "any", "mean", "chance", "confidence"]].stack().between(-1, 1).all()
    table = capsys.readouterr().out.splitlines()
    assert table[-4].split()[-8:] == ["groups", "n", "first", "any", "first>=0.9", "mean", "chance", "seconds"]
    assert [line.split()[-8] for line in table[-3:]] == ["all", "centric", "acentric"]
    bench(monkeypatch, *given, *(["--steps", 3] if source == "classical" else []))  # which takes no such steps
    assert capsys.readouterr().out.splitlines() == table[-4:]
    bench(monkeypatch, *given, "--rounds", 1)
    assert len(pd.read_csv(out)) == (4 if source == "classical" else 2)  # others have one round in the group


def test_wrong_calls_end_with_one_line(network, tmp_path, monkeypatch):
    given = ["--random", 1, "--n-atoms", 5, 6, "--out", tmp_path / "rows.csv"]
    with pytest.raises(SystemExit, match="^TrainingError: .*identity.json"):
        bench(monkeypatch, "--network", tmp_path, *given)
    with pytest.raises(SystemExit, match="2"):
        bench(monkeypatch, "--network", network, "--unknown-group", *given)
    for wrong in ("--starts", "--steps", "--rounds", "--every", "--random"):
        with pytest.raises(SystemExit, match="2"):
            bench(monkeypatch, *given, wrong, 0)
    with pytest.raises(SystemExit, match="^DeviceError: .*'gpu'"):
        bench(monkeypatch, "--device", "gpu", *given)
