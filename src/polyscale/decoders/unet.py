"""U-Net's decoder (Ronneberger et al., 2015, arXiv:1505.04597) on any backbone's maps.

Maps are enlarged bilinearly instead of by transposed convolutions, and convolutions keep the size. The logits are on
the grid of the backbone's finest map, stride 2 with most networks, which costs four times as much as at 4.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from polyscale.decoders.decoder import Decoded, Decoder, DecoderConfig
from polyscale.decoders.layers import conv_norm_act, deepest_maps, initialise, resize_like

__all__ = ["UNetDecoder"]


class UNetDecoder(Decoder):
    """From the coarsest map to the finest: enlarge, join the next finer map, two 3 x 3 convolutions.

    A backbone with a single map gets the two convolutions alone.

    Args:
        config: reads ``unet_channels`` and ``dropout``.
        strides: strides of the backbone's maps; the deepest map of each stride is joined.
    """

    def __init__(
        self, config: DecoderConfig, channels: Sequence[int], strides: Sequence[int], num_classes: int
    ) -> None:
        super().__init__()
        self.coarsest, *self.indices = reversed(deepest_maps(strides))
        width = channels[self.coarsest]
        self.joins = nn.ModuleList()
        for level, joined in enumerate([channels[index] for index in self.indices] or [0]):
            after = config.unet_channels[min(level, len(config.unet_channels) - 1)]
            self.joins.append(nn.Sequential(conv_norm_act(width + joined, after, 3), conv_norm_act(after, after, 3)))
            width = after
        self.feature_channels = width
        self.dropout = nn.Dropout2d(config.dropout or 0.0)
        self.classifier = nn.Conv2d(width, num_classes, 1)
        initialise(self, self.classifier)

    def forward(self, maps: list[Tensor]) -> Decoded:
        """Maps (N, channels[k], h_k, w_k) to features (N, unet_channels[-1], h, w) and logits (N, C, h, w)."""
        x = maps[self.coarsest]
        skips: list[Tensor | None] = [maps[index] for index in self.indices] or [None]
        for join, skip in zip(self.joins, skips, strict=True):
            x = join(x if skip is None else torch.cat([resize_like(x, skip), skip], dim=1))
        return Decoded(x, self.classifier(self.dropout(x)))
