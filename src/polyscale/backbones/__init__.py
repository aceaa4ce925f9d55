"""Backbones: an image in, feature maps from fine to coarse out, behind one small contract."""

from polyscale.backbones.backbone import Backbone, BackboneConfig
from polyscale.backbones.build import build_backbone
from polyscale.backbones.pretrained import can_be_pretrained

__all__ = ["Backbone", "BackboneConfig", "build_backbone", "can_be_pretrained"]
