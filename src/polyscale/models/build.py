"""Builds a network from its configuration: ``multiscale.method`` alone decides how scales are combined."""

from typing import Literal

from pydantic import Field, field_validator, model_validator

from polyscale.attention import AttentionOverViews, ViewAttention
from polyscale.backbones import BackboneConfig, build_backbone
from polyscale.baselines import AveragePooling, ExplicitMultiScale, SingleScale
from polyscale.config import Config
from polyscale.decoders import DecoderConfig, build_decoder
from polyscale.errors import UserError
from polyscale.labels import LabelSpace
from polyscale.models.foreign import ForeignConfig, build_foreign
from polyscale.models.segmenter import ScaleAttention, Segmenter
from polyscale.multiscale import HierarchicalMultiScale, MultiScale
from polyscale.pairs import PairwiseMultiScale
from polyscale.scales import check_scales

__all__ = ["AttentionConfig", "Method", "ModelConfig", "MultiScaleConfig", "build_model"]

Method = Literal["hierarchical", "single", "average", "explicit"]


class AttentionConfig(Config):
    """The scale-attention head."""

    channels: int = Field(128, ge=1)
    """Width of its two hidden layers. 256 as published; 128 keeps the training of a pair at 1.27 times one scale's."""
    initial: float | None = Field(None, gt=0, lt=1)
    """Hierarchical only: attention before training; null as published (no bias, about 0.5)."""
    softmax: bool = True
    """Explicit only: normalise the weights over scales (as in Chen et al. 2016); false as in the released code."""
    source: Literal["scale", "pair"] = "scale"
    """Hierarchical only: read it from one scale's features, as published, or from those of two neighbouring scales."""
    reads: Literal["features", "views", "both"] = "features"
    """Hierarchical only: what it reads. The decoder's features, as published; what two views say (class probabilities,
    how sure a scale and the finer ones are, and how far they disagree); or both.
    """
    maps: Literal["one", "class"] = "one"
    """With ``reads: views`` or ``both``: one map as published, or one for each class."""
    batch_norm: bool = True
    """Explicit only: false for the released head of one 3 x 3 convolution without batch norm (512 channels there)."""


class MultiScaleConfig(Config):
    """The way of combining scales, in training and afterwards.

    ``train_scales`` default to the paper's: (0.5, 1) hierarchical, (0.5, 1, 2) explicit, (1) otherwise. ``eval_scales``
    default to (0.5, 1, 2), and to (1) for one scale.
    """

    method: Method = "hierarchical"
    """``hierarchical`` (learnt attention), ``single`` (scale 1), ``average`` (of probabilities) or ``explicit`` (one
    head over a fixed set of scales).
    """
    train_scales: tuple[float, ...] = ()
    """The scales of training, 1 among them; by default as above."""
    eval_scales: tuple[float, ...] = ()
    """The scales of prediction where none are asked for; by default as above."""
    attention: AttentionConfig = AttentionConfig()
    """The head that weighs the scales."""
    fusion: Literal["exact", "fast"] = "exact"
    """Fuse at each view's input size as published, or on the decoder's own grid. No matter for one scale alone, and for
    averages, which are taken at the image's size.
    """

    @field_validator("train_scales", "eval_scales")
    @classmethod
    def _ordered(cls, scales: tuple[float, ...]) -> tuple[float, ...]:
        return tuple(reversed(check_scales(scales))) if scales else ()

    @model_validator(mode="after")
    def _fits_the_method(self) -> "MultiScaleConfig":
        defaults: dict[Method, tuple[tuple[float, ...], tuple[float, ...]]] = {
            "hierarchical": ((0.5, 1.0), (0.5, 1.0, 2.0)),
            "single": ((1.0,), (1.0,)),
            "average": ((1.0,), (0.5, 1.0, 2.0)),
            "explicit": ((0.5, 1.0, 2.0), self.train_scales or (0.5, 1.0, 2.0)),
        }
        train, evaluation = defaults[self.method]
        for name, value in (("train_scales", train), ("eval_scales", evaluation)):
            if not getattr(self, name):
                object.__setattr__(self, name, value)
        if self.method in ("single", "average") and self.train_scales != (1.0,):
            raise ValueError(
                f"method {self.method!r} trains at scale 1 only; remove train_scales or choose hierarchical"
            )
        if self.method == "single" and self.eval_scales != (1.0,):
            raise ValueError("method 'single' evaluates at scale 1 only; choose method average to pool several scales")
        if self.method == "hierarchical" and len(self.train_scales) < 2:
            raise ValueError("method 'hierarchical' needs a pair of train_scales, for example [0.5, 1]")
        if self.method != "hierarchical" and self.attention.source != "scale":
            raise ValueError(f"method {self.method!r} reads no pairs of scales; remove attention.source")
        if self.attention.reads != "features" and (self.method, self.attention.source) != ("hierarchical", "scale"):
            raise ValueError("attention.reads: views needs method hierarchical and attention.source scale")
        if self.attention.reads == "features" and self.attention.maps != "one":
            raise ValueError("attention.maps: class needs attention.reads: views or both")
        if self.attention.reads != "features" and self.attention.initial is not None:
            raise ValueError("attention.initial has no effect with attention.reads: views, which starts at the average")
        if self.method != "explicit" and not self.attention.batch_norm:
            raise ValueError(f"method {self.method!r} has no head without batch norm; remove attention.batch_norm")
        if self.method == "explicit" and self.eval_scales != self.train_scales:
            raise ValueError("method 'explicit' is bound to its train_scales; remove eval_scales")
        return self


class ModelConfig(Config):
    """A network: backbone, decoder and the way of combining scales."""

    foreign: ForeignConfig | None = None
    """Somebody else's network in place of backbone and decoder."""
    backbone: BackboneConfig = BackboneConfig()
    """Images to feature maps."""
    decoder: DecoderConfig = DecoderConfig()
    """Feature maps to classes."""
    multiscale: MultiScaleConfig = MultiScaleConfig()
    """How scales are combined."""
    pad: bool = True
    """Pad images, at each scale, to sides that the backbone's strides divide, by mirroring at their border. At other
    sizes false gives the published network; at these there is no difference.
    """


def build_model(config: ModelConfig, label_space: LabelSpace | int) -> MultiScale:
    """Build the network that ``config`` describes.

    Args:
        config: backbone, decoder, method.
        label_space: whose classes it tells apart, or their number.

    Raises:
        UserError: an unknown backbone, an output stride it does not have, weights that cannot be had.
    """
    num_classes = label_space if isinstance(label_space, int) else label_space.num_classes
    model = _combined(config, num_classes)
    model.config = config
    return model


def _combined(config: ModelConfig, num_classes: int) -> MultiScale:
    if config.foreign is not None:
        return _around_foreign(config, num_classes)
    backbone = build_backbone(config.backbone)
    decoder = build_decoder(config.decoder, backbone.channels, backbone.strides, num_classes)
    settings = config.multiscale
    head = settings.attention
    width = decoder.feature_channels
    fast = settings.fusion == "fast"
    train, evaluation = settings.train_scales, settings.eval_scales
    if settings.method == "hierarchical" and head.source == "scale" and head.reads == "features":
        attention = ScaleAttention(width, head.channels, initial=head.initial)
        segmenter = Segmenter(backbone, decoder, attention, config.pad)
        return HierarchicalMultiScale(segmenter, fast=fast, train_scales=train, eval_scales=evaluation)
    segmenter = Segmenter(backbone, decoder, pad=config.pad)
    match settings.method:
        case "hierarchical" if head.reads != "features":
            features = width if head.reads == "both" else 0
            views = ViewAttention(num_classes, head.channels, num_classes if head.maps == "class" else 1, features)
            return AttentionOverViews(segmenter, views, bool(features), train, evaluation)
        case "hierarchical":
            pairs = ScaleAttention(2 * width, head.channels, initial=head.initial)
            return PairwiseMultiScale(segmenter, pairs, fast, train, evaluation)
        case "single":
            return SingleScale(segmenter)
        case "average":
            return AveragePooling(segmenter, evaluation)
        case "explicit":
            number = len(train)
            weights = ScaleAttention(
                width * number, head.channels, maps=number, sigmoid=False, batch_norm=head.batch_norm
            )
            return ExplicitMultiScale(segmenter, weights, train, head.softmax, fast)


def _around_foreign(config: ModelConfig, num_classes: int) -> MultiScale:
    """A network around somebody else's segmenter: the average of scales, or attention over what it says."""
    assert config.foreign is not None
    segmenter, settings = build_foreign(config.foreign), config.multiscale
    if settings.method == "average":
        return AveragePooling(segmenter, settings.eval_scales)
    if settings.method == "hierarchical" and settings.attention.reads == "views":
        maps = num_classes if settings.attention.maps == "class" else 1
        head = ViewAttention(num_classes, settings.attention.channels, maps)
        return AttentionOverViews(segmenter, head, False, settings.train_scales, settings.eval_scales)
    raise UserError("a network of somebody else takes method average, or hierarchical with attention.reads: views")
