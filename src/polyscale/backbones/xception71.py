"""Aligned Xception-71 (Chen et al., 2018, arXiv:1802.02611, section 3.2), as DeepLabV3+ and DeeperLab use it.

A block that starts with an activation adds the *activated* input to its result, not the input itself.
The public PyTorch implementations do so because their ReLU works in place on what the skip connection then reads;
their weights are trained that way. A norm, but no activation, stands between the depthwise and the pointwise part of a
separable convolution. timm's ``xception71`` is another arrangement of the same idea, with other weights. Tensor names
follow the public PyTorch weights (``block4.rep.1.conv1.weight``).
"""

from collections import OrderedDict
from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from polyscale.backbones.backbone import Backbone, BackboneConfig
from polyscale.backbones.checkpointing import hold_statistics_when_recomputing
from polyscale.backbones.inhouse import initialise_inhouse, load_inhouse, refuse_options

__all__ = ["AlignedXception71Backbone"]

MIDDLE_BLOCKS = range(4, 20)
WIDTH = 728


class AlignedXception71Backbone(Backbone):
    """Maps of 64 channels at stride 2, 128 at 4 and 2048 at 8; at output stride 16, 728 at 8 come in between.

    Args:
        config: ``name`` is ``aligned_xception71``; ``output_stride`` is 8 (the default, as published with scale
            attention) or 16; ``pretrained`` may be the path of a weights file.

    Raises:
        UserError: an option or weights that this backbone does not have.
    """

    def __init__(self, config: BackboneConfig) -> None:
        super().__init__()
        refuse_options(config, output_strides=(8, 16))
        self.checkpointing = config.checkpointing
        coarse = config.output_stride == 16
        self.channels = (64, 128, WIDTH, 2048) if coarse else (64, 128, 2048)
        self.strides = (2, 4, 8, 16) if coarse else (2, 4, 8)
        # Stride 8 is reached in block3; at output stride 8 dilation stands for the stride left out after it.
        middle, exit_first, exit_rest = (1, 1, 2) if coarse else (2, 2, 4)
        self.conv1 = nn.Conv2d(3, 32, 3, stride=2, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(32)
        self.conv2 = nn.Conv2d(32, 64, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(64)
        self.block1 = _Block(64, (128, 128, 128), stride=2, activate_first=False)
        self.block2 = _Block(128, (256, 256), activate_first=False)
        self.block3 = _Block(256, (WIDTH, WIDTH, WIDTH), stride=2)
        for number in MIDDLE_BLOCKS:
            setattr(self, f"block{number}", _Block(WIDTH, (WIDTH, WIDTH, WIDTH), dilation=middle))
        self.block20 = _Block(
            WIDTH, (WIDTH, 1024, 1024), stride=2 if coarse else 1, dilation=exit_first, dilate_last=False
        )
        for number, (width_in, width) in enumerate(((1024, 1536), (1536, 1536), (1536, 2048)), start=3):
            setattr(self, f"conv{number}", _Separable(width_in, width, dilation=exit_rest))
            setattr(self, f"bn{number}", nn.BatchNorm2d(width))
        initialise_inhouse(self)
        load_inhouse(self, config)
        if config.checkpointing:
            hold_statistics_when_recomputing(self)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Normalised images (N, 3, H, W) to maps (N, channels[k], ceil(H / strides[k]), ceil(W / strides[k]))."""
        x = functional.relu(self.bn1(self.conv1(x)))
        half = functional.relu(self.bn2(self.conv2(x)))
        quarter = functional.relu(self._run("block1", half))
        eighth = functional.relu(self._run("block3", self._run("block2", quarter)))
        x = eighth
        for number in (*MIDDLE_BLOCKS, 20):
            x = self._run(f"block{number}", x)
        x = functional.relu(x)
        for number in (3, 4, 5):
            x = functional.relu(self.get_submodule(f"bn{number}")(self._run(f"conv{number}", x)))
        return [half, quarter, x] if len(self.strides) == 3 else [half, quarter, eighth, x]

    def _run(self, name: str, x: Tensor) -> Tensor:
        module = self.get_submodule(name)
        result: Tensor = (
            checkpoint(module, x, use_reentrant=False) if self.checkpointing and self.training else module(x)
        )
        return result


class _Block(nn.Module):
    """Separable convolutions, a norm after each and an activation between them, added to the input.

    Args:
        channels_in: of the input.
        widths: channels after each separable convolution.
        stride: of the last of them.
        dilation: of all of them, but for the last where ``dilate_last`` is false or it has a stride.
        activate_first: whether the input is activated, for the convolutions and for the sum.
        dilate_last: see ``dilation``.
    """

    def __init__(
        self,
        channels_in: int,
        widths: Sequence[int],
        stride: int = 1,
        dilation: int = 1,
        activate_first: bool = True,
        dilate_last: bool = True,
    ) -> None:
        super().__init__()
        self.activate_first = activate_first
        changes = stride != 1 or channels_in != widths[-1]
        self.skip = nn.Conv2d(channels_in, widths[-1], 1, stride=stride, bias=False) if changes else None
        self.skipbn = nn.BatchNorm2d(widths[-1]) if changes else None
        layers: OrderedDict[str, nn.Module] = OrderedDict()
        for place, width in enumerate(widths):
            last = place == len(widths) - 1
            # In the weights' numbering the activations count as well, the first one too where there is one.
            number = 3 * place + int(activate_first)
            if place:
                layers[str(number - 1)] = nn.ReLU(inplace=True)
            layers[str(number)] = _Separable(
                channels_in, width, stride if last else 1, 1 if last and not (dilate_last and stride == 1) else dilation
            )
            layers[str(number + 1)] = nn.BatchNorm2d(width)
            channels_in = width
        self.rep = nn.Sequential(layers)

    def forward(self, x: Tensor) -> Tensor:
        if self.activate_first:
            x = functional.relu(x)
        shortcut = x if self.skip is None or self.skipbn is None else self.skipbn(self.skip(x))
        total: Tensor = self.rep(x) + shortcut
        return total


class _Separable(nn.Module):
    """A depthwise 3 x 3 convolution, a norm, a pointwise convolution."""

    def __init__(self, channels_in: int, channels_out: int, stride: int = 1, dilation: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(
            channels_in, channels_in, 3, stride, padding=dilation, dilation=dilation, groups=channels_in, bias=False
        )
        self.bn = nn.BatchNorm2d(channels_in)
        self.pointwise = nn.Conv2d(channels_in, channels_out, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.pointwise(self.bn(self.conv1(x)))
        return result
