"""The confusion matrix against torchmetrics and by hand; the best class against argmax."""

import pytest
import torch
from torchmetrics.functional.classification import multiclass_confusion_matrix

from polyscale.labels import IGNORE
from polyscale.metrics import confusion_matrix, top_class


def random_maps(num_classes, shape, seed=0, ignored_fraction=0.2):
    generator = torch.Generator().manual_seed(seed)
    prediction = torch.randint(0, num_classes, shape, generator=generator)
    labels = torch.randint(0, num_classes, shape, generator=generator)
    labels[torch.rand(shape, generator=generator) < ignored_fraction] = IGNORE
    return prediction, labels


def test_rows_are_truth_and_columns_prediction():
    matrix = confusion_matrix(torch.tensor([0, 1, 1, 1, 0]), torch.tensor([0, 0, 0, 1, IGNORE]), 2)
    assert matrix.tolist() == [[1, 2], [0, 1]]
    assert matrix.dtype == torch.int64


# 88 classes are the most that are counted in 16 bits.
@pytest.mark.parametrize("num_classes", [2, 11, 88, 89, 255])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.int64])
def test_equals_torchmetrics(num_classes, dtype):
    prediction, labels = random_maps(num_classes, (3, 17, 23))
    expected = multiclass_confusion_matrix(prediction, labels, num_classes, ignore_index=IGNORE)
    assert torch.equal(confusion_matrix(prediction.to(dtype), labels.to(dtype), num_classes), expected)


def test_several_strips_equal_torchmetrics():
    maps = random_maps(19, (271, 1001))  # two strips and a bit
    expected = multiclass_confusion_matrix(*maps, 19, ignore_index=IGNORE)
    assert torch.equal(confusion_matrix(*(x.to(torch.uint8) for x in maps), 19), expected)


def test_what_is_predicted_on_ignored_pixels_does_not_matter():
    labels = torch.tensor([0, 1, IGNORE, IGNORE, IGNORE])
    assert confusion_matrix(torch.tensor([0, 1, 0, 200, IGNORE]), labels, 2).tolist() == [[1, 0], [0, 1]]


@pytest.mark.parametrize(
    ("prediction", "labels", "message"),
    [
        ([0, 2], [0, 1], r"prediction hold ids up to 2, but there are 2 classes, 0 to 1"),
        ([0, IGNORE], [0, 1], r"prediction hold ids up to 255"),
        ([0, 1], [0, 7], r"labels hold ids up to 7"),
        ([0, 1], [0, 254], r"labels hold ids up to 254"),
        ([9, 2], [IGNORE, 0], r"prediction hold ids up to 2,"),
        ([0, -1], [0, 1], r"prediction must lie in 0 to 255, got -1 to 0"),
        ([0, 1], [0, 300], r"labels must lie in 0 to 255, got 0 to 300"),
        ([0.0, 1.0], [0, 1], r"prediction must be integers, got torch.float32"),
        ([0, 1, 1], [0, 1], r"same shape"),
    ],
)
def test_an_id_that_is_no_class_is_refused(prediction, labels, message):
    with pytest.raises(ValueError, match=message):
        confusion_matrix(torch.tensor(prediction), torch.tensor(labels), 2)


def test_no_pixels():
    nothing = torch.zeros(0, dtype=torch.uint8)
    assert confusion_matrix(nothing, nothing, 3).tolist() == [[0] * 3] * 3


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_top_class_is_argmax_with_the_first_of_equals(dtype):
    # Whole numbers from a small range: most pixels have ties.
    scores = torch.randint(-2, 3, (7, 13, 19), generator=torch.Generator().manual_seed(0)).to(dtype)
    best, classes = top_class(scores)
    assert torch.equal(best, scores.amax(0))
    first = (scores == scores.amax(0)).int().argmax(0)
    assert torch.equal(classes.long(), first)
    assert classes.dtype == torch.uint8


def test_top_class_of_255_classes_and_of_one():
    assert top_class(torch.eye(255).reshape(255, 15, 17))[1].flatten().tolist() == list(range(255))
    assert top_class(torch.full((1, 2, 2), -3.0))[1].tolist() == [[0, 0], [0, 0]]


def test_a_pixel_that_is_not_a_number_has_no_class():
    best, classes = top_class(torch.tensor([0.0, float("nan")]).reshape(2, 1, 1))
    assert best.isnan().all()
    assert classes.item() == 2
