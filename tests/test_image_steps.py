"""The steps of the notebooks on diffraction images: data, baselines, trainings, experiments, figures."""

import pandas as pd
import pytest

from rephase.config import load_config, load_sweep
from rephase.errors import ConfigError
from rephase.figures import draw
from rephase.labs.images.data.droplet_labels import LABELS
from rephase.labs.images.models.baselines import IMAGE_BASELINES
from rephase.labs.images.scores import CLASSIFICATION_METRICS
from rephase.labs.images.steps import (
    build_images,
    check_experiments,
    describe_images,
    experiment_points,
    labels_not_judged,
    run_experiment,
    score_baselines,
    score_hits,
    summary,
    train_and_score,
    train_and_score_all,
)
from rephase.runs import COLUMNS, open_run
from rephase.sweeps import sweep_points


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run that has scored the baselines and the smallest ResNet."""
    run = open_run(tmp_path_factory.mktemp("images"), "test", device="cpu")
    data = build_images(run)
    score_baselines(run, data)
    train_and_score(run, data, "resnet18")
    return run


@pytest.fixture(scope="module")
def data(run):
    return build_images(run)


def test_every_image_is_counted_beside_the_measured_frequencies(run, data):
    table = describe_images(run, data)
    assert table["label"].tolist() == list(LABELS)
    assert (table[["train", "validation", "test"]].sum(axis=1) == data.labels.sum(0).numpy()).all()
    assert table.set_index("label")["measured (%)"]["empty"] == pytest.approx(100 * 211 / 7264, abs=0.01)


def test_scores_are_tidy_and_name_every_label_that_occurs(run, data):
    assert set(summary(run).index.get_level_values("model")) == {"resnet18", *IMAGE_BASELINES}
    assert list(summary(run).columns) == list(CLASSIFICATION_METRICS)
    per_label = summary(run, metric="average_precision")
    assert set(per_label.columns) == set(LABELS) - set(labels_not_judged(data))
    run.write_results()
    written = pd.read_csv(run.folder / "results.csv")
    assert list(written.columns) == COLUMNS
    assert set(written["experiment"]) == {"images"}


def test_always_the_most_common_labels_matches_the_images_that_have_them(run, data):
    test = data.labels[data.splits["test"]]
    common, counts = data.labels[data.splits["train"]].unique(dim=0, return_counts=True)
    share = (test == common[counts.argmax()]).all(1).double().mean()
    assert summary(run).loc[("most_common", "test"), "exact_match"] == pytest.approx(float(share), abs=1e-3)


def test_a_classifier_that_is_not_listed_is_left_out_and_says_so(run, data):
    left_out = train_and_score(run, data, "vgg19")["left out"]
    assert left_out.tolist() == ["not in images.models of this configuration"]


def test_every_network_of_a_configuration_is_trained_whatever_its_name(tmp_path):
    models = "images.models={resnet34: {options: {width: 2}}, vgg19: {options: {width: 2}}}"
    run = open_run(tmp_path, "test", [models, "images.experiments={}", "images.data.size=32"], device="cpu")
    scored = train_and_score_all(run, build_images(run))
    assert scored.index.get_level_values("model").tolist() == ["resnet34", "vgg19"]
    curves = draw(run, "image_loss_curves").axes[0]
    assert {"ResNet-34", "VGG-19"} <= {line.get_label() for line in curves.lines}


def test_who_calls_every_shot_wanted_finds_all_with_the_precision_of_their_share(tmp_path):
    overrides = ["images.data={kind: single_particles, n_samples: 60, size: 32, hit_rate: 0.4, wanted: phage}"]
    run = open_run(tmp_path, "test", [*overrides, "images.experiments={}"], device="cpu")
    data = build_images(run)
    score_baselines(run, data)
    share = float(data.labels[data.splits["test"]][:, data.label_names.index("phage")].double().mean())
    found = score_hits(run).loc["frequencies"]
    assert found.tolist() == pytest.approx([2 * share / (1 + share), share, 1], abs=1e-3)


def test_hits_are_scored_of_single_particles_only(run):
    assert score_hits(run)["left out"].tolist() == ["images.data.kind = droplets: applies to single particles only"]


def test_an_experiment_trains_every_combination_once(run):
    before = {path.name for path in run.checkpoints("images").iterdir()}
    table = run_experiment(run, "noise")
    assert table.index.names == ["model", "gaussian", "input"]
    assert table.index.tolist() == [
        ("resnet18", 0.0, "image"),
        ("resnet18", 0.0, "correlation"),
        *((baseline, "any", "any") for baseline in IMAGE_BASELINES),
    ]
    after = {path.name for path in run.checkpoints("images").iterdir()}
    assert len(after - before) == 1  # the plain image had been trained
    alone = summary(run)
    for row, name in ((("resnet18", 0.0, "image"), "resnet18"), (("most_common", "any", "any"), "most_common")):
        pd.testing.assert_series_equal(table.loc[row], alone.loc[(name, "test")], check_names=False)


@pytest.mark.parametrize("name", ["image_labels", "image_models", "image_noise"])
def test_a_sweep_of_images_trains_its_networks_and_nothing_beside(name):
    sweep, _ = load_sweep(name)
    for point in sweep_points(sweep):
        images = load_config(sweep.base, sweep.overrides).changed(point).images
        assert images.models
        assert not images.experiments


def test_fewer_labels_leave_fewer_training_images(run):
    run_experiment(run, "labels")
    table = run.table("image_experiment_labels")
    assert table["label_fraction"].unique().tolist() == [0.5, 1.0]
    assert set(table["metric"]) == set(CLASSIFICATION_METRICS)


def test_figures_of_images_are_drawn(run, data):
    describe_images(run, data)
    run_experiment(run, "noise")
    assert [text.get_text() for text in draw(run, "image_labels").axes[0].get_legend().get_texts()] == [
        "this run",
        "measured, 7,264 images",
    ]
    drawn = [ax for ax in draw(run, "image_examples").axes if ax.images]
    assert len({ax.get_title() for ax in drawn}) == len(drawn) > 5
    assert len(draw(run, "image_correlations").axes) == 7
    assert len(draw(run, "image_loss_curves").axes) == 1
    assert [line.get_label() for line in draw(run, "image_scores").axes[0].lines] == ["ResNet-18"]
    assert [line.get_label() for line in draw(run, "image_calibration").axes[0].lines] == ["calibrated", "ResNet-18"]
    experiments = {ax.get_title(): ax for ax in draw(run, "image_experiments").axes}
    floor, *lines = experiments["noise"].lines
    assert [line.get_label() for line in lines] == ["image", "correlation map"]
    assert floor.get_ydata()[0] == pytest.approx(summary(run).loc[("frequencies", "test"), "macro_f1"], abs=1e-3)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("images.experiments={labels: {data.label_fracton: [0.5]}}", "did you mean 'label_fraction'"),
        ("images.experiments={sizes: {data.size: [32, 64]}}", "would need another dataset"),
        ("images.models={}", "expected a model in images.models"),
    ],
)
def test_wrong_experiments_are_refused(override, message):
    with pytest.raises(ConfigError, match=message):
        check_experiments(load_config("test", [override]))


def test_an_experiment_that_is_not_listed_is_left_out_and_says_so(run):
    left_out = run_experiment(run, "orientations")["left out"]
    assert left_out.tolist() == ["not in images.experiments of this configuration"]


def test_without_an_experiment_the_figure_says_so(tmp_path):
    overrides = ["images.data={kind: single_particles, n_samples: 20, size: 32}", "images.experiments={}"]
    run = open_run(tmp_path, "test", overrides, device="cpu")
    score_baselines(run, build_images(run))
    run_experiment(run, "scales")
    (ax,) = draw(run, "image_experiments").axes
    assert [text.get_text() for text in ax.texts] == ["No experiment of images.experiments was run."]


def test_unknown_experiment():
    with pytest.raises(ConfigError, match="did you mean 'noise'"):
        experiment_points(load_config("test"), "nois")
