"""Tiny networks, one for each kind that is exported."""

import pytest
import torch

from polyscale.config import validate
from polyscale.labels import LabelClass, LabelSpace
from polyscale.models import ModelConfig, build_model

SPACE = LabelSpace(classes=tuple(LabelClass(name=name, color=(9, 9, 9)) for name in "abc"))

KINDS = {
    "hierarchical": {"method": "hierarchical"},
    "fast": {"method": "hierarchical", "fusion": "fast"},
    "pairs": {"method": "hierarchical", "fusion": "fast", "attention": {"source": "pair"}},
    "views": {"method": "hierarchical", "attention": {"reads": "views", "maps": "class"}},
    "both": {"method": "hierarchical", "attention": {"reads": "both"}},
    "explicit": {"method": "explicit", "train_scales": [0.5, 1]},
    "average": {"method": "average"},
    "single": {"method": "single"},
}


def tiny(kind="fast", **more):
    """A network with random weights, whose classes differ all over an image."""
    torch.manual_seed(0)
    multiscale = dict(KINDS[kind])
    if "attention" in multiscale:
        multiscale["attention"] = {**multiscale["attention"], "channels": 8}
    values = {"backbone": {"name": "tiny"}, "decoder": {"light_channels": 8}, "multiscale": multiscale, **more}
    model = build_model(validate(ModelConfig, values), SPACE)
    for parameter in model.parameters():
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=1.4 / parameter[0].numel() ** 0.5)
    return model.eval()


@pytest.fixture(scope="session")
def build():
    """Make a network by its kind."""
    return tiny


@pytest.fixture(scope="session")
def space():
    return SPACE
