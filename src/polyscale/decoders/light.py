"""A light decoder: a feature pyramid of few channels, for backbones that run on a CPU or in real time.

The coarsest map is first mixed with its own averages over windows and over the whole image, as in DDRNet
(Hong et al., 2021, arXiv:2101.06085, section 3.4) but summed, which costs next to nothing at stride 32 and lets each
pixel know the scene. The windows have a fixed size, so that a crop in training sees them as the whole image does
later. The 3 x 3 convolutions of the coarse levels together cost a third of the finest one's. No layer normalises over
the pooled values, so one image a batch trains as well as many.
"""

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional

from polyscale.decoders.decoder import Decoded, Decoder, DecoderConfig
from polyscale.decoders.layers import conv_norm_act, finest_map, initialise, resize_like

__all__ = ["LightDecoder"]

# Sides in pixels of the coarsest map; None is the whole image.
POOLED_WINDOWS = (5, 9, None)


class LightDecoder(Decoder):
    """1 x 1 laterals and top-down sums (Lin et al., 2017, arXiv:1612.03144), a 3 x 3 convolution after each.

    Args:
        config: reads ``light_channels``, ``light_context`` and ``dropout``.
    """

    def __init__(
        self, config: DecoderConfig, channels: Sequence[int], strides: Sequence[int], num_classes: int
    ) -> None:
        super().__init__()
        self.feature_channels = width = config.light_channels
        self.first = finest_map(strides)
        self.laterals = nn.ModuleList(
            nn.Sequential(nn.Conv2d(count, width, 1, bias=False), nn.BatchNorm2d(width))
            for count in channels[self.first :]
        )
        self.windows = POOLED_WINDOWS if config.light_context and len(self.laterals) > 1 else ()
        self.context = nn.ModuleList(nn.Conv2d(width, width, 1) for _ in self.windows)
        self.smooth = nn.ModuleList(conv_norm_act(width, width, 3) for _ in self.laterals)
        self.dropout = nn.Dropout2d(0.1 if config.dropout is None else config.dropout)
        self.classifier = nn.Conv2d(width, num_classes, 1)
        initialise(self, self.classifier)

    def forward(self, maps: list[Tensor]) -> Decoded:
        """Maps (N, channels[k], h_k, w_k) to features (N, light_channels, h, w) and logits (N, C, h, w)."""
        merged: Tensor | None = None
        levels = zip(reversed(self.laterals), reversed(self.smooth), reversed(maps[self.first :]), strict=True)
        for lateral, smooth, x in levels:
            x = lateral(x)
            x = self._with_context(x) if merged is None else x + resize_like(merged, x)
            merged = smooth(functional.relu(x))
        assert merged is not None
        return Decoded(merged, self.classifier(self.dropout(merged)))

    def _with_context(self, x: Tensor) -> Tensor:
        total = x
        for window, conv in zip(self.windows, self.context, strict=True):
            total = total + conv(x.mean(dim=(2, 3), keepdim=True) if window is None else _window_means(x, window))
        return total


def _window_means(x: Tensor, window: int) -> Tensor:
    """Mean over the window around each pixel, of what lies inside the map."""
    return functional.avg_pool2d(x, window, stride=1, padding=window // 2, count_include_pad=False)
