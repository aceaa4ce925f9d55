import json

import pytest
import torch

from polyscale.backbones import BackboneConfig, build_backbone, wide_resnet38
from polyscale.backbones.wide_resnet38 import STAGES, _Block
from polyscale.errors import UserError


def meta(**options):
    with torch.device("meta"):
        return build_backbone(BackboneConfig(name="wide_resnet38", **options)).eval()


@pytest.mark.parametrize(("case", "prefix"), [("deepv3plus_w38", "backbone."), ("deeper_w38", "trunk.")])
def test_tensors_are_those_of_the_published_network(golden, case, prefix):
    published = json.loads((golden / "manifests" / f"{case}.json").read_text())["state_dict"]
    own = [[prefix + key, list(value.shape)] for key, value in meta().state_dict().items()]
    assert own == [[key, shape] for key, shape in published if key.startswith(prefix)]


@pytest.mark.parametrize("size", [(1, 1), (33, 47), (65, 97), (112, 320)])
def test_map_sizes(size):
    backbone = meta()
    maps = backbone(torch.empty(1, 3, *size, device="meta"))
    expected = [(1, count, -(-size[0] // s), -(-size[1] // s)) for count, s in ((128, 2), (256, 4), (4096, 8))]
    assert [tuple(map_.shape) for map_ in maps] == expected
    assert [(count, stride) for count, stride in zip(backbone.channels, backbone.strides, strict=True)] == [
        (128, 2),
        (256, 4),
        (4096, 8),
    ]


def test_dilation_and_dropout_grow_with_depth():
    convs = {key: module for key, module in meta().named_modules() if isinstance(module, torch.nn.Conv2d)}
    dilated = {(key.split(".")[0], convs[key].dilation[0]) for key in convs if convs[key].kernel_size == (3, 3)}
    assert dilated == {(f"mod{n}", 1) for n in (1, 2, 3, 4)} | {("mod5", 2), ("mod6", 4), ("mod7", 4)}
    assert {key for key, conv in convs.items() if conv.stride == (2, 2)} == {
        "mod4.block1.convs.conv1",
        "mod4.block1.proj_conv",
    }
    dropped = {key: module.p for key, module in meta().named_modules() if isinstance(module, torch.nn.Dropout2d)}
    assert dropped == {"mod6.block1.convs.dropout": 0.3, "mod7.block1.convs.dropout": 0.5}


def test_a_projection_reads_the_activated_input_and_an_identity_the_plain_one():
    torch.manual_seed(0)
    x = torch.randn(2, 6, 5, 7)
    stage = STAGES[0]._replace(widths=(8, 6))
    same, changed = _Block(6, stage, stride=1).eval(), _Block(6, stage, stride=2).eval()
    with torch.no_grad():
        for block, shortcut in ((same, lambda block: x), (changed, lambda block: block.proj_conv(x.relu()))):
            # A fresh norm in evaluation divides by sqrt(1 + eps): as good as nothing.
            expected = block.convs(x.relu()) + shortcut(block)
            torch.testing.assert_close(block(x), expected, rtol=1e-4, atol=1e-4)
    assert x.min() < 0


def test_checkpointing_gives_the_same_gradients_and_statistics(monkeypatch):
    """Of a narrow network without dropout, which would draw other numbers in the two networks."""
    narrow = [s._replace(blocks=1, widths=tuple(w // 32 for w in s.widths), dropout=0.0) for s in STAGES]
    monkeypatch.setattr(wide_resnet38, "STAGES", tuple(narrow))
    torch.manual_seed(0)
    plain = build_backbone(BackboneConfig(name="wide_resnet38"))
    saving = build_backbone(BackboneConfig(name="wide_resnet38", checkpointing=True))
    saving.load_state_dict(plain.state_dict())
    x = torch.randn(2, 3, 17, 17)
    for backbone in (plain, saving):
        sum(map_.square().mean() for map_ in backbone.train()(x)).backward()
    for (key, ours), theirs in zip(saving.named_parameters(), plain.parameters(), strict=True):
        assert torch.equal(ours.grad, theirs.grad), key
    for (key, ours), theirs in zip(saving.named_buffers(), plain.buffers(), strict=True):
        assert torch.equal(ours, theirs), key


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"output_stride": 16}, ["output stride 16", "possible: 8"]),
        ({"drop_path": 0.1}, ["drop_path: 0"]),
        ({"dilate_first_blocks": True}, ["dilate_first_blocks: false"]),
        ({"pretrained": True}, ["give a file", "pretrained: false"]),
        ({"pretrained": "absent.pth"}, ["absent.pth"]),
    ],
)
def test_what_it_does_not_have_is_said_in_one_line(options, words):
    with pytest.raises(UserError) as caught:
        meta(**options)
    assert "\n" not in str(caught.value)
    assert all(word in str(caught.value) for word in words), str(caught.value)
