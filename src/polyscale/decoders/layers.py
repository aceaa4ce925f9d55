"""Parts of decoders: the choice of a backbone's maps, convolutions, resizing, first weights."""

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional

__all__ = ["conv_norm_act", "deepest_maps", "finest_map", "initialise", "resize_like", "separable"]


def finest_map(strides: Sequence[int], at_least: int = 4) -> int:
    """Index of the finest map with a stride of at least ``at_least``; the coarsest map where all are finer."""
    return next((index for index, stride in enumerate(strides) if stride >= at_least), len(strides) - 1)


def deepest_maps(strides: Sequence[int], at_least: int = 1) -> list[int]:
    """Indices of the deepest map of each stride from ``at_least`` on, fine to coarse: dilated stages repeat strides."""
    first = finest_map(strides, at_least)
    return [index for index in range(first, len(strides)) if strides[index] not in strides[index + 1 :]]


def resize_like(x: Tensor, reference: Tensor) -> Tensor:
    """Bilinear, pixel centres aligned: ``x`` (N, C, h, w) to the height and width of ``reference``."""
    size = reference.shape[-2:]
    return x if x.shape[-2:] == size else functional.interpolate(x, size=size, mode="bilinear", align_corners=False)


def conv_norm_act(
    channels_in: int, channels_out: int, kernel: int = 1, dilation: int | tuple[int, int] = 1, bias: bool = False
) -> nn.Sequential:
    """Convolution that keeps the size, batch norm, ReLU; ``dilation`` may differ in height and width."""
    high, wide = (dilation, dilation) if isinstance(dilation, int) else dilation
    padding = (high * (kernel // 2), wide * (kernel // 2))
    return nn.Sequential(
        nn.Conv2d(channels_in, channels_out, kernel, padding=padding, dilation=(high, wide), bias=bias),
        nn.BatchNorm2d(channels_out),
        nn.ReLU(inplace=True),
    )


def separable(channels_in: int, channels_out: int, dilation: int = 1) -> nn.Sequential:
    """Depthwise 3 x 3 convolution, then 1 x 1, each with batch norm and ReLU (Chen et al., 2018, arXiv:1802.02611)."""
    depthwise = nn.Conv2d(
        channels_in, channels_in, 3, padding=dilation, dilation=dilation, groups=channels_in, bias=False
    )
    first = nn.Sequential(depthwise, nn.BatchNorm2d(channels_in), nn.ReLU(inplace=True))
    return nn.Sequential(*first, *conv_norm_act(channels_in, channels_out))


def initialise(module: nn.Module, *classifiers: nn.Module) -> None:
    """He initialisation for convolutions; small weights for those that give logits: training starts near equal odds."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            if layer in classifiers:
                nn.init.normal_(layer.weight, std=0.01)
            else:
                nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
