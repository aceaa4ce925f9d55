import pytest
import timm
import torch

from polyscale.backbones import BackboneConfig, build_backbone
from polyscale.errors import UserError


def images(height, width, count=1):
    return torch.randn(count, 3, height, width, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(("name", "size"), [("resnet18", (65, 97)), ("convnext_atto", (32, 64))])
def test_same_maps_as_timm_where_timm_keeps_the_contract(name, size):
    backbone = build_backbone(BackboneConfig(name=name)).eval()
    reference = timm.create_model(name, features_only=True).eval()
    reference.load_state_dict(backbone.body.state_dict())
    x = images(*size)
    with torch.no_grad():
        for ours, theirs in zip(backbone(x), reference(x), strict=True):
            assert torch.equal(ours, theirs)


def test_patch_stems_are_padded_and_cropped():
    backbone = build_backbone(BackboneConfig(name="convnext_atto")).eval()
    x = images(33, 47)
    border = torch.nn.functional.pad(x, (0, 17, 0, 31), mode="replicate")
    with torch.no_grad():
        maps, whole = backbone(x), backbone(border)
    assert [tuple(map_.shape[-2:]) for map_ in maps] == [(9, 12), (5, 6), (3, 3), (2, 2)]
    assert torch.equal(maps[0], whole[0][..., :9, :12])


def test_swins_windows_are_shifted_in_every_stage_and_at_every_size():
    with torch.device("meta"):
        body = build_backbone(BackboneConfig(name="swin_tiny_patch4_window7_224")).body
    blocks = [block for stage in range(4) for block in body[f"layers_{stage}"].blocks]
    assert [block.window_size for block in blocks] == [(7, 7)] * 12
    assert [block.shift_size for block in blocks] == [(0, 0), (3, 3)] * 6


def test_an_image_of_one_size_only_is_refused_in_one_line():
    with pytest.raises(UserError) as caught:
        build_backbone(BackboneConfig(name="maxvit_rmlp_pico_rw_256"))
    assert "does not take images of every size" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("stride", [8, 16])
def test_output_stride(stride):
    backbone = build_backbone(BackboneConfig(name="resnet18", output_stride=stride)).eval()
    assert max(backbone.strides) == stride
    with torch.no_grad():
        maps = backbone(images(65, 97))
    assert tuple(maps[-1].shape[-2:]) == (-(-65 // stride), -(-97 // stride))


def test_dilated_first_blocks():
    config = BackboneConfig(name="resnet50", output_stride=8)
    plain = build_backbone(config)
    dilated = build_backbone(config.model_copy(update={"dilate_first_blocks": True}))
    assert [plain.body.layer3[0].conv2.dilation, plain.body.layer4[0].conv2.dilation] == [(1, 1), (2, 2)]
    assert [dilated.body.layer3[0].conv2.dilation, dilated.body.layer4[0].conv2.dilation] == [(2, 2), (4, 4)]
    assert [map_.shape for map_ in dilated(images(33, 47))] == [map_.shape for map_ in plain(images(33, 47))]


@pytest.mark.parametrize(
    ("name", "mean"),
    [("tf_efficientnet_lite0", (0.5, 0.5, 0.5)), ("resnet18", (0.485, 0.456, 0.406)), ("tiny", (0.485, 0.456, 0.406))],
)
def test_normalisation_is_that_of_the_weights(name, mean):
    assert build_backbone(BackboneConfig(name=name)).mean == mean


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"name": "resnet51"}, ["resnet51", "did you mean", "'resnet50'", "own"]),
        ({"name": "hrnet_w18_small", "output_stride": 8}, ["output stride 8", "possible: 32"]),
        ({"name": "hrnet_w18_small", "drop_path": 0.1}, ["stochastic depth", "drop_path: 0"]),
        ({"name": "tiny", "pretrained": True}, ["tiny", "pretrained: false"]),
        ({"name": "densenet121", "output_stride": 8}, ["no choice of output strides", "output_stride: null"]),
        ({"name": "resnest14d", "output_stride": 8, "dilate_first_blocks": True}, ["dilate_first_blocks: false"]),
        ({"name": "tiny", "output_stride": 8}, ["tiny", "output_stride: null"]),
        ({"name": "tiny", "dilate_first_blocks": True}, ["dilate_first_blocks: false"]),
        ({"name": "hrnet_w18_small", "dilate_first_blocks": True}, ["dilate_first_blocks: false"]),
        ({"name": "tf_efficientnet_lite0", "dilate_first_blocks": True}, ["dilate_first_blocks: false"]),
    ],
)
def test_what_cannot_be_had_is_said_in_one_line(options, words):
    with pytest.raises(UserError) as caught:
        build_backbone(BackboneConfig(**options))
    message = str(caught.value)
    assert "\n" not in message
    assert all(word in message for word in words), message


SLOW = [pytest.param(name, marks=pytest.mark.slow) for name in ("resnet18", "hrnet_w18_small")]


@pytest.mark.parametrize("name", ["tiny", "tf_efficientnet_lite0", *SLOW])
def test_checkpointing_changes_nothing_but_memory(name):
    torch.manual_seed(0)
    plain = build_backbone(BackboneConfig(name=name)).double()
    saving = build_backbone(BackboneConfig(name=name, checkpointing=True)).double()
    saving.load_state_dict(plain.state_dict())
    x = images(40, 40, count=2).double()
    for backbone in (plain, saving):
        sum(map_.square().mean() for map_ in backbone(x)).backward()
    for key, value in plain.state_dict().items():
        torch.testing.assert_close(saving.state_dict()[key], value, rtol=1e-9, atol=1e-9, msg=key)
    assert all(m.momentum == 0.1 for m in saving.modules() if isinstance(m, torch.nn.BatchNorm2d))
    for (key, ours), theirs in zip(saving.named_parameters(), plain.parameters(), strict=True):
        if theirs.grad is not None:
            torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-6, atol=1e-9, msg=key)


def test_checkpointing_really_runs_stages_again():
    backbone = build_backbone(BackboneConfig(name="hrnet_w18_small", checkpointing=True))
    calls = []
    backbone.body.layer1[0].conv1.register_forward_hook(lambda *_: calls.append(1))
    sum(map_.sum() for map_ in backbone(images(32, 32, count=2))).backward()
    assert len(calls) == 2
