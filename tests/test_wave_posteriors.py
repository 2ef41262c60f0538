"""The steps of the notebooks on posteriors of images: samples, calibration, opponents, a measured scan, figures."""

import shlex

import h5py
import numpy as np
import pytest
import torch

from rephase.config import load_config
from rephase.devices import WORK
from rephase.errors import ConfigError, ImageError, WeightsError
from rephase.figures import draw
from rephase.formats.cxi import JOULE_PER_EV
from rephase.labs.scattering.cards import POSTERIORS
from rephase.labs.waves.cards import IMAGE_POSTERIORS
from rephase.labs.waves.data.files import open_ptychography
from rephase.labs.waves.scores import align_wave, wave_error
from rephase.labs.waves.steps import (
    WAVE_METRICS,
    ImagePosteriors,
    build_patterns,
    check_waves,
    draw_posteriors,
    measure_calibration,
    open_flow,
    reconstruct_measured,
    routes,
    scan_of,
    score_routes,
)
from rephase.learning.weights import load_weights, shipped_weights
from rephase.optics.propagation import FarField
from rephase.runs import COLUMNS, Run, open_run
from rephase.shipping import ship_weights

KINDS = ("holography", "ptychography")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return open_run(tmp_path_factory.mktemp("waves"), "test", device="cpu")


@pytest.fixture(scope="module", params=KINDS)
def kind(request):
    return request.param


@pytest.fixture(scope="module")
def made(run, kind):
    """Patterns, and the flow after an epoch."""
    data = build_patterns(run, kind)
    return data, open_flow(run, kind, data)


def test_samples_of_test_patterns_are_drawn_and_shown(run, kind, made):
    data, flow = made
    posteriors = draw_posteriors(run, kind, data, flow)
    assert posteriors.u.shape == (4, 4, *data.simulator.u_shape)
    assert torch.equal(posteriors.batch.u, data[data.splits["test"]].u)
    assert torch.equal(draw_posteriors(run, kind, data, flow).u, posteriors.u)
    measure_calibration(run, kind, data, posteriors)
    for name in ("posteriors", "calibration", "loss_curve"):
        assert draw(run, f"{kind}_{name}").axes


def test_draws_of_the_prior_cover_the_truth_and_explain_no_pattern(run, kind, made):
    data, _ = made
    batch = data[np.arange(40)]
    prior = data.draw(40 * 60, np.random.default_rng(9)).u.unflatten(0, (60, 40))
    table = measure_calibration(run, kind, data, ImagePosteriors(batch, prior))
    assert list(table.columns) == [0.5, 0.8, 0.9, "p < 0.05"]
    assert np.allclose(table.iloc[:, :3], [[0.5, 0.8, 0.9]] * len(table), atol=0.05)
    assert (table["p < 0.05"] > 0.9).all()
    results = run.table(f"wave_results_{kind}_calibration").set_index("metric")["value"]
    assert results["unexplained"] == pytest.approx(table["p < 0.05"].iloc[0], abs=1e-3)
    predictive = run.table(f"wave_predictive_{kind}")
    assert len(predictive) == 40
    assert 0.8 < predictive["deviance of the truth"].mean() < 1.2


def test_the_truth_as_posterior_explains_its_pattern_but_is_too_narrow(run, kind, made):
    data, _ = made
    batch = data[np.arange(40)]
    noise = 1e-4 * torch.randn(20, *batch.u.shape, generator=torch.Generator().manual_seed(0))
    table = measure_calibration(run, kind, data, ImagePosteriors(batch, batch.u + 1e-2 + noise))
    assert float(table.iloc[:, :3].to_numpy().max()) < 0.1
    table = measure_calibration(run, kind, data, ImagePosteriors(batch, batch.u + noise))
    assert (table["p < 0.05"] < 0.3).all()


def test_predictions_in_pieces_are_those_of_all_at_once(run, kind, made, monkeypatch):
    data, _ = made
    batch = data[np.arange(6)]
    whole, pieces = (predicted_deviance(run, kind, data, batch, monkeypatch, n) for n in (2**24, 1))
    assert whole.tolist() == pytest.approx(pieces.tolist())


def predicted_deviance(run, kind, data, batch, monkeypatch, n_pixels):
    monkeypatch.setitem(WORK, "predicted patterns", WORK["predicted patterns"]._replace(cpu=n_pixels))
    measure_calibration(run, kind, data, ImagePosteriors(batch, batch.u.expand(3, *batch.u.shape) + 1e-3))
    return run.table(f"wave_predictive_{kind}")["deviance"]


def test_every_route_is_scored_and_timed(run, kind, made):
    data, flow = made
    table = score_routes(run, kind, data, flow)
    own = run.table(f"wave_results_{kind}_routes")
    assert list(own.columns) == COLUMNS
    assert set(own["model"]) == {"estimate", "estimate_engine", "engine", "flow", "flow_engine"}
    expected = set(WAVE_METRICS) - ({"amplitude_ssim"} if kind == "holography" else set())
    assert set(own["metric"]) == expected
    assert np.isfinite(own["value"]).all()
    assert len(table)
    assert draw(run, f"{kind}_opponents").axes


def test_the_truth_is_kept_by_refinement_and_found_by_the_engine(run, kind, made):
    data, flow = made
    simulator = data.simulator
    batch = simulator.draw(2, np.random.default_rng(1))
    perfect = batch._replace(counts=batch.photons * simulator.intensity(batch.u) * batch.mask)
    true = simulator.wave(batch.u)
    kept = simulator.refine(perfect, true, n_iterations=5)
    assert torch.allclose(kept, true, atol=1e-3)
    weight = (simulator.illumination > 0.1).float()
    errors = [
        wave_error(align_wave(found, true, weight), true, weight)
        for found in (simulator.reconstruct(perfect, n_iterations=60), torch.ones_like(true))
    ]
    assert (errors[0] < 0.5 * errors[1]).all()
    config = run.config.waves.holography if kind == "holography" else run.config.waves.ptychography
    for route in routes(simulator, flow, config).values():
        assert route(batch).shape == true.shape


@pytest.fixture(scope="module")
def weights(run, kind, made, tmp_path_factory):
    """Path of the weights of the flow, its scores with them."""
    data, flow = made
    measure_calibration(run, kind, data, draw_posteriors(run, kind, data, flow))
    score_routes(run, kind, data, flow)
    paths = {path.stem: path for path in ship_weights(run, tmp_path_factory.mktemp("weights"))}
    return paths[f"image_flow_{kind}"]


@torch.no_grad()
def inverse_error(flow, batch):
    """Largest difference of normal noise from itself after it became images and came back."""
    noise, seen = (
        torch.randn(len(batch.u), flow.n_unknowns, generator=torch.Generator().manual_seed(0)),
        flow.look(batch),
    )
    return float((flow.to_noise(flow.to_image(noise, seen), seen)[0] - noise).abs().max())


def test_a_flow_of_images_draws_the_same_after_its_way_through_a_file(run, kind, made, weights):
    data, flow = made
    again, card = load_weights(weights, IMAGE_POSTERIORS)
    batch = data[np.arange(8)]
    before, after = (each.log_prob(batch) / each.n_unknowns for each in (flow, again))
    assert torch.allclose(before, after, atol=0.01)
    assert not torch.equal(before, after)  # stored in half precision
    assert inverse_error(again, batch) < 1e-4
    assert (card.experiment, card.data) == (kind, getattr(run.config.waves, kind).data)
    (channel, *_) = data.simulator.names
    assert {"wave_error", "phase_ssim", "deviance", "seconds", f"coverage_90 {channel}"} <= card.figures["test"].keys()


def test_a_run_uses_weights_of_images_without_training(run, kind, made, weights, tmp_path):
    own = Run(tmp_path, run.config.changed({f"waves.{kind}.inference.weights": str(weights)}), "cpu")
    check_waves(own.config)
    flow = open_flow(own, kind, made[0])
    batch, expected = made[0][np.arange(2)], load_weights(weights, IMAGE_POSTERIORS).model
    assert torch.equal(flow.log_prob(batch), expected.log_prob(batch))
    assert not (tmp_path / "checkpoints").exists()
    assert draw(own, f"{kind}_loss_curve").texts[0].get_text() == "weights are given: nothing was trained"


def test_the_command_of_a_card_of_images_trains_the_same(run, kind, weights):
    words = shlex.split(load_weights(weights, IMAGE_POSTERIORS).card.command)
    assert words[:4] == ["rephase", "run", "--only", {"holography": "34", "ptychography": "33"}[kind]]
    again, own = (getattr(config.waves, kind) for config in (load_config("quick", words[5::2]), run.config))
    assert (again.data, again.models, again.training) == (own.data, own.models, own.training)
    assert again.inference.weights is None


def test_weights_of_other_patterns_are_refused_before_anything_runs(run, kind, weights):
    changed = {f"waves.{kind}.inference.weights": str(weights)}
    other = "ptychography" if kind == "holography" else "holography"
    with pytest.raises(WeightsError, match=f"a flow of {kind}; name weights for {other}, or null"):
        check_waves(run.config.changed({f"waves.{other}.inference.weights": str(weights)}))
    with pytest.raises(
        ConfigError, match=rf"{kind}.data.size = 32: the weights .* were trained with 16; use that value"
    ):
        check_waves(run.config.changed(changed | {f"waves.{kind}.data.size": 32}))
    with pytest.raises(ConfigError, match="data.photons = .* were trained with"):
        check_waves(run.config.changed(changed | {f"waves.{kind}.data.photons": (10.0, 20.0)}))
    check_waves(run.config.changed(changed | {f"waves.{kind}.data.n_samples": 60}))
    with pytest.raises(WeightsError, match="weights of a model of image posteriors, expected one of posteriors"):
        load_weights(weights, POSTERIORS)


@pytest.mark.parametrize("name", shipped_weights(IMAGE_POSTERIORS))
def test_shipped_flows_of_images_come_back_and_beat_the_cheap_estimate(name):
    flow, card = load_weights(name, IMAGE_POSTERIORS)
    simulator = flow.simulator
    batch = simulator.draw(24, np.random.default_rng(77))
    assert inverse_error(flow, batch) < 1e-4
    torch.manual_seed(0)
    mean, true = simulator.wave(flow.sample(batch, 8)).mean(0), simulator.wave(batch.u)
    errors = [wave_error(align_wave(found, true), true).mean() for found in (mean, simulator.estimate(batch))]
    assert errors[0] < 0.7 * errors[1]
    assert 0.8 < card.figures["test"]["coverage_90 phase"] < 0.97


@pytest.fixture
def measured(tmp_path):
    """Writes a scan of 4 frames and gives its path."""

    def write(shape):
        path, detector = tmp_path / "scan.cxi", "entry_1/instrument_1/detector_1"
        places = 1e-6 * np.array([[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]])
        content = {
            "data": np.random.default_rng(0).poisson(5, (4, *shape)),
            "distance": 2.0,
            "x_pixel_size": 75e-6,
            "y_pixel_size": 75e-6,
        }
        with h5py.File(path, "w") as file:
            for name, value in content.items():
                file[f"{detector}/{name}"] = value
            file["entry_1/instrument_1/source_1/energy"] = 8000 * JOULE_PER_EV
            file["entry_1/sample_1/geometry_1/translation"] = places
        return path

    return write


@pytest.mark.parametrize("focus", [None, 20.0])
def test_a_measured_scan_is_reconstructed_and_drawn(run, tmp_path, measured, focus):
    changes = {"waves.ptychography.measured": {"path": str(measured((16, 16))), "focus_mm": focus, "n_epochs": 4}}
    own = Run(tmp_path, run.config.changed(changes), "cpu")
    table = reconstruct_measured(own)
    assert float(table["last epoch"].iloc[0]) < float(table["first epoch"].iloc[0])
    assert own.arrays("ptychography_measured")["misfit"].shape == (4,)
    assert len(draw(own, "ptychography_measured").axes) > 4


def test_without_a_measured_scan_this_is_said(run, tmp_path):
    own = Run(tmp_path, run.config, "cpu")
    with pytest.raises(FileNotFoundError):
        draw(own, "ptychography_measured")
    assert "left out" in reconstruct_measured(own)
    assert draw(own, "ptychography_measured").texts[0].get_text() == "no measured scan in this configuration"


def test_pixels_of_a_measured_object(measured):
    data = open_ptychography(measured((16, 16)))
    scan, pixel = scan_of(data, None)
    assert isinstance(scan.propagator, FarField)
    assert pixel == pytest.approx(0.15498 * 2e9 / (16 * 75e3), rel=1e-4)  # wavelength distance / field of the detector
    assert scan_of(data, 20.0)[1] == pytest.approx(75e3 * 20e6 / (20e6 + 2e9))  # demagnified
    with pytest.raises(ImageError, match="frames of 16 x 20 pixels: expected square"):
        scan_of(open_ptychography(measured((16, 20))), None)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"waves.holography.data.fresnel_numbers": (0.01,)}, "waves.holography.data: .*under-sampled"),
        ({"waves.holography.data.strengths": [0.0, 0.1]}, "strengths.0 = 0.0: input should be greater than 0"),
        ({"waves.ptychography.data.step": 9.0}, "waves.ptychography.data: .*outside of the object"),
        ({"waves.ptychography.data.amplitude": [-1.0, 0.4]}, "amplitude.0 = -1.0: input should be greater than"),
        ({"waves.ptychography.measured.path": "/nowhere/scan.cxi"}, "measured.path = /nowhere/scan.cxi: no such"),
        ({"waves.holography.models.image_flow.options": {"widht": 3}}, "did you mean 'width'"),
        ({"waves.ptychography.data.size": 22}, "set data.size to 16"),
        ({"waves.holography.models": {"nsf": {}}}, "nsf: expected image_flow"),
    ],
)
def test_what_cannot_be_is_reported_before_anything_runs(run, changes, said):
    with pytest.raises(ConfigError, match=said):
        check_waves(run.config.changed(changes))
