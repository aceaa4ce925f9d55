import pytest
import timm
import torch
from safetensors.torch import save_file

from polyscale.backbones import BackboneConfig, build_backbone
from polyscale.errors import UserError


def test_tokens_are_timms_at_its_own_size():
    torch.manual_seed(0)
    backbone = build_backbone(BackboneConfig(name="vit_tiny_patch16_224")).eval()
    reference = timm.create_model("vit_tiny_patch16_224", num_classes=0, dynamic_img_size=True).eval()
    reference.load_state_dict(backbone.body.state_dict())
    x = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        tokens = reference.forward_features(x)[:, 1:].transpose(1, 2).unflatten(2, (4, 6))
        assert torch.equal(backbone(x)[2], backbone.levels[2](tokens))


def test_the_border_is_repeated_to_whole_patches():
    torch.manual_seed(0)
    backbone = build_backbone(BackboneConfig(name="vit_tiny_patch16_224")).eval()
    x = torch.randn(1, 3, 33, 47)
    whole = torch.nn.functional.pad(x, (0, 1, 0, 15), mode="replicate")
    with torch.no_grad():
        maps, padded = backbone(x), backbone(whole)
    assert [tuple(map_.shape[-2:]) for map_ in maps] == [(9, 12), (5, 6), (3, 3), (2, 2)]
    assert all(torch.equal(a, b[..., : a.shape[-2], : a.shape[-1]]) for a, b in zip(maps, padded, strict=True))


def test_a_patch_of_14_pixels_stands_for_16():
    with torch.device("meta"):
        backbone = build_backbone(BackboneConfig(name="vit_small_patch14_dinov2")).eval()
    seen = []
    backbone.body.patch_embed.register_forward_pre_hook(lambda _, inputs: seen.append(tuple(inputs[0].shape[-2:])))
    maps = backbone(torch.empty(1, 3, 161, 96, device="meta"))
    assert seen == [(11 * 14, 6 * 14)]
    assert [tuple(map_.shape[-2:]) for map_ in maps] == [(41, 24), (21, 12), (11, 6), (6, 3)]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"name": "vit_base_patch32_224"}, ["32 x 32", "vit_small_patch16_dinov3"]),
        ({"name": "vit_tiny_patch16_224", "output_stride": 8}, ["output_stride: null"]),
        ({"name": "vit_tiny_patch16_224", "dilate_first_blocks": True}, ["dilate_first_blocks: false"]),
        ({"name": "vit_tiny_patch16_224", "pretrained": "absent.pth"}, ["absent.pth"]),
    ],
)
def test_what_cannot_be_had_is_said_in_one_line(options, words):
    with pytest.raises(UserError) as caught, torch.device("meta"):
        build_backbone(BackboneConfig(**options))
    assert "\n" not in str(caught.value)
    assert all(word in str(caught.value) for word in words), str(caught.value)


def test_checkpointing_gives_the_same_gradients():
    torch.manual_seed(0)
    plain = build_backbone(BackboneConfig(name="vit_tiny_patch16_224"))
    saving = build_backbone(BackboneConfig(name="vit_tiny_patch16_224", checkpointing=True))
    saving.load_state_dict(plain.state_dict())
    x = torch.randn(1, 3, 32, 32)
    for backbone in (plain, saving):
        sum(map_.square().mean() for map_ in backbone.train()(x)).backward()
    for (key, ours), theirs in zip(saving.named_parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad, msg=key)


def test_weights_from_a_file_are_timms(tmp_path):
    torch.manual_seed(1)
    whole = timm.create_model("vit_tiny_patch16_224").state_dict()
    save_file(whole, tmp_path / "vit.safetensors")
    config = BackboneConfig(name="vit_tiny_patch16_224", pretrained=str(tmp_path / "vit.safetensors"))
    body = build_backbone(config).body.state_dict()
    assert body.keys() == whole.keys() - {"head.weight", "head.bias"}
    assert all(torch.equal(value, whole[key]) for key, value in body.items())
