"""The compared ways of combining scales, against values worked out by hand and scipy."""

import numpy as np
import pytest
import torch
from scipy.special import softmax
from torch import nn

from polyscale.baselines import AveragePooling, ExplicitMultiScale, SingleScale, average_logits, average_probabilities
from polyscale.multiscale import View


class Constant(nn.Module):
    """Logits that depend on the input's width alone, constant over the image, so that averages can be worked out."""

    def forward(self, x: torch.Tensor) -> View:
        n, _, h, w = x.shape
        logits = torch.tensor([w / 16, 1.0, -w / 32]).reshape(1, 3, 1, 1).expand(n, 3, h // 4 or 1, w // 4 or 1)
        return View(logits, None, 3 * logits, x[:, :2, ::4, ::4])


IMAGES = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))


def logits_at(scale: float) -> np.ndarray:
    width = 16 * scale
    return np.array([width / 16, 1.0, -width / 32])


def test_average_of_probabilities_and_of_logits() -> None:
    fused = AveragePooling(Constant())(IMAGES, (0.5, 1, 2))
    probabilities = np.mean([softmax(logits_at(s)) for s in (0.5, 1, 2)], axis=0)
    np.testing.assert_allclose(average_probabilities(fused.views)[0, :, 3, 5], probabilities, rtol=1e-6)
    np.testing.assert_allclose(fused.logits.softmax(1)[1, :, 0, 0], probabilities, rtol=1e-6)
    np.testing.assert_allclose(
        average_logits(fused.views)[0, :, 3, 5], np.mean([logits_at(s) for s in (0.5, 1, 2)], 0), rtol=1e-6
    )


def test_average_at_scale_one_is_the_network_itself() -> None:
    fused = AveragePooling(Constant())(IMAGES, (1,))
    assert torch.equal(fused.logits, SingleScale(Constant())(IMAGES).logits)
    assert fused.aux is not None  # training needs it


def test_average_stays_finite_where_probabilities_vanish() -> None:
    class Sure(nn.Module):
        def forward(self, x: torch.Tensor) -> View:
            return View(torch.tensor([1e4, -1e4]).reshape(1, 2, 1, 1).expand(1, 2, 4, 4))

    logits = AveragePooling(Sure())(IMAGES[:1], (0.5, 1)).logits
    assert torch.isfinite(logits).all()


def test_single_refuses_other_scales() -> None:
    with pytest.raises(ValueError, match="bound to scales 1, got 0.5,1"):
        SingleScale(Constant())(IMAGES, (0.5, 1))


class Weights(nn.Module):
    """A head whose channels are known, and which records what it sees."""

    def __init__(self, values: list[float]) -> None:
        super().__init__()
        self.values = torch.tensor(values)
        self.seen = torch.empty(0)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.seen = x
        return self.values.reshape(1, -1, 1, 1).expand(len(x), -1, *x.shape[-2:])


@pytest.mark.parametrize("fast", [False, True])
def test_explicit_unnormalised_is_the_weighted_sum_in_ascending_order(fast: bool) -> None:
    head = Weights([0.2, -0.5, 1.5])
    fused = ExplicitMultiScale(Constant(), head, (0.5, 1, 2), softmax=False, fast=fast)(IMAGES)
    expected = 0.2 * logits_at(0.5) - 0.5 * logits_at(1) + 1.5 * logits_at(2)
    np.testing.assert_allclose(fused.logits[0, :, 2, 9], expected, rtol=1e-6)
    assert fused.aux is not None
    np.testing.assert_allclose(fused.aux[0, :, 2, 9], 3 * expected, rtol=1e-5)
    assert {view.logits.shape[-2:] for view in fused.views.values()} == (
        {(2, 2), (4, 4), (8, 8)} if fast else {(8, 8), (16, 16), (32, 32)}
    )
    # The head sees scale 1 first, then the others ascending, at scale 1's feature size.
    assert head.seen.shape == (2, 6, 4, 4)
    torch.testing.assert_close(head.seen[:, :2], IMAGES[:, :2, ::4, ::4])
    assert {scale: float(view.attention[0, 0, 0, 0]) for scale, view in fused.views.items()} == pytest.approx(  # type: ignore[index]
        {0.5: 0.2, 1.0: -0.5, 2.0: 1.5}
    )


def test_explicit_with_softmax_weights_sum_to_one() -> None:
    fused = ExplicitMultiScale(Constant(), Weights([0.2, -0.5, 1.5]), (0.5, 1, 2))(IMAGES)
    weights = softmax([0.2, -0.5, 1.5])
    expected = sum(w * logits_at(s) for w, s in zip(weights, (0.5, 1, 2), strict=True))
    np.testing.assert_allclose(fused.logits[0, :, 0, 0], expected, rtol=1e-5)
    total = sum(view.attention for view in fused.views.values() if view.attention is not None)
    torch.testing.assert_close(total, torch.ones(2, 1, 16, 16))


def test_explicit_is_bound_to_its_scales() -> None:
    model = ExplicitMultiScale(Constant(), Weights([1.0, 1.0]), (0.5, 1))
    with pytest.raises(ValueError, match="bound to scales 0.5,1"):
        model(IMAGES, (0.5, 1, 2))
