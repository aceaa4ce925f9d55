import numpy as np
import pytest
import torch

from polyscale.intervals import Marginals, bootstrap, class_iou, difference, interval, mean_iou, of_confusion
from polyscale.metrics import Scores


def test_mean_iou_by_hand():
    table = np.array([[3, 1, 0], [2, 4, 0], [0, 0, 0]])
    assert mean_iou(of_confusion(table)) == pytest.approx((3 / 6 + 4 / 7) / 2)


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


def test_equal_predictions_differ_by_nothing():
    tables = np.random.default_rng(0).integers(0, 50, (9, 3, 3))
    assert difference(tables, tables) == (0.0, 0.0, 0.0)


def test_the_interval_agrees_with_a_plain_loop():
    rng = np.random.default_rng(0)
    first, second = (rng.integers(1, 50, (12, 3, 3)) for _ in range(2))
    found = difference(first, second)

    def plain(pick):
        return float(mean_iou(of_confusion(first[pick].sum(0))) - mean_iou(of_confusion(second[pick].sum(0))))

    low, high = np.percentile([plain(rng.integers(12, size=12)) for _ in range(2000)], [2.5, 97.5])
    assert found.value == pytest.approx(plain(np.arange(12)))
    assert found.low == pytest.approx(low, abs=0.01)
    assert found.high == pytest.approx(high, abs=0.01)
    assert str(found) == f"{100 * found.value:+.1f} [{100 * found.low:+.1f}, {100 * found.high:+.1f}]"


@pytest.mark.parametrize("shapes", [((0, 2, 2), (0, 2, 2)), ((3, 2, 2), (2, 2, 2)), ((2, 2), (2, 2))])
def test_what_cannot_be_compared_is_refused(shapes):
    with pytest.raises(ValueError, match="confusion matrices"):
        difference(*(np.ones(shape) for shape in shapes))
