import pytest
import timm
import torch
from safetensors.torch import save_file

from polyscale.backbones import BackboneConfig, build_backbone
from polyscale.errors import UserError


@pytest.mark.parametrize("channels", [1, 4, 5])
def test_pretrained_weights_are_adapted_as_timm_does(tmp_path, channels):
    torch.manual_seed(0)
    full = timm.create_model("resnet10t", num_classes=3)
    path = tmp_path / "weights.safetensors"
    save_file(full.state_dict(), path)
    backbone = build_backbone(BackboneConfig(name="resnet10t", in_channels=channels, pretrained=str(path))).eval()
    first = full.state_dict()["conv1.0.weight"]
    if channels == 1:
        expected = first.sum(1, keepdim=True)
    else:
        expected = first[:, [k % 3 for k in range(channels)]] * 3 / channels
    torch.testing.assert_close(backbone.body.state_dict()["conv1.0.weight"], expected)
    assert len(backbone.mean) == channels
    assert backbone(torch.zeros(1, channels, 33, 33))[0].shape[2:] == (17, 17)


@pytest.mark.parametrize("name", ["hrnet_w18_small", "tiny"])
def test_other_backbones_follow(name):
    backbone = build_backbone(BackboneConfig(name=name, in_channels=4)).eval()
    assert backbone(torch.zeros(1, 4, 33, 33))[0].shape[2:] == (9, 9)


def test_a_backbone_of_three_channels_says_so():
    with pytest.raises(UserError, match="takes three channels"):
        build_backbone(BackboneConfig(name="wide_resnet38", in_channels=4))
