"""From a backbone's configuration to the backbone."""

from polyscale.backbones.backbone import Backbone, BackboneConfig

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
