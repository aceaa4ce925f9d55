"""Networks that see a few pixels around each one, so that tiles can give exactly what the whole image gives."""

import numpy as np
import pytest
import torch
from torch import nn

from polyscale.attention import AttentionOverViews, ViewAttention
from polyscale.baselines import AveragePooling, ExplicitMultiScale, SingleScale
from polyscale.looker import Looker
from polyscale.multiscale import HierarchicalMultiScale, MultiScale
from polyscale.pairs import PairwiseMultiScale
from polyscale.views import View

METHODS = ("hierarchical", "fast", "views", "pair", "explicit", "average", "single", "own")


class Stride4(nn.Module):
    """Three convolutions that end on a grid of stride 4; with ``pooled``, also the mean over the whole image."""

    def __init__(self, num_classes, pooled=False):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.features = nn.Conv2d(8, 8, 3, stride=2, padding=1)
        self.logits = nn.Conv2d(8, num_classes, 1, bias=False)
        self.attention = nn.Conv2d(8, 1, 1)
        self.pooled = pooled

    def forward(self, images):
        x = self.features(self.stem(4 * images - 2).tanh())
        if self.pooled:
            x = x + 4 * x.mean((2, 3), keepdim=True)
        return View(8 * self.logits(x), (4 * self.attention(x)).sigmoid(), None, x)


class Own(MultiScale):
    """A way of combining scales that knows nothing of tiles."""

    def combine(self, images, scales):
        return HierarchicalMultiScale(self.segmenter, fast=True).combine(images, scales)

    def weights(self, views):
        return HierarchicalMultiScale(self.segmenter).weights(views)


def network(method="fast", pooled=False):
    torch.manual_seed(0)
    segmenter = Stride4(3, pooled)
    match method:
        case "hierarchical" | "fast":
            return HierarchicalMultiScale(segmenter, fast=method == "fast")
        case "views":
            head = ViewAttention(3, 8)
            nn.init.normal_(head.layers[-1].weight)
            return AttentionOverViews(segmenter, head)
        case "pair":
            return PairwiseMultiScale(segmenter, nn.Sequential(nn.Conv2d(16, 1, 1), nn.Sigmoid()), fast=True)
        case "single":
            return SingleScale(segmenter)
        case "average":
            return AveragePooling(segmenter)
        case "explicit":
            return ExplicitMultiScale(segmenter, nn.Conv2d(24, 3, 1), (0.5, 1.0, 2.0), fast=True)
        case "own":
            return Own(segmenter, (0.5, 1.0), (0.5, 1.0, 2.0))


@pytest.fixture
def looker():
    """Make a looker by the network's method."""
    return lambda method="fast", pooled=False: Looker(network(method, pooled), "cpu")


@pytest.fixture
def photo():
    """Make a random image (H, W, 3) uint8 with structure at several scales."""

    def draw(height, width, seed=0):
        rng = np.random.default_rng(seed)
        coarse = rng.integers(0, 256, (-(-height // 16), -(-width // 16), 3))
        large = np.kron(coarse, np.ones((16, 16, 1)))[:height, :width]
        return ((large + rng.integers(0, 256, (height, width, 3))) / 2).astype(np.uint8)

    return draw
