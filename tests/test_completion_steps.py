"""The steps of the notebooks on completion: data, scores, what is left out, figures; wrong configurations."""

import numpy as np
import pandas as pd
import pytest
import torch

from rephase.crystal.map_files import write_cif
from rephase.crystal.peaks import Peaks
from rephase.crystal.symmetry import find_symmetry
from rephase.errors import RephaseError
from rephase.figures import draw
from rephase.labs.completion.grids import MonoclinicGrid
from rephase.labs.completion.models.baselines import AMPLITUDE_BASELINES
from rephase.labs.completion.scores import COMPLETION_METRICS, MAP_SCORE
from rephase.labs.completion.steps import (
    build_data,
    describe_data,
    score_baselines,
    summary,
    train_and_score,
    train_and_score_phases,
)
from rephase.pipeline import run_notebooks
from rephase.random_crystals.crystals import RandomCrystalOptions, random_crystals
from rephase.runs import COLUMNS, open_run


@pytest.fixture(scope="module")
def folder(config, tmp_path_factory):
    """CIFs of two crystals that fit the grid of the tests, and one that is none."""
    folder = tmp_path_factory.mktemp("cifs")
    options = RandomCrystalOptions(space_groups=("P 1 21/n 1",), n_atoms=(5, 8))
    made = random_crystals(12, generator=torch.Generator().manual_seed(1), options=options)
    fitting = (
        MonoclinicGrid(config.completion.data.shape).holds(made.lattice, config.completion.data.d_min).nonzero()[:2, 0]
    )
    for number in fitting.tolist():
        crystal = made.crystal(number)
        unit = crystal.asymmetric_unit
        peaks = Peaks(unit.xyz_frac, np.ones(len(unit.elements)), unit.elements)
        write_cif(folder / f"{number}.cif", crystal.cell, find_symmetry("P 1 21/n 1"), peaks)
    (folder / "broken.cif").write_text("data_x")
    return folder


@pytest.fixture(scope="module")
def run(folder, tmp_path_factory):
    """A run with its baselines and one model scored."""
    overrides = [f"completion.data.folder={folder}", "completion.models={unet: {options: {width: 4}}}"]
    run = open_run(tmp_path_factory.mktemp("run"), "test", overrides, device="cpu")
    data = build_data(run)
    score_baselines(run, data)
    train_and_score(run, data, "unet")
    return run


def test_crystals_are_described_by_source_and_group(run):
    table = describe_data(run, build_data(run)).set_index(["crystals", "space group"])
    assert table["n"].to_dict() == {
        ("random", "P 1 21/c 1"): 15,
        ("random", "C 1 2 1"): 15,
        ("real", "P 1 21/n 1"): 2,
    }
    whole = run.table("monoclinic_crystals")
    assert whole["β"].between(85, 135).all()
    volume = whole["a"] * whole["b"] * whole["c"] * np.sin(np.radians(whole["β"]))
    assert np.allclose(whole["volume"], volume, rtol=1e-5)
    assert (whole["observed"] < 0.5 * whole["reflections"]).all()
    assert run.table("monoclinic_left_out")["file"].tolist() == ["broken.cif"]


def test_every_table_has_the_baselines_and_both_test_sets(run):
    scores = summary(run)
    assert set(scores.index) == {(m, s) for m in ("unet", *AMPLITUDE_BASELINES) for s in ("test", "real")}
    assert list(scores.columns) == [*COMPLETION_METRICS, MAP_SCORE]
    assert (scores.loc["zero_fill", "r_factor_missing"] == 1).all()
    assert (scores.loc["shell_median", "r_factor_missing"] < scores.loc["wilson", "r_factor_missing"]).all()
    assert "real:P 1 21/n 1" in summary(run, per_group=True).index.get_level_values("split")
    run.write_results()
    written = pd.read_csv(run.folder / "results.csv")
    assert list(written.columns) == COLUMNS
    assert set(written["experiment"]) == {"completion"}


def test_a_model_that_is_not_listed_is_left_out_and_says_so(run):
    table = train_and_score(run, build_data(run), "transformer")
    assert table["left out"].tolist() == ["not in completion.models of this configuration"]
    assert not run.checkpoints("completion").joinpath("transformer").exists()


def test_phases_are_scored_beside_chance_in_both_test_sets(folder, tmp_path):
    run = open_run(tmp_path, "test", [f"completion.data.folder={folder}"], device="cpu")
    data = build_data(run)
    scores = train_and_score_phases(run, data, "unet")
    assert set(scores.index) == {(model, split) for model in ("unet", "chance") for split in ("test", "real")}
    assert scores.loc["chance", "map_cc"].between(0, 0.6).all()
    assert scores["mean_phase_error_weighted"].between(30, 110).all()
    assert run.table("monoclinic_phases_shells_unet")["split"].unique().tolist() == ["test", "real"]
    run.write_results()
    assert set(pd.read_csv(run.folder / "results.csv")["experiment"]) == {"monoclinic_phases"}
    drawn = draw(run, "monoclinic_phases_by_resolution").axes
    assert [[line.get_label() for line in ax.lines] for ax in drawn] == [["U-Net", "chance"]] * 2
    left_out = train_and_score_phases(run, data, "fourier_unet")["left out"]
    assert left_out.tolist() == ["not in completion.phases.models of this configuration"]


def test_figures_show_every_test_set(run):
    describe_data(run, build_data(run))
    assert len(draw(run, "monoclinic_crystals").axes) == 3
    assert len(draw(run, "completion_loss_curves").axes) == 1
    by_resolution = draw(run, "completion_by_resolution").axes
    assert [ax.get_title() for ax in by_resolution] == ["random crystals", "crystals of the folder"]
    assert [line.get_label() for line in by_resolution[0].lines] == ["U-Net", "true shell median", "Wilson amplitude"]
    layers = draw(run, "completion_layers").axes
    titles = [ax.get_title().replace("\n", " ") for ax in layers]
    assert titles[:4] == ["observed", "truth", "Wilson amplitude", "U-Net"]
    assert len(layers) == 2 * 4 + 1


def test_a_drawn_layer_has_its_reflections_in_their_places(run):
    arrays = run.arrays("completion_layer_wilson")
    image = draw(run, "completion_layers").axes[1].images[0]
    left, right, bottom, _ = image.get_extent()
    h, k = np.argwhere(arrays["mask"][0])[3]
    h = h if h <= arrays["mask"].shape[1] // 2 else h - arrays["mask"].shape[1]
    drawn = image.get_array()[int(k - (bottom + 0.5)), int(h - (left + 0.5))]
    assert drawn == pytest.approx(arrays["true"][0, h, k])
    assert right == -left


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("completion.data.folder=nowhere", r"no folder with \*.cif"),
        ("completion.data.space_groups=[P -1]", "b unique"),
        ("completion.models.fourier={}", "did you mean 'fourier_unet'"),
        ("completion.models.unet.training.epoch=3", "unknown key 'epoch'; did you mean 'epochs'"),
    ],
)
def test_wrong_completion_stops_before_anything_runs(tmp_path, override, message):
    with pytest.raises(RephaseError, match=message):
        run_notebooks("test", [override], out=tmp_path, only=["completion"])
    assert not (tmp_path / "notebooks").exists()
