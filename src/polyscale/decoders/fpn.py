"""Semantic segmentation on a feature pyramid (Kirillov et al., 2019, arXiv:1901.02446, section 3.1).

The pyramid is that of Lin et al. (2017, arXiv:1612.03144). Batch norm stands where the article has group norm.
"""

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from polyscale.decoders.decoder import Decoded, Decoder, DecoderConfig
from polyscale.decoders.layers import conv_norm_act, deepest_maps, initialise, resize_like

__all__ = ["FPNDecoder"]


class FPNDecoder(Decoder):
    """Laterals and top-down sums; then each level is enlarged step by step to the finest one's size, and all are added.

    Args:
        config: reads ``fpn_channels``, ``fpn_head_channels`` and ``dropout``.
        strides: strides of the backbone's maps; the deepest map of each stride from 4 on is used.
    """

    def __init__(
        self, config: DecoderConfig, channels: Sequence[int], strides: Sequence[int], num_classes: int
    ) -> None:
        super().__init__()
        width, head = config.fpn_channels, config.fpn_head_channels
        self.feature_channels = head
        self.indices = deepest_maps(strides, 4)
        self.laterals = nn.ModuleList(nn.Conv2d(channels[index], width, 1) for index in self.indices)
        self.smooth = nn.ModuleList(nn.Conv2d(width, width, 3, padding=1) for _ in self.indices)
        self.heads = nn.ModuleList(
            nn.ModuleList(conv_norm_act(head if step else width, head, 3) for step in range(max(1, level)))
            for level in range(len(self.indices))
        )
        self.dropout = nn.Dropout2d(config.dropout or 0.0)
        self.classifier = nn.Conv2d(head, num_classes, 1)
        initialise(self, self.classifier)

    def forward(self, maps: list[Tensor]) -> Decoded:
        """Maps (N, channels[k], h_k, w_k) to features (N, fpn_head_channels, h, w) and logits (N, C, h, w)."""
        levels = [lateral(maps[index]) for lateral, index in zip(self.laterals, self.indices, strict=True)]
        for level in range(len(levels) - 2, -1, -1):
            levels[level] = levels[level] + resize_like(levels[level + 1], levels[level])
        total: Tensor | None = None
        heads: Any = self.heads
        for level, (smooth, head) in enumerate(zip(self.smooth, heads, strict=True)):
            x = smooth(levels[level])
            for step, conv in enumerate(head.children()):
                x = conv(x)
                if level:
                    x = resize_like(x, levels[level - 1 - step])
            total = x if total is None else total + x
        assert total is not None
        return Decoded(total, self.classifier(self.dropout(total)))
