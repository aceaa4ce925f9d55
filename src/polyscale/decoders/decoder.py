"""The contract that every decoder keeps, its configuration, and the layers they share.

Unusual here: a decoder gives its logits on its own grid (stride 4 as a rule) and never resizes them to the image:
whoever fuses scales decides where that happens.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Literal, NamedTuple

from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from polyscale.config import Config

__all__ = ["Decoded", "Decoder", "DecoderConfig", "conv_norm_act", "finest_place", "initialise", "resize_like"]


class DecoderConfig(Config):
    """Which decoder, and its sizes; an option that does not belong to the chosen kind has no effect.

    Attributes:
        kind: ``light`` (feature pyramid with few channels), ``ocr`` (object-contextual representations) or
            ``deeplabv3plus``.
        light_channels: channels of the light decoder.
        light_context: whether the light decoder mixes its coarsest map with averages over windows and the whole image;
            with a single map it never does.
        ocr_channels: channels of OCR's pixel features.
        ocr_key_channels: channels in which OCR compares pixels with object regions.
        aspp_channels: channels of each branch of DeepLabV3+'s pyramid, and of its segmentation head.
        aspp_rates: dilations of the pyramid's 3 x 3 branches at output stride 16; doubled at 8, halved at 32.
        fine_channels: channels that DeepLabV3+ keeps of its fine map.
        dropout: probability of dropping a channel or value in training; None for what was published (OCR 0.05, light
            0.1).
    """

    kind: Literal["light", "ocr", "deeplabv3plus"] = "light"
    light_channels: int = Field(default=96, ge=8)
    light_context: bool = True
    ocr_channels: int = Field(default=512, ge=8)
    ocr_key_channels: int = Field(default=256, ge=8)
    aspp_channels: int = Field(default=256, ge=8)
    aspp_rates: tuple[int, ...] = Field(default=(6, 12, 18), min_length=1)
    fine_channels: int = Field(default=48, ge=1)
    dropout: float | None = Field(default=None, ge=0.0, lt=1.0)


class Decoded(NamedTuple):
    """What a decoder makes of one image, all on the decoder's grid."""

    features: Tensor
    """What the class logits and the scale attention are read from, (N, F, h, w)."""
    logits: Tensor
    """Class logits, (N, C, h, w)."""
    aux: Tensor | None = None
    """Auxiliary class logits, (N, C, h, w); None where the decoder has none."""


class Decoder(nn.Module, ABC):
    """Maps to features and logits.

    Attributes:
        feature_channels: F, channels of ``Decoded.features``.
    """

    feature_channels: int

    @abstractmethod
    def forward(self, maps: list[Tensor]) -> Decoded:
        """Maps (N, channels[k], h_k, w_k), fine to coarse, to what is decoded on the grid of the finest used map."""


def finest_place(strides: Sequence[int]) -> int:
    """Index of the finest map with a stride of at least 4; the coarsest map where all are finer."""
    return next((place for place, stride in enumerate(strides) if stride >= 4), len(strides) - 1)


def resize_like(x: Tensor, reference: Tensor) -> Tensor:
    """Bilinear, pixel centres aligned: ``x`` (N, C, h, w) to the height and width of ``reference``."""
    size = reference.shape[-2:]
    return x if x.shape[-2:] == size else functional.interpolate(x, size=size, mode="bilinear", align_corners=False)


def conv_norm_act(
    channels_in: int, channels_out: int, kernel: int = 1, dilation: int = 1, bias: bool = False
) -> nn.Sequential:
    """Convolution that keeps the size, batch norm, ReLU."""
    return nn.Sequential(
        nn.Conv2d(channels_in, channels_out, kernel, padding=dilation * (kernel // 2), dilation=dilation, bias=bias),
        nn.BatchNorm2d(channels_out),
        nn.ReLU(inplace=True),
    )


def initialise(module: nn.Module, *classifiers: nn.Module) -> None:
    """He initialisation for convolutions; small weights for those that give logits: training starts near equal odds."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            if layer in classifiers:
                nn.init.normal_(layer.weight, std=0.01)
            else:
                nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
