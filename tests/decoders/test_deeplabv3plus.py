import json

import pytest
import torch

from polyscale.decoders import DecoderConfig, build_decoder

SMALL = DecoderConfig(kind="deeplabv3plus", aspp_channels=8, fine_channels=4)


@pytest.mark.parametrize(("stride", "rates"), [(8, [12, 24, 36]), (16, [6, 12, 18]), (32, [3, 6, 9])])
def test_rates_follow_the_output_stride(stride, rates):
    decoder = build_decoder(SMALL, (4, 8, 16), (2, 4, stride), 3)
    assert [branch[0].dilation[0] for branch in decoder.aspp.branches] == [1, *rates]


def test_published_sizes_for_resnet50():
    """Tensor shapes of the published network with 19 classes."""
    with torch.device("meta"):
        decoder = build_decoder(DecoderConfig(kind="deeplabv3plus"), (64, 256, 512, 1024, 2048), (2, 4, 8, 8, 8), 19)
    shapes = {key: tuple(value.shape) for key, value in decoder.state_dict().items()}
    assert decoder.feature_channels == 304
    assert shapes["fine.weight"] == (48, 256, 1, 1)
    assert shapes["bottleneck.weight"] == (256, 1280, 1, 1)
    assert shapes["head.0.0.weight"] == (256, 304, 3, 3)
    assert "classifier.bias" not in shapes


def test_one_image_trains_with_running_statistics_of_the_pooled_values():
    torch.manual_seed(0)
    decoder = build_decoder(SMALL, (4, 6), (4, 16), 3)
    maps = [torch.randn(1, 4, 8, 12), torch.randn(1, 6, 2, 3)]
    norm = decoder.aspp.image[1]
    decoder(maps).logits.sum().backward()
    assert torch.equal(norm.running_mean, torch.zeros(8))
    assert all(torch.isfinite(parameter.grad).all() for parameter in decoder.parameters())
    decoder([torch.cat([x, x + 1]) for x in maps])
    assert not torch.equal(norm.running_mean, torch.zeros(8))


def test_the_fine_map_may_be_of_stride_2():
    """As published with WideResNet-38 and Xception-71."""
    for fine_stride, count in ((2, 4), (4, 6), (8, 8)):
        config = SMALL.model_copy(update={"fine_stride": fine_stride})
        assert build_decoder(config, (4, 6, 8), (2, 4, 8), 3).fine.in_channels == count
    assert build_decoder(SMALL.model_copy(update={"fine_stride": 2}), (6, 8), (4, 8), 3).fine.in_channels == 6


@pytest.mark.parametrize(
    ("case", "channels"), [("deepv3plus_w38", (128, 256, 4096)), ("deepv3plus_x71", (64, 128, 2048))]
)
def test_tensors_have_the_shapes_of_the_published_network(golden, case, channels):
    """The same shapes, though under other names and in another order."""
    published = json.loads((golden / "manifests" / f"{case}.json").read_text())["state_dict"]
    with torch.device("meta"):
        decoder = build_decoder(DecoderConfig(kind="deeplabv3plus", fine_stride=2), channels, (2, 4, 8), 19)
    theirs = sorted(shape for key, shape in published if not key.startswith("backbone."))
    assert sorted(list(value.shape) for value in decoder.state_dict().values()) == theirs
