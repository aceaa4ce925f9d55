import pytest
import timm
import torch

from polyscale.backbones import BackboneConfig, build_backbone
from polyscale.backbones.inhouse import IN_HOUSE
from polyscale.errors import UserError


@pytest.mark.parametrize("name", IN_HOUSE)
def test_every_name_builds_and_is_none_of_timms(name):
    with torch.device("meta"):
        backbone = build_backbone(BackboneConfig(name=name))
    assert backbone.mean == (0.485, 0.456, 0.406)
    assert not timm.is_model(name)


def test_a_misspelt_name_is_answered_with_the_right_one():
    with pytest.raises(UserError, match=r"did you mean 'wide_resnet38'"):
        build_backbone(BackboneConfig(name="wideresnet38"))


def test_weights_of_another_network_are_refused(tmp_path):
    torch.save({"mod1.conv1.weight": torch.zeros(64, 3, 3, 3)}, tmp_path / "part.pth")
    with pytest.raises(UserError, match="tensors missing"), torch.device("meta"):
        build_backbone(BackboneConfig(name="wide_resnet38", pretrained=str(tmp_path / "part.pth")))
