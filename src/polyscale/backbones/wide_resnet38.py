"""WideResNet-38 (Wu, Shen, van den Hengel, 2016, arXiv:1611.10080), variant A2 at output stride 8.

Residual blocks normalise and activate *before* they convolve, so that the maps given out are plain sums,
neither normalised nor rectified; the norm that closes the network for classification has no place in segmentation and
is left out. The first two halvings are max pooling between modules, the third is a stride. Tensor names follow the
public PyTorch weights (``mod1.conv1.weight``), whose file can be loaded as it is.
"""

from collections import OrderedDict
from typing import NamedTuple

from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from polyscale.backbones.backbone import Backbone, BackboneConfig
from polyscale.backbones.checkpointing import hold_statistics_when_recomputing
from polyscale.backbones.inhouse import initialise_inhouse, load_inhouse, refuse_options

__all__ = ["WideResNet38Backbone"]


class _Stage(NamedTuple):
    """One module of the network: a row of its table."""

    blocks: int
    widths: tuple[int, ...]
    """Channels after each convolution: two are two 3 x 3, three are 1 x 1, 3 x 3, 1 x 1."""
    stride: int = 1
    dilation: int = 1
    dropout: float = 0.0


# mod2 to mod7. Stride 8 is reached in mod4; from there dilation stands for the strides left out.
STAGES = (
    _Stage(3, (128, 128)),
    _Stage(3, (256, 256)),
    _Stage(6, (512, 512), stride=2),
    _Stage(3, (512, 1024), dilation=2),
    _Stage(1, (512, 1024, 2048), dilation=4, dropout=0.3),
    _Stage(1, (1024, 2048, 4096), dilation=4, dropout=0.5),
)


class WideResNet38Backbone(Backbone):
    """Three maps: 128 channels at stride 2, 256 at stride 4, 4096 at stride 8.

    Args:
        config: ``name`` is ``wide_resnet38``; ``pretrained`` may be the path of a weights file.

    Raises:
        UserError: an option or weights that this backbone does not have.
    """

    channels = (128, 256, 4096)
    strides = (2, 4, 8)

    def __init__(self, config: BackboneConfig) -> None:
        super().__init__()
        refuse_options(config, output_strides=(8,))
        self.checkpointing = config.checkpointing
        self.mod1 = nn.Sequential(OrderedDict(conv1=nn.Conv2d(3, 64, 3, padding=1, bias=False)))
        width = 64
        for number, stage in enumerate(STAGES, start=2):
            blocks: OrderedDict[str, nn.Module] = OrderedDict()
            for place in range(1, stage.blocks + 1):
                blocks[f"block{place}"] = _Block(width, stage, stride=stage.stride if place == 1 else 1)
                width = stage.widths[-1]
            setattr(self, f"mod{number}", nn.Sequential(blocks))
        self.pool2 = nn.MaxPool2d(3, stride=2, padding=1)
        self.pool3 = nn.MaxPool2d(3, stride=2, padding=1)
        initialise_inhouse(self)
        load_inhouse(self, config)
        if config.checkpointing:
            hold_statistics_when_recomputing(self)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Normalised images (N, 3, H, W) to maps (N, channels[k], ceil(H / strides[k]), ceil(W / strides[k]))."""
        half = self._run("mod2", self.pool2(self.mod1(x)))
        quarter = self._run("mod3", self.pool3(half))
        x = quarter
        for name in ("mod4", "mod5", "mod6", "mod7"):
            x = self._run(name, x)
        return [half, quarter, x]

    def _run(self, name: str, x: Tensor) -> Tensor:
        for block in self.get_submodule(name).children():
            x = checkpoint(block, x, use_reentrant=False) if self.checkpointing and self.training else block(x)
        return x


class _Block(nn.Module):
    """Norm, ReLU, then convolutions with the same between them, added to the input.

    Where the shape changes, the input is first brought to it by a 1 x 1 convolution, which reads the *activated* input.
    """

    def __init__(self, channels_in: int, stage: _Stage, stride: int) -> None:
        super().__init__()
        kernels = (3, 3) if len(stage.widths) == 2 else (1, 3, 1)
        self.bn1 = _norm_act(channels_in)
        layers: OrderedDict[str, nn.Module] = OrderedDict()
        width = channels_in
        for place, (kernel, out) in enumerate(zip(kernels, stage.widths, strict=True), start=1):
            if place > 1:
                layers[f"bn{place}"] = _norm_act(width)
            if place == len(kernels) and stage.dropout:
                layers["dropout"] = nn.Dropout2d(stage.dropout)
            dilation = stage.dilation if kernel == 3 else 1
            layers[f"conv{place}"] = nn.Conv2d(
                width,
                out,
                kernel,
                stride=stride if place == 1 else 1,
                padding=dilation * (kernel // 2),
                dilation=dilation,
                bias=False,
            )
            width = out
        self.convs = nn.Sequential(layers)
        changes = stride != 1 or channels_in != width
        self.proj_conv = nn.Conv2d(channels_in, width, 1, stride=stride, bias=False) if changes else None

    def forward(self, x: Tensor) -> Tensor:
        activated = self.bn1(x)
        shortcut = x if self.proj_conv is None else self.proj_conv(activated)
        total: Tensor = self.convs(activated) + shortcut
        return total


def _norm_act(channels: int) -> nn.Sequential:
    return nn.Sequential(nn.BatchNorm2d(channels), nn.ReLU(inplace=True))
