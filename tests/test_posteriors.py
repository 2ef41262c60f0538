"""Steps of the notebooks on posteriors: flows, scores, one pattern, its peaks, and the experiment on losses."""

import copy
import math
import re
import shlex

import nbformat
import numpy as np
import pytest
import torch

from rephase.config import load_config
from rephase.config.scattering import SaxsSimulation
from rephase.config.sections import ModelConfig
from rephase.errors import ConfigError, CurveError, PosteriorError, WeightsError
from rephase.inference.cards import posterior_card
from rephase.inference.fits import peaks
from rephase.inference.patterns import PatternBatch, pattern_of
from rephase.labs.images.cards import IMAGES
from rephase.labs.scattering.by_counts import score_by_counts
from rephase.labs.scattering.calibration import inverse_error, score_flow
from rephase.labs.scattering.cards import POSTERIORS, ParameterCard
from rephase.labs.scattering.data.saxs import SaxsSimulator
from rephase.labs.scattering.flow import build_patterns, open_flow, section_of, simulator_of
from rephase.labs.scattering.models import POSTERIOR_MODELS
from rephase.labs.scattering.one_pattern import example_pattern, find_peaks, infer
from rephase.labs.scattering.out_of_distribution import ADAPTED, REFERENCE, WEIGHTED, check_losses, compare_losses
from rephase.labs.scattering.steps import check_posteriors, train_and_score_all
from rephase.labs.waves.cards import IMAGE_POSTERIORS
from rephase.learning.models import build_model
from rephase.learning.weights import load_weights, save_weights
from rephase.paths import NOTEBOOKS
from rephase.runs import open_run
from rephase.shipping import ship_weights


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return open_run(tmp_path_factory.mktemp("run"), "test", device="cpu")


@pytest.fixture(scope="module")
def flow(run):
    return open_flow(run, "saxs")


@pytest.fixture(scope="module")
def shipped(run, flow, tmp_path_factory):
    """Weights of the run's flow, its score with them."""
    score_flow(run, "saxs", flow)
    (path,) = ship_weights(run, tmp_path_factory.mktemp("weights"))
    return path


def test_a_flow_is_adapted_to_the_pattern_where_the_configuration_says_how(run, flow, tmp_path):
    """Many steps with the forward model explain a pattern that a flow of two epochs does not."""
    before = {name: value.clone() for name, value in flow.state_dict().items()}
    pattern, _ = example_pattern(run, "saxs", flow)
    changed = {"n_steps": 100, "n_samples": 8, "learning_rate": 0.01}
    more = run.config.changed({"scattering.saxs.inference.adaptation": changed})
    deviance = infer(type(run)(tmp_path, more, "cpu"), "saxs", flow, pattern).set_index("method")["deviance / points"]
    assert deviance["flow, adapted"] < 0.3 * deviance["flow"]
    assert all(torch.equal(flow.state_dict()[name], value) for name, value in before.items())
    none = run.config.changed({"scattering.saxs.inference.adaptation": None})
    assert "flow, adapted" not in set(infer(type(run)(tmp_path, none, "cpu"), "saxs", flow, pattern)["method"])


def test_a_wrong_key_of_what_may_be_null_is_reported_with_the_nearest(run):
    with pytest.raises(ConfigError, match="unknown key .*n_step.; did you mean 'n_steps'"):
        run.config.changed({"scattering.saxs.inference.adaptation": {"n_step": 3}})


def with_truth(seed, truth):
    """A pattern of a spheroid of given half axes, forward intensity and background."""
    simulator = SaxsSimulator(SaxsSimulation(q=(0.1, 3.0), n_q=80, missing=0.0))
    return simulator, pattern_of(simulator, torch.tensor([truth]), np.random.default_rng(seed))


def test_flows_are_scored_on_patterns_that_nobody_trained_on(run, flow):
    (row,) = train_and_score_all(run, "saxs").to_dict("records")
    assert row["flow"] == "nsf"
    assert row["inverse_error"] < 1e-4
    assert all(0 <= row[f"coverage {name}"] <= 1 for name in flow.simulator.names)
    arrays = run.arrays("calibration_saxs_nsf")
    assert arrays["ranks"].shape == (30, 4)
    assert ((arrays["ranks"] > 0) & (arrays["ranks"] < 1)).all()
    results = run.results("posterior_results")
    assert set(results.loc[results["split"] == "new", "metric"]) == {
        "nll",
        "sbc_p",
        "tarp_p",
        "tarp_fit_p",
        "inverse_error",
        "ms_1000",
    }
    assert row["nll"] == results.loc[results["metric"] == "nll", "value"].item()
    data = build_patterns(run, "saxs")
    fresh = flow.simulator.draw(30, np.random.default_rng([0, 31])).u
    assert not np.isin(fresh[:, 0].numpy(), data[np.arange(len(data))].u[:, 0].numpy()).any()


def spoiled(flow, draw):
    """The flow, but with draws of another distribution that it takes for its own."""
    other = copy.deepcopy(flow)
    other.sample = draw
    return other


def test_informed_reference_points_reveal_a_flow_that_ignores_the_pattern(run, flow, tmp_path):
    simulator, rng = flow.simulator, np.random.default_rng(3)
    many = run.config.changed({"scattering.saxs.scoring": {"n_patterns": 200, "n_draws": 50}})
    prior = spoiled(flow, lambda batch, n: simulator.prior.draw(n * len(batch.u), rng).unflatten(0, (n, -1)))
    (row,) = score_flow(type(run)(tmp_path, many, "cpu"), "saxs", prior).to_dict("records")
    assert min(row["sbc_p"], row["tarp_p"]) > 0.05
    assert row["tarp_fit_p"] < 0.001


def test_quarters_by_counts_distinguish_draws_that_explain_from_others(run, flow):
    table = score_by_counts(run, "saxs", flow)
    assert table["n"].sum() == 30
    assert (table["counts_from"].iloc[1:].to_numpy() >= table["counts_to"].iloc[:-1].to_numpy()).all()
    assert table["effective_share"].between(1 / 20, 1).all()
    truth = score_by_counts(run, "saxs", spoiled(flow, lambda batch, n: batch.u.expand(n, *batch.u.shape)))
    assert truth["effective_share"].tolist() == pytest.approx([1.0] * 4)
    assert truth["unexplained"].mean() < 0.2 < 0.6 < table["unexplained"].iloc[-1]
    assert run.table("posterior_quarters_saxs_nsf")["unexplained"].tolist() == truth["unexplained"].tolist()


def test_a_posterior_is_given_by_every_method(run, flow):
    pattern, notes = example_pattern(run, "saxs", flow)
    assert notes == ("simulated",)
    table = infer(run, "saxs", flow, pattern).set_index("method")
    assert list(table.index) == ["flow", "flow, weighted", "flow, adapted", "least squares", "Markov chains"]
    assert table.loc["flow, weighted", "effective samples"] <= 50
    arrays = run.arrays("posterior_saxs")
    assert arrays["samples"].shape == (5, 50, 4)
    assert all(flow.simulator.prior.outside(torch.as_tensor(each)) == () for each in arrays["samples"])
    assert arrays["truth"] == pytest.approx(pattern.u[0].numpy())
    summary = run.table("posterior_summary_saxs").set_index(["method", "parameter"])
    assert summary.loc[("flow", "forward"), "mean"] == pytest.approx(arrays["samples"][0, :, 2].mean())
    weighted = arrays["samples"][1]
    assert all((weighted[:, None] == arrays["samples"][0]).all(-1).any(1))  # resampled, not drawn anew
    found = find_peaks(run, "saxs", flow, pattern)
    assert found["share of samples"].sum() == pytest.approx(1)
    assert found["nats below"].iloc[0] == 0


@pytest.mark.parametrize(
    ("spoil", "error", "message"),
    [
        (lambda b: b._replace(mask=b.mask & False), PosteriorError, "pattern 0: the mask hides everything"),
        (lambda b: b._replace(counts=b.counts - 1e6), PosteriorError, r"counts = -.* at point \(\d+,\) of pattern 0"),
        (lambda b: b._replace(counts=b.counts * torch.nan), PosteriorError, "counts = nan .*mask such points"),
        (lambda b: b._replace(photons=b.photons * 0), PosteriorError, "photons = 0 .*a finite number above 0"),
        (lambda b: PatternBatch(b.u, *(field[:, :20] for field in b[1:])), ConfigError, r"shape \(20,\): this flow"),
    ],
)
def test_patterns_that_nobody_can_have_measured_are_refused(run, flow, spoil, error, message):
    pattern, _ = example_pattern(run, "saxs", flow)
    with pytest.raises(error, match=message):
        infer(run, "saxs", flow, spoil(pattern))


def test_twins_of_a_spheroid_are_two_peaks():
    """Few photons: oblate and prolate of like radius of gyration explain them equally well."""
    simulator, pattern = with_truth(2, [2.0, 3.2, 2.0, 1e-3])
    starts = torch.cat(
        [
            simulator.draw(24, np.random.default_rng(0)).u[:, :2] * 0 + half
            for half in (torch.tensor([2.2, 3.0]), torch.tensor([3.6, 2.4]))
        ]
    )
    rest = torch.tensor([2.0, 1e-3]).expand(len(starts), 2)
    found = peaks(simulator, pattern, torch.cat([starts, rest], 1)[:, None])
    oblate = found.u[:, 0] < found.u[:, 1]
    assert len(found.u) == 2
    assert sorted(oblate.tolist()) == [False, True]
    assert found.share.tolist() == pytest.approx([0.5, 0.5])
    assert found.u[oblate, :2].squeeze().tolist() == pytest.approx([2.0, 3.2], rel=0.1)
    assert found.below[1] > found.below[0] == 0


def test_measured_curves_come_in_by_their_file(run, flow, tmp_path):
    q = np.geomspace(0.1, 3.0, 300)
    intensity = 10 / (1 + q**2) ** 2 + 0.01
    path = tmp_path / "curve.dat"
    np.savetxt(path, np.stack([q, intensity, 0.03 * intensity], 1), header="q [1/nm] I sigma")
    config = run.config.changed({"scattering.saxs.file.path": str(path)})
    measured = example_pattern(type(run)(run.folder, config, "cpu"), "saxs", flow)
    assert measured.pattern.counts.shape == (1, 32)
    assert torch.isnan(measured.pattern.u).all()
    assert flow.sample(measured.pattern, 5).isfinite().all()
    config = run.config.changed({"scattering.saxs.file.path": str(path), "scattering.saxs.file.q_unit": "1/A"})
    with pytest.raises(CurveError, match="q_unit"):
        example_pattern(type(run)(run.folder, config, "cpu"), "saxs", flow)
    config = run.config.changed({"scattering.saxs.file.path": str(path), "scattering.saxs.file.entry": "rear"})
    with pytest.raises(CurveError, match="entry = 'rear': text has one curve"):
        example_pattern(type(run)(run.folder, config, "cpu"), "saxs", flow)


def test_the_experiment_compares_every_way_with_chains(run):
    table = compare_losses(run, "saxs")
    assert list(table["case"].unique()) == ["familiar", "polydisperse"]
    names = [REFERENCE, "likelihood", "likelihood and physics", WEIGHTED, ADAPTED]
    assert list(table["method"]) == 2 * names
    assert table[["coverage_90", "p_value"]].stack().between(0, 1).all()
    assert (table["c2st"].isna() == (table["method"] == REFERENCE)).all()
    assert table.set_index("method")["n"].to_dict() == {
        name: 1 if name in (REFERENCE, ADAPTED) else 4 for name in names
    }


def check_all(changes):
    config = load_config("test").changed(changes)
    check_posteriors(config), check_losses(config)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"scattering.saxs.inference.truth": {"radius": 1.0}}, "no 'radius'; did you mean 'radius_polar'"),
        ({"scattering.saxs.file.path": "/nowhere/curve.dat"}, "no such file"),
        ({"scattering.saxs.data.sizes": [5.0, 1.0]}, "expected two finite numbers above 0 in rising order"),
        ({"scattering.saxs.data.growth": [2.0, 0.0]}, r"scattering.saxs.data: growth = \(2.0, 0.0\): .* rising order"),
        ({"scattering.saxs.data.spread": [0.1, 3.0]}, "scattering.saxs.data: width of a spread: expected 0 to 1"),
        ({"scattering.gisaxs.data.incidence_deg": [-0.1, 0.2]}, "scattering.gisaxs.data: grazing angles: expected"),
        ({"scattering.gisaxs.data.thickness": [-5.0, 20.0]}, "scattering.gisaxs.data: thickness has values"),
        ({"scattering.gisaxs.data.roughness": [-1.0, 2.0]}, "scattering.gisaxs.data: roughness has values"),
        ({"scattering.gisaxs.data.particle": [5e-5, -5e-6]}, r"gisaxs.data.particle.1 = -5e-06: .* equal to 0"),
        ({"scattering.gisaxs.data.layer": [5e-5, -5e-6]}, r"gisaxs.data.layer.1 = -5e-06: .* equal to 0"),
        ({"scattering.gisaxs.data.pixels": [1, 1]}, "gisaxs.*: expected .*1.* or more"),
        ({"scattering.oriented.models": {"nsf": {"options": {"widht": 3}}}}, "scattering.oriented: .* mean 'width'"),
        ({"scattering.saxs.inference.n_draws": 241}, "inference, n_draws and chains: n = 241: expected 1 to 240"),
        ({"scattering.oriented.inference.chains.n_walkers": 13}, "oriented.inference, .* n_walkers = 13: expected 14"),
        ({"scattering.saxs.inference.truth": {"forward": 1e3}}, "truth.forward = 1000.0: expected 0.1 to 100.0, the"),
        ({"scattering.saxs.inference.truth": {"forward": math.nan}}, "truth.forward = nan: input should be a finite"),
        ({"scattering.saxs.losses.cases": {"a": {"sise": [1.0, 2.0]}}}, "unknown key 'sise'; did you mean 'sizes'"),
        ({"scattering.saxs.losses.cases": {"a": {"spread": [0.1, 3.0]}}}, "saxs.losses: width of a spread: expected"),
        ({"scattering.saxs.losses.flows": {"physics": {}}}, "expected a flow 'likelihood'"),
        ({"scattering.saxs.scoring.n_draws": 241}, "losses, scoring.n_draws and inference.chains: n = 241: expected"),
    ],
)
def test_what_cannot_be_is_reported_before_a_run(changes, message):
    with pytest.raises(ConfigError, match=message):
        check_all(changes)


def test_unknown_kinds_and_missing_flows_are_named(run):
    with pytest.raises(ConfigError, match="no kind of posterior 'sax'; did you mean 'saxs'"):
        section_of(run.config, "sax")
    config = run.config.changed({"scattering.saxs.models": {}})
    with pytest.raises(ConfigError, match="models lists no flow; give weights"):
        open_flow(type(run)(run.folder, config, "cpu"), "saxs")


def test_a_flow_draws_the_same_after_its_way_through_a_file(run, flow, shipped):
    again, card = load_weights(shipped, POSTERIORS)
    batch = flow.simulator.draw(10, np.random.default_rng(0))
    assert torch.allclose(flow.log_prob(batch), again.log_prob(batch), atol=0.05)
    assert not torch.equal(flow.log_prob(batch), again.log_prob(batch))  # stored in half precision
    assert inverse_error(again, batch) < 1e-4
    assert (card.experiment, card.data) == ("saxs", run.config.scattering.saxs.data)
    assert again.simulator.q.tolist() == flow.simulator.q.tolist()
    assert shipped.name == "nsf_saxs.safetensors"
    assert {"nll", "sbc_p", "tarp_p"} <= card.figures["new"].keys()


def test_a_run_uses_weights_without_training(run, shipped, tmp_path):
    named = [f"scattering.saxs.inference.weights={shipped}", "scattering.saxs.models={}"]
    other = open_run(tmp_path, "test", named, device="cpu")
    score_flow(other, "saxs", open_flow(other, "saxs"))
    assert not (tmp_path / "checkpoints").exists()
    assert (tmp_path / "arrays" / "calibration_saxs_nsf_saxs.npz").is_file()


def test_weights_answer_for_no_other_patterns_than_they_know(run, shipped, tmp_path):
    named = {"scattering.saxs.inference.weights": str(shipped), "scattering.saxs.data.sizes": [1.0, 30.0]}
    other = type(run)(tmp_path, run.config.changed(named), "cpu")
    for ask in (lambda: check_posteriors(other.config), lambda: open_flow(other, "saxs")):
        with pytest.raises(ConfigError, match=r"saxs.data.sizes = \(1.0, 30.0\): the weights .* with \(1.0, 10.0\)"):
            ask()


@pytest.mark.parametrize("name", ["quick", "paper", "weights"])
def test_shipped_configurations_name_the_patterns_of_their_weights(name):
    check_posteriors(load_config(name))


def test_the_command_of_notebook_35_trains_for_particles_of_different_sizes():
    (path,) = NOTEBOOKS.glob("35_*.ipynb")
    text = "\n".join(cell.source for cell in nbformat.read(path, as_version=4).cells)
    (command,) = re.findall("^rephase run .*data.spread.*$", text, re.MULTILINE)
    config = load_config("quick", shlex.split(command)[5::2])
    check_posteriors(config)
    assert config.scattering.saxs.inference.weights is None
    assert simulator_of(config.scattering.saxs, "saxs").names == ("radius", "forward", "background", "spread")
    assert config.scattering.saxs.models


def test_the_command_of_a_card_trains_the_same(run, shipped):
    words = shlex.split(load_weights(shipped, POSTERIORS).card.command)
    assert words[:4] == ["rephase", "run", "--only", "31"]
    again, own = load_config("quick", words[5::2]).scattering.saxs, run.config.scattering.saxs
    assert (again.data, again.models, again.training) == (own.data, own.models, own.training)
    assert again.inference.weights is None


@pytest.mark.parametrize(
    ("kind", "experiment", "name"),
    [
        (POSTERIORS, "saxs", "nsf"),
        (POSTERIORS, "oriented", "nsf"),
        (POSTERIORS, "gisaxs", "nsf"),
        (IMAGE_POSTERIORS, "holography", "image_flow"),
        (IMAGE_POSTERIORS, "ptychography", "image_flow"),
    ],
)
def test_cards_of_every_experiment_come_back(run, kind, experiment, name):
    card = posterior_card(run, kind.card, experiment, name, notebook="31", judged_by={"n_draws"}, figures={})
    again = kind.card.model_validate_json(card.model_dump_json())
    assert again == card
    assert again.data == getattr(getattr(run.config, kind.card.laboratory), experiment).data
    assert again.name == f"{name}_{experiment}"


def test_cards_of_other_flows_are_refused(shipped, tmp_path):
    with pytest.raises(WeightsError, match="weights of a model of posteriors, expected one of images"):
        load_weights(shipped, IMAGES)
    card = load_weights(shipped, POSTERIORS).card
    simulator = SaxsSimulator(card.data)
    model = build_model(POSTERIOR_MODELS, "nsf", (32,), ModelConfig(options=card.options), simulator=simulator)
    path = save_weights(tmp_path / "wide.safetensors", model, card.model_copy(update={"options": {"width": 8}}))
    with pytest.raises(WeightsError, match="the card belongs to other weights"):
        load_weights(path, POSTERIORS)
    with pytest.raises(ValueError, match="did you mean 'saxs'"):
        ParameterCard.model_validate(card.model_dump() | {"experiment": "sax"})
    with pytest.raises(ValueError, match="data is a SaxsSimulation: expected a GisaxsSimulation for gisaxs"):
        ParameterCard.model_validate(card.model_dump() | {"experiment": "gisaxs"})


def test_the_shipped_flow_finds_directions_and_their_twins():
    """Needles, which a disc at right angles to them is a twin of: directions are right but for a quarter turn."""
    flow = load_weights("nsf_oriented", POSTERIORS).model
    phi = torch.arange(10.0, 180.0, 20.0)
    u = torch.tensor([2.0, 8.0, 80.0, 0.0, 50.0, 0.01]).repeat(len(phi), 1)
    u[:, flow.simulator.names.index("phi")] = phi
    pattern = pattern_of(flow.simulator, u, np.random.default_rng(0))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        off = (flow.sample(pattern, 400)[..., 3] - phi) % 180
    beside_axes = torch.minimum(off % 90, 90 - off % 90)
    assert (beside_axes.median(0).values < 8).all()
    is_needle = (off < 20) | (off > 160)
    assert (is_needle.float().mean(0) > 0.1).all()
