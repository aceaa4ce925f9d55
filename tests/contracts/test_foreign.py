"""Networks of three libraries become segmenters: any size, and their own logits to the last bit."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from polyscale.attention import AttentionOverViews, ViewAttention
from polyscale.models.foreign import ForeignSegmenter, find_logits

SMP = (
    "Unet",
    "UnetPlusPlus",
    "MAnet",
    "Linknet",
    "FPN",
    "PSPNet",
    "DeepLabV3",
    "DeepLabV3Plus",
    "UPerNet",
    "Segformer",
)
TORCHVISION = ("fcn_resnet50", "deeplabv3_mobilenet_v3_large", "lraspp_mobilenet_v3_large")
TINY = {"hidden_sizes": [8, 16, 32, 64], "depths": [1, 1, 1, 1]}


def smp(name: str) -> nn.Module:
    library = pytest.importorskip("segmentation_models_pytorch")
    made: nn.Module = getattr(library, name)(encoder_name="resnet18", encoder_weights=None, classes=5)
    return made


def torchvision(name: str) -> nn.Module:
    library = pytest.importorskip("torchvision.models.segmentation")
    made: nn.Module = getattr(library, name)(weights=None, weights_backbone=None, num_classes=5)
    return made


def segformer(_: str) -> nn.Module:
    library = pytest.importorskip("transformers")
    config = library.SegformerConfig(num_labels=5, decoder_hidden_size=16, **TINY)
    made: nn.Module = library.SegformerForSemanticSegmentation(config)
    return made


def upernet(_: str) -> nn.Module:
    library = pytest.importorskip("transformers")
    backbone = library.ConvNextConfig(out_features=["stage1", "stage2", "stage3", "stage4"], **TINY)
    config = library.UperNetConfig(backbone_config=backbone, num_labels=5, hidden_size=16, auxiliary_in_channels=32)
    made: nn.Module = library.UperNetForSemanticSegmentation(config)
    return made


def mask2former(_: str) -> nn.Module:
    library = pytest.importorskip("transformers")
    stages = {"out_features": ["stage1", "stage2", "stage3", "stage4"]}
    backbone = library.SwinConfig(embed_dim=8, depths=[1] * 4, num_heads=[1, 1, 2, 2], window_size=4, **stages)
    widths = dict.fromkeys(("hidden_dim", "feature_size", "mask_feature_size", "dim_feedforward"), 32)
    config = library.Mask2FormerConfig(
        backbone_config=backbone, num_labels=5, num_queries=7, encoder_layers=1, decoder_layers=2,
        encoder_feedforward_dim=32, num_attention_heads=2, **widths,
    )  # fmt: skip
    made: nn.Module = library.Mask2FormerForUniversalSegmentation(config)
    return made


CASES: list[tuple[Callable[[str], nn.Module], str]] = [
    *((smp, name) for name in SMP),
    *((torchvision, name) for name in TORCHVISION),
    (segformer, "SegFormer"),
    (upernet, "UPerNet"),
    (mask2former, "Mask2Former"),
]


@pytest.mark.slow
@pytest.mark.parametrize(("make", "name"), CASES, ids=[f"{make.__name__}-{name}" for make, name in CASES])
def test_a_foreign_network_keeps_the_contract(make: Any, name: str) -> None:
    torch.manual_seed(0)
    network = make(name).eval()
    segmenter = ForeignSegmenter(network)
    images = torch.rand(1, 3, 64, 96)
    with torch.no_grad():
        theirs = find_logits(network((images - segmenter.mean) / segmenter.std))
        assert torch.equal(segmenter(images).logits, theirs)
        for size in ((65, 97), (96, 64)):
            fused = AttentionOverViews(segmenter, ViewAttention(5, 8, 5))(torch.rand(2, 3, *size), (1, 2))
            assert fused.logits.shape == (2, 5, *size)
            assert fused.logits.isfinite().all()
