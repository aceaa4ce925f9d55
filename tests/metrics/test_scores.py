"""Scores by hand, against torchmetrics, and the silent errors that a table of scores can hide."""

import json
import math

import pytest
import torch
from torchmetrics.functional.classification import (
    multiclass_accuracy,
    multiclass_f1_score,
    multiclass_jaccard_index,
    multiclass_precision,
    multiclass_recall,
)

from polyscale.labels import IGNORE
from polyscale.metrics import Scores, confusion_matrix


def scores_of(matrix):
    matrix = torch.tensor(matrix)
    return Scores.from_counts([f"class {k}" for k in range(len(matrix))], matrix)


def test_false_positives_and_negatives_are_not_swapped():
    # Class 1: 6 pixels found, 2 missed (predicted 0), 12 invented (truth 0).
    scores = scores_of([[80, 12], [2, 6]])
    assert scores.precision == (80 / 82, 6 / 18)
    assert scores.recall == (80 / 92, 6 / 8)
    assert scores.iou == (80 / 94, 6 / 20)
    assert scores.f1 == (160 / 174, 12 / 26)
    assert scores.pixels == (92, 8)
    assert scores.pixel_accuracy == 0.86
    assert scores.mean_accuracy == pytest.approx((80 / 92 + 6 / 8) / 2, abs=1e-15)
    assert scores.mean_iou == pytest.approx((80 / 94 + 0.3) / 2, abs=1e-15)
    assert scores.frequency_weighted_iou == pytest.approx(0.92 * 80 / 94 + 0.08 * 0.3, abs=1e-15)


def test_mean_iou_is_the_data_sets_and_not_the_mean_of_the_images():
    # Class 1 is rare in the first image and missed there: that image's mean counts its one pixel like all the rest.
    first = (torch.tensor([[0, 0, 0, 0, 0]]), torch.tensor([[0, 0, 0, 0, 1]]))
    second = (torch.tensor([[1, 1, 1, 1, 0]]), torch.tensor([[1, 1, 1, 0, 0]]))
    matrices = [confusion_matrix(*image, 2) for image in (first, second)]
    assert Scores.from_counts("ab", sum(matrices)).mean_iou == (5 / 7 + 3 / 5) / 2
    per_image = [Scores.from_counts("ab", matrix).mean_iou for matrix in matrices]
    assert sum(per_image) / 2 == pytest.approx(((4 / 5 + 0) / 2 + (1 / 2 + 3 / 4) / 2) / 2)


def test_a_class_in_neither_truth_nor_prediction_is_left_out_and_said_so():
    scores = scores_of([[3, 1, 0, 0], [0, 4, 0, 0], [0, 0, 0, 0], [0, 2, 0, 0]])
    assert scores.absent == ("class 2",)
    assert scores.iou == (3 / 4, 4 / 7, None, 0)
    assert scores.mean_iou == pytest.approx((3 / 4 + 4 / 7 + 0) / 3, abs=1e-15)
    assert scores.precision[2:] == (None, None)
    assert scores.recall[2:] == (None, 0)
    assert scores.mean_accuracy == pytest.approx((3 / 4 + 1 + 0) / 3, abs=1e-15)


def test_a_class_that_is_only_predicted_counts():
    scores = scores_of([[8, 2], [0, 0]])
    assert scores.absent == ()
    assert scores.iou == (0.8, 0)
    assert scores.recall == (0.8, None)
    assert scores.mean_iou == 0.4
    assert scores.mean_accuracy == 0.8


@pytest.mark.parametrize("seed", [0, 1])
def test_equals_torchmetrics(seed):
    generator = torch.Generator().manual_seed(seed)
    prediction = torch.randint(0, 6, (4000,), generator=generator)
    labels = torch.where(torch.rand(4000, generator=generator) < 0.6, prediction, prediction.flip(0))
    labels[::9] = IGNORE
    scores = Scores.from_counts("abcdef", confusion_matrix(prediction, labels, 6))
    options = {"num_classes": 6, "ignore_index": IGNORE, "average": "none"}
    for ours, theirs in (
        (scores.iou, multiclass_jaccard_index),
        (scores.precision, multiclass_precision),
        (scores.recall, multiclass_recall),
        (scores.f1, multiclass_f1_score),
    ):
        assert torch.allclose(torch.tensor(ours), theirs(prediction, labels, **options), atol=1e-6)
    options["average"] = "macro"
    assert scores.mean_iou == pytest.approx(multiclass_jaccard_index(prediction, labels, **options).item(), abs=1e-6)
    assert scores.mean_f1 == pytest.approx(multiclass_f1_score(prediction, labels, **options).item(), abs=1e-6)
    options["average"] = "micro"
    assert scores.pixel_accuracy == pytest.approx(multiclass_accuracy(prediction, labels, **options).item(), abs=1e-6)


def test_json_has_fractions_and_null_and_no_nan():
    scores = scores_of([[3, 1, 0], [0, 4, 0], [0, 0, 0]])
    plain = json.loads(json.dumps(scores.to_json(), allow_nan=False))
    assert plain["mean_iou"] == scores.mean_iou < 1
    assert plain["per_class"]["class 2"] == {
        "pixels": 0, "iou": None, "precision": None, "recall": None, "f1": None, "boundary_iou": None
    }  # fmt: skip
    assert plain["absent"] == ["class 2"]
    assert plain["confusion"] == [[3, 1, 0], [0, 4, 0], [0, 0, 0]]
    assert plain["num_pixels"] == 8
    assert plain["mean_boundary_iou"] is plain["expected_calibration_error"] is plain["reliability"] is None


def test_nothing_but_ignored_pixels():
    scores = scores_of([[0, 0], [0, 0]])
    assert scores.mean_iou is scores.pixel_accuracy is scores.frequency_weighted_iou is None
    assert scores.absent == ("class 0", "class 1")
    json.dumps(scores.to_json(), allow_nan=False)


def test_counts_beyond_32_bits_stay_exact():
    scores = scores_of([[3 * 2**60, 2**60], [2**60, 2**60]])
    assert scores.iou == (3 / 5, 1 / 3)
    assert math.isclose(scores.pixel_accuracy, 2 / 3)


def test_a_matrix_of_another_size_is_refused():
    with pytest.raises(ValueError, match="confusion matrix of 2 classes"):
        Scores.from_counts("ab", torch.zeros(3, 3, dtype=torch.int64))
