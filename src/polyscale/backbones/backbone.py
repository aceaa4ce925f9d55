"""The contract that every backbone keeps, and its configuration.

Map k has ceil(H / stride_k) x ceil(W / stride_k) pixels for *every* input size from one pixel up,
whatever a library's model does at sizes that its stride does not divide. Images of any size and any scale of them can
then be shown to any network.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, Literal

from pydantic import Field, model_validator
from torch import Tensor, nn

from polyscale.config import Config, is_import_path

__all__ = ["IMAGENET_MEAN", "IMAGENET_STD", "Backbone", "BackboneConfig", "map_size", "repeated"]

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


class BackboneConfig(Config):
    """The backbone and its first weights."""

    name: str = Field(default="resnet50", min_length=1)
    """``tiny`` (in-house, no weights), the name of any timm model with feature maps, such as ``resnet50``, or the
    import path of your own (``my_package.module:MyBackbone``).
    """
    options: dict[str, Any] = Field(default_factory=dict)
    """Keyword arguments for your own backbone."""
    in_channels: int = Field(default=3, ge=1)
    """Channels of an image. With other numbers than 3 the first layer follows, and pretrained weights of its three
    channels are repeated and scaled (one channel: summed), as timm does.
    """
    pretrained: bool | str = False
    """false for random weights, true for the model's ImageNet weights, or the path of a ``.safetensors`` or ``.pth``
    file that holds the timm model's state dict.
    """
    output_stride: Literal[8, 16, 32] | None = None
    """Input pixels per pixel of the coarsest map: 8, 16 or 32; null for the model's own."""
    checkpointing: bool = False
    """Compute activations again in the backward pass instead of keeping them: less memory, about a third more time."""
    drop_path: float = Field(default=0.0, ge=0.0, lt=1.0)
    """Probability of skipping a residual branch in training (stochastic depth), where the model has them."""
    dilate_first_blocks: bool = False
    """Whether a ResNet's dilated stages dilate their first block as well, as the DeepLabV3+ networks published with
    scale attention do; timm's own leave it as the stage before.
    """
    branch_upsampling: Literal["bilinear", "nearest"] = "bilinear"
    """How HRNet's branches reach a finer branch's size: ``bilinear`` as published for segmentation, or ``nearest`` as
    timm classifies with.
    """

    @model_validator(mode="after")
    def _options_are_used(self) -> "BackboneConfig":
        if not is_import_path(self.name):
            if self.options:
                raise ValueError(f"options are for a backbone of your own; {self.name!r} takes the keys beside them")
            return self
        keys = (
            "in_channels",
            "output_stride",
            "checkpointing",
            "drop_path",
            "dilate_first_blocks",
            "branch_upsampling",
        )
        idle = [key for key in keys if getattr(self, key) != type(self).model_fields[key].default]
        if idle:
            raise ValueError(f"{', '.join(idle)} has no effect on {self.name}; put what it takes under options")
        return self


class Backbone(nn.Module, ABC):
    """Images to feature maps.

    A backbone of your own subclasses this and is named in the recipe by its import path. It is made with what stands
    under ``options`` as keyword arguments, and with ``pretrained`` where the recipe sets that; for a checkpoint, which
    carries the weights, it is made without. It sets ``channels`` and ``strides``, and keeps the promise of ``forward``
    for every size from one pixel up.

    Attributes:
        channels: channels of each map, fine to coarse.
        strides: input pixels per map pixel of each map, fine to coarse.
        mean: per-channel mean of RGB in [0, 1] that the weights were trained with. As many as an image has channels.
        std: per-channel standard deviation likewise.

    Example:
        With this class in ``my_package/trunks.py``, a recipe says
        ``model.backbone: {name: "my_package.trunks:OneLayer", options: {width: 16}}``.

        >>> import torch
        >>> class OneLayer(Backbone):
        ...     def __init__(self, width=32):
        ...         super().__init__()
        ...         self.channels, self.strides = (width,), (4,)
        ...         self.stem = nn.Conv2d(3, width, kernel_size=7, stride=4, padding=3)
        ...
        ...     def forward(self, x):
        ...         return [self.stem(x).relu()]
        >>> [map_.shape for map_ in OneLayer(width=16)(torch.rand(1, 3, 33, 50))]
        [torch.Size([1, 16, 9, 13])]
    """

    channels: tuple[int, ...]
    strides: tuple[int, ...]
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD

    @property
    def multiple(self) -> int:
        """Number of which the sides of an image should be multiples, so that all maps inside lie on one another."""
        return max(self.strides)

    @abstractmethod
    def forward(self, x: Tensor) -> list[Tensor]:
        """Normalised images to maps, fine to coarse.

        Args:
            x: (N, 3, H, W), RGB less ``mean`` and over ``std``.

        Returns:
            Map k of shape (N, channels[k], ceil(H / strides[k]), ceil(W / strides[k])).
        """


def repeated(values: Sequence[float], number: int) -> tuple[float, ...]:
    """Values of three channels for another number of them, in turn, as the first layer's weights are repeated."""
    return tuple(values[k % len(values)] for k in range(number))


def map_size(size: Sequence[int], stride: int) -> tuple[int, int]:
    """ceil(H / stride), ceil(W / stride)."""
    height, width = size
    return -(-height // stride), -(-width // stride)
