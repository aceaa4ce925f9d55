"""A small network of the authors' kind."""

import pytest
import torch
from torch import Tensor

from polyscale.config import validate
from polyscale.models import ModelConfig, build_model
from polyscale.multiscale import MultiScale


@pytest.fixture(scope="session")
def model() -> MultiScale:
    """HRNet-W18 with OCR and scale attention, every tensor random."""
    config = {
        "backbone": {"name": "hrnet_w18"},
        "decoder": {"kind": "ocr", "ocr_channels": 16, "ocr_key_channels": 8},
        "multiscale": {"attention": {"channels": 8}},
    }
    torch.manual_seed(0)
    model = build_model(validate(ModelConfig, config), 19)
    for value in model.state_dict().values():
        if value.is_floating_point():
            value.uniform_(0.5, 1.5).div_(value[0].numel() if value.ndim == 4 else 1)
    return model.eval()


@pytest.fixture(scope="session")
def reference_state(model: MultiScale) -> dict[str, Tensor]:
    """Its tensors under the authors' names, written down here once more and the other way round."""
    decoder = {
        "pixels.0": "conv3x3_ocr.0",
        "pixels.1": "conv3x3_ocr.1.0",
        "auxiliary.0": "aux_head.0",
        "auxiliary.1": "aux_head.1.0",
        "auxiliary.3": "aux_head.2",
        "join.0": "ocr_distri_head.conv_bn_dropout.0",
        "join.1": "ocr_distri_head.conv_bn_dropout.1.0",
        "classifier": "cls_head",
    }
    context = "ocr_distri_head.object_context_block"
    for ours, theirs in (("query", "f_pixel"), ("key", "f_object")):
        decoder |= {f"attention.{ours}.{i}.0": f"{context}.{theirs}.{2 * i}" for i in (0, 1)}
        decoder |= {f"attention.{ours}.{i}.1": f"{context}.{theirs}.{2 * i + 1}.0" for i in (0, 1)}
    for ours, theirs in (("value", "f_down"), ("out", "f_up")):
        decoder |= {f"attention.{ours}.0": f"{context}.{theirs}.0", f"attention.{ours}.1": f"{context}.{theirs}.1.0"}
    head = {"0": "conv0", "1": "bn0", "3": "conv1", "4": "bn1", "6": "conv2"}
    state = {}
    for name, value in model.state_dict().items():
        name = name.removeprefix("segmenter.")
        layer, _, tensor = name.rpartition(".")
        if name.startswith("backbone.body."):
            state[f"backbone.{name.removeprefix('backbone.body.')}"] = value
        elif name.startswith("decoder."):
            state[f"ocr.{decoder[layer.removeprefix('decoder.')]}.{tensor}"] = value
        elif name.startswith("attention."):
            state[f"scale_attn.{head[layer.removeprefix('attention.')]}.{tensor}"] = value
    return state
