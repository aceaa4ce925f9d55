"""Every backbone with every decoder keeps the same promises.

The quick set is a sample of pairs, the others are ``slow``. Backbones come one after the other and only the last is
kept: some have a hundred million parameters.
"""

from functools import lru_cache

import pytest
import torch
from safetensors.torch import load, save

from polyscale.backbones import BackboneConfig, build_backbone
from polyscale.decoders import DecoderConfig, build_decoder

NUM_CLASSES = 5
DECODERS = {
    "light": DecoderConfig(kind="light", light_channels=24),
    "ocr": DecoderConfig(kind="ocr", ocr_channels=24, ocr_key_channels=12),
    "ocr-aspp": DecoderConfig(kind="ocr", ocr_pyramid=True, aspp_channels=8, ocr_channels=24, ocr_key_channels=12),
    "deeplabv3plus": DecoderConfig(kind="deeplabv3plus", aspp_channels=16, fine_channels=8),
    "deeplabv3plus-separable": DecoderConfig(kind="deeplabv3plus", aspp_separable=True, aspp_channels=16),
    "deeplabv3-dpc": DecoderConfig(kind="deeplabv3", pyramid="dpc", aspp_channels=16),
    "deeperlab": DecoderConfig(kind="deeperlab", aspp_channels=16),
    "fpn": DecoderConfig(kind="fpn", fpn_channels=16, fpn_head_channels=8),
    "unet": DecoderConfig(kind="unet", unet_channels=(24, 16, 8)),
}
# Backbone -> the decoders of the quick set; the others are slow.
QUICK = {
    "tiny": list(DECODERS),
    "tf_efficientnet_lite0": ["light", "deeplabv3-dpc", "deeperlab", "fpn", "unet"],
    "hrnet_w18_small": ["ocr", "deeplabv3plus"],
    "resnet18": ["light", "ocr-aspp", "deeplabv3plus", "deeplabv3plus-separable"],
    "convnext_atto": ["light", "ocr"],
    "vit_tiny_patch16_224": ["light"],
}
LARGE = [
    *("resnet50", "resnet101", "mobilenetv3_large_100", "seresnext50_32x4d", "seresnext101_32x4d", "efficientnet_b4"),
    *("hrnet_w18_small_v2", "hrnet_w18", "hrnet_w32", "hrnet_w48", "wide_resnet38", "aligned_xception71"),
    *("convnext_tiny", "tf_efficientnetv2_s", "swin_tiny_patch4_window7_224", "swinv2_tiny_window8_256"),
    *("vit_small_patch14_dinov2", "vit_small_patch16_dinov3"),
]
BACKBONES = [*QUICK, *(pytest.param(name, marks=pytest.mark.slow) for name in LARGE)]
PAIRS = [
    pytest.param(name, kind, marks=[] if kind in QUICK.get(name, []) else pytest.mark.slow, id=f"{name}-{kind}")
    for name in (*QUICK, *LARGE)
    for kind in DECODERS
]


@lru_cache(maxsize=1)
def built(name):
    torch.manual_seed(0)
    return build_backbone(BackboneConfig(name=name))


def built_pair(name, kind):
    backbone = built(name)
    torch.manual_seed(0)
    return backbone, build_decoder(DECODERS[kind], backbone.channels, backbone.strides, NUM_CLASSES)


def ceil_size(height, width, stride):
    return -(-height // stride), -(-width // stride)


def grid_stride(kind, strides):
    """Stride of a decoder's grid: its finest map's."""
    if kind == "deeplabv3-dpc":
        return strides[-1]
    return strides[0] if kind in ("deeperlab", "unet") else next(stride for stride in strides if stride >= 4)


@pytest.mark.parametrize("name", BACKBONES)
def test_backbone_maps_are_as_declared(name):
    backbone = built(name).eval()
    assert list(backbone.strides) == sorted(backbone.strides)
    for height, width in ((65, 97), (33, 47), (64, 32), (3, 70), (1, 1)):
        with torch.no_grad():
            maps = backbone(torch.randn(1, 3, height, width))
        assert [map_.shape[1] for map_ in maps] == list(backbone.channels)
        assert [tuple(map_.shape[-2:]) for map_ in maps] == [ceil_size(height, width, s) for s in backbone.strides]
        assert all(torch.isfinite(map_).all() for map_ in maps)


@pytest.mark.parametrize("name", BACKBONES)
def test_saved_and_loaded_backbone_gives_the_same(name):
    backbone = built(name).eval()
    images = torch.randn(1, 3, 33, 47)
    stored = save(backbone.state_dict())
    with torch.no_grad():
        before = backbone(images)
        for value in backbone.state_dict().values():
            value.zero_()
        blank = backbone(images)
        backbone.load_state_dict(load(stored), strict=True)
        after = backbone(images)
    assert all(torch.equal(*pair) for pair in zip(after, before, strict=True))
    assert not torch.equal(blank[-1], before[-1])


@pytest.mark.parametrize(("name", "kind"), PAIRS)
def test_pair(name, kind):
    """Sizes as declared; an image alone as in a batch; saved and loaded; one step of training."""
    backbone, decoder = built_pair(name, kind)
    backbone.eval()
    decoder.eval()
    stride = grid_stride(kind, backbone.strides)
    with torch.no_grad():
        for height, width in ((1, 1), (33, 47)):
            images = torch.randn(2, 3, height, width)
            decoded = decoder(backbone(images))
            grid = ceil_size(height, width, stride)
            assert decoded.features.shape == (2, decoder.feature_channels, *grid)
            assert decoded.logits.shape == (2, NUM_CLASSES, *grid)
            assert (decoded.aux is not None) == kind.startswith("ocr")
            assert decoded.aux is None or decoded.aux.shape == decoded.logits.shape
            assert torch.isfinite(decoded.logits).all()
        maps = backbone(images[:1])
        alone, together = decoder(maps).logits, decoded.logits[:1]
        # Convolutions of another batch size round differently, which random weights amplify.
        torch.testing.assert_close(alone, together, rtol=1e-3, atol=1e-4 * float(together.abs().max()))
        stored = save(decoder.state_dict())
        for value in decoder.state_dict().values():
            value.zero_()
        assert not torch.equal(decoder(maps).logits, alone)
        decoder.load_state_dict(load(stored), strict=True)
        assert torch.equal(decoder(maps).logits, alone)
    one_step(name, backbone.train(), decoder.train(), torch.randn(2, 3, 17, 23))


def one_step(name, backbone, decoder, images):
    """Finite loss and gradients everywhere."""
    backbone.zero_grad()
    decoded = decoder(backbone(images))
    labels = torch.randint(0, NUM_CLASSES, (2, *decoded.logits.shape[-2:]))
    outputs = [decoded.logits] if decoded.aux is None else [decoded.logits, decoded.aux]
    loss = sum(torch.nn.functional.cross_entropy(logits, labels) for logits in outputs)
    assert torch.isfinite(loss)
    loss.backward()
    unused = []
    for module in (backbone, decoder):
        for key, parameter in module.named_parameters():
            if parameter.grad is None:
                unused.append(key)
            else:
                assert torch.isfinite(parameter.grad).all(), key
    backbone.zero_grad()
    # Where a decoder reads some maps only, what makes the others alone goes nowhere: HRNet's last exchange, and the
    # levels of a transformer's pyramid.
    expected = {"hrnet": ".fuse_layers.", "vit": "levels."}.get(name.split("_")[0])
    assert not unused or (expected is not None and all(expected in key for key in unused)), unused
