"""Builds a backbone from its configuration."""

from typing import Any

from polyscale.backbones.backbone import Backbone, BackboneConfig
from polyscale.config import construct, is_import_path
from polyscale.errors import UserError

__all__ = ["build_backbone"]


def build_backbone(config: BackboneConfig) -> Backbone:
    """Build a backbone, with the weights that the configuration asks for.

    Example:
        >>> backbone = build_backbone(BackboneConfig(name="tiny"))
        >>> backbone.channels, backbone.strides
        ((64,), (4,))

    Raises:
        UserError: the name is unknown, an option is not one of this backbone's, or the weights cannot be had; one line.
    """
    if is_import_path(config.name):
        return _build_own(config)
    if config.name == "tiny":
        from polyscale.backbones.tiny import TinyBackbone

        return TinyBackbone(config)
    if config.name == "wide_resnet38":
        from polyscale.backbones.wide_resnet38 import WideResNet38Backbone

        return WideResNet38Backbone(config)
    if config.name == "aligned_xception71":
        from polyscale.backbones.xception71 import AlignedXception71Backbone

        return AlignedXception71Backbone(config)
    if config.name.startswith("hrnet_"):
        from polyscale.backbones.hrnet import HRNetBackbone

        return HRNetBackbone(config)
    from polyscale.backbones.vit import ViTBackbone, is_plain_transformer

    if is_plain_transformer(config.name):
        return ViTBackbone(config)
    from polyscale.backbones.pyramid import TimmBackbone

    return TimmBackbone(config)


def _build_own(config: BackboneConfig) -> Backbone:
    given: dict[str, Any] = {} if config.pretrained is False else {"pretrained": config.pretrained}
    backbone = construct(config.name, Backbone, config.options, **given)  # type: ignore[type-abstract]
    channels, strides = (getattr(backbone, name, None) for name in ("channels", "strides"))
    if not (channels and strides and len(channels) == len(strides) and list(strides) == sorted(strides)):
        raise UserError(
            f"backbone {config.name} must set channels and strides, a number each for every map, fine to coarse; "
            f"got {channels} and {strides}"
        )
    return backbone
