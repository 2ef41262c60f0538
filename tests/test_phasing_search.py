"""The search with a network: lists that the classical finish takes, in the group; and its training in pieces."""

import itertools
import json

import numpy as np
import pandas as pd
import pytest
import torch

from rephase.config import load_config
from rephase.crystal.reflections.statistics import unique_hkl
from rephase.crystal.structure_factors import structure_factors
from rephase.crystal.symmetry import find_symmetry
from rephase.errors import ConfigError, OutOfTime, TrainingError
from rephase.laboratories import check_work
from rephase.labs.phasing.data import PhasingCrystals
from rephase.labs.phasing.models import PHASING_MODELS
from rephase.labs.phasing.models.recurrent import RecurrentNetwork
from rephase.labs.phasing.search import search, symmetric_shape
from rephase.labs.phasing.steps import trained_network, trainings
from rephase.learning import callbacks
from rephase.learning.checkpoints import read_checkpoint
from rephase.learning.training import fit
from rephase.random_crystals.crystals import RandomCrystalOptions, random_crystals
from rephase.runs import open_run
from rephase.solvers.problem import PhaseProblem
from rephase.solvers.strategy import Recipe, polish


def network():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return RecurrentNetwork(width=8, n_layers=1)


def problem_of(group, *, reach=1.3, missing=0):
    """A random crystal to 1.6 Å, without some of its strongest reflections; the problem and its |F|."""
    options = RandomCrystalOptions((group,), (5, 6))
    crystals = random_crystals(1, generator=torch.Generator().manual_seed(1), options=options)
    crystal, symmetry = crystals.crystal(0), crystals.symmetries[0]
    hkl = unique_hkl(crystal.cell, symmetry, 1.6)
    amplitude = np.abs(structure_factors(crystal, hkl, energy_kev=None))
    kept = np.argsort(-amplitude)[missing:]
    return PhaseProblem(hkl[kept], amplitude[kept], crystal.cell, symmetry, reach=reach)


@pytest.mark.parametrize("group", ["P 1 21/c 1", "C 1 2 1", "P 21 21 21", "F d d 2"])
def test_candidates_have_the_amplitudes_and_obey_the_group(group):
    problem = problem_of(group, missing=3)
    found = search(problem, network(), 3, 2, torch.Generator().manual_seed(0))
    assert found.F.shape == (3, len(problem.hkl))
    assert found.confidence.tolist() == sorted(found.confidence.tolist(), reverse=True)
    assert 0 < float(found.confidence[-1]) <= float(found.confidence[0]) < 1
    amplitude = problem.amplitude.expand(3, -1)
    largest = float(amplitude.max())
    torch.testing.assert_close(found.F[:, : problem.n_known].abs(), amplitude, rtol=1e-4, atol=1e-4 * largest)
    torch.testing.assert_close(problem.group.average(found.F), found.F, rtol=0, atol=1e-3 * largest)
    inside = problem.within_data
    free = problem.from_within_data(torch.ones(1, len(inside.hkl)))[0, problem.n_known :] > 0
    assert int(free.sum()) == len(inside.hkl) - inside.n_known > 0
    assert bool((found.F[:, problem.n_known :][:, free] != 0).all())
    assert bool((found.F[:, problem.n_known :][:, ~free] == 0).all())


def test_the_classical_finish_takes_candidates():
    problem = problem_of("P 1 21/c 1")
    found = search(problem, network(), 2, 2, torch.Generator().manual_seed(0))
    trials = polish(problem, found.F, Recipe(n_finish=(2, 2)))
    assert trials.F.shape == found.F.shape
    assert bool((trials.misfit < 1).all())


def test_the_same_seed_gives_the_same_candidates_in_any_pieces(monkeypatch):
    problem = problem_of("P -1")
    seeded = [torch.Generator().manual_seed(seed) for seed in (0, 0, 1)]
    one, other, third = (search(problem, network(), 3, 2, generator) for generator in seeded)
    assert torch.equal(one.F, other.F)
    assert not torch.allclose(one.F, third.F)


@pytest.mark.parametrize(
    ("group", "fewest", "expected"),
    [
        ("P 21 21 21", (9, 11, 13), (10, 12, 16)),
        ("P 41", (9, 11, 13), (12, 12, 16)),  # equal along a and b; quarters along c
        ("P 31", (9, 9, 10), (10, 10, 12)),  # thirds along c
        ("P 1", (9, 11, 13), (10, 12, 16)),
    ],
)
def test_a_grid_suits_the_group(group, fewest, expected):
    assert symmetric_shape(find_symmetry(group), fewest) == expected


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
        ("phasing.data.space_groups=[P 4]", "space group 'P 4': expected triclinic"),
        ("phasing.models={recurent: {}}", "did you mean 'recurrent'"),
        ("phasing.models.recurrent.options.width=10", "expected a multiple of 4"),
        ("phasing.training.near=2", "phasing.training.near = 2"),
    ]:
        with pytest.raises(ConfigError, match=said):
            check_work(load_config("test", [override]), ["phasing"])
