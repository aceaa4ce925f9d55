"""A small network of three scales with one map of attention for each class, and its page."""

import io
import threading

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from polyscale.attention import AttentionOverViews, ViewAttention
from polyscale.baselines import AveragePooling
from polyscale.inference.predictor import Predictor
from polyscale.labels import LabelSpace
from polyscale.page import PageServer
from polyscale.views import View

NAMES = ("road", "<b>pole</b>", "sky")


class Colors(nn.Module):
    """Red, green and blue are the logits, on a grid of stride 4."""

    def __init__(self):
        super().__init__()
        self.net = nn.Conv2d(3, 3, 3, stride=4, padding=1, bias=False)
        with torch.no_grad():
            generator = torch.Generator().manual_seed(0)
            self.net.weight.copy_(3 * torch.randn(self.net.weight.shape, generator=generator))

    def forward(self, images):
        return View(self.net(images - 0.5))


@pytest.fixture(scope="session")
def predictor():
    torch.manual_seed(0)
    head = ViewAttention(3, 8, maps=3)
    nn.init.normal_(head.layers[-1].weight, std=0.7)
    space = LabelSpace.model_validate({"classes": [{"name": n, "color": (9 * k, 0, 0)} for k, n in enumerate(NAMES)]})
    return Predictor(AttentionOverViews(Colors().eval(), head.eval()).eval(), space, "cpu")


def serving(predictor):
    with PageServer(predictor, "toys", ["weights of nobody"]) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture(scope="session")
def server(predictor):
    yield from serving(predictor)


@pytest.fixture(scope="session")
def averaging(predictor):
    """A page of the same segmenter whose views are averaged."""
    model = AveragePooling(predictor.model.segmenter).eval()
    yield from serving(Predictor(model, predictor.label_space, "cpu"))


@pytest.fixture(scope="session")
def photo():
    """A PNG of 90 x 60 pixels with large areas."""
    rng = np.random.default_rng(0)
    pixels = np.kron(rng.integers(0, 255, (6, 9, 3)), np.ones((10, 10, 1))).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()
