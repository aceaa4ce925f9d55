"""DeepLabV3+ (Chen et al., 2018, arXiv:1802.02611): atrous spatial pyramid pooling, then one fine map added.

The features handed on (304 channels) are the concatenation of the fine and the pyramid's channels, before
the head's convolutions, because the published scale attention reads them there; the two bottleneck convolutions have
neither bias nor norm. The fine map is of stride 4 by default; the networks published with WideResNet-38 and Xception-71
take the one of stride 2 (``fine_stride: 2``).
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from polyscale.decoders.aspp import build_pyramid
from polyscale.decoders.decoder import Decoded, Decoder, DecoderConfig
from polyscale.decoders.layers import conv_norm_act, finest_map, initialise, resize_like, separable

__all__ = ["DeepLabV3PlusDecoder"]


class DeepLabV3PlusDecoder(Decoder):
    """The pyramid on the coarsest map, joined with the finest map of a stride of at least ``fine_stride``.

    Args:
        config: reads the pyramid's keys, ``fine_stride``, ``fine_channels`` and ``dropout``.
    """

    def __init__(
        self, config: DecoderConfig, channels: Sequence[int], strides: Sequence[int], num_classes: int
    ) -> None:
        super().__init__()
        width = config.aspp_channels
        self.feature_channels = config.fine_channels + width
        self.first = finest_map(strides, config.fine_stride)
        self.aspp = build_pyramid(config, channels[-1], strides[-1])
        self.bottleneck = nn.Conv2d(self.aspp.channels, width, 1, bias=False)
        self.fine = nn.Conv2d(channels[self.first], config.fine_channels, 1, bias=False)
        joined = self.feature_channels
        self.head = (
            nn.Sequential(separable(joined, width), separable(width, width))
            if config.aspp_separable
            else nn.Sequential(conv_norm_act(joined, width, 3), conv_norm_act(width, width, 3))
        )
        self.dropout = nn.Dropout2d(config.dropout or 0.0)
        self.classifier = nn.Conv2d(width, num_classes, 1, bias=False)
        initialise(self, self.classifier)

    def forward(self, maps: list[Tensor]) -> Decoded:
        """Maps (N, channels[k], h_k, w_k) to features (N, fine + aspp channels, h, w) and logits (N, C, h, w)."""
        fine = self.fine(maps[self.first])
        coarse = self.bottleneck(self.aspp(maps[-1]))
        features = torch.cat([fine, resize_like(coarse, fine)], dim=1)
        return Decoded(features, self.classifier(self.dropout(self.head(features))))
