"""Common parts of the backbones that timm lacks: options they refuse, first weights, weights from a file."""

from collections.abc import Sequence

from torch import nn

from polyscale.backbones.backbone import Backbone, BackboneConfig
from polyscale.backbones.pretrained import load_strictly, read_state_dict
from polyscale.errors import UserError

__all__ = ["IN_HOUSE", "initialise_inhouse", "load_inhouse", "refuse_options"]

IN_HOUSE = ("tiny", "wide_resnet38", "aligned_xception71")
"""Names of the backbones that are not timm's."""


def refuse_options(config: BackboneConfig, output_strides: Sequence[int]) -> None:
    """Say in one line which option a backbone does not have.

    Args:
        config: the backbone's.
        output_strides: those that it has.

    Raises:
        UserError: an option other than these, or one that belongs to other backbones.
    """
    if config.output_stride is not None and config.output_stride not in output_strides:
        possible = " or ".join(str(stride) for stride in output_strides)
        raise UserError(f"backbone {config.name!r} has no output stride {config.output_stride}; possible: {possible}")
    if config.in_channels != 3:
        raise UserError(f"backbone {config.name!r} takes three channels; set in_channels: 3, or use another backbone")
    if config.drop_path:
        raise UserError(f"backbone {config.name!r} has no stochastic depth; set drop_path: 0")
    if config.dilate_first_blocks:
        raise UserError(f"backbone {config.name!r} is not a ResNet of layer1 to layer4; set dilate_first_blocks: false")
    if config.pretrained is True:
        raise UserError(
            f"no pretrained weights for backbone {config.name!r} can be fetched; give a file "
            "(pretrained: weights.pth) or set pretrained: false"
        )


def initialise_inhouse(backbone: Backbone) -> None:
    """He initialisation for convolutions; norms start as they are made."""
    for module in backbone.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")


def load_inhouse(backbone: Backbone, config: BackboneConfig) -> None:
    """Load the file that ``config.pretrained`` names, if it names one.

    Raises:
        UserError: the file cannot be read, or a tensor is missing or of another shape.
    """
    if isinstance(config.pretrained, str):
        load_strictly(backbone, read_state_dict(config.pretrained), config.name, config.pretrained)
