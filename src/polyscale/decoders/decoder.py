"""The contract that every decoder keeps, and its configuration.

A decoder gives its logits on its own grid (stride 4 as a rule) and never resizes them to the image:
whoever fuses scales decides where that happens.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import Field, model_validator
from torch import Tensor, nn

from polyscale.config import Config, name_or_import_path

__all__ = [
    "DECODERS",
    "Decoded",
    "Decoder",
    "DecoderConfig",
    "idle_keys",
]


class Kind(NamedTuple):
    """A decoder of the package."""

    path: str
    """Import path of its class; it is imported when a network with it is built."""
    keys: tuple[str, ...]
    """The keys of the configuration that it reads besides ``dropout``."""


_PYRAMID = ("pyramid", "aspp_channels", "aspp_rates", "aspp_separable")
DECODERS = {
    "light": Kind("polyscale.decoders.light:LightDecoder", ("light_channels", "light_context")),
    "ocr": Kind(
        "polyscale.decoders.ocr:OCRDecoder",
        ("ocr_channels", "ocr_key_channels", "ocr_pyramid", "fine_stride", *_PYRAMID),
    ),
    "deeplabv3": Kind("polyscale.decoders.deeplabv3:DeepLabV3Decoder", _PYRAMID),
    "deeplabv3plus": Kind(
        "polyscale.decoders.deeplabv3plus:DeepLabV3PlusDecoder", ("fine_stride", "fine_channels", *_PYRAMID)
    ),
    "deeperlab": Kind("polyscale.decoders.deeperlab:DeeperLabDecoder", _PYRAMID),
    "fpn": Kind("polyscale.decoders.fpn:FPNDecoder", ("fpn_channels", "fpn_head_channels")),
    "unet": Kind("polyscale.decoders.unet:UNetDecoder", ("unet_channels",)),
}


class DecoderConfig(Config):
    """The decoder and its sizes. A key that the chosen kind does not read is refused."""

    kind: Annotated[str, name_or_import_path("decoder", DECODERS)] = "light"
    """``light`` (feature pyramid with few channels), ``ocr`` (object-contextual representations), ``deeplabv3``,
    ``deeplabv3plus``, ``deeperlab``, ``fpn`` (feature pyramid), ``unet``, or the import path of your own
    (``my_package.module:MyDecoder``).
    """
    options: dict[str, Any] = Field(default_factory=dict)
    """Keyword arguments for your own decoder."""
    light_channels: int = Field(default=96, ge=8)
    """light: channels."""
    light_context: bool = True
    """light: mix the coarsest map with averages over windows and the whole image; a single map never is."""
    ocr_channels: int = Field(default=512, ge=8)
    """ocr: channels of the pixel features."""
    ocr_key_channels: int = Field(default=256, ge=8)
    """ocr: channels in which pixels are compared with object regions."""
    ocr_pyramid: bool = False
    """ocr: put the pyramid in front, on the maps that are joined."""
    pyramid: Literal["aspp", "dpc"] = "aspp"
    """DeepLab and ``ocr_pyramid``: the module on the coarsest map, ASPP or the dense prediction cell."""
    aspp_channels: int = Field(default=256, ge=8)
    """DeepLab and ``ocr_pyramid``: channels of each branch of the pyramid, and of DeepLab's segmentation heads."""
    aspp_rates: tuple[Annotated[int, Field(ge=1)], ...] = Field(default=(6, 12, 18), min_length=1)
    """ASPP: dilations of the 3 x 3 branches at output stride 16; doubled at 8 and finer, halved at 32."""
    aspp_separable: bool = False
    """ASPP: depthwise separable 3 x 3 convolutions, in DeepLabV3+'s head as well, as in the article on DeepLabV3+."""
    fine_stride: Literal[2, 4, 8] = 4
    """deeplabv3plus, ocr: stride of the fine map that is added, and of the finest map that OCR joins; the next coarser
    one where the backbone has none. Published: 4 with ResNet and HRNet, 2 with WideResNet-38 and Xception-71; OCR on a
    dilated backbone 8.
    """
    fine_channels: int = Field(default=48, ge=1)
    """deeplabv3plus: channels kept of the fine map."""
    fpn_channels: int = Field(default=256, ge=8)
    """fpn: channels of the pyramid."""
    fpn_head_channels: int = Field(default=128, ge=8)
    """fpn: channels in which the levels are summed."""
    unet_channels: tuple[Annotated[int, Field(ge=8)], ...] = Field(default=(256, 128, 64, 32), min_length=1)
    """unet: channels after each join, coarse to fine; further joins have as many as the last."""
    dropout: float | None = Field(default=None, ge=0.0, lt=1.0)
    """Probability of dropping a channel or value in training; null for what was published (OCR 0.05, light 0.1)."""

    @model_validator(mode="after")
    def _keys_are_read(self) -> "DecoderConfig":
        # A key that silently changes nothing costs its user a training run.
        idle = idle_keys(self.kind, self.model_dump())
        if idle:
            ours = f"; {self.kind} reads {', '.join(_keys(self.kind, self.ocr_pyramid, self.pyramid))}"
            raise ValueError(f"{', '.join(idle)} has no effect with kind {self.kind}{ours}")
        return self


def idle_keys(kind: str, values: Mapping[str, Any]) -> list[str]:
    """The keys that differ from their default, and that a kind of decoder does not read.

    Args:
        kind: of a ``DecoderConfig``.
        values: its other keys; those left out have their default.
    """
    fields = DecoderConfig.model_fields
    read = _keys(kind, bool(values.get("ocr_pyramid")), str(values.get("pyramid")))
    given = [key for key in values if key in fields and key not in ("kind", *read)]
    return [key for key in given if values[key] != fields[key].get_default(call_default_factory=True)]


def _keys(kind: str, ocr_pyramid: bool, pyramid: str) -> tuple[str, ...]:
    if kind not in DECODERS:
        return ("options",)
    keys = DECODERS[kind].keys
    if kind == "ocr" and not ocr_pyramid:
        keys = tuple(key for key in keys if key not in _PYRAMID)
    if pyramid == "dpc":
        keys = tuple(key for key in keys if key not in ("aspp_rates", "aspp_separable"))
    return (*keys, "dropout")


class Decoded(NamedTuple):
    """Output of a decoder for one image, all on the decoder's grid."""

    features: Tensor
    """Features from which the class logits and the scale attention are computed, (N, F, h, w)."""
    logits: Tensor
    """Class logits, (N, C, h, w)."""
    aux: Tensor | None = None
    """Auxiliary class logits, (N, C, h, w); None where the decoder has none."""


class Decoder(nn.Module, ABC):
    """Maps to features and logits.

    Every decoder is made with the keyword arguments ``channels`` and ``strides`` (of the backbone's maps, fine to
    coarse) and ``num_classes`` (C). Those of the package also get ``config``. A decoder of your own subclasses this and
    is named in the recipe by its import path; it also gets the keys under ``options``.

    A decoder sets ``feature_channels``. Its ``forward`` takes maps of any size, also of one pixel, and gives features
    and logits on the grid of one of the maps. It neither resizes logits to the image nor applies a softmax.

    Attributes:
        feature_channels: F, channels of ``Decoded.features``.

    Example:
        With this class in ``my_package/heads.py``, a recipe says
        ``model.decoder: {kind: "my_package.heads:OneLayer", options: {width: 32}}``.

        >>> import torch
        >>> from polyscale.decoders.layers import conv_norm_act
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
