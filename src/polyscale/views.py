"""What a segmenter says of an image at one scale."""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, Protocol

import torch
from torch import Tensor
from torch.nn import functional

from polyscale.scales import scaled_size

__all__ = ["Fused", "Look", "View", "at_input_sizes", "at_size", "look", "resize"]


class View(NamedTuple):
    """What a segmenter says of one image at one scale."""

    logits: Tensor
    """Class logits, (N, C, h, w)."""
    attention: Tensor | None = None
    """Trust in this scale against every finer one, (N, 1, h, w) in [0, 1], or (N, C, h, w) with one map a class; None
    where the network has no attention head. Attention over views may lie on a finer grid than the logits.
    """
    aux: Tensor | None = None
    """Auxiliary class logits (OCR's), (N, C, h, w)."""
    features: Tensor | None = None
    """The decoder's features, (N, F, h', w'), on the decoder's own grid; None where nobody asked for them."""


class Fused(NamedTuple):
    """The result at the image's size, and the views it was made of."""

    logits: Tensor
    """Class logits, (N, C, H, W)."""
    aux: Tensor | None
    """Auxiliary class logits fused by the same attention, (N, C, H, W)."""
    views: dict[float, View]
    """Scale -> its view, finest first: at floor(H * scale) x floor(W * scale), or on the segmenter's grid (fast)."""


class Look(Protocol):
    """A way to show images at one scale; ``look`` is the usual one, and tiles show more of the image than they keep."""

    def __call__(
        self,
        segmenter: Callable[[Tensor], View],
        images: Tensor,
        scale: float,
        features: bool = False,
        grid: bool = False,
    ) -> View:
        """As ``look``."""


def resize(x: Tensor, size: Sequence[int]) -> Tensor:
    """Bilinear resizing with pixel centres aligned; ``x`` (N, C, h, w) itself where it has that size already."""
    height, width = size
    if _has_size(x, height, width):
        return x
    return functional.interpolate(x, size=(height, width), mode="bilinear", align_corners=False)


def _has_size(x: Tensor, height: int, width: int) -> bool:
    sides = (*x.shape[-2:], height, width)
    if any(isinstance(side, torch.SymInt) for side in sides):
        # An exported graph holds for many sizes: these must be equal for all of them.
        from torch.fx.experimental.symbolic_shapes import statically_known_true

        return statically_known_true(sides[0] == height) and statically_known_true(sides[1] == width)
    return x.shape[-2:] == (height, width)


def look(
    segmenter: Callable[[Tensor], View], images: Tensor, scale: float, features: bool = False, grid: bool = False
) -> View:
    """Show ``images`` (N, 3, H, W) to the segmenter at one scale.

    Args:
        segmenter: (N, 3, h, w) -> View, on any grid.
        images: at scale 1.
        scale: above 0.
        features: keep the decoder's features, as they are; they take memory and few need them.
        grid: leave the view on the segmenter's grid.

    Returns:
        The view in at least float32, its logits, attention and aux brought to the scaled input's size or, with
        ``grid``, as they are.
    """
    scaled = resize(images, scaled_size(images.shape[-2:], scale))
    logits, attention, aux, kept = segmenter(scaled)
    attention, aux = (None if x is None else _at_least_float32(x) for x in (attention, aux))
    view = View(_at_least_float32(logits), attention, aux, kept if features else None)
    return view if grid else at_size(view, scaled.shape[-2:])


def at_size(view: View, size: Sequence[int]) -> View:
    """The view with its logits, attention and aux brought to ``size``; its features stay as they are."""
    attention, aux = (None if x is None else resize(x, size) for x in (view.attention, view.aux))
    return View(resize(view.logits, size), attention, aux, view.features)


def _at_least_float32(x: Tensor) -> Tensor:
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


def at_input_sizes(views: Mapping[float, View], size: Sequence[int]) -> dict[float, View]:
    """Views that fast fusion left on the segmenter's grid, brought to the size of what the segmenter was shown.

    Args:
        views: scale -> view.
        size: (H, W) of the image.

    Returns:
        Scale -> view of floor(H * scale) x floor(W * scale); those that have this size already, unchanged.
    """
    sizes = {scale: scaled_size(size, scale) for scale in views}
    return {
        scale: view if _has_size(view.logits, *sizes[scale]) else at_size(view, sizes[scale])
        for scale, view in views.items()
    }
