"""Feature pyramids of timm models.

Models differ in what they do at sizes that their stride does not divide. Convolutions with padding give
ceil(H / stride), as the contract asks; patch-wise stems (ConvNeXt, Swin) give the floor, or refuse. A look at an image
of 33 x 33 pixels and at one of a single pixel, when the model is built, tells which it is; only the second kind is
padded at the right and bottom (repeating the border) and its maps cropped, so that the first kind stays exactly the
network that others trained. Swin's windows are cut and shifted in the same way at every size (timm shrinks them to the
size of the images in pretraining).
"""

import warnings
from typing import Any

import timm
import torch
from torch import Tensor, nn
from torch.nn import functional

from polyscale.backbones.backbone import IMAGENET_MEAN, IMAGENET_STD, Backbone, BackboneConfig, map_size, repeated
from polyscale.backbones.checkpointing import hold_statistics_when_recomputing
from polyscale.backbones.inhouse import IN_HOUSE
from polyscale.backbones.pretrained import first_line, load_pretrained
from polyscale.errors import UserError, nearest

__all__ = ["TimmBackbone", "create_body", "enable_checkpointing", "normalisation"]

OUTPUT_STRIDES = (8, 16, 32)


class TimmBackbone(Backbone):
    """Any timm model with feature maps.

    Args:
        config: the name must be timm's.

    Raises:
        UserError: the name, the output stride, the weights or another option cannot be had.
    """

    body: Any

    def __init__(self, config: BackboneConfig) -> None:
        super().__init__()
        self.body = create_body(config)
        info = self.body.feature_info
        self.channels = tuple(int(count) for count in info.channels())
        self.strides = tuple(int(stride) for stride in info.reduction())
        self.mean, self.std = normalisation(config)
        self.channels_first = str(getattr(self.body, "output_fmt", None) or "NCHW").endswith("NCHW")
        self._pads = self._failure_at(self.multiple + 1) is not None or self._failure_at(1) is not None
        if self._pads and (failure := self._failure_at(3 * self.multiple)) is not None:
            raise UserError(
                f"backbone {config.name!r} does not take images of every size ({failure}); "
                "use for example convnext_tiny, swin_tiny_patch4_window7_224 or vit_small_patch16_dinov3"
            )
        load_pretrained(self.body, config)
        if config.checkpointing:
            enable_checkpointing(self.body, config.name)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Normalised images (N, 3, H, W) to maps (N, channels[k], ceil(H / strides[k]), ceil(W / strides[k]))."""
        size = x.shape[-2:]
        if self._pads:
            x = functional.pad(x, (0, -size[1] % self.multiple, 0, -size[0] % self.multiple), mode="replicate")
        maps = self._maps(x)
        if self._pads:
            sizes = [map_size(size, stride) for stride in self.strides]
            maps = [x[..., :height, :width] for x, (height, width) in zip(maps, sizes, strict=True)]
        return maps

    def _maps(self, x: Tensor) -> list[Tensor]:
        maps: list[Tensor] = self.body(x)
        return maps if self.channels_first else [x.permute(0, 3, 1, 2) for x in maps]

    def _failure_at(self, side: int) -> str | None:
        """Why the model alone does not keep the contract for a square image of this side; None where it does."""
        was_training = self.body.training
        self.body.eval()
        try:
            with torch.no_grad():
                maps = self._maps(torch.zeros(1, len(self.mean), side, side))
        except (RuntimeError, AssertionError, ValueError) as error:
            return first_line(error)
        finally:
            self.body.train(was_training)
        sizes = [map_size((side, side), stride) for stride in self.strides]
        return None if [tuple(x.shape[-2:]) for x in maps] == sizes else f"its maps of {side} pixels are not {sizes}"


def create_body(config: BackboneConfig, **options: Any) -> Any:
    """The timm feature extractor of a configuration with random weights; ``options`` go to timm as they are.

    Raises:
        UserError: timm has no such model, it has no feature maps, or it lacks an option asked for.
    """
    if not timm.is_model(config.name):
        raise UserError(
            f"unknown backbone {config.name[:100]!r}{nearest(config.name, [*timm.list_models(), *IN_HOUSE], 3)}; "
            f"choose {', '.join(IN_HOUSE)}, a timm model with feature maps, or package.module:Name of your own"
        )
    if config.in_channels != 3:
        options["in_chans"] = config.in_channels
    if config.drop_path:
        options["drop_path_rate"] = config.drop_path
    if config.name.startswith("swin"):
        options |= {"strict_img_size": False, "always_partition": True}
    body = _create(config.name, config.output_stride, options)
    if isinstance(body, Exception):
        raise UserError(
            _refused_option(config, options)
            or f"backbone {config.name!r} gives no feature maps in timm ({first_line(body)}); "
            "use for example resnet50 or convnext_tiny"
        )
    if config.dilate_first_blocks:
        _dilate_first_blocks(body, config.name)
    return body


def normalisation(config: BackboneConfig) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation that timm's weights were trained with; ImageNet's where timm names none."""
    known = timm.get_pretrained_cfg(config.name)
    mean, std = (IMAGENET_MEAN, IMAGENET_STD) if known is None else (known.mean, known.std)
    return repeated(mean, config.in_channels), repeated(std, config.in_channels)


def _create(name: str, output_stride: int | None, options: dict[str, Any]) -> Any:
    stride: dict[str, Any] = {} if output_stride is None else {"output_stride": output_stride}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # timm's notes on renamed models
            body: Any = timm.create_model(name, features_only=True, **stride, **options)
    except (AssertionError, AttributeError, KeyError, RuntimeError, TypeError, ValueError) as error:
        return error  # timm's models refuse an option each in its own way
    coarsest = max(body.feature_info.reduction())
    if output_stride is not None and coarsest != output_stride:
        return ValueError(f"its coarsest stride is {coarsest}")
    return body


def _refused_option(config: BackboneConfig, options: dict[str, Any]) -> str | None:
    """Which option was refused and what is possible instead; None where it is none of the options."""
    if config.output_stride is not None:
        possible = [stride for stride in OUTPUT_STRIDES if isinstance(_create(config.name, stride, options), nn.Module)]
        if possible:
            listed = " or ".join(str(stride) for stride in possible)
            return f"backbone {config.name!r} has no output stride {config.output_stride}; possible: {listed}"
        if isinstance(_create(config.name, None, options), nn.Module):
            return f"backbone {config.name!r} has no choice of output strides; set output_stride: null"
    if config.drop_path:
        without = {key: value for key, value in options.items() if key != "drop_path_rate"}
        if isinstance(_create(config.name, config.output_stride, without), nn.Module):
            return f"backbone {config.name!r} has no stochastic depth; set drop_path: 0"
    return None


def _dilate_first_blocks(body: Any, name: str) -> None:
    """Give the first block of each dilated stage of a ResNet the dilation of the stage's other blocks."""
    stages: list[Any] = [getattr(body, stage, None) for stage in ("layer3", "layer4")]
    pairs: list[tuple[Any, Any]] = [
        (getattr(stage[0], conv, None), getattr(stage[-1], conv, None))
        for stage in stages
        if stage is not None
        for conv in ("conv1", "conv2")
    ]
    if None in stages or not all(isinstance(conv, nn.Conv2d) for pair in pairs for conv in pair):
        raise UserError(
            f"backbone {name!r} is not a ResNet of plain convolutions in layer1 to layer4; set dilate_first_blocks: "
            "false"
        )
    for conv, model in pairs:
        conv.dilation, conv.padding = model.dilation, model.padding


def enable_checkpointing(body: Any, name: str) -> None:
    """Let a timm model compute its activations again in the backward pass.

    Raises:
        UserError: timm cannot do this for the model.
    """
    try:
        body.set_grad_checkpointing(True)
    except (AttributeError, AssertionError, NotImplementedError):
        raise UserError(f"backbone {name!r} has no gradient checkpointing in timm; set checkpointing: false") from None
    hold_statistics_when_recomputing(body)
