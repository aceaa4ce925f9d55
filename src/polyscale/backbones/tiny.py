"""A network of 180,000 parameters for demos, tests and first tries on a CPU.

One map only, at stride 4, and a view of about 100 pixels a side, so that the choice of scale matters
visibly: a post of one pixel is lost to it at half size, a plain region wider than its view is ambiguous at full size.
Dense 3 x 3 convolutions, most of them at stride 8 inside, are several times faster on a CPU than depthwise ones of
equal size.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from polyscale.backbones.backbone import IMAGENET_MEAN, IMAGENET_STD, Backbone, BackboneConfig, repeated
from polyscale.backbones.checkpointing import hold_statistics_when_recomputing
from polyscale.errors import UserError

__all__ = ["TinyBackbone"]


class TinyBackbone(Backbone):
    """Stem to stride 4, residual convolutions at stride 8, joined again at stride 4.

    Args:
        config: ``name`` is ``tiny``; no pretrained weights, output stride or stochastic depth.
        width: channels of the only map.

    Raises:
        UserError: an option that this backbone does not have.
    """

    def __init__(self, config: BackboneConfig, width: int = 64) -> None:
        super().__init__()
        for option, value, allowed in (
            ("pretrained", config.pretrained, "false"),
            ("output_stride", config.output_stride, "null"),
            ("drop_path", config.drop_path, "0"),
            ("dilate_first_blocks", config.dilate_first_blocks, "false"),
        ):
            if value:
                raise UserError(
                    f"backbone 'tiny' has no {option} {value}; use {option}: {allowed}, or another backbone"
                )
        self.channels = (width,)
        self.strides = (4,)
        self.mean, self.std = repeated(IMAGENET_MEAN, config.in_channels), repeated(IMAGENET_STD, config.in_channels)
        self.checkpointing = config.checkpointing
        half, three_quarters = width // 2, width * 3 // 4
        self.stem = nn.Sequential(
            _conv(config.in_channels, half, 3, stride=2),
            _conv(half, three_quarters, 3, stride=2),
            _conv(three_quarters, three_quarters, 3),
        )
        self.down = _conv(three_quarters, width, 3, stride=2)
        self.context = nn.ModuleList(_conv(width, width, 3, dilation=dilation) for dilation in (1, 2, 1))
        self.join = _conv(three_quarters + width, width, 1)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        if config.checkpointing:
            hold_statistics_when_recomputing(self)

    @property
    def multiple(self) -> int:
        """The stride inside."""
        return 8

    def forward(self, x: Tensor) -> list[Tensor]:
        """Normalised images (N, 3, H, W) to one map (N, width, ceil(H / 4), ceil(W / 4))."""
        if self.checkpointing and self.training:
            return [checkpoint(self._map, x, use_reentrant=False)]
        return [self._map(x)]

    def _map(self, x: Tensor) -> Tensor:
        fine = self.stem(x)
        coarse = self.down(fine)
        for block in self.context:
            coarse = coarse + block(coarse)
        coarse = functional.interpolate(coarse, size=fine.shape[-2:], mode="bilinear", align_corners=False)
        joined: Tensor = self.join(torch.cat([fine, coarse], dim=1))
        return joined


def _conv(channels_in: int, channels_out: int, kernel: int, stride: int = 1, dilation: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels_in, channels_out, kernel, stride, dilation * (kernel // 2), dilation, bias=False),
        nn.BatchNorm2d(channels_out),
        nn.ReLU(inplace=True),
    )
