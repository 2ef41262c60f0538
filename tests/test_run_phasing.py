"""The laboratory of the learned solver: its trainings, in one piece and in several, and what they leave behind."""

import itertools
import json

import pandas as pd
import pytest
import torch
from laboratory_run import LaboratoryRun

from rephase.config import load_config
from rephase.errors import ConfigError, OutOfTime, SymmetryError, TrainingError, WeightsError
from rephase.laboratories import check_work
from rephase.labs.phasing.data import PhasingCrystals
from rephase.labs.phasing.models import PHASING_MODELS
from rephase.labs.phasing.steps import score_networks, train_networks, trained_network, trainings, watch_starts
from rephase.learning import callbacks
from rephase.learning.checkpoints import read_checkpoint
from rephase.learning.training import fit
from rephase.learning.weights import load_weights
from rephase.runs import open_run
from rephase.shipping import ship_weights
from rephase.solvers.learned.cards import PHASES


class TestPhasing(LaboratoryRun):
    name = "phasing"

    def test_networks_and_chance_are_scored_on_the_same_crystals(self, results):
        assert results["model"].drop_duplicates().tolist() == ["chance", "recurrent", "weights"]
        assert set(results["n"]) == {load_config("test").phasing.data.n_validation}

    def test_the_ranking_is_that_of_the_last_step_of_the_film(self, run):
        options, film, ranking = run.config.phasing.example, run.arrays("phasing_film"), run.table("phasing_ranking")
        assert film["map_cc"].shape == (options.search.n_steps + 1, options.search.n_starts)
        assert ranking["confidence"].is_monotonic_decreasing
        assert ranking["confidence"][0] == pytest.approx(film["confidence"][-1].max(), abs=1e-3)
        assert ranking["map_cc"][0] == pytest.approx(film["map_cc"][-1, ranking["start"][0]], abs=1e-3)

    def test_the_learning_curve_has_every_epoch(self, run):
        curve = run.table("phasing_curve_recurrent")
        assert curve["epoch"].tolist() == [0, 1]
        assert curve[["train_loss", "solved_first", "crystals_seen"]].notna().all(axis=None)


def test_without_weights_the_network_of_the_run_is_watched(tmp_path):
    overrides = ["phasing.example.weights=null", "phasing.example.search={n_starts: 2, n_steps: 1}"]
    run = open_run(tmp_path, "test", overrides, device="cpu")
    with pytest.raises(TrainingError, match="no weights of 'recurrent' yet"):
        watch_starts(run)
    train_networks(run)
    assert len(watch_starts(run)) == 2


def test_a_run_without_networks_scores_the_given_weights(tmp_path):
    run = open_run(tmp_path, "test", ["phasing.models={}"], device="cpu")
    assert "no network in phasing.models" in train_networks(run)["left out"].item()
    assert {name for name, _ in score_networks(run).index} == {"weights", "chance"}


def train(folder):
    config = load_config("test").phasing
    data = PhasingCrystals(config.data)
    return fit(PHASING_MODELS, "recurrent", data, config, folder, seed=0, device="cpu", progress=False)


def in_pieces(work):
    """Call until it is done; the result, and how often it paused."""
    n_pauses = 0
    while True:
        try:
            return work(), n_pauses
        except OutOfTime:
            n_pauses += 1


def logs(folder):
    """What the logs say of each epoch, without the speed."""
    tables = [pd.read_csv(path) for path in sorted(folder.glob("csv/version_*/metrics.csv"))]
    return pd.concat(tables).drop(columns="crystals_per_second").groupby("epoch").last().drop(columns="step")


def test_a_training_in_pieces_is_the_same_to_the_last_bit(tmp_path, monkeypatch):
    monkeypatch.setattr("rephase.labs.phasing.data._MADE_AT_ONCE", 16)  # two batches together
    whole = train(tmp_path / "whole")
    asked = itertools.count(1)
    monkeypatch.setattr(callbacks, "is_time_over", lambda: next(asked) % 2 == 1)
    pieces, n_pauses = in_pieces(lambda: train(tmp_path / "pieces"))
    assert n_pauses >= 2
    kept, undisturbed = (read_checkpoint(tmp_path / name / "last.ckpt") for name in ("pieces", "whole"))
    for key in ("state_dict", "trained."):
        assert kept[key].keys() == undisturbed[key].keys()
        assert all(torch.equal(kept[key][name], value) for name, value in undisturbed[key].items())
    assert all(torch.equal(a, b) for a, b in zip(pieces.parameters(), whole.parameters()))
    pd.testing.assert_frame_equal(logs(tmp_path / "pieces"), logs(tmp_path / "whole"), check_exact=True)
    log = logs(tmp_path / "whole")
    assert log["crystals_seen"].tolist() == [log["crystals_seen"][0], kept["crystals_seen"]]
    assert {"solved_first", "solved_any", "well_solved_first", "mean_map_cc", "chance_map_cc"} <= {*log}


def test_a_training_goes_on_from_weights(tmp_path):
    first = open_run(tmp_path / "first", "test", device="cpu")
    train_networks(first)
    (start,) = ship_weights(first, tmp_path / "weights")
    card = json.loads(start.with_suffix(".json").read_text())
    assert card["start_sha256"] == ""
    slowly = ["phasing.training.learning_rate=1e-9", f"phasing.training.start={start}"]
    second = open_run(tmp_path / "second", "test", slowly, device="cpu")
    train_networks(second)
    (path,) = ship_weights(second, tmp_path / "next")
    found = json.loads(path.with_suffix(".json").read_text())
    assert found["start_sha256"] == card["sha256"]
    assert found["n_seen"] > card["n_seen"]
    assert found["training"]["start"] == "weights/recurrent.safetensors"
    assert str(tmp_path) not in path.with_suffix(".json").read_text()
    before, after = (load_weights(each, PHASES).model.state_dict() for each in (start, path))
    for name, value in before.items():
        torch.testing.assert_close(after[name], value, rtol=2e-3, atol=1e-5)


def test_a_trained_network_is_read_from_its_folder(tmp_path):
    trained = train(tmp_path)
    read = trained_network(tmp_path, device="cpu")
    assert all(torch.equal(a, b) for a, b in zip(read.parameters(), trained.parameters()))
    with pytest.raises(TrainingError, match="identity.json"):
        trained_network(tmp_path / "csv", device="cpu")
    identity = json.loads((tmp_path / "identity.json").read_text())
    (tmp_path / "identity.json").write_text(json.dumps({"model": identity["model"]}))
    with pytest.raises(TrainingError, match="damaged, should record a training"):
        trained_network(tmp_path, device="cpu")


def test_trainings_and_wrong_configurations(tmp_path):
    run = open_run(tmp_path, "test", device="cpu")
    (training,) = trainings(run)
    assert training.folder == tmp_path / "checkpoints" / "phasing" / "recurrent"
    assert training.data().config == run.config.phasing.data
    for override, said in [
        ("phasing.data.d_min=[2.0,1.0]", "expected two positive numbers in rising order"),
        ("phasing.data.n_atoms=[1,300]", "n_atoms = "),
        ("phasing.data.shapes=[[12,16,20],[12,12,16]]", "the smallest grid first"),
        ("phasing.data.shapes=[[20,16,12]]", "0 < a <= b <= c"),
        ("phasing.data.shapes=[[0,0,0]]", "0 < a <= b <= c"),
        ("phasing.models={recurent: {}}", "did you mean 'recurrent'"),
        ("phasing.models.recurrent.options.width=10", "expected a multiple of 4"),
        ("phasing.training.near=2", "phasing.training.near = 2"),
        ("phasing.training.n_streamed=8", "n_streamed = 8: .*expected 0, .*phasing.data.n_epoch"),
        ("phasing.models.recurrent.training.n_streamed=8", "n_streamed = 8: .*expected 0"),
        (
            "phasing.training.start=recurrent",
            "start = 'recurrent': weights of a network with the options .*'width': 24",
        ),
        ("phasing.example.n_atoms=[1,300]", "n_atoms = "),
        ("phasing.example.d_min=0", "phasing.example.d_min = 0"),
        ("phasing={models: {}, example: {weights: null}}", "weights = None: expected weights, as phasing.models lists"),
    ]:
        with pytest.raises(ConfigError, match=said):
            check_work(load_config("test", [override]), ["phasing"])
    for key in ("example.weights", "training.start"):
        with pytest.raises(WeightsError, match="no weights 'recurent'.*did you mean 'recurrent'"):
            check_work(load_config("test", [f"phasing.{key}=recurent"]), ["phasing"])
    with pytest.raises(SymmetryError, match="P 7"):
        check_work(load_config("test", ["phasing.data.space_groups=[P 7]"]), ["phasing"])
