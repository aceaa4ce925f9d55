"""From configuration to network: ``multiscale.method`` alone decides how scales are combined."""

from collections.abc import Sequence
from typing import Literal

from pydantic import Field, field_validator, model_validator
from torch import Tensor, nn

from polyscale.backbones import BackboneConfig, build_backbone
from polyscale.baselines import AveragePooling, ExplicitMultiScale, SingleScale
from polyscale.config import Config
from polyscale.decoders import DecoderConfig, build_decoder
from polyscale.labels import LabelSpace
from polyscale.models.segmenter import ScaleAttention, Segmenter
from polyscale.multiscale import Fused, HierarchicalMultiScale, check_scales
from polyscale.pairs import PairwiseMultiScale

__all__ = ["AttentionConfig", "Method", "ModelConfig", "MultiScaleConfig", "MultiScaleModel", "build_model"]

Method = Literal["hierarchical", "single", "average", "explicit"]
Combined = HierarchicalMultiScale | PairwiseMultiScale | SingleScale | AveragePooling | ExplicitMultiScale


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
    batch_norm: bool = True
    """Explicit only: false for the released head of one 3 x 3 convolution without batch norm (512 channels there)."""


class MultiScaleConfig(Config):
    """How scales are combined, in training and afterwards.

    ``train_scales`` default to the paper's: (0.5, 1) hierarchical, (0.5, 1, 2) explicit, (1) otherwise. ``eval_scales``
    default to (0.5, 1, 2), and to (1) for one scale.
    """

    method: Method = "hierarchical"
    train_scales: tuple[float, ...] = ()
    eval_scales: tuple[float, ...] = ()
    attention: AttentionConfig = AttentionConfig()
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
        if self.method != "explicit" and not self.attention.batch_norm:
            raise ValueError(f"method {self.method!r} has no head without batch norm; remove attention.batch_norm")
        if self.method == "explicit" and self.eval_scales != self.train_scales:
            raise ValueError("method 'explicit' is bound to its train_scales; remove eval_scales")
        return self


class ModelConfig(Config):
    """A network: backbone, decoder and the way of combining scales."""

    backbone: BackboneConfig = BackboneConfig()
    decoder: DecoderConfig = DecoderConfig()
    multiscale: MultiScaleConfig = MultiScaleConfig()
    pad: bool = True
    """Pad images, at each scale, to sides that the backbone's strides divide, by mirroring at their border. At other
    sizes false gives the published network; at these there is no difference.
    """


class MultiScaleModel(nn.Module):
    """A segmenter and the way it is combined over scales, behind one call for all four methods.

    Args:
        combined: one of the modules of ``multiscale``, ``pairs`` and ``baselines``.
        config: what it was built from.
        num_classes: C.
    """

    def __init__(
        self,
        combined: Combined,
        config: ModelConfig,
        num_classes: int,
    ) -> None:
        super().__init__()
        self.combined = combined
        self.config = config
        self.num_classes = num_classes

    @property
    def method(self) -> Method:
        """How scales are combined."""
        return self.config.multiscale.method

    @property
    def train_scales(self) -> tuple[float, ...]:
        """The scales of training, ascending."""
        return self.config.multiscale.train_scales

    @property
    def eval_scales(self) -> tuple[float, ...]:
        """The scales used where none are asked for, ascending."""
        return self.config.multiscale.eval_scales

    @property
    def segmenter(self) -> nn.Module:
        """(N, 3, h, w) -> View on the decoder's grid."""
        return self.combined.segmenter

    def forward(self, images: Tensor, scales: Sequence[float] | None = None) -> Fused:
        """Images (N, 3, H, W), RGB in [0, 1], to logits (N, C, H, W) and the view of each scale.

        Raises:
            ValueError: scales without 1, or scales that the method cannot take.
        """
        fused: Fused = self.combined(images, self.eval_scales if scales is None else scales)
        return fused


def build_model(config: ModelConfig, label_space: LabelSpace | int) -> MultiScaleModel:
    """Build the network that ``config`` describes.

    Args:
        config: backbone, decoder, method.
        label_space: whose classes it tells apart, or their number.

    Raises:
        UserError: an unknown backbone, an output stride it does not have, weights that cannot be had.
    """
    num_classes = label_space if isinstance(label_space, int) else label_space.num_classes
    backbone = build_backbone(config.backbone)
    decoder = build_decoder(config.decoder, backbone.channels, backbone.strides, num_classes)
    settings = config.multiscale
    head = settings.attention
    pad = config.pad
    width = decoder.feature_channels
    match settings.method:
        case "hierarchical" if head.source == "pair":
            pairs = ScaleAttention(2 * width, head.channels, initial=head.initial)
            combined: Combined = PairwiseMultiScale(
                Segmenter(backbone, decoder, pad=pad), pairs, settings.fusion == "fast"
            )
        case "hierarchical":
            attention = ScaleAttention(width, head.channels, initial=head.initial)
            combined = HierarchicalMultiScale(
                Segmenter(backbone, decoder, attention, pad), fast=settings.fusion == "fast"
            )
        case "single":
            combined = SingleScale(Segmenter(backbone, decoder, pad=pad))
        case "average":
            combined = AveragePooling(Segmenter(backbone, decoder, pad=pad))
        case "explicit":
            number = len(settings.train_scales)
            weights = ScaleAttention(
                width * number, head.channels, maps=number, sigmoid=False, batch_norm=head.batch_norm
            )
            combined = ExplicitMultiScale(
                Segmenter(backbone, decoder, pad=pad),
                weights,
                settings.train_scales,
                head.softmax,
                fast=settings.fusion == "fast",
            )
    return MultiScaleModel(combined, config, num_classes)
