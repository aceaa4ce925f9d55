"""Somebody else's network as a segmenter: from segmentation-models-pytorch, torchvision, transformers, or your own.

Nothing is asked of it but per-pixel class logits. It stays as it is: its logits at one scale are bit-identical.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from pydantic import Field
from torch import Tensor, nn

from polyscale.config import Config, import_path
from polyscale.errors import UserError
from polyscale.views import View, resize

__all__ = ["ForeignConfig", "ForeignSegmenter", "build_foreign"]

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
_IMAGENET_LIBRARIES = ("torchvision", "segmentation_models_pytorch", "transformers")
_TRIED = (1, 2, 4, 8, 16, 32, 64, 128)

Vector = tuple[float, float, float]


class ForeignConfig(Config):
    """How a checkpoint rebuilds somebody else's network."""

    build: str
    """Import path of a function or class that makes it, ``package.module:name``."""
    options: dict[str, Any] = Field(default_factory=dict)
    """Its keyword arguments. They should ask for no pretrained weights: the checkpoint holds the weights."""
    mean: Vector = IMAGENET[0]
    """Mean of RGB in [0, 1] that the network was trained with."""
    std: Vector = IMAGENET[1]
    """Standard deviation, likewise."""
    multiple: int = Field(1, ge=1)
    """Sides of images must be multiples of this; images are padded by mirroring."""
    logits: str | None = None
    """Import path of a function that takes the network's output and gives logits (N, C, h, w); null finds them."""
    features: str | None = None
    """Name of a layer inside the network whose output the attention may read."""


class ForeignSegmenter(nn.Module):
    """Images (N, 3, H, W) in [0, 1] to the views of somebody else's network.

    Args:
        network: normalised images to its own kind of output.
        mean: of RGB in [0, 1], that it was trained with; None looks for it in the network.
        std: likewise.
        multiple: sides of images must be multiples of this; None finds it by trying.
        logits: the network's output to logits (N, C, h, w); None finds them (see ``find_logits``).
        features: name of a layer inside the network whose output, (N, F, h', w'), is kept as features.

    Raises:
        UserError: something cannot be found; the message says what to give.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        network: nn.Module,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        multiple: int | None = None,
        logits: Callable[[Any], Tensor] | None = None,
        features: str | None = None,
    ) -> None:
        super().__init__()
        if (mean is None) != (std is None):
            raise UserError("give both mean and std, or neither")
        found = (mean, std) if mean is not None and std is not None else _normalisation(network)
        self.network = network
        self.register_buffer("mean", torch.tensor(found[0], dtype=torch.float32).reshape(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(found[1], dtype=torch.float32).reshape(3, 1, 1), persistent=False)
        self.find = logits or find_logits
        self.features = features
        if features is not None and features not in dict(network.named_modules()):
            names = ", ".join(name for name, _ in network.named_children())
            raise UserError(f"the network has no layer {features!r}; its outermost layers are {names}")
        self.multiple = multiple or self._find_multiple()

    def forward(self, images: Tensor) -> View:
        """Images (N, 3, H, W), RGB in [0, 1], to logits on the network's own grid, or at the image's size."""
        height, width = images.shape[-2:]
        margins = (-height % self.multiple, -width % self.multiple)
        padded = images
        if any(margins):
            mode = "reflect" if margins[0] < height and margins[1] < width else "replicate"
            padded = nn.functional.pad(images, (0, margins[1], 0, margins[0]), mode=mode)
        logits, features = self.run((padded - self.mean) / self.std)
        if any(margins):
            # Cut where the padding began: exactly where the grid's stride allows, else at the image's size.
            stride = padded.shape[-2] // logits.shape[-2]
            if height % stride or width % stride:
                logits, stride = resize(logits, padded.shape[-2:]), 1
            logits = logits[..., : height // stride, : width // stride]
            if features is not None:
                step = padded.shape[-2] / features.shape[-2]
                features = features[..., : -int(-height // step), : -int(-width // step)]
        return View(logits, features=features)

    def run(self, normalised: Tensor) -> tuple[Tensor, Tensor | None]:
        """Normalised images of a size that the network takes to logits, and features where they are kept."""
        kept: list[Tensor] = []
        handle = None
        if self.features is not None:
            layer = self.network.get_submodule(self.features)
            handle = layer.register_forward_hook(lambda _, __, output: kept.append(output))
        try:
            output = self.network(normalised)
        finally:
            if handle is not None:
                handle.remove()
        logits = self.find(output)
        if not isinstance(logits, Tensor) or logits.ndim != 4:
            raise UserError(f"logits must be a tensor (N, C, h, w), got {_named(logits)}; give logits=function(output)")
        features = kept[-1] if kept else None
        if features is not None and features.ndim != 4:
            raise UserError(f"layer {self.features!r} gives {_named(features)}, not (N, F, h, w); name another layer")
        return logits, features

    @torch.no_grad()
    def _find_multiple(self) -> int:
        """The smallest number whose multiples the network takes, sides of both kinds among them."""
        modes = [(module, module.training) for module in self.network.modules()]
        self.network.eval()
        device = next(self.network.parameters(), torch.zeros(())).device
        problem: Exception | None = None
        try:
            for multiple in _TRIED:
                first = -(-97 // multiple)
                size = (first * multiple, (first + 1 + 2 * (multiple > 1)) * multiple)
                try:
                    self.run(torch.zeros(1, 3, *size, device=device))
                except UserError:
                    raise
                except Exception as error:  # what a network raises for a wrong size is its own affair
                    problem = error
                else:
                    return multiple
        finally:
            for module, training in modes:
                module.training = training
        told = " ".join(str(problem).split())[:200]
        raise UserError(
            f"the network takes images of no size that was tried ({told}); it must take normalised images (N, 3, H, W)."
            " Wrap it in a module that does, or give multiple=… where sides must be multiples of a number"
        )


def find_logits(output: Any) -> Any:
    """Per-pixel logits in what a network gives.

    A tensor is taken as it is; of torchvision's outputs ``out``, of transformers' ``logits``, and of mask classifiers
    (MaskFormer, Mask2Former) the logarithm of the semantic map that their masks and classes make.
    """
    if isinstance(output, Tensor):
        return output
    if isinstance(output, list | tuple) and output and not hasattr(output, "_fields"):
        return output[0]
    for name in ("out", "logits"):
        found = output.get(name) if isinstance(output, dict) else getattr(output, name, None)
        if isinstance(found, Tensor):
            return found
    classes, masks = (getattr(output, name, None) for name in ("class_queries_logits", "masks_queries_logits"))
    if isinstance(classes, Tensor) and isinstance(masks, Tensor):
        # The last class says that a query found nothing.
        return torch.einsum("nqc,nqhw->nchw", classes.softmax(-1)[..., :-1], masks.sigmoid()).clamp_min(1e-6).log()
    raise UserError(f"no per-pixel logits were found in {_named(output)}; give logits=function(output)")


def build_foreign(config: ForeignConfig) -> ForeignSegmenter:
    """Make the network that a configuration names; whoever calls this has allowed its code to run.

    Raises:
        UserError: it cannot be imported or made.
    """
    make = import_path(config.build)
    try:
        network = make(**config.options)
    except Exception as error:
        raise UserError(
            f"{config.build} failed with {type(error).__name__}: {' '.join(str(error).split())[:300]}"
        ) from None
    if not isinstance(network, nn.Module):
        raise UserError(f"{config.build} gives a {type(network).__name__}, not a torch.nn.Module")
    logits: Any = None if config.logits is None else import_path(config.logits)
    return ForeignSegmenter(network, config.mean, config.std, config.multiple, logits, config.features)


def _normalisation(network: nn.Module) -> tuple[Sequence[float], Sequence[float]]:
    """What images are normalised by, from what timm's models say of themselves or the library the network is from."""
    for module in network.modules():
        for name in ("pretrained_cfg", "default_cfg"):
            facts = getattr(module, name, None)
            if isinstance(facts, dict) and "mean" in facts and "std" in facts:
                return tuple(facts["mean"]), tuple(facts["std"])
    if type(network).__module__.partition(".")[0] in _IMAGENET_LIBRARIES:
        return IMAGENET
    raise UserError(
        "the network does not say how images are normalised; give mean=(…) and std=(…) of RGB in [0, 1], such as "
        f"mean={IMAGENET[0]}, std={IMAGENET[1]} for ImageNet's, or zeros and ones for none"
    )


def _named(x: Any) -> str:
    return f"a tensor {tuple(x.shape)}" if isinstance(x, Tensor) else f"a {type(x).__name__}"
