"""Sums of stored counts against the scores of the same pass."""

import json

import numpy as np
import pytest
import torch

from polyscale.metrics import Scores
from polyscale.report import read_evaluation
from polyscale.report.arithmetic import (
    Marginals,
    bootstrap,
    calibration_error,
    class_iou,
    coverage_precision,
    interval,
    marginals,
    mean_iou,
    off_diagonal,
    reliability,
    temperature,
)


def test_marginals_give_the_scores_of_the_evaluation(evaluated):
    stored = read_evaluation(evaluated)
    rows, classes = stored.about["rows"], stored.about["classes"]
    found = marginals(stored.counts, len(rows), len(classes))
    total = Marginals(*(array.sum(0) for array in found))
    for k, row in enumerate(rows):
        if row in stored.scores["rows"]:
            scores = stored.scores["rows"][row]
            assert mean_iou(total)[k] == pytest.approx(scores["mean_iou"])
            expected = [entry["iou"] for entry in scores["per_class"].values()]
            assert np.nan_to_num(class_iou(total)[k], nan=-1) == pytest.approx(
                [-1 if x is None else x for x in expected]
            )


def test_calibration_is_that_of_the_evaluation(evaluated):
    stored = read_evaluation(evaluated)
    bins = stored.counts["reliability"][0]
    expected = stored.scores["rows"]["fused"]["expected_calibration_error"]
    assert calibration_error(bins, stored.about["fixed_point"]) == pytest.approx(expected)
    points = reliability(bins, stored.about["fixed_point"])
    assert (points.pixels * abs(points.confidence - points.accuracy)).sum() / points.pixels.sum() == pytest.approx(
        expected
    )
    assert calibration_error(np.zeros((3, 5), int), 10) is None


def test_a_class_that_is_nowhere_is_left_out():
    found = Marginals(*(np.array(values) for values in ([3, 0, 0], [4, 0, 2], [3, 0, 1])))
    assert np.nan_to_num(class_iou(found), nan=-1) == pytest.approx([0.75, -1, 0])
    assert mean_iou(found) == pytest.approx(0.375)
    scores = Scores.from_counts("abc", torch.tensor([[3, 0, 1], [0, 0, 0], [0, 0, 0]]))
    again = Marginals(np.array([3, 0, 0]), np.array([4, 0, 0]), np.array([3, 0, 1]))
    assert mean_iou(again) == pytest.approx(scores.mean_iou)
    assert np.isnan(mean_iou(Marginals(*(np.zeros(2, int),) * 3)))


def test_resampling_is_fair_and_the_same_each_time():
    rng = np.random.default_rng(1)
    true = rng.integers(50, 100, (40, 1, 3)).repeat(2, 1)
    right = (true * np.array([0.6, 0.7])[None, :, None]).astype(int)
    found = Marginals(right, true, true)
    draws = bootstrap(found)
    assert draws.shape == (1000, 2)
    np.testing.assert_array_equal(draws, bootstrap(found))
    total = mean_iou(Marginals(*(array.sum(0) for array in found)))
    assert draws.mean(0) == pytest.approx(total, abs=2e-3)
    better = interval(float(total[1] - total[0]), draws[:, 1] - draws[:, 0])
    assert better.low < better.value < better.high
    assert not better.level
    same = interval(0.0, draws[:, 0] - draws[::-1, 0])
    assert same.level


def test_coverage_falls_and_precision_is_of_what_is_kept():
    levels = np.array([[0, 0], [4, 4], [0, 0], [1, 9]])  # wrong, right
    found = coverage_precision(levels)
    assert found.threshold.tolist() == [0.25, 0.75]
    assert found.coverage.tolist() == pytest.approx([1, 10 / 18])
    assert found.precision.tolist() == pytest.approx([13 / 18, 0.9])


def test_one_temperature_mends_what_is_too_sure():
    temperatures, fixed = [0.5, 1.0, 2.0], 100
    bins = np.zeros((2, 3, 3, 4), int)
    for half in range(2):
        bins[half, :, 0, 2], bins[half, :, 1, 2] = 100, 60
        bins[half, :, 2, 2] = [9900, 9000, 6100]
    loss = np.array([[30, 20, 10], [33, 22, 11]])
    found = temperature({"temperature": bins, "log_loss": loss}, temperatures, fixed)
    assert (found.temperature, found.before, found.after) == (2.0, pytest.approx(0.3), pytest.approx(0.01))
    bins[1] = 0
    assert temperature({"temperature": bins, "log_loss": loss}, temperatures, fixed) is None


def test_the_largest_mistakes():
    matrix = np.array([[90, 10, 0], [30, 70, 0], [0, 0, 5]])
    assert off_diagonal(matrix, 5) == [(1, 0, 30, 0.3), (0, 1, 10, 0.1)]


def test_counts_are_plain_numbers(evaluated):
    stored = read_evaluation(evaluated)
    assert json.dumps(stored.about)
    assert all(array.dtype.kind in "iu" for array in stored.counts.values())
