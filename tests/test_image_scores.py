"""Scores of labels against values worked out by hand; thresholds; what needs no image."""

import math

import pandas as pd
import pytest
import torch
from torchmetrics.functional import classification as reference

from rephase.labs.images.data.batch import ImageBatch
from rephase.labs.images.models.baselines import IMAGE_BASELINES
from rephase.labs.images.scores import CLASSIFICATION_METRICS, LABEL_METRICS, Classified, absent_labels, best_thresholds
from rephase.paths import ROOT

HALF = torch.full((3,), 0.5)


def one_label(probability, truth):
    """A single label of several samples."""
    return torch.tensor(probability)[:, None], torch.tensor(truth, dtype=torch.bool)[:, None]


def score(name, probability, truth, threshold=0.5):
    return LABEL_METRICS[name].function(Classified(*one_label(probability, truth), torch.tensor([threshold]))).item()


@pytest.fixture
def judged():
    """Label 0: two found, one missed, one wrong, one rightly not given. 1: never there, once given. 2: perfect."""
    probability = torch.tensor([[0.9, 0.1, 0.8], [0.8, 0.7, 0.2], [0.3, 0.1, 0.1], [0.6, 0.2, 0.9], [0.1, 0.1, 0.4]])
    truth = torch.tensor([[1, 0, 1], [1, 0, 0], [1, 0, 0], [0, 0, 1], [0, 0, 0]], dtype=torch.bool)
    return Classified(probability, truth, HALF)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("f1", [2 / 3, 0, 1]),
        ("precision", [2 / 3, 0, 1]),
        ("recall", [2 / 3, 0, 1]),
        ("mcc", [(2 * 1 - 1 * 1) / math.sqrt(3 * 3 * 2 * 2), 0, 1]),
        ("average_precision", [(1 + 1 + 3 / 4) / 3, 0, 1]),
        ("ece", [(0.1 + 0.2 + 0.7 + 0.6 + 0.1) / 5, 1.2 / 5, (0.2 + 0.2 + 0.1 + 0.1 + 0.4) / 5]),
    ],
)
def test_each_label(judged, name, expected):
    assert LABEL_METRICS[name].function(judged).tolist() == pytest.approx(expected)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("macro_f1", (2 / 3 + 1) / 2),
        ("macro_mcc", (1 / 6 + 1) / 2),
        ("mean_average_precision", (11 / 12 + 1) / 2),
        ("macro_ece", (1.7 / 5 + 1.0 / 5) / 2),
        ("exact_match", 2 / 5),
        ("elementwise_accuracy", 12 / 15),
    ],
)
def test_the_whole_set_without_the_label_that_does_not_occur(judged, name, expected):
    assert CLASSIFICATION_METRICS[name].function(judged).item() == pytest.approx(expected)


def test_labels_that_do_not_occur_are_named(judged):
    assert absent_labels(judged.truth, ("oblate", "layered", "empty")) == ("layered",)
    with pytest.raises(ValueError, match="zip"):
        absent_labels(judged.truth, ("oblate", "layered"))


def test_where_no_label_occurs_no_mean_is_given():
    nothing = Classified(torch.rand(4, 2), torch.zeros(4, 2, dtype=torch.bool), torch.full((2,), 0.5))
    assert math.isnan(CLASSIFICATION_METRICS["macro_f1"].function(nothing))


def test_equal_probabilities_are_found_together():
    """Three equal ones, one of them right: in whichever order, the precision is that of all three."""
    for truth in ([1, 0, 0, 1], [0, 0, 1, 1]):
        assert score("average_precision", [0.5, 0.5, 0.5, 0.2], truth) == pytest.approx((1 / 3 + 2 / 4) / 2)


def test_calibration_cancels_within_a_bin_alone():
    assert score("ece", [0.26, 0.26, 0.26, 0.26], [1, 0, 0, 0]) == pytest.approx(0.01, abs=1e-6)
    assert score("ece", [0.0, 1.0], [1, 0]) == pytest.approx(1)
    assert score("ece", [0.0, 1.0], [0, 1]) == 0


def test_scores_of_ranks_and_of_answers_differ():
    """A perfect order with thresholds that are wrong: average precision sees the first, F1 and MCC the second."""
    assert score("average_precision", [0.4, 0.3, 0.2], [1, 1, 0]) == 1
    assert score("f1", [0.4, 0.3, 0.2], [1, 1, 0]) == 0
    assert score("mcc", [0.4, 0.3, 0.2], [1, 1, 0]) == 0
    assert score("mcc", [0.4, 0.3, 0.2], [0, 0, 1], threshold=0.25) == pytest.approx(-1)


@pytest.mark.parametrize(
    ("probability", "truth", "expected"),
    [
        ([0.9, 0.8, 0.3, 0.1], [1, 1, 0, 0], 0.55),
        ([0.9, 0.8, 0.3, 0.1], [1, 0, 1, 0], 0.2),  # F1 is 0.8 with three given, 2/3 with one
        ([0.9, 0.8, 0.3, 0.1], [1, 1, 1, 1], 0.05),
        ([0.2, 0.2, 0.2, 0.2], [1, 0, 0, 0], 0.1),  # they cannot be distinguished: all are given
        ([0.9, 0.8, 0.3, 0.1], [0, 0, 0, 0], 0.5),
        ([0.7, 0.0, 0.0, 0.0], [0, 1, 0, 1], 0.0),
        ([1.0, 0.0, 0.0, 0.0], [0, 1, 0, 1], 0.5),  # decided already
    ],
)
def test_thresholds_have_the_largest_f1(probability, truth, expected):
    assert best_thresholds(*one_label(probability, truth)).item() == pytest.approx(expected)


def test_no_other_threshold_has_a_larger_f1():
    generator = torch.Generator().manual_seed(0)
    truth = torch.rand(80, 4, generator=generator) < torch.tensor([0.05, 0.2, 0.5, 0.9])
    probability = (0.3 * truth + torch.rand(80, 4, generator=generator)).div(1.3).mul(20).round() / 20
    best = best_thresholds(probability, truth)
    f1 = [
        LABEL_METRICS["f1"].function(Classified(probability, truth, threshold))
        for threshold in (best, *torch.linspace(0, 1, 101)[:, None].expand(-1, 4))
    ]
    assert torch.equal(torch.stack(f1).amax(0), f1[0])


@pytest.fixture(scope="module")
def real_labels():
    path = ROOT.parent / "shared" / "measured" / "droplet_label_counts.csv"
    if not path.is_file():
        pytest.skip("the counts of the real labels are not here")
    rows = torch.tensor(pd.read_csv(path).to_numpy())
    return rows[:, :-1].repeat_interleave(rows[:, -1], dim=0).float()


def baseline(name, labels):
    batch = ImageBatch(torch.zeros(len(labels), 2, 2), torch.ones(len(labels), 2, 2, dtype=torch.bool), labels)
    return IMAGE_BASELINES[name](labels).predict(batch)


def test_the_most_common_answer_scores_on_the_real_labels_what_is_known_of_it(real_labels):
    """93.3 % of the single answers and 73.0 % of the images right, and yet nothing is seen."""
    probability, truth = baseline("most_common", real_labels), real_labels.bool()
    judged = Classified(probability, truth, torch.full((11,), 0.5))
    scores = {name: metric.function(judged).item() for name, metric in CLASSIFICATION_METRICS.items()}
    assert scores["elementwise_accuracy"] == pytest.approx(0.933, abs=5e-4)
    assert scores["exact_match"] == pytest.approx(0.730, abs=5e-4)
    assert scores["macro_mcc"] == 0
    assert scores["macro_f1"] < 0.2


def test_frequencies_are_calibrated_and_cannot_order(real_labels):
    probability, truth = baseline("frequencies", real_labels), real_labels.bool()
    judged = Classified(probability, truth, best_thresholds(probability, truth))
    share = truth.double().mean(0)
    assert torch.allclose(LABEL_METRICS["average_precision"].function(judged), share)
    assert torch.allclose(LABEL_METRICS["f1"].function(judged), 2 * share / (1 + share))
    assert CLASSIFICATION_METRICS["macro_ece"].function(judged) < 1e-5
    assert CLASSIFICATION_METRICS["macro_mcc"].function(judged) == 0


def test_torchmetrics_has_the_same_scores():
    generator = torch.Generator().manual_seed(0)
    truth = torch.rand(200, 5, generator=generator) < torch.tensor([0.02, 0.1, 0.4, 0.7, 0.95])
    probability = (0.2 * truth + torch.rand(200, 5, generator=generator)).div(1.2).mul(30).floor() / 30 + 0.01
    judged = Classified(probability, truth, torch.full((5,), 0.45))
    expected = {
        "f1": lambda p, t: reference.binary_f1_score(p, t, threshold=0.45),
        "precision": lambda p, t: reference.binary_precision(p, t, threshold=0.45),
        "recall": lambda p, t: reference.binary_recall(p, t, threshold=0.45),
        "mcc": lambda p, t: reference.binary_matthews_corrcoef(p, t, threshold=0.45),
        "average_precision": reference.binary_average_precision,
    }
    for name, function in expected.items():
        columns = [function(p, t.long()).item() for p, t in zip(probability.T, truth.T)]
        assert LABEL_METRICS[name].function(judged).tolist() == pytest.approx(columns, abs=1e-6), name


def test_every_score_has_a_direction():
    for metric in (*LABEL_METRICS.values(), *CLASSIFICATION_METRICS.values()):
        assert metric.better in ("lower", "higher")
