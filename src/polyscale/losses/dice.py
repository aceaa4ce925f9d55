"""Soft Dice (Milletari et al. 2016, arXiv:1606.04797): overlap, not pixels, so that small classes weigh as large ones.

Unusual here: overlaps are summed over the whole batch, and with several processes over all of their batches, before the
ratio is taken. The batch's mean is over the classes that its labels contain: a class that is absent has no overlap to
improve, and what the network gives it is paid for by the classes that are there.
"""

import torch
from torch import Tensor

from polyscale.labels import IGNORE
from polyscale.losses.inputs import at_least_float32, check_labels, check_sizes, each_pixel, full_precision, portions
from polyscale.losses.reduction import global_sum

__all__ = ["dice"]


def dice(
    logits: Tensor, labels: Tensor, *, weights: Tensor | None = None, ignore: int = IGNORE, check: bool = True
) -> Tensor:
    """1 - 2 |P Y| / (|P| + |Y|) with P = softmax(logits) and Y the labels, mean over the classes present.

    A pixel of weight w counts like w pixels in each of the three sums.

    Args:
        logits: (N, C, H, W).
        labels: (N, H, W) integers, 0..C-1 or ``ignore``.
        weights: >= 0, of each image (N,) or each pixel (N, H, W); None for ones.
        ignore: the label of pixels that do not count.
        check: check the label ids; a caller that has done so passes False.

    Returns:
        Scalar in [0, 1], at least float32; zero with zero gradients where every pixel is ignored.

    Raises:
        UserError: the sizes do not match, or a label is not a class.
    """
    check_sizes(logits, labels)
    if check:
        check_labels(labels, logits.shape[1], ignore)
    with full_precision(logits):
        logits = at_least_float32(logits)
        each = each_pixel(weights, labels, logits)
        parts = portions(logits, labels) if each is None else portions(logits, labels, each)
        sums = torch.stack([_overlaps(*part, ignore=ignore) for part in parts]).sum(0)
        overlap, predicted, true = global_sum(sums)
        present = true > 0
        score = 2 * overlap / torch.where(present, predicted + true, 1)
        total: Tensor = (present * (1 - score)).sum() / present.sum().clamp(min=1)
        return total


def _overlaps(logits: Tensor, labels: Tensor, weights: Tensor | None = None, *, ignore: int) -> Tensor:
    """|P Y|, |P| and |Y| of each class, (3, C)."""
    valid = (labels != ignore)[:, None]
    classes = torch.arange(logits.shape[1], device=labels.device)[:, None, None]
    one_hot = (labels[:, None] == classes) & valid
    probabilities = logits.softmax(1) * valid
    pixels = [probabilities * one_hot, probabilities, one_hot.to(logits.dtype)]
    if weights is not None:
        pixels = [x * weights[:, None] for x in pixels]
    return torch.stack([x.sum((0, 2, 3)) for x in pixels])
