"""Attention from pairs of scales against the recursion written out by hand."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from polyscale.multiscale import View
from polyscale.pairs import PairwiseMultiScale


class Stub(nn.Module):
    """Logits and features on a grid of stride 4, different at each size."""

    def __init__(self) -> None:
        super().__init__()
        self.logits = nn.Conv2d(3, 5, 3, stride=4, padding=1)
        self.features = nn.Conv2d(3, 6, 3, stride=4, padding=1)

    def forward(self, images: Tensor) -> View:
        return View(self.logits(images), None, self.logits(images) * 2, self.features(images).relu())


@pytest.fixture
def network() -> PairwiseMultiScale:
    torch.manual_seed(0)
    return PairwiseMultiScale(Stub(), nn.Sequential(nn.Conv2d(12, 1, 1), nn.Sigmoid())).double().eval()


def up(x: Tensor, size: tuple[int, ...]) -> Tensor:
    return functional.interpolate(x, size=size, mode="bilinear", align_corners=False)


@torch.no_grad()
def by_hand(network: PairwiseMultiScale, images: Tensor, scales: list[float]) -> tuple[Tensor, Tensor]:
    """Fused logits and the coarsest attention at the images' size, from the finest scale down."""
    fused = finer = attention = None
    for scale in sorted(scales, reverse=True):
        scaled = up(images, tuple(int(side * scale) for side in images.shape[-2:]))
        view = network.segmenter(scaled)
        size = tuple(scaled.shape[-2:])
        logits = up(view.logits, size)
        if fused is None:
            fused = logits
        else:
            pair = torch.cat([view.features, up(finer, tuple(view.features.shape[-2:]))], dim=1)
            attention = up(network.head(pair), size)
            if scale >= 1:
                fused = attention * logits + (1 - attention) * up(fused, size)
            else:
                full = tuple(fused.shape[-2:])
                attention_full = up(attention, full)
                fused = up(attention * logits, full) + (1 - attention_full) * fused
        finer = view.features
    return fused, attention


@pytest.mark.parametrize("scales", [[0.5, 1.0], [0.5, 1.0, 2.0], [0.25, 1.0, 1.5]])
def test_the_recursion_of_the_released_code(network: PairwiseMultiScale, scales: list[float]) -> None:
    images = torch.rand(2, 3, 37, 50, dtype=torch.float64)
    fused = network(images, scales)
    logits, attention = by_hand(network, images, scales)
    torch.testing.assert_close(fused.logits, logits)
    torch.testing.assert_close(fused.views[min(scales)].attention, attention)
    assert list(fused.views) == sorted(scales, reverse=True)
    assert fused.views[max(scales)].attention is None


def test_auxiliary_logits_are_fused_by_the_same_attention(network: PairwiseMultiScale) -> None:
    fused = network(torch.rand(1, 3, 32, 32, dtype=torch.float64), [0.5, 1.0])
    torch.testing.assert_close(fused.aux, fused.logits * 2)


def test_the_fast_mode_gives_the_images_size_and_leaves_views_on_the_grid(network: PairwiseMultiScale) -> None:
    network.fast = True
    fused = network(torch.rand(1, 3, 36, 52, dtype=torch.float64), [0.5, 1.0, 2.0])
    assert fused.logits.shape == (1, 5, 36, 52)
    assert fused.views[1.0].logits.shape == (1, 5, 9, 13)
    assert fused.views[0.5].attention.shape == (1, 1, *fused.views[0.5].logits.shape[-2:])
