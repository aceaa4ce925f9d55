import pytest
import timm
import torch

from polyscale.backbones import BackboneConfig, build_backbone


@pytest.mark.parametrize("name", ["hrnet_w18_small", "hrnet_w18_small_v2"])
def test_nearest_upsampling_is_timms_network(name):
    backbone = build_backbone(BackboneConfig(name=name, branch_upsampling="nearest")).eval()
    reference = timm.create_model(name, features_only=True, feature_location="", out_indices=(1, 2, 3, 4)).eval()
    reference.load_state_dict(backbone.body.state_dict())
    x = torch.randn(1, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        for ours, theirs in zip(backbone(x), reference(x), strict=True):
            assert torch.equal(ours, theirs)


def test_bilinear_upsampling_is_the_default_and_differs():
    torch.manual_seed(0)
    bilinear = build_backbone(BackboneConfig(name="hrnet_w18_small")).eval()
    nearest = build_backbone(BackboneConfig(name="hrnet_w18_small", branch_upsampling="nearest")).eval()
    nearest.load_state_dict(bilinear.state_dict())
    x = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        assert not torch.allclose(bilinear(x)[0], nearest(x)[0], rtol=1e-2)


def test_branches_of_w18_concatenate_to_270_channels():
    backbone = build_backbone(BackboneConfig(name="hrnet_w18_small_v2"))
    assert (sum(backbone.channels), backbone.strides) == (270, (4, 8, 16, 32))


@pytest.mark.slow
def test_branches_of_w48_concatenate_to_720_channels():
    backbone = build_backbone(BackboneConfig(name="hrnet_w48"))
    assert (backbone.channels, sum(backbone.channels)) == ((48, 96, 192, 384), 720)
