"""How much each scale counts in the result, pixel by pixel.

Unusual here: a network's attention is *relative* (trust in a scale against every finer one), so its raw maps cannot
be compared with each other. The effective weights can: they are what the chain of ``multiscale.fuse`` multiplies each
scale's logits by.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from polyscale.multiscale import View, at_size, check_scales, resize, scaled_size

__all__ = ["at_input_sizes", "effective_weights"]


def at_input_sizes(views: Mapping[float, View], size: Sequence[int]) -> dict[float, View]:
    """Views that fast fusion left on the network's grid, brought to the size of what the network was shown.

    Args:
        views: scale -> view.
        size: (H, W) of the image.

    Returns:
        Scale -> view of floor(H * scale) x floor(W * scale); those that have this size already, unchanged.
    """
    sizes = {scale: scaled_size(size, scale) for scale in views}
    return {
        scale: view if view.logits.shape[-2:] == sizes[scale] else at_size(view, sizes[scale])
        for scale, view in views.items()
    }


def effective_weights(views: Mapping[float, View], method: str) -> dict[float, Tensor]:
    """The weight of each scale in the fused result (arXiv:2005.10821, section 3.1, with the recursion written out).

    For hierarchical attention a scale counts ``a_s`` times what every coarser scale has left over, and the finest all
    of the rest. The attention of a scale below 1 is resized on its own, whereas the fusion resizes it multiplied by
    the logits, so the weights describe that step up to interpolation.

    Args:
        views: scale -> view as exact fusion leaves it (see ``at_input_sizes``); 1 is among the scales.
        method: "hierarchical", "explicit", "average" or "single", as a model's ``method`` says.

    Returns:
        Scale -> (N, 1, H, W) float32 at the size of scale 1, finest scale first. The weights sum to 1 over the
        scales, except those of explicit attention without softmax, which are given as the network uses them.

    Raises:
        ValueError: an unknown method, scale 1 is missing, or a view lacks the attention that the method needs.
    """
    scales = check_scales(list(views))
    one = views[1.0].logits
    if method == "hierarchical":
        return _chained({scale: views[scale] for scale in scales})
    if method == "explicit":
        return {scale: resize(_attention(views, scale), one.shape[-2:]) for scale in scales}
    if method not in ("average", "single"):
        raise ValueError(f"unknown method {method!r}; one of hierarchical, explicit, average, single")
    ones = torch.ones_like(one[:, :1], dtype=torch.float32)
    return {scale: ones / len(scales) for scale in scales}


def _chained(views: Mapping[float, View]) -> dict[float, Tensor]:
    """Follow ``multiscale.fuse`` with weights in place of logits; ``views`` finest first."""
    finest, *coarser = views
    weights = {finest: torch.ones_like(views[finest].logits[:, :1], dtype=torch.float32)}
    for scale in coarser:
        attention = _attention(views, scale)
        size = weights[finest].shape[-2:] if scale < 1 else attention.shape[-2:]
        attention = resize(attention, size)
        weights = {finer: (1 - attention) * resize(weight, size) for finer, weight in weights.items()}
        weights[scale] = attention
    return weights


def _attention(views: Mapping[float, View], scale: float) -> Tensor:
    attention = views[scale].attention
    if attention is None:
        raise ValueError(
            f"the view at scale {scale:g} has no attention map: the segmenter needs a scale-attention head"
        )
    return attention.float()
