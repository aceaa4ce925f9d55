"""Sums of stored counts against the scores of the same pass."""

import json

import numpy as np
import pytest

from polyscale.intervals import Marginals, class_iou, mean_iou
from polyscale.report import read_evaluation
from polyscale.report.arithmetic import (
    calibration_error,
    coverage_precision,
    marginals,
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
