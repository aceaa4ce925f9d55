"""The accumulator: exact in any order and however shared out; what it refuses leaves it as it was."""

import itertools

import pytest
import torch

from polyscale.labels import IGNORE, LabelSpace
from polyscale.metrics import (
    Scores,
    SegmentationScores,
    boundary_counts,
    calibration_counts,
    confusion_matrix,
    top_class,
)

SPACE = LabelSpace.model_validate({"classes": [{"name": name, "color": (0, 0, 0)} for name in ("road", "sky", "pole")]})


def image(seed, size=(23, 31)):
    generator = torch.Generator().manual_seed(seed)
    probabilities = torch.randn(3, *size, generator=generator).softmax(0)
    labels = torch.randint(0, 3, size, generator=generator, dtype=torch.uint8)
    labels[:2] = IGNORE
    return probabilities, labels


def test_merging_in_any_order_is_bit_identical():
    images = [image(seed, size=(11 + seed, 17)) for seed in range(4)]
    whole = SegmentationScores(SPACE)
    for one in images:
        whole.update(*one)
    for order in itertools.permutations(range(4)):
        parts = [SegmentationScores(SPACE) for _ in range(3)]
        for position, index in enumerate(order):
            parts[position % 3].update(*images[index])
        first, second, third = parts
        second.merge(third)
        second.merge(first)
        assert second.compute() == whole.compute()


def test_sums_are_those_of_the_pure_functions():
    probabilities, labels = image(0)
    scores = SegmentationScores(SPACE, boundary_fraction=0.05, num_bins=7)
    scores.update(probabilities, labels)
    confidence, classes = top_class(probabilities)
    expected = Scores.from_counts(
        SPACE.names,
        confusion_matrix(classes, labels, 3),
        boundary_counts(classes, labels, 3, 0.05),
        calibration_counts(confidence, classes, labels, 7),
    )
    assert scores.compute() == expected
    assert expected.mean_boundary_iou is not None
    assert expected.expected_calibration_error is not None
    assert sum(row[0] for row in expected.reliability) == expected.num_pixels == 21 * 31


def test_a_batch_is_its_images_one_by_one():
    pairs = [image(seed) for seed in range(3)]
    one_by_one, batch = SegmentationScores(SPACE), SegmentationScores(SPACE)
    for pair in pairs:
        one_by_one.update(*pair)
    batch.update(*(torch.stack(maps) for maps in zip(*pairs, strict=True)))
    assert batch.compute() == one_by_one.compute()


def test_train_ids_do_where_calibration_is_off():
    probabilities, labels = image(0)
    soft, hard = (SegmentationScores(SPACE, calibration=False) for _ in range(2))
    soft.update(probabilities, labels)
    hard.update(probabilities.argmax(0), labels)
    assert soft.compute() == hard.compute()
    assert soft.compute().expected_calibration_error is None


def test_the_state_is_live_so_that_processes_can_add_to_it():
    scores = SegmentationScores(SPACE)
    scores.update(*image(0))
    once = scores.compute()
    for tensor in scores.state().values():
        assert tensor.dtype == torch.int64
        tensor += tensor.clone()
    assert scores.compute().num_pixels == 2 * once.num_pixels
    assert scores.compute().iou == once.iou


@pytest.mark.parametrize(
    ("prediction", "labels", "message"),
    [
        (torch.zeros(4, 5, dtype=torch.int64), torch.zeros(4, 5, dtype=torch.int64), "calibration needs probabilities"),
        (
            torch.zeros(2, 4, 5),
            torch.zeros(4, 5, dtype=torch.uint8),
            "probabilities have 2 classes, label space 'custom' 3",
        ),
        (torch.zeros(3, 4, 6), torch.zeros(4, 5, dtype=torch.uint8), "does not fit"),
        (torch.zeros(3, 4, 5), torch.zeros(20, dtype=torch.uint8), "does not fit"),
        (torch.zeros(3, 4, 5), torch.full((4, 5), 9), "labels hold ids up to 9"),
        (torch.full((3, 4, 5), 2.0), torch.zeros(4, 5, dtype=torch.uint8), "must be probabilities"),
    ],
)
def test_what_is_refused_leaves_no_trace(prediction, labels, message):
    scores = SegmentationScores(SPACE)
    with pytest.raises(ValueError, match=message):
        scores.update(prediction, labels)
    assert all(not tensor.any() for tensor in scores.state().values())


def test_only_like_merges_with_like():
    with pytest.raises(ValueError, match="cannot be merged"):
        SegmentationScores(SPACE).merge(SegmentationScores(SPACE, boundary=False))
