"""Soft Dice (Milletari et al. 2016, arXiv:1606.04797): overlap, not pixels, so that small classes weigh as large ones.

Overlaps are summed over the batches of all processes before the ratio is taken. The mean is over the classes that the
labels contain: an absent class has no overlap to improve.
"""

import torch
from torch import Tensor

from polyscale.labels import IGNORE
from polyscale.losses.inputs import Target, portions, prepared
from polyscale.losses.reduction import global_sum

__all__ = ["dice"]


def dice(logits: Tensor, labels: Tensor | Target, *, weights: Tensor | None = None, ignore: int = IGNORE) -> Tensor:
    """1 - 2 |P Y| / (|P| + |Y|) with P = softmax(logits) and Y the labels, mean over the classes present.

    Args:
        logits: (N, C, H, W).
        labels: (N, H, W) integers, 0..C-1 or ``ignore``; or a prepared target, which holds the weights too.
        weights: >= 0, of each image (N,) or each pixel (N, H, W); None for ones. In each of the three sums, a pixel of
            weight w counts like w pixels.
        ignore: the label of pixels that do not count.

    Returns:
        Scalar in [0, 1], at least float32; zero with zero gradients where every pixel is ignored.

    Raises:
        UserError: the sizes do not match, or a label is not a class.
    """
    with prepared(logits, labels, weights, ignore) as (logits, target):
        sums = torch.stack([_overlaps(z, part) for z, part in portions(logits, target)]).sum(0)
        overlap, predicted, true = global_sum(sums)
        present = true > 0
        score = 2 * overlap / torch.where(present, predicted + true, 1)
        total: Tensor = (present * (1 - score)).sum() / present.sum().clamp(min=1)
        return total


def _overlaps(logits: Tensor, target: Target) -> Tensor:
    """|P Y|, |P| and |Y| of each class, (3, C)."""
    weights = target.weights[:, None]
    classes = torch.arange(logits.shape[1], device=logits.device)[:, None, None]
    true = (target.labels[:, None] == classes) * weights
    probabilities = logits.softmax(1)
    return torch.stack([x.sum((0, 2, 3)) for x in (probabilities * true, probabilities * weights, true)])
