"""The contract that every decoder keeps, its configuration, and the layers they share.

Unusual here: a decoder gives its logits on its own grid (stride 4 as a rule) and never resizes them to the image:
whoever fuses scales decides where that happens.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from polyscale.config import Config, name_or_import_path

__all__ = [
    "DECODERS",
    "Decoded",
    "Decoder",
    "DecoderConfig",
    "conv_norm_act",
    "deepest_places",
    "finest_place",
    "initialise",
    "resize_like",
]


DECODERS = {
    "light": "polyscale.decoders.light:LightDecoder",
    "ocr": "polyscale.decoders.ocr:OCRDecoder",
    "deeplabv3": "polyscale.decoders.deeplabv3:DeepLabV3Decoder",
    "deeplabv3plus": "polyscale.decoders.deeplabv3plus:DeepLabV3PlusDecoder",
    "deeperlab": "polyscale.decoders.deeperlab:DeeperLabDecoder",
}
"""Where each kind lives; it is imported when a network with it is built."""


class DecoderConfig(Config):
    """Which decoder, and its sizes; an option that does not belong to the chosen kind has no effect.

    Attributes:
        kind: ``light`` (feature pyramid with few channels), ``ocr`` (object-contextual representations),
            ``deeplabv3``, ``deeplabv3plus``, ``deeperlab``, or the import path of your own
            (``my_package.module:MyDecoder``).
        options: keyword arguments for your own decoder.
        light_channels: channels of the light decoder.
        light_context: whether the light decoder mixes its coarsest map with averages over windows and the whole image;
            with a single map it never does.
        ocr_channels: channels of OCR's pixel features.
        ocr_key_channels: channels in which OCR compares pixels with object regions.
        ocr_pyramid: put the pyramid in front of OCR, on the maps that it joins.
        pyramid: what DeepLab and ``ocr_pyramid`` put on the coarsest map: ``aspp``, or ``dpc``, the dense prediction
            cell.
        aspp_channels: channels of each branch of the pyramid, and of DeepLab's segmentation heads.
        aspp_rates: dilations of ASPP's 3 x 3 branches at output stride 16; doubled at 8 and finer, halved at 32.
        fine_stride: stride of the fine map that DeepLabV3+ adds, and of the finest map that OCR joins; the next coarser
            one where the backbone has none. Published: 4 with ResNet and HRNet, 2 with WideResNet-38 and Xception-71;
            OCR on a dilated backbone 8.
        fine_channels: channels that DeepLabV3+ keeps of its fine map.
        dropout: probability of dropping a channel or value in training; None for what was published (OCR 0.05, light
            0.1).
    """

    kind: Annotated[str, name_or_import_path("decoder", DECODERS)] = "light"
    options: dict[str, Any] = Field(default_factory=dict)
    light_channels: int = Field(default=96, ge=8)
    light_context: bool = True
    ocr_channels: int = Field(default=512, ge=8)
    ocr_key_channels: int = Field(default=256, ge=8)
    ocr_pyramid: bool = False
    pyramid: Literal["aspp", "dpc"] = "aspp"
    aspp_channels: int = Field(default=256, ge=8)
    aspp_rates: tuple[Annotated[int, Field(ge=1)], ...] = Field(default=(6, 12, 18), min_length=1)
    fine_stride: Literal[2, 4, 8] = 4
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

    A decoder of your own subclasses this and is named in the recipe by its import path. It is made with the keyword
    arguments ``channels`` and ``strides`` (of the backbone's maps, fine to coarse), ``num_classes`` (C), and what
    stands under ``options``. It sets ``feature_channels``. Its ``forward`` takes maps of any size, also of one pixel,
    and gives features and logits on the grid of one of the maps. It neither resizes logits to the image nor applies a
    softmax.

    Attributes:
        feature_channels: F, channels of ``Decoded.features``.

    Example:
        With this class in ``my_package/heads.py``, a recipe says
        ``model.decoder: {kind: "my_package.heads:OneLayer", options: {width: 32}}``.

        >>> import torch
        >>> class OneLayer(Decoder):
        ...     def __init__(self, channels, strides, num_classes, width=64):
        ...         super().__init__()
        ...         self.feature_channels = width
        ...         self.features = conv_norm_act(channels[0], width, kernel=3)
        ...         self.classifier = nn.Conv2d(width, num_classes, 1)
        ...
        ...     def forward(self, maps):
        ...         features = self.features(maps[0])
        ...         return Decoded(features, self.classifier(features))
        >>> decoder = OneLayer(channels=(16, 32), strides=(4, 8), num_classes=5, width=32)
        >>> decoder([torch.rand(2, 16, 9, 13), torch.rand(2, 32, 5, 7)]).logits.shape
        torch.Size([2, 5, 9, 13])
    """

    feature_channels: int

    @abstractmethod
    def forward(self, maps: list[Tensor]) -> Decoded:
        """Maps (N, channels[k], h_k, w_k), fine to coarse, to what is decoded on the grid of the finest used map."""


def finest_place(strides: Sequence[int], at_least: int = 4) -> int:
    """Index of the finest map with a stride of at least ``at_least``; the coarsest map where all are finer."""
    return next((place for place, stride in enumerate(strides) if stride >= at_least), len(strides) - 1)


def deepest_places(strides: Sequence[int], at_least: int = 1) -> list[int]:
    """Indices of the deepest map of each stride from ``at_least`` on, fine to coarse: dilated stages repeat strides."""
    first = finest_place(strides, at_least)
    return [place for place in range(first, len(strides)) if strides[place] not in strides[place + 1 :]]


def resize_like(x: Tensor, reference: Tensor) -> Tensor:
    """Bilinear, pixel centres aligned: ``x`` (N, C, h, w) to the height and width of ``reference``."""
    size = reference.shape[-2:]
    return x if x.shape[-2:] == size else functional.interpolate(x, size=size, mode="bilinear", align_corners=False)


def conv_norm_act(
    channels_in: int, channels_out: int, kernel: int = 1, dilation: int | tuple[int, int] = 1, bias: bool = False
) -> nn.Sequential:
    """Convolution that keeps the size, batch norm, ReLU; ``dilation`` may differ in height and width."""
    high, wide = (dilation, dilation) if isinstance(dilation, int) else dilation
    padding = (high * (kernel // 2), wide * (kernel // 2))
    return nn.Sequential(
        nn.Conv2d(channels_in, channels_out, kernel, padding=padding, dilation=(high, wide), bias=bias),
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
