"""The steps of notebook 14: an example cut, completed by every route, and judged; wrong configurations."""

from dataclasses import replace

import numpy as np
import pytest

from rephase.config import load_config
from rephase.crystal.reflections import Reflections
from rephase.crystal.reflections.files import write_hklf4
from rephase.errors import ConfigError, RephaseError
from rephase.figures import draw
from rephase.labs.completion.comparison import check_comparison, complete_example, example_data, score_completion
from rephase.labs.completion.complete import complete
from rephase.runs import open_run

D_CUT, D_MIN = 1.8, 1.2  # Å, of the small networks


def overrides(*models, **changes):
    values = {"d_cut": D_CUT, "d_min": D_MIN, "models": f"[{', '.join(map(str, models))}]", "effort": 0.01} | changes
    return [f"completion.comparison.{key}={value}" for key, value in values.items()]


@pytest.fixture(scope="module")
def run(unet_weights, tmp_path_factory):
    changes = overrides("wilson", "atoms", unet_weights, d_cut=1.4)
    run = open_run(tmp_path_factory.mktemp("run"), "test", changes, device="cpu")
    complete_example(run)
    return run


@pytest.fixture(scope="module")
def example(run):
    return example_data(run)


def test_every_route_has_its_row_its_files_and_its_scores(run, example):
    table = run.table("inference").set_index("model")
    assert list(table.index) == ["wilson", "atoms", "unet"]
    assert (table["r_factor_missing"] > table["r_factor"]).all()
    assert table["r_factor_missing"].between(0.01, 0.9).all()
    assert table["left out"].isna().all()
    assert table["map_cc"].notna().to_dict() == {"wilson": False, "atoms": True, "unet": False}
    for model in table.index:
        assert (run.folder / "completed" / model / "completed.mtz").is_file()
    results = run.results("inference_scores")
    assert set(results["experiment"]) == {"inference"}
    assert set(results["model"]) == set(table.index)


def test_shells_hold_what_was_cut_off(run, example):
    shells = run.table("inference_shells")
    cut_off = example.data.cell.d_spacing(example.hkl) < 1.4
    assert (shells.groupby("model")["n"].sum() == cut_off.sum()).all()
    assert shells["d_min"].min() >= D_MIN * (1 - 1e-9)


def test_figures_show_every_route(run):
    lines = draw(run, "comparison_by_resolution").axes[0].lines
    assert [line.get_label() for line in lines] == ["Wilson amplitude", "atoms", "U-Net"]
    titles = [ax.get_title() for ax in draw(run, "comparison_maps").axes]
    assert titles[:5] == ["given", "Wilson amplitude", "atoms", "U-Net", "truth"]


def test_a_perfect_completion_has_no_error_and_a_double_one_has_its_size(example):
    completion = complete(example.data, model="wilson", d_min=D_MIN)
    missing, true = ~completion.is_observed, np.abs(example.F)
    assert np.array_equal(completion.hkl, example.hkl)
    perfect = score_completion(replace(completion, amplitude=true), example)
    assert [perfect[name] for name in ("r_factor", "r_factor_missing", "mse")] == pytest.approx([0] * 3, abs=1e-6)
    assert [perfect[name] for name in ("within_sigma", "ssim", "map_ssim")] == pytest.approx([1] * 3, abs=1e-4)
    double = score_completion(replace(completion, amplitude=np.where(missing, 2 * true, true)), example)
    assert double["r_factor_missing"] == pytest.approx(1)
    assert double["r_factor"] == pytest.approx(true[missing].sum() / true.sum())
    n_l_0 = (missing & (example.hkl[:, 2] == 0) & (example.hkl[:, 0] != 0)).sum()  # twice on the grid
    expected = double["mse_missing"] * (missing.sum() + n_l_0) / (26 * 18 * 23)
    assert double["mse"] == pytest.approx(expected, rel=1e-4)


def test_measured_reflections_are_cut_and_judged_as_simulated_ones(example, tmp_path):
    sigma = np.full(len(example.F), 1e-4 * np.abs(example.F).max() ** 2)
    data = Reflections(example.hkl, np.abs(example.F) ** 2, sigma, example.data.cell, example.data.group)
    write_hklf4(tmp_path / "sample.hkl", data)
    cell = ",".join(f"{x:.6f}" for x in example.data.cell.parameters)
    given = {"file": tmp_path / "sample.hkl", "cell": f"[{cell}]", "space_group": "P 1 21/c 1", "d_cut": 1.4}
    run = open_run(tmp_path / "run", "test", overrides("wilson", **given), device="cpu")
    found = complete_example(run).set_index("model").loc["wilson"]
    expected = score_completion(complete(example.data, model="wilson", d_min=D_MIN), example)
    assert found["r_factor_missing"] == pytest.approx(expected["r_factor_missing"], rel=0.02)
    assert found["mse"] == pytest.approx(expected["mse"], rel=0.05)
    assert np.isnan(found["map_ssim"])
    assert "Patterson" in draw(run, "comparison_maps").get_suptitle()
    finer = overrides("wilson", **given | {"d_cut": 0.8, "d_min": 0.7})
    with pytest.raises(ConfigError, match=r"d_cut = 0\.8 Å: sample reaches 1\.2 Å only"):
        example_data(replace(run, config=load_config("test", finer)))


def test_a_route_that_cannot_take_the_crystal_says_why(unet_weights, tmp_path):
    changes = [
        *overrides("wilson", unet_weights),
        "completion.comparison.simulated={space_group: P -1, n_atoms: [5, 6]}",
    ]
    table = complete_example(open_run(tmp_path / "one", "test", changes)).set_index("model")
    assert "expected a monoclinic space group" in table.loc["unet", "left out"]
    assert np.isnan(table.loc["wilson", "mse"])
    assert 0 < table.loc["wilson", "r_factor_missing"] < 1
    alone = [*overrides(unet_weights), changes[-1]]
    with pytest.raises(ConfigError, match="none of them can complete"):
        complete_example(open_run(tmp_path / "two", "test", alone))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("completion.comparison.d_cut=0.7", r"expected coarser than d_min = 1\.0"),
        ("completion.comparison.file=nowhere.hkl", "no such file"),
        ("completion.comparison.models=[atom]", "did you mean 'atoms'"),
        ("completion.comparison.simulated.space_group=P 99", "not in the tables"),
    ],
)
def test_wrong_inference_is_refused(change, message):
    with pytest.raises(RephaseError, match=message):
        check_comparison(load_config("test", [change]))
