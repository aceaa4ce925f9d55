"""Hierarchical multi-scale attention (Tao, Sapra, Catanzaro, 2020, arXiv:2005.10821, section 3): the whole idea.

A segmenter looks at the image at several scales. At scale ``s`` it gives class logits ``L_s`` and an attention map
``a_s`` in [0, 1]: how far to trust this scale against *every finer one*. From the finest scale to the coarsest:

    fused <- a_s * L_s + (1 - a_s) * fused

The attention is relative, so a network trained on one pair of scales (0.5, 1) chains any set of scales afterwards.

Unusual here: the fusion has two modes. The published, *exact* one brings every view to its own input's size first; the
*fast* one fuses on the segmenter's own grid and enlarges only the result. Sizes are whole-number arithmetic, so they
stay right at odd sizes and in a traced graph. Only torch is imported.
"""

from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = [
    "Fused",
    "HierarchicalMultiScale",
    "View",
    "at_size",
    "check_scales",
    "fuse",
    "fuse_on_grid",
    "look",
    "resize",
    "scaled_size",
]

LARGEST_SCALE = 16
"""A typing error beyond it would ask for more memory than any machine has."""


class View(NamedTuple):
    """What a segmenter says of one image at one scale."""

    logits: Tensor
    """Class logits, (N, C, h, w)."""
    attention: Tensor | None = None
    """Trust in this scale against every finer one, (N, 1, h, w) in [0, 1]; None where the network has no attention
    head.
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


def check_scales(scales: Sequence[float]) -> tuple[float, ...]:
    """Finest first, once each.

    Raises:
        ValueError: a scale is not positive or above ``LARGEST_SCALE``, or 1 is not among them (its size is the result's
            size).
    """
    ordered = tuple(sorted({float(scale) for scale in scales}, reverse=True))
    if not ordered or ordered[-1] <= 0:
        raise ValueError(f"scales must be positive numbers, got {list(scales)}; for example 0.5,1,2")
    if ordered[0] > LARGEST_SCALE:
        raise ValueError(f"scales must be at most {LARGEST_SCALE}, got {list(scales)}; for example 0.5,1,2")
    if 1.0 not in ordered:
        raise ValueError(f"scales must contain 1, whose size is the result's; got {list(scales)}, for example 0.5,1,2")
    return ordered


def scaled_size(size: Sequence[int], scale: float) -> tuple[int, int]:
    """floor(side * scale) for each side, at least 1; exact also where float products are not, such as 100 * 0.29."""
    factor = Fraction(str(scale))
    height, width = (side * factor.numerator // factor.denominator for side in size)
    return (height if height > 1 else 1), (width if width > 1 else 1)


def resize(x: Tensor, size: Sequence[int]) -> Tensor:
    """Bilinear resizing with pixel centres aligned; ``x`` (N, C, h, w) itself where it has that size already."""
    height, width = size
    if x.shape[-2:] == (height, width):
        return x
    return functional.interpolate(x, size=(height, width), mode="bilinear", align_corners=False)


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


def fuse(views: Mapping[float, View]) -> Fused:
    """Chain views from the finest scale to the coarsest, each weighted by its attention; the finest's is never read.

    For s >= 1 the fused result is first resized to this scale's size; for s < 1 the product and the attention are
    resized to the result's (arXiv:2005.10821, section 3.1; for s < 1 in the published order: multiply, then resize).

    Args:
        views: scale -> view at that scale's input size; 1 must be among the scales.

    Returns:
        Logits and auxiliary logits at the size of scale 1, and the views, finest first.

    Raises:
        ValueError: scale 1 is missing, or a view other than the finest has no attention.
    """
    return _chain(views, shrink=True)


def fuse_on_grid(views: Mapping[float, View], size: Sequence[int]) -> Fused:
    """The fast mode: chain views on the finest one's own grid, and resize the result, once, to ``size``.

    Args:
        views: scale -> view on the segmenter's grid; 1 must be among the scales.
        size: (H, W) of the result.

    Returns:
        Logits and auxiliary logits at ``size``, and the views, finest first.

    Raises:
        ValueError: scale 1 is missing, or a view other than the finest has no attention.
    """
    fused = _chain(views, shrink=False)
    return Fused(resize(fused.logits, size), None if fused.aux is None else resize(fused.aux, size), fused.views)


def _chain(views: Mapping[float, View], shrink: bool) -> Fused:
    """Fold the views from the finest scale down; ``shrink``: at scales from 1 up the result takes each view's size."""
    scales = check_scales(list(views))
    finest = views[scales[0]]
    logits, aux = finest.logits, finest.aux
    for scale in scales[1:]:
        view = views[scale]
        if view.attention is None:
            raise ValueError(
                f"the view at scale {scale:g} has no attention map: the segmenter needs a scale-attention head"
            )
        blend = _blend_down if shrink and scale >= 1 else _blend_up
        logits = blend(logits, view.logits, view.attention)
        aux = None if aux is None or view.aux is None else blend(aux, view.aux, view.attention)
    return Fused(logits, aux, {scale: views[scale] for scale in scales})


def _blend_down(fused: Tensor, logits: Tensor, attention: Tensor) -> Tensor:
    return attention * logits + (1 - attention) * resize(fused, logits.shape[-2:])


def _blend_up(fused: Tensor, logits: Tensor, attention: Tensor) -> Tensor:
    size = fused.shape[-2:]
    return resize(attention * logits, size) + (1 - resize(attention, size)) * fused


class HierarchicalMultiScale(nn.Module):
    """A segmenter that is shown each scale in turn; its views are fused by their attention.

    Training uses one pair of scales, inference any set that contains 1.

    Args:
        segmenter: (N, 3, h, w) -> View with attention, on any grid. If it has a method ``without_attention`` with the
            same arguments, that is called at the finest scale, whose attention is never read.
        skip_finest: False runs the attention head at the finest scale too, as the released training code does: the
            result is the same, but the head's batch-norm statistics then count that scale as well.
        fast: fuse on the segmenter's grid; the views are left there.
    """

    def __init__(self, segmenter: nn.Module, skip_finest: bool = True, fast: bool = False) -> None:
        super().__init__()
        self.segmenter = segmenter
        self.skip_finest = skip_finest
        self.fast = fast

    def forward(self, images: Tensor, scales: Sequence[float] = (0.5, 1.0)) -> Fused:
        """Images (N, 3, H, W) to logits (N, C, H, W), auxiliary logits and the view of each scale."""
        # Coarsest first: batch-norm statistics are updated in the order of the published training.
        finest, *coarser = check_scales(scales)
        views = {scale: look(self.segmenter, images, scale, grid=self.fast) for scale in reversed(coarser)}
        plain = getattr(self.segmenter, "without_attention", self.segmenter) if self.skip_finest else self.segmenter
        views[finest] = look(plain, images, finest, grid=self.fast)
        return fuse_on_grid(views, images.shape[-2:]) if self.fast else fuse(views)
