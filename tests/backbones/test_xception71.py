import json

import pytest
import torch
from torch import nn

from polyscale.backbones import BackboneConfig, build_backbone, xception71
from polyscale.backbones.xception71 import _Block
from polyscale.errors import UserError


def meta(**options):
    with torch.device("meta"):
        return build_backbone(BackboneConfig(name="aligned_xception71", **options)).eval()


@pytest.mark.parametrize(("case", "prefix"), [("deepv3plus_x71", "backbone."), ("deeper_x71", "trunk.")])
def test_tensors_are_those_of_the_published_network(golden, case, prefix):
    published = json.loads((golden / "manifests" / f"{case}.json").read_text())["state_dict"]
    own = [[prefix + key, list(value.shape)] for key, value in meta().state_dict().items()]
    assert own == [[key, shape] for key, shape in published if key.startswith(prefix)]


@pytest.mark.parametrize("output_stride", [8, 16])
@pytest.mark.parametrize("size", [(1, 1), (33, 47), pytest.param((112, 320), marks=pytest.mark.slow)])
def test_map_sizes(size, output_stride):
    backbone = meta(output_stride=output_stride)
    maps = backbone(torch.empty(1, 3, *size, device="meta"))
    expected = [(1, 64, 2), (1, 128, 4), (1, 2048, 8)]
    if output_stride == 16:
        expected[2:] = [(1, 728, 8), (1, 2048, 16)]
    assert [tuple(map_.shape) for map_ in maps] == [(n, c, -(-size[0] // s), -(-size[1] // s)) for n, c, s in expected]


def test_dilations_at_output_stride_8():
    convs = {key: module for key, module in meta().named_modules() if isinstance(module, nn.Conv2d)}
    depthwise = {key: conv for key, conv in convs.items() if conv.groups > 1}
    one = {key for key, conv in depthwise.items() if conv.dilation == (1, 1)}
    assert {key.split(".")[0] for key in one} == {"block1", "block2", "block3", "block20"}
    assert [key for key in one if key.startswith("block20")] == ["block20.rep.7.conv1"]
    assert {key.split(".")[0] for key, conv in depthwise.items() if conv.dilation == (4, 4)} == {
        "conv3",
        "conv4",
        "conv5",
    }
    assert {key for key, conv in convs.items() if conv.stride == (2, 2)} == {
        "conv1",
        "block1.skip",
        "block1.rep.6.conv1",
        "block3.skip",
        "block3.rep.7.conv1",
    }


@pytest.mark.parametrize(("widths", "stride"), [((6, 6, 6), 1), ((6, 8, 8), 1), ((8, 8, 8), 2)])
def test_an_activation_in_place_reaches_the_skip_connection(widths, stride):
    """Against the network as it is written elsewhere: a first ReLU that overwrites what the skip then reads."""
    torch.manual_seed(0)
    block = _Block(6, widths, stride=stride, dilation=2).eval()
    x = torch.randn(2, 6, 9, 7)
    overwritten = x.clone()
    with torch.no_grad():
        expected = nn.Sequential(nn.ReLU(inplace=True), *block.rep)(overwritten)
        expected = expected + (overwritten if block.skip is None else block.skipbn(block.skip(overwritten)))
        before = x.clone()
        assert torch.equal(block(x), expected)
        assert torch.equal(x, before)
        first = _Block(6, widths, stride=stride, activate_first=False).eval()
        kept = x if first.skip is None else first.skipbn(first.skip(x))
        assert torch.equal(first(x), first.rep(x) + kept)


def test_other_output_strides_are_refused():
    with pytest.raises(UserError, match="no output stride 32; possible: 8 or 16"):
        meta(output_stride=32)


@pytest.mark.slow
def test_checkpointing_gives_the_same_gradients_and_statistics(monkeypatch):
    monkeypatch.setattr(xception71, "WIDTH", 8)
    monkeypatch.setattr(xception71, "MIDDLE_BLOCKS", range(4, 6))
    torch.manual_seed(0)
    plain = build_backbone(BackboneConfig(name="aligned_xception71"))
    saving = build_backbone(BackboneConfig(name="aligned_xception71", checkpointing=True))
    saving.load_state_dict(plain.state_dict())
    x = torch.randn(2, 3, 17, 17)
    for backbone in (plain, saving):
        sum(map_.square().mean() for map_ in backbone.train()(x)).backward()
    for (key, ours), theirs in zip(saving.named_parameters(), plain.parameters(), strict=True):
        assert torch.equal(ours.grad, theirs.grad), key
    for (key, ours), theirs in zip(saving.named_buffers(), plain.buffers(), strict=True):
        assert torch.equal(ours, theirs), key


@pytest.mark.slow
def test_weights_come_from_a_file_with_a_classifier(tmp_path):
    torch.manual_seed(1)
    source = build_backbone(BackboneConfig(name="aligned_xception71")).state_dict()
    state = {f"module.{key}": value for key, value in source.items()}
    torch.save({"model_dict": state | {"module.fc.weight": torch.zeros(10, 2048)}}, tmp_path / "x71.pth")
    loaded = build_backbone(BackboneConfig(name="aligned_xception71", pretrained=str(tmp_path / "x71.pth")))
    assert all(torch.equal(value, source[key]) for key, value in loaded.state_dict().items())
