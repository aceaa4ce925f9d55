"""Tiny networks with random weights, one for each way of combining scales."""

import numpy as np
import pytest
import torch
from torch import nn

from polyscale.baselines import AveragePooling, ExplicitMultiScale, SingleScale
from polyscale.inference.predictor import Predictor
from polyscale.labels import LabelSpace
from polyscale.multiscale import HierarchicalMultiScale, View

METHODS = ("hierarchical", "fast", "explicit", "average", "single")


class Stride4(nn.Module):
    """Random convolutions that end on a grid of stride 4, at any size down to one pixel."""

    def __init__(self, num_classes):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.features = nn.Conv2d(8, 8, 3, stride=2, padding=1)
        self.logits = nn.Conv2d(8, num_classes, 1, bias=False)
        self.attention = nn.Conv2d(8, 1, 1)

    def forward(self, images):
        x = self.features(self.stem(4 * images - 2).tanh())
        return View(8 * self.logits(x), (4 * self.attention(x)).sigmoid(), None, x)


def network(method="hierarchical", num_classes=3, softmax=True):
    torch.manual_seed(0)
    segmenter = Stride4(num_classes)
    match method:
        case "hierarchical" | "fast":
            return HierarchicalMultiScale(segmenter, fast=method == "fast")
        case "single":
            return SingleScale(segmenter)
        case "average":
            return AveragePooling(segmenter)
        case "explicit":
            return ExplicitMultiScale(segmenter, nn.Conv2d(24, 3, 1), (0.5, 1.0, 2.0), softmax)


@pytest.fixture
def build():
    """Make a network by its method."""
    return network


@pytest.fixture(params=METHODS)
def any_predictor(request, space):
    return Predictor(network(request.param), space, "cpu")


@pytest.fixture
def space():
    classes = [
        {"name": "road", "color": (128, 64, 128), "ids": (7, 8)},
        {"name": "sky", "color": (70, 130, 180), "ids": (23,)},
        {"name": "pole", "color": (153, 153, 153), "ids": (17,)},
    ]
    return LabelSpace.model_validate({"name": "lane", "classes": classes, "ignore_ids": (0,)})


@pytest.fixture
def predictor(space):
    return Predictor(network(), space, "cpu")


@pytest.fixture
def photo():
    """Make a random image (H, W, 3) uint8 with structure at several scales."""

    def draw(height=33, width=47, seed=0):
        rng = np.random.default_rng(seed)
        coarse = rng.integers(0, 256, (-(-height // 8), -(-width // 8), 3))
        large = np.kron(coarse, np.ones((8, 8, 1)))[:height, :width]
        return ((large + rng.integers(0, 256, (height, width, 3))) / 2).astype(np.uint8)

    return draw
