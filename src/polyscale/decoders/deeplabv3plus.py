"""DeepLabV3+ (Chen et al., 2018, arXiv:1802.02611): atrous spatial pyramid pooling, then one fine map added.

Unusual here: the features handed on (304 channels) are the concatenation of the fine and the pyramid's channels, before
the head's convolutions, because the published scale attention reads them there; the two bottleneck convolutions have
neither bias nor norm. The image-pooling branch has one value per channel and image, over which batch norm cannot be
trained with a batch of one image: it then uses its running statistics, as in evaluation.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from polyscale.decoders.decoder import (
    Decoded,
    Decoder,
    DecoderConfig,
    conv_norm_act,
    finest_place,
    initialise,
    resize_like,
)

__all__ = ["ASPP", "DeepLabV3PlusDecoder"]


class DeepLabV3PlusDecoder(Decoder):
    """The pyramid on the coarsest map, joined with the finest map of a stride of at least 4.

    Args:
        config: reads ``aspp_channels``, ``aspp_rates`` and ``fine_channels``.
        channels: channels of the backbone's maps.
        strides: strides of the backbone's maps.
        num_classes: C.
    """

    def __init__(
        self, config: DecoderConfig, channels: Sequence[int], strides: Sequence[int], num_classes: int
    ) -> None:
        super().__init__()
        width = config.aspp_channels
        self.feature_channels = config.fine_channels + width
        self.first = finest_place(strides)
        # The rates are meant for output stride 16: equal distances in the image need twice the rates at 8.
        rates = [max(1, rate * 16 // strides[-1]) for rate in config.aspp_rates]
        self.aspp = ASPP(channels[-1], width, rates)
        self.bottleneck = nn.Conv2d(self.aspp.channels, width, 1, bias=False)
        self.fine = nn.Conv2d(channels[self.first], config.fine_channels, 1, bias=False)
        self.head = nn.Sequential(conv_norm_act(self.feature_channels, width, 3), conv_norm_act(width, width, 3))
        self.dropout = nn.Dropout2d(config.dropout or 0.0)
        self.classifier = nn.Conv2d(width, num_classes, 1, bias=False)
        initialise(self, self.classifier)

    def forward(self, maps: list[Tensor]) -> Decoded:
        """Maps (N, channels[k], h_k, w_k) to features (N, fine + aspp channels, h, w) and logits (N, C, h, w)."""
        fine = self.fine(maps[self.first])
        coarse = self.bottleneck(self.aspp(maps[-1]))
        features = torch.cat([fine, resize_like(coarse, fine)], dim=1)
        return Decoded(features, self.classifier(self.dropout(self.head(features))))


class ASPP(nn.Module):
    """Atrous spatial pyramid pooling with image pooling (Chen et al., 2017, arXiv:1706.05587, section 3.3).

    Args:
        channels_in: channels of the map.
        width: channels of each branch.
        rates: dilations of the 3 x 3 branches, in map pixels.

    Attributes:
        channels: channels of the result.
    """

    def __init__(self, channels_in: int, width: int, rates: Sequence[int]) -> None:
        super().__init__()
        self.channels = width * (2 + len(rates))
        self.image = conv_norm_act(channels_in, width)
        self.branches = nn.ModuleList(
            [
                conv_norm_act(channels_in, width),
                *(conv_norm_act(channels_in, width, 3, dilation=rate) for rate in rates),
            ]
        )

    def forward(self, x: Tensor) -> Tensor:
        """(N, channels_in, h, w) to (N, channels, h, w): image pooling first, then 1 x 1, then the rates."""
        pooled = resize_like(self._image(x), x)
        return torch.cat([pooled, *(branch(x) for branch in self.branches)], dim=1)

    def _image(self, x: Tensor) -> Tensor:
        conv, norm, act = self.image
        x = conv(x.mean(dim=(2, 3), keepdim=True))
        if (
            norm.training and len(x) == 1 and type(norm) is nn.BatchNorm2d
        ):  # synchronised over processes there is more than one value
            x = functional.batch_norm(x, norm.running_mean, norm.running_var, norm.weight, norm.bias, eps=norm.eps)
        else:
            x = norm(x)
        pooled: Tensor = act(x)
        return pooled
