"""The steps on real crystals: data, their quality, a solution, the benchmark; what simulation promises."""

import runpy
import shutil
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from rephase import pipeline
from rephase.config import load_config
from rephase.crystal.map_files import write_cif
from rephase.crystal.peaks import Peaks
from rephase.crystal.reflections.files import write_hklf4
from rephase.crystal.reflections.simulation import random_phases, simulate_reflections
from rephase.crystal.structure_factors import structure_factors
from rephase.crystal.structures import read_crystal
from rephase.crystal.symmetry import find_symmetry
from rephase.errors import ConfigError, ReflectionError, WeightsError
from rephase.figures import draw
from rephase.laboratories import LABORATORIES
from rephase.labs.solving.steps import (
    benchmark_solvers,
    data_quality,
    measured_reflections,
    merging,
    solve_example,
    solved_shares,
)
from rephase.paths import BENCHMARKS, WEIGHTS
from rephase.pipeline import run_notebooks
from rephase.random_crystals.crystals import RandomCrystalOptions, random_crystals
from rephase.runs import open_run

sys.path.insert(0, str(BENCHMARKS))  # as for a script of this folder


@pytest.fixture(scope="module")
def crystal():
    options = RandomCrystalOptions(space_groups=("P 1 21/c 1",), n_atoms=(6, 7))
    return random_crystals(1, generator=torch.Generator().manual_seed(0), options=options).crystal(0)


def test_noise_free_simulation_is_the_calculated_intensity(crystal):
    data, truth = simulate_reflections(crystal, 1.0)
    assert np.allclose(data.intensity, np.abs(structure_factors(crystal, data.hkl, energy_kev=None)) ** 2)
    assert truth.score(truth.F, data).map_cc[0] == pytest.approx(1)


def test_a_list_that_the_truth_does_not_know_is_an_error(crystal):
    data, _ = simulate_reflections(crystal, 1.0)
    _, truth = simulate_reflections(crystal, 1.2)
    with pytest.raises(ReflectionError, match="is not among the true reflections"):
        truth.score(np.ones(len(data)), data)


@pytest.mark.parametrize(
    ("d_min", "message"),
    [
        (100, "d_min = 100 Å leaves no reflection of P 1 21/c 1 with the axes .* Å; give a smaller one"),
        (0, "d_min = 0: expected a number above 0"),
        (float("nan"), "d_min = nan: expected a number above 0"),
        (5, "expected at least 30; give more data, or choose a smaller d_min"),
    ],
)
def test_a_limit_that_leaves_too_few_reflections(crystal, d_min, message):
    with pytest.raises(ReflectionError, match=message):
        simulate_reflections(crystal, d_min, leak=0.1)


def test_simulated_noise_gaps_and_repetition_are_as_asked(crystal):
    data, truth = simulate_reflections(crystal, 0.8, noise=0.1, missing=0.2, n_each=4)
    relative = np.sqrt(data.intensity) / np.abs(truth.F[[truth.hkl.tolist().index(h) for h in data.hkl.tolist()]])
    assert relative.std() == pytest.approx(0.1, rel=0.1)
    assert len(data.merge().reflections) == pytest.approx(0.8 * len(truth.hkl), rel=0.1)
    assert data.merge().redundancy == 4


@pytest.mark.parametrize("name", ["triclinic", "Ni", "NaCoO2_stripe_supercell"])
def test_nothing_is_missing_unless_asked_for(name):
    crystal = read_crystal(name)
    data, truth = simulate_reflections(crystal, 0.8)
    assert len(data) == len(truth.hkl)


def test_the_strongest_and_a_cone_can_be_missing():
    crystal = read_crystal("triclinic")
    whole, truth = simulate_reflections(crystal, 0.9)
    without, _ = simulate_reflections(crystal, 0.9, strongest_missing=5)
    assert len(without) == len(whole) - 5
    assert without.intensity.max() <= np.sort(whole.intensity)[-6]
    cut, _ = simulate_reflections(crystal, 0.9, missing_cone=30.0)
    vectors = whole.hkl @ np.linalg.inv(crystal.cell.orthogonalisation)
    along_c = np.linalg.inv(crystal.cell.orthogonalisation)[2]
    cosine = np.abs(vectors @ along_c) / np.linalg.norm(vectors, axis=1) / np.linalg.norm(along_c)
    assert len(cut) == (cosine <= np.cos(np.radians(30))).sum()


def test_background_makes_weak_reflections_negative(crystal):
    assert (simulate_reflections(crystal, 0.8)[0].intensity >= 0).all()
    assert (simulate_reflections(crystal, 0.8, background=0.2)[0].intensity < 0).any()


def test_random_phases_are_allowed_ones_and_average_90_degrees():
    group = find_symmetry("P 21 21 21")
    hkl = np.array([[1, 2, 3], [0, 1, 2], [2, 0, 1], [3, 1, 0]])
    phi = random_phases(hkl, group, 4000, np.random.default_rng(0))
    centric = group.is_centric(hkl)
    assert centric.tolist() == [False, True, True, True]
    assert np.allclose(np.sin(phi - group.centric_phase(hkl))[:, centric], 0, atol=1e-6)
    assert np.degrees(np.abs(phi[:, 0])).mean() == pytest.approx(90, abs=3)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return open_run(tmp_path_factory.mktemp("run"), "test", device="cpu")


def test_the_same_run_measures_the_same(run):
    assert np.array_equal(measured_reflections(run).intensity, measured_reflections(run).intensity)


def test_quality_of_centric_data(run):
    quality = data_quality(run)
    assert quality.shells["n"].sum() == len(measured_reflections(run).merge().reflections)
    assert 0.8 < quality.e_statistics.loc[0, "⟨|E² − 1|⟩"] < 1.1  # a group with a centre: 0.968
    assert quality.e_statistics.loc[1, "⟨|E² − 1|⟩"] == pytest.approx(0.968, abs=1e-3)
    assert 0.85 < quality.support.d_min < 1.0
    assert merging(run).loc["redundancy"].item() == 2


def test_solution_is_scored_against_the_truth_and_written(run):
    solution = solve_example(run)
    scores = run.table("solver_scores_example").set_index("metric")["value"]
    assert scores["map_cc"] > 0.9
    assert scores["mean_phase_error_weighted"] < 20
    assert run.table("solution_shells")["n"].sum() == len(solution.hkl)
    assert (run.folder / "solution" / "solution.res").is_file()


def test_benchmark_has_a_row_of_each_and_chance_is_far_below(tmp_path, monkeypatch):
    monkeypatch.setattr(sys.modules["rephase.solvers.solve"], "with_model", lambda *_, **__: pytest.fail("a model"))
    overrides = ["solving.benchmark.solvers=[raar]", "solving.benchmark.d_mins=[1.0]"]
    run = open_run(tmp_path, "test", overrides, device="cpu")
    table = benchmark_solvers(run)
    options = run.config.solving.benchmark
    assert len(table) == (len(options.solvers) + 1) * options.n_crystals * len(options.d_mins)
    means = table.groupby("solver")["map_cc"].mean()
    assert means["chance"] < 0.4 < means["raar"]


def test_a_run_names_the_weights_of_the_network(tmp_path, monkeypatch):
    used = []
    monkeypatch.setattr("rephase.labs.solving.steps.solve", lambda *_, **given: used.append(given) or pytest.skip())
    copy = shutil.copy(WEIGHTS / "recurrent.safetensors", tmp_path / "own.safetensors")
    shutil.copy(WEIGHTS / "recurrent.json", tmp_path / "own.json")
    overrides = ["solving.solver=learned", "solving.benchmark.solvers=[auto]"]
    named = [*overrides, f"solving.weights={copy}"]
    for given, expected in ((overrides, None), (named, str(copy))):
        run = open_run(tmp_path / str(expected).replace("/", "_"), "test", given, device="cpu")
        for step in (solve_example, benchmark_solvers):
            with pytest.raises(pytest.skip.Exception):
                step(run)
            assert used[-1]["weights"] == expected


def test_weights_are_input_files(tmp_path):
    files = [shutil.copy(path, tmp_path) for path in WEIGHTS.glob("recurrent.*")]
    config = load_config("test", [f"solving.weights={tmp_path / 'recurrent.safetensors'}"])
    inputs = list(LABORATORIES["solving"].files(config))
    assert {*map(Path, files), *WEIGHTS.glob("recurrent*.*")} <= {*inputs}


def test_missing_weights_stop_before_anything_runs(tmp_path):
    with pytest.raises(WeightsError, match="did you mean 'recurrent'"):
        run_notebooks("test", ["solving.solver=auto", "solving.weights=recurent"], out=tmp_path, only=["solving"])
    assert not (tmp_path / "notebooks").exists()


def test_a_network_is_compared_only_where_it_has_learned(tmp_path):
    overrides = ["solving.benchmark.solvers=[learned]", "solving.benchmark.d_mins=[1.0,2.0]"]
    table = benchmark_solvers(open_run(tmp_path, "test", overrides, device="cpu"))
    assert table[["solver", "d_min"]].to_numpy().tolist() == [["chance", 1.0], ["learned", 2.0], ["chance", 2.0]]


def test_shares_count_what_is_solved_and_claimed():
    table = pd.DataFrame(
        {
            "solver": "raar",
            "d_min": 1.0,
            "map_cc": [0.95, 0.75, 0.2, 0.1],
            "is_centric": [True, False, False, True],
            "verdict": ["solved", "possible", "solved", "unsure"],
            "seconds": [1.0, 2.0, 3.0, 4.0],
        }
    )
    row = solved_shares(table).iloc[0]
    assert row[["solved", "map_cc>=0.9", "claims", "right", "median_s"]].tolist() == [0.5, 0.25, 2, 0.5, 2.5]


def test_measured_file_is_solved_without_truth(crystal, tmp_path):
    data, _ = simulate_reflections(crystal, 1.0)
    write_hklf4(tmp_path / "sample.hkl", data)
    cell = ",".join(map(str, crystal.cell.parameters))
    overrides = [f"solving.file={tmp_path / 'sample.hkl'}", f"solving.cell=[{cell}]", "solving.space_group=P 21/c"]
    run = open_run(tmp_path / "run", "test", overrides, device="cpu")
    solution = solve_example(run)
    assert solution.reflections.group.symbol == "P 1 21/c 1"
    assert "map_cc" not in run.table("solution_shells")
    draw(run, "solution_shells")


def test_a_changed_reflection_file_is_read_again(crystal, tmp_path, monkeypatch):
    executed = []

    def execute(run, notebook):
        executed.append(notebook.stem)
        (run.folder / "notebooks").mkdir(exist_ok=True)
        shutil.copy(notebook, run.folder / "notebooks")
        return {"seconds": 0.0}

    monkeypatch.setattr(pipeline, "_execute", execute)
    monkeypatch.setattr(pipeline, "write_report", lambda run, status: run.folder)
    overrides = [f"solving.file={tmp_path / 'sample.hkl'}", "solving.cell=[7, 8, 9, 90, 90, 90]"]
    for d_min, expected in ((1.0, 1), (1.0, 1), (1.1, 2)):
        write_hklf4(tmp_path / "sample.hkl", simulate_reflections(crystal, d_min)[0])
        run_notebooks("test", overrides, out=tmp_path / "run", only=["08"])
        assert len(executed) == expected


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("solving.file=nowhere.hkl", "no such file"),
        ("solving.benchmark.folder=nowhere", r"no folder with \*.cif"),
        ("solving.solver=rar", "did you mean 'raar'"),
        ("solving.benchmark.solvers=[hoi]", "hio"),
        ("solving.simulated.n_atoms=[9, 3]", "n_atoms"),
    ],
)
def test_wrong_solving_stops_before_anything_runs(tmp_path, override, message):
    with pytest.raises(ConfigError, match=message):
        run_notebooks("test", [override], out=tmp_path, only=["solving"])
    assert not (tmp_path / "notebooks").exists()


def test_the_benchmark_takes_measured_reflections(crystal, tmp_path, monkeypatch, capsys):
    sites = crystal.asymmetric_unit
    atoms = Peaks(sites.xyz_frac, np.ones(len(sites)), sites.elements)
    for name in ("one", "without_data"):
        write_cif(tmp_path / f"{name}.cif", crystal.cell, find_symmetry(crystal.space_group), atoms)
    data, _ = simulate_reflections(read_crystal(tmp_path / "one.cif"), 0.95, background=0.03, strongest_missing=1)
    write_hklf4(tmp_path / "one.hkl", data)
    words = ["--measured", str(tmp_path), "--d-min", "50", "--effort", "0.02", "--out", str(tmp_path / "rows.csv")]
    run = partial(runpy.run_path, str(BENCHMARKS / "solve.py"), run_name="__main__")
    for solver in ("chance", "raar", "raar"):  # what is there is not done again
        monkeypatch.setattr(sys, "argv", ["solve.py", *words, "--solver", solver])
        run()
    rows = pd.read_csv(tmp_path / "rows.csv")
    assert rows["name"].tolist() == ["one"] * 4
    assert rows["d_min"].tolist() == [0, 50] * 2
    assert rows["data"].unique().tolist() == ["measured"]
    assert rows["map_cc"][0] < 0.5 < 0.95 < rows["map_cc"][2]
    assert rows["verdict"].tolist() == ["none", "refused", "solved", "refused"]
    monkeypatch.setattr(sys, "argv", ["solve.py", *words, "--noise", "0.1"])
    with pytest.raises(SystemExit):
        run()
    assert "leave noise and gaps out" in capsys.readouterr().err
