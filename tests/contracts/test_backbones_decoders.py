"""Every backbone with every decoder keeps the same promises."""

import pytest
import torch
from safetensors.torch import load_file, save_file

from polyscale.backbones import BackboneConfig, build_backbone
from polyscale.backbones.hrnet import HRNetBackbone
from polyscale.decoders import DecoderConfig, build_decoder
from polyscale.decoders.deeplabv3plus import DeepLabV3PlusDecoder

QUICK = ["tiny", "tf_efficientnet_lite0", "hrnet_w18_small", "resnet18", "convnext_atto"]
LARGE = ["resnet50", "mobilenetv3_large_100", "hrnet_w18_small_v2", "hrnet_w48", "convnext_tiny"]
NUM_CLASSES = 5
DECODERS = {
    "light": DecoderConfig(kind="light", light_channels=24),
    "ocr": DecoderConfig(kind="ocr", ocr_channels=24, ocr_key_channels=12),
    "deeplabv3plus": DecoderConfig(kind="deeplabv3plus", aspp_channels=16, fine_channels=8),
}


@pytest.fixture(scope="module", params=[*QUICK, *(pytest.param(name, marks=pytest.mark.slow) for name in LARGE)])
def backbone(request):
    torch.manual_seed(0)
    return build_backbone(BackboneConfig(name=request.param))


@pytest.fixture(params=list(DECODERS))
def decoder(request, backbone):
    torch.manual_seed(0)
    return build_decoder(DECODERS[request.param], backbone.channels, backbone.strides, NUM_CLASSES)


def ceil_size(height, width, stride):
    return -(-height // stride), -(-width // stride)


@pytest.mark.parametrize(("height", "width"), [(65, 97), (33, 47), (64, 32), (3, 70), (1, 1)])
def test_backbone_maps_are_as_declared(backbone, height, width):
    backbone.eval()
    with torch.no_grad():
        maps = backbone(torch.randn(1, 3, height, width))
    assert list(backbone.strides) == sorted(backbone.strides)
    assert [map_.shape[1] for map_ in maps] == list(backbone.channels)
    assert [tuple(map_.shape[-2:]) for map_ in maps] == [ceil_size(height, width, s) for s in backbone.strides]
    assert all(torch.isfinite(map_).all() for map_ in maps)


@pytest.mark.parametrize(("height", "width"), [(65, 97), (33, 47), (1, 1)])
def test_decoded_is_as_declared(backbone, decoder, height, width):
    backbone.eval()
    decoder.eval()
    with torch.no_grad():
        decoded = decoder(backbone(torch.randn(1, 3, height, width)))
    grid = ceil_size(height, width, 4)
    assert decoded.features.shape == (1, decoder.feature_channels, *grid)
    assert decoded.logits.shape == (1, NUM_CLASSES, *grid)
    assert (decoded.aux is None) == (not isinstance(decoded.aux, torch.Tensor))
    if decoded.aux is not None:
        assert decoded.aux.shape == decoded.logits.shape
    assert torch.isfinite(decoded.logits).all()


def test_one_step_has_finite_gradients_everywhere(backbone, decoder):
    backbone.train()
    backbone.zero_grad()
    decoded = decoder(backbone(torch.randn(2, 3, 65, 97)))
    labels = torch.randint(0, NUM_CLASSES, (2, *decoded.logits.shape[-2:]))
    outputs = [decoded.logits] if decoded.aux is None else [decoded.logits, decoded.aux]
    sum(torch.nn.functional.cross_entropy(logits, labels) for logits in outputs).backward()
    unused = []
    for module in (backbone, decoder):
        for name, parameter in module.named_parameters():
            if parameter.grad is None:
                unused.append(name)
            else:
                assert torch.isfinite(parameter.grad).all(), name
    # DeepLabV3+ reads HRNet's finest and coarsest branch only: what the last module gives the others goes nowhere.
    assert not unused or (isinstance(backbone, HRNetBackbone) and isinstance(decoder, DeepLabV3PlusDecoder)), unused
    assert all(".fuse_layers." in name for name in unused), unused
    backbone.zero_grad()


def test_an_image_alone_is_as_in_a_batch(backbone, decoder):
    backbone.eval()
    decoder.eval()
    images = torch.randn(3, 3, 33, 47)
    with torch.no_grad():
        together = decoder(backbone(images)).logits
        alone = torch.cat([decoder(backbone(image[None])).logits for image in images])
    torch.testing.assert_close(alone, together, rtol=1e-4, atol=1e-5 * float(together.abs().max()))


def test_saved_and_loaded_gives_the_same(backbone, decoder, tmp_path):
    backbone.eval()
    decoder.eval()
    pair = torch.nn.ModuleList([backbone, decoder])
    save_file(pair.state_dict(), tmp_path / "pair.safetensors")
    images = torch.randn(1, 3, 33, 47)
    with torch.no_grad():
        before = decoder(backbone(images)).logits
        kept = {key: value.clone() for key, value in pair.state_dict().items()}
        for value in pair.state_dict().values():
            value.zero_()
        blank = decoder(backbone(images)).logits
        pair.load_state_dict(load_file(tmp_path / "pair.safetensors"), strict=True)
        after = decoder(backbone(images)).logits
        pair.load_state_dict(kept)
    assert torch.equal(after, before)
    assert not torch.equal(blank, before)
