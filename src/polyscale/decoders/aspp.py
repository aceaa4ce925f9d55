"""Pyramids of dilated convolutions on a coarse map: ASPP, and the searched dense prediction cell in its place.

The image-pooling branch has one value per channel and image, over which batch norm cannot be trained with
a batch of one image: it then uses its running statistics, as in evaluation. The dense prediction cell's convolutions
are dense, as in the networks published with scale attention; the paper that found it makes them depthwise separable.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from polyscale.decoders.decoder import DecoderConfig
from polyscale.decoders.layers import conv_norm_act, resize_like, separable

__all__ = ["ASPP", "DPC", "build_pyramid"]

# Height and width of the dilations in branches a to e at output stride 16 (Chen et al., 2018, arXiv:1809.04184).
DPC_RATES = ((1, 6), (18, 15), (6, 21), (1, 1), (6, 3))


def build_pyramid(config: DecoderConfig, channels_in: int, stride: int) -> "ASPP | DPC":
    """The pyramid that a decoder's configuration names, on a map of the given stride.

    The dilations are meant for output stride 16. Equal distances in the image need twice as much at 8; on finer maps
    the published networks stay at that.

    Args:
        config: reads ``pyramid`` and the keys that begin with ``aspp_``.
        channels_in: channels of the map.
        stride: input pixels per map pixel.
    """

    def at_stride(rate: int) -> int:
        return max(1, rate * 16 // max(stride, 8))

    if config.pyramid == "dpc":
        return DPC(channels_in, config.aspp_channels, [(at_stride(high), at_stride(wide)) for high, wide in DPC_RATES])
    rates = [at_stride(rate) for rate in config.aspp_rates]
    return ASPP(channels_in, config.aspp_channels, rates, config.aspp_separable)


class ASPP(nn.Module):
    """Atrous spatial pyramid pooling with image pooling (Chen et al., 2017, arXiv:1706.05587, section 3.3).

    Args:
        channels_in: channels of the map.
        width: channels of each branch.
        rates: dilations of the 3 x 3 branches, in map pixels.
        depthwise: make the 3 x 3 branches depthwise separable.

    Attributes:
        channels: channels of the result.
    """

    def __init__(self, channels_in: int, width: int, rates: Sequence[int], depthwise: bool = False) -> None:
        super().__init__()
        self.channels = width * (2 + len(rates))
        self.image = conv_norm_act(channels_in, width)
        self.branches = nn.ModuleList(
            [
                conv_norm_act(channels_in, width),
                *(
                    separable(channels_in, width, rate)
                    if depthwise
                    else conv_norm_act(channels_in, width, 3, dilation=rate)
                    for rate in rates
                ),
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


class DPC(nn.Module):
    """Dense prediction cell (Chen et al., 2018, arXiv:1809.04184): five chained branches.

    Args:
        channels_in: channels of the map.
        width: channels of each branch.
        rates: height and width of the dilation of each branch, in map pixels.

    Attributes:
        channels: channels of the result.
    """

    # What each branch reads: the map (None) or an earlier branch.
    sources = (None, 0, 0, 0, 1)

    def __init__(self, channels_in: int, width: int, rates: Sequence[tuple[int, int]]) -> None:
        super().__init__()
        self.channels = width * len(self.sources)
        self.branches = nn.ModuleList(
            conv_norm_act(channels_in if source is None else width, width, 3, dilation=rate)
            for source, rate in zip(self.sources, rates, strict=True)
        )

    def forward(self, x: Tensor) -> Tensor:
        """(N, channels_in, h, w) to (N, channels, h, w)."""
        results: list[Tensor] = []
        for source, branch in zip(self.sources, self.branches, strict=True):
            results.append(branch(x if source is None else results[source]))
        return torch.cat(results, dim=1)
