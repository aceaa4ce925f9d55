import pytest
import torch

from polyscale.metrics.bootstrap import bootstrap_difference, mean_iou


def test_mean_iou_by_hand():
    table = torch.tensor([[3, 1, 0], [2, 4, 0], [0, 0, 0]])
    assert float(mean_iou(table)) == pytest.approx((3 / 6 + 4 / 7) / 2)


def test_equal_predictions_differ_by_nothing():
    tables = torch.randint(0, 50, (9, 3, 3), generator=torch.Generator().manual_seed(0))
    assert bootstrap_difference(tables, tables) == (0.0, 0.0, 0.0)


def test_the_interval_agrees_with_a_plain_loop():
    generator = torch.Generator().manual_seed(0)
    first, second = (torch.randint(1, 50, (12, 3, 3), generator=generator) for _ in range(2))
    found = bootstrap_difference(first, second, draws=2000)
    differences = []
    for _ in range(2000):
        pick = torch.randint(12, (12,), generator=generator)
        differences.append(float(mean_iou(first[pick].sum(0)) - mean_iou(second[pick].sum(0))))
    low, high = torch.tensor(differences).quantile(torch.tensor([0.025, 0.975])).tolist()
    assert found.value == pytest.approx(float(mean_iou(first.sum(0)) - mean_iou(second.sum(0))))
    assert found.low == pytest.approx(low, abs=0.01)
    assert found.high == pytest.approx(high, abs=0.01)
    assert str(found) == f"{100 * found.value:+.1f} [{100 * found.low:+.1f}, {100 * found.high:+.1f}]"


@pytest.mark.parametrize("shapes", [((0, 2, 2), (0, 2, 2)), ((3, 2, 2), (2, 2, 2)), ((2, 2), (2, 2))])
def test_what_cannot_be_compared_is_refused(shapes):
    with pytest.raises(ValueError, match="confusion matrices"):
        bootstrap_difference(*(torch.ones(shape) for shape in shapes))
