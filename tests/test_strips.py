import pytest
import torch

from polyscale import strips
from polyscale.strips import classify
from polyscale.views import resize


def logits(*shape, seed=0):
    return 3 * torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def plainly(maps, size):
    """What ``classify`` promises, with maps of all classes at full size."""
    probabilities = torch.stack([resize(x.float(), size).softmax(1) for x in maps]).mean(0)
    return probabilities.max(1)


@pytest.fixture(params=[1, 700, 2**20])
def strip(request, monkeypatch):
    """Numbers in a strip: one row, a few rows that do not divide the height, all at once."""
    monkeypatch.setitem(strips._STRIP, "cpu", request.param)


@pytest.mark.parametrize(
    ("grid", "size"),
    [
        ((8, 12), (32, 48)),
        ((9, 13), (33, 50)),
        ((16, 24), (16, 24)),
        ((40, 30), (17, 19)),
        ((16, 5), (16, 20)),
        ((1, 1), (5, 7)),
    ],
)
def test_equal_to_the_plain_way(strip, grid, size):
    x = logits(2, 5, *grid)
    confidence, labels = plainly([x], size)
    found = classify([x], size)
    assert found.labels.dtype == torch.uint8
    assert torch.equal(found.labels.long(), labels)
    torch.testing.assert_close(found.confidence, confidence, rtol=1e-5, atol=1e-6)


def test_probabilities_of_several_maps_are_averaged(strip):
    maps = [logits(1, 4, 8, 10), logits(1, 4, 16, 20, seed=1), logits(1, 4, 33, 41, seed=2)]
    confidence, labels = plainly(maps, (33, 41))
    found = classify(maps, (33, 41))
    assert torch.equal(found.labels.long(), labels)
    torch.testing.assert_close(found.confidence, confidence, rtol=1e-5, atol=1e-6)


def test_the_lowest_of_equal_classes():
    x = torch.tensor([0.0, 2.0, 1.0, 2.0]).reshape(1, 4, 1, 1)
    assert classify([x], (3, 3)).labels.unique().tolist() == [1]


def test_as_many_classes_as_a_byte_tells_apart():
    x = torch.zeros(1, 256, 1, 2)
    x[0, 255, 0, 0] = 1
    x[0, 200, 0, 1] = 1
    assert classify([x], (1, 2)).labels.tolist() == [[[255, 200]]]


def test_half_precision_is_enlarged_in_single():
    x = logits(1, 5, 8, 8).bfloat16()
    confidence, labels = plainly([x], (32, 32))
    found = classify([x], (32, 32))
    assert torch.equal(found.labels.long(), labels)
    torch.testing.assert_close(found.confidence, confidence, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_not_finite_shows_in_the_confidence(value):
    x = logits(1, 5, 4, 4)
    x[0, 3, 2, 2] = value
    assert not classify([x], (16, 16)).confidence.isfinite().all()


def test_what_is_given_stays():
    x = logits(1, 5, 16, 16)
    before = x.clone()
    classify([x, x], (16, 16))
    classify([x], (16, 16))
    assert torch.equal(x, before)
