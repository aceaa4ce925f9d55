"""Lovász-softmax (Berman, Triki, Blaschko 2018, arXiv:1705.08790): a convex surrogate of the Jaccard index (IoU).

The index is each image's own, so the loss is exact over any number of processes. In an image, it is the mean over the
classes that its labels contain.
"""

import torch
from torch import Tensor

from polyscale.labels import IGNORE
from polyscale.losses.cross_entropy import mean_divisor
from polyscale.losses.inputs import Target, portions, prepared

__all__ = ["lovasz_softmax"]


def lovasz_softmax(
    logits: Tensor, labels: Tensor | Target, *, weights: Tensor | None = None, ignore: int = IGNORE
) -> Tensor:
    """The Lovász extension of 1 - IoU at the errors of softmax(logits), mean over an image's classes, then over images.

    Args:
        logits: (N, C, H, W).
        labels: (N, H, W) integers, 0..C-1 or ``ignore``; or a prepared target, which holds the weights too.
        weights: >= 0, of each image (N,) or each pixel (N, H, W); None for ones. A pixel of weight w counts like w, and
            an image by the sum over its pixels.
        ignore: the label of pixels that do not count.

    Returns:
        Scalar in [0, 1], at least float32. An image that is mostly ignored counts little; where every pixel is, the
        loss is zero with zero gradients.

    Raises:
        UserError: the sizes do not match, or a label is not a class.
    """
    with prepared(logits, labels, weights, ignore) as (logits, target):
        sums = [_summed(z, part) for z, part in portions(logits, target)]
        return torch.stack(sums).sum() / mean_divisor(target, None)


def _summed(logits: Tensor, target: Target) -> Tensor:
    """The sum over images of loss times weight, a scalar."""
    weights = target.weights.flatten(1)[:, None]
    # Only classes that the labels hold are sorted: that is where the time goes.
    classes = torch.unique(target.labels)
    classes = classes[classes != IGNORE]
    true = target.labels.flatten(1)[:, None] == classes[:, None]
    probabilities = logits.softmax(1)[:, classes].flatten(2)
    slopes = _slopes(torch.where(true, 1 - probabilities, probabilities).detach(), true, weights)
    # The extension is linear between two orders of the errors: a sum of errors times slopes that are constant.
    losses = (torch.where(true, 1 - probabilities, probabilities) * slopes).sum(2)
    present = true.any(2)
    means = (losses * present).sum(1) / present.sum(1).clamp(min=1)
    total: Tensor = (means * weights.sum((1, 2))).sum()
    return total


def _slopes(errors: Tensor, true: Tensor, weights: Tensor) -> Tensor:
    """How much 1 - IoU grows with each pixel that turns wrong, the largest errors first.

    Args:
        errors: (N, C, P) in [0, 1].
        true: (N, C, P) bool, where the class is the label.
        weights: (N, 1, P) >= 0.

    Returns:
        (N, C, P) >= 0.
    """
    order = errors.argsort(dim=2, descending=True)
    true, weights = true.gather(2, order), weights.expand(errors.shape).gather(2, order)
    lost, gained = weights * true, weights * ~true
    size = lost.sum(2, keepdim=True)
    union = (size + gained.cumsum(2)).clamp(min=torch.finfo(errors.dtype).tiny)
    intersection = (size - lost.cumsum(2)).clamp(min=0)
    # The difference of two neighbours of 1 - intersection / union, written so that nothing cancels.
    before = (union - gained).clamp(min=torch.finfo(errors.dtype).tiny)
    grown = lost / union + gained * (intersection / union) / before
    return torch.zeros_like(errors).scatter_(2, order, grown)
