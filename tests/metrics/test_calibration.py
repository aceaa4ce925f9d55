"""Expected calibration error by hand and against torchmetrics."""

import pytest
import torch
from torchmetrics.functional.classification import multiclass_calibration_error

from polyscale.labels import IGNORE
from polyscale.metrics import FIXED_POINT, calibration_counts, expected_calibration_error, top_class


def test_by_hand():
    # Two bins: below a half nothing is right (confidence 0.25); above, two of three are (confidences 0.75, 0.5, 1).
    confidence = torch.tensor([0.25, 0.75, 0.5, 1.0, 0.9])
    prediction = torch.tensor([0, 1, 1, 0, 0])
    labels = torch.tensor([1, 1, 1, 1, IGNORE])
    counts = calibration_counts(confidence, prediction, labels, num_bins=2)
    assert counts.tolist() == [[1, 3], [0, 2], [FIXED_POINT // 4, 9 * FIXED_POINT // 4]]
    assert expected_calibration_error(counts) == pytest.approx(0.25 * 0.25 + 0.75 * (0.75 - 2 / 3), abs=1e-15)


@pytest.mark.parametrize("num_bins", [10, 15])
def test_equals_torchmetrics(num_bins):
    generator = torch.Generator().manual_seed(0)
    logits = 2 * torch.randn(5, 60, 70, generator=generator)
    labels = (logits + torch.randn(5, 60, 70, generator=generator)).argmax(0)
    labels[:7] = IGNORE
    probabilities = logits.softmax(0)
    theirs = multiclass_calibration_error(
        probabilities[None], labels[None], 5, num_bins, norm="l1", ignore_index=IGNORE
    )
    ours = expected_calibration_error(calibration_counts(*top_class(probabilities), labels, num_bins))
    assert ours == pytest.approx(theirs.item(), abs=2e-6)
    assert ours > 0.02


def test_bins_are_closed_below_and_the_last_also_above():
    edges = torch.arange(16) / 15
    counts = calibration_counts(edges, torch.zeros(16), torch.zeros(16), num_bins=15)
    assert counts[0].sum() == 16
    # 1/15 and its like are no binary fractions: each edge may fall to either side, but the ends may not.
    assert counts[0, -1] >= 1
    assert calibration_counts(torch.tensor([0.0, 1.0]), torch.zeros(2), torch.zeros(2), 4)[0].tolist() == [1, 0, 0, 1]
    assert calibration_counts(torch.tensor([0.25, 0.5]), torch.zeros(2), torch.zeros(2), 4)[0].tolist() == [0, 1, 1, 0]


def test_rounding_above_one_is_forgiven():
    counts = calibration_counts(torch.tensor([1.0 + 2e-7]), torch.zeros(1), torch.zeros(1))
    assert counts[:, -1].tolist() == [1, 1, FIXED_POINT]


@pytest.mark.parametrize("value", [-0.1, 1.5, float("nan")])
def test_what_is_no_probability_is_refused(value):
    with pytest.raises(ValueError, match=r"must be probabilities in \[0, 1\]"):
        calibration_counts(torch.tensor([0.5, value]), torch.zeros(2), torch.zeros(2))


def test_undefined_without_pixels():
    counts = calibration_counts(torch.tensor([0.5]), torch.zeros(1), torch.tensor([IGNORE]))
    assert counts.sum() == 0
    assert expected_calibration_error(counts) is None


def test_confidences_are_rounded_to_the_nearest_step():
    counts = calibration_counts(torch.tensor([0.3]), torch.zeros(1), torch.zeros(1), num_bins=1)
    assert counts[2].item() == 314573  # 0.3 * 2**20 is 314572.8
