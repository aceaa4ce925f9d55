"""DeeperLab's decoder (Yang et al., 2019, arXiv:1902.05093): ASPP, then two fine maps, 5 x 5 convolutions.

As in the network published with scale attention, the coarse features are enlarged bilinearly where the
paper turns channels into pixels, and the fine maps are not turned into channels. The coarse features come first in each
concatenation. Logits are at stride 2 where the backbone has a map there, which costs four times as much as at 4.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from polyscale.decoders.aspp import build_pyramid
from polyscale.decoders.decoder import Decoded, Decoder, DecoderConfig
from polyscale.decoders.layers import conv_norm_act, deepest_maps, initialise, resize_like

__all__ = ["DeeperLabDecoder"]

# Channels kept of the fine maps, coarse (stride 4) to fine (stride 2).
FINE_CHANNELS = (64, 32)


class DeeperLabDecoder(Decoder):
    """The pyramid on the coarsest map, joined step by step with the maps of the two finest strides.

    Args:
        config: reads the pyramid's keys and ``dropout``.
        strides: strides of the backbone's maps; those finer than the coarsest are joined, two at most.
    """

    def __init__(
        self, config: DecoderConfig, channels: Sequence[int], strides: Sequence[int], num_classes: int
    ) -> None:
        super().__init__()
        self.feature_channels = width = config.aspp_channels
        self.aspp = build_pyramid(config, channels[-1], strides[-1])
        self.bottleneck = nn.Conv2d(self.aspp.channels, width, 1, bias=False)
        self.indices = deepest_maps(strides)[:-1][:2][::-1]
        kept = FINE_CHANNELS[len(FINE_CHANNELS) - len(self.indices) :]
        self.fine = nn.ModuleList(
            nn.Conv2d(channels[index], count, 1, bias=False) for index, count in zip(self.indices, kept, strict=True)
        )
        self.joins = nn.ModuleList(conv_norm_act(width + count, width, 5) for count in kept)
        self.dropout = nn.Dropout2d(config.dropout or 0.0)
        self.classifier = nn.Conv2d(width, num_classes, 1, bias=False)
        initialise(self, self.classifier)

    def forward(self, maps: list[Tensor]) -> Decoded:
        """Maps (N, channels[k], h_k, w_k) to features (N, aspp_channels, h, w) and logits (N, C, h, w)."""
        x = self.bottleneck(self.aspp(maps[-1]))
        for index, fine, join in zip(self.indices, self.fine, self.joins, strict=True):
            details = fine(maps[index])
            x = join(torch.cat([resize_like(x, details), details], dim=1))
        return Decoded(x, self.classifier(self.dropout(x)))
