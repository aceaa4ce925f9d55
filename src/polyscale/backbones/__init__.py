"""Backbones: an image in, feature maps from fine to coarse out, behind one small contract."""

from polyscale.backbones.backbone import Backbone, BackboneConfig
from polyscale.backbones.build import build_backbone

__all__ = ["Backbone", "BackboneConfig", "build_backbone"]
