"""Parameter groups by name."""

from typing import Any

import pytest

from polyscale.backbones import BackboneConfig
from polyscale.decoders import DecoderConfig
from polyscale.models import ModelConfig, MultiScaleConfig, build_model
from polyscale.training.config import OptimizerConfig
from polyscale.training.optimizer import build_optimizer


@pytest.mark.parametrize("method", ["hierarchical", "explicit"])
def test_each_group_has_its_rate_and_its_parameters(method: Any) -> None:
    """OCR has an attention of its own, which is the decoder's and not the scale attention."""
    decoder = DecoderConfig(kind="ocr", ocr_channels=8, ocr_key_channels=8)
    config = ModelConfig(
        backbone=BackboneConfig(name="tiny"), decoder=decoder, multiscale=MultiScaleConfig(method=method)
    )
    model = build_model(config, 3)
    optimizer = build_optimizer(model, OptimizerConfig(lr=1.0, backbone_lr_factor=0.5, attention_lr_factor=0.25))
    rates = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
    parts = {"segmenter.backbone.": 0.5, "segmenter.decoder.": 1.0}
    parts |= {"segmenter.attention.": 0.25, "head.": 0.25}
    seen = set()
    for name, parameter in model.named_parameters():
        (prefix,) = (prefix for prefix in parts if name.startswith(prefix))
        assert rates[id(parameter)] == parts[prefix], name
        seen.add(parts[prefix])
    assert seen == {0.25, 0.5, 1.0}
