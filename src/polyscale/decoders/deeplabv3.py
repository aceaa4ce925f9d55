"""DeepLabV3 (Chen et al., 2017, arXiv:1706.05587): a pyramid of dilated convolutions on the coarsest map, no fine map.

The logits stay on the coarsest map's grid (stride 8 or 16), where the pyramid itself is what the scale
attention reads. ``pyramid: dpc`` takes the dense prediction cell instead of ASPP.
"""

from collections.abc import Sequence

from torch import Tensor, nn

from polyscale.decoders.aspp import build_pyramid
from polyscale.decoders.decoder import Decoded, Decoder, DecoderConfig
from polyscale.decoders.layers import conv_norm_act, initialise

__all__ = ["DeepLabV3Decoder"]


class DeepLabV3Decoder(Decoder):
    """The pyramid and a head of two 3 x 3 convolutions.

    Args:
        config: reads the pyramid's keys and ``dropout``.
    """

    def __init__(
        self, config: DecoderConfig, channels: Sequence[int], strides: Sequence[int], num_classes: int
    ) -> None:
        super().__init__()
        width = config.aspp_channels
        self.aspp = build_pyramid(config, channels[-1], strides[-1])
        self.feature_channels = self.aspp.channels
        self.head = nn.Sequential(conv_norm_act(self.feature_channels, width, 3), conv_norm_act(width, width, 3))
        self.dropout = nn.Dropout2d(config.dropout or 0.0)
        self.classifier = nn.Conv2d(width, num_classes, 1, bias=False)
        initialise(self, self.classifier)

    def forward(self, maps: list[Tensor]) -> Decoded:
        """Maps (N, channels[k], h_k, w_k) to features (N, 5 aspp channels, h, w) and logits (N, C, h, w)."""
        features = self.aspp(maps[-1])
        return Decoded(features, self.classifier(self.dropout(self.head(features))))
