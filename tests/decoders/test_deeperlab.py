import json

import pytest
import torch

from polyscale.decoders import DecoderConfig, build_decoder
from polyscale.decoders.layers import deepest_maps


@pytest.mark.parametrize(("case", "channels"), [("deeper_w38", (128, 256, 4096)), ("deeper_x71", (64, 128, 2048))])
def test_tensors_have_the_shapes_of_the_published_network(golden, case, channels):
    """The same shapes, though under other names and in another order."""
    published = json.loads((golden / "manifests" / f"{case}.json").read_text())["state_dict"]
    with torch.device("meta"):
        decoder = build_decoder(DecoderConfig(kind="deeperlab"), channels, (2, 4, 8), 19)
    theirs = sorted(shape for key, shape in published if not key.startswith("trunk."))
    assert sorted(list(value.shape) for value in decoder.state_dict().values()) == theirs
    assert decoder.feature_channels == 256


def test_forward_step_by_step():
    torch.manual_seed(0)
    decoder = build_decoder(DecoderConfig(kind="deeperlab", aspp_channels=8), (4, 6, 10), (2, 4, 8), 3).eval()
    maps = [torch.randn(1, 4, 16, 24), torch.randn(1, 6, 8, 12), torch.randn(1, 10, 4, 6)]

    def doubled(x):
        return torch.nn.functional.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)

    with torch.no_grad():
        x = decoder.bottleneck(decoder.aspp(maps[2]))
        x = decoder.joins[0](torch.cat([doubled(x), decoder.fine[0](maps[1])], dim=1))
        x = decoder.joins[1](torch.cat([doubled(x), decoder.fine[1](maps[0])], dim=1))
        decoded = decoder(maps)
        torch.testing.assert_close(decoded.features, x)
        torch.testing.assert_close(decoded.logits, decoder.classifier(x))
    assert [join[0].kernel_size for join in decoder.joins] == [(5, 5), (5, 5)]


@pytest.mark.parametrize(
    ("strides", "fine", "grid"),
    [
        ((2, 4, 8, 16, 32), [1, 0], 2),
        ((4, 8, 16, 32), [1, 0], 4),
        ((2, 4, 8, 8, 8), [1, 0], 2),
        ((4, 8), [0], 4),
        ((4,), [], 4),
    ],
)
def test_backbones_with_other_strides(strides, fine, grid):
    config = DecoderConfig(kind="deeperlab", aspp_channels=8)
    decoder = build_decoder(config, [4] * len(strides), strides, 3).eval()
    assert decoder.indices == fine
    decoded = decoder([torch.randn(1, 4, 64 // stride, 96 // stride) for stride in strides])
    assert decoded.logits.shape == (1, 3, 64 // grid, 96 // grid)


def test_deepest_maps():
    assert deepest_maps((2, 4, 8, 8, 8)) == [0, 1, 4]
    assert deepest_maps((2, 4, 8, 8, 8), at_least=4) == [1, 4]
    assert deepest_maps((4, 8, 16, 32), at_least=8) == [1, 2, 3]
    assert deepest_maps((2,), at_least=4) == [0]
