"""Object-contextual representations (Yuan, Chen, Wang, 2020, arXiv:1909.11065, section 3).

The maps are brought to the finest one's size and concatenated, which for HRNet-W48 gives the published
720 channels; other backbones' maps are joined in the same way. The sums over all pixels are taken in float32 also under
mixed precision, because half precision drops the weight of a pixel in a large image.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from polyscale.decoders.aspp import build_pyramid
from polyscale.decoders.decoder import Decoded, Decoder, DecoderConfig
from polyscale.decoders.layers import conv_norm_act, deepest_maps, initialise, resize_like

__all__ = ["OCRDecoder", "ObjectAttention", "object_regions"]


class OCRDecoder(Decoder):
    """Soft object regions from auxiliary logits; each pixel then looks at the regions that resemble it.

    Args:
        config: reads ``ocr_channels``, ``ocr_key_channels``, ``ocr_pyramid`` (and then the pyramid's sizes),
            ``fine_stride`` and ``dropout``.
        strides: strides of the backbone's maps; the deepest map of each stride from ``fine_stride`` on is used.
    """

    def __init__(
        self, config: DecoderConfig, channels: Sequence[int], strides: Sequence[int], num_classes: int
    ) -> None:
        super().__init__()
        self.feature_channels = width = config.ocr_channels
        self.indices = deepest_maps(strides, config.fine_stride)
        joined = sum(channels[index] for index in self.indices)
        self.aspp: nn.Module = nn.Identity()
        if config.ocr_pyramid:
            self.aspp = pyramid = build_pyramid(config, joined, strides[self.indices[0]])
            joined = pyramid.channels
        self.auxiliary = nn.Sequential(*conv_norm_act(joined, joined, bias=True), nn.Conv2d(joined, num_classes, 1))
        self.pixels = conv_norm_act(joined, width, 3, bias=True)
        self.attention = ObjectAttention(width, config.ocr_key_channels)
        self.join = conv_norm_act(2 * width, width)
        self.dropout = nn.Dropout2d(0.05 if config.dropout is None else config.dropout)
        self.classifier = nn.Conv2d(width, num_classes, 1)
        initialise(self, self.auxiliary[-1], self.classifier)

    def forward(self, maps: list[Tensor]) -> Decoded:
        """Maps (N, channels[k], h_k, w_k) to features (N, ocr_channels, h, w), logits and aux (N, C, h, w)."""
        used = [maps[index] for index in self.indices]
        x = self.aspp(torch.cat([resize_like(map_, used[0]) for map_ in used], dim=1))
        aux = self.auxiliary(x)
        pixels = self.pixels(x)
        context = self.attention(pixels, object_regions(pixels, aux))
        features = self.dropout(self.join(torch.cat([context, pixels], dim=1)))
        return Decoded(features, self.classifier(features), aux)


def object_regions(pixels: Tensor, logits: Tensor) -> Tensor:
    """The mean pixel of each class, weighted by the softmax of its logits over the pixels (equation 3 of the paper).

    Args:
        pixels: (N, F, h, w).
        logits: (N, C, h, w).

    Returns:
        (N, F, C, 1), at least float32.
    """
    with _without_autocast(pixels.device.type):
        weights = _at_least_float32(logits).flatten(2).softmax(dim=2)
        regions = _at_least_float32(pixels).flatten(2) @ weights.transpose(1, 2)
    return regions.unsqueeze(3)


class ObjectAttention(nn.Module):
    """Each pixel's mixture of object regions, weighted by how alike their keys are (equations 4 and 5 of the paper).

    Args:
        channels: F, of pixels, regions and result.
        key_channels: channels in which they are compared and mixed.
    """

    def __init__(self, channels: int, key_channels: int) -> None:
        super().__init__()
        self.scale = key_channels**-0.5
        self.query = nn.Sequential(conv_norm_act(channels, key_channels), conv_norm_act(key_channels, key_channels))
        self.key = nn.Sequential(conv_norm_act(channels, key_channels), conv_norm_act(key_channels, key_channels))
        self.value = conv_norm_act(channels, key_channels)
        self.out = conv_norm_act(key_channels, channels)

    def forward(self, pixels: Tensor, regions: Tensor) -> Tensor:
        """Pixels (N, F, h, w) and regions (N, F, C, 1) to context (N, F, h, w)."""
        query = self.query(pixels).flatten(2).transpose(1, 2)
        regions = regions.to(pixels.dtype)  # they come in float32 at least
        key = self.key(regions).flatten(2)
        value = self.value(regions).flatten(2).transpose(1, 2)
        weights = (self.scale * (query @ key)).softmax(dim=2)
        mixed = (weights.to(value.dtype) @ value).transpose(1, 2).unflatten(2, pixels.shape[-2:])
        context: Tensor = self.out(mixed)
        return context


def _without_autocast(device: str) -> AbstractContextManager[Any]:
    # The meta device, on which costs are counted, knows no autocast.
    return torch.autocast(device, enabled=False) if torch.amp.is_autocast_available(device) else nullcontext()


def _at_least_float32(x: Tensor) -> Tensor:
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
