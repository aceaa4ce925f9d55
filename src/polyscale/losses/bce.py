"""Binary cross entropy: every class of every pixel is a yes-or-no question, answered by a sigmoid.

Summed over pixels and classes and divided by (valid pixels + 1), as published with RMI (arXiv:1910.12037) and as the
weights of the auxiliary and per-scale terms assume: with 19 classes it starts near 13, not near 0.7.

Unusual here: the backward pass is written out. The gradient is probability minus label, and neither a one-hot tensor
nor a second logit-sized tensor has to be kept for it.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from polyscale.labels import IGNORE
from polyscale.losses.inputs import at_least_float32, check_labels, check_sizes, each_pixel, full_precision, portions
from polyscale.losses.reduction import global_count

__all__ = ["bce", "summed_bce"]


class _SummedBce(torch.autograd.Function):
    """Sum over valid pixels and all classes of the cross entropy of sigmoid(logits) against the one-hot label."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, known: Tensor, valid: Tensor, weights: Tensor | None) -> Tensor:
        factor = valid if weights is None else valid * weights
        ctx.save_for_backward(logits, known, factor)
        # Over classes: sum of log(1 + exp(z)), less z at the label. logaddexp is exact at both ends, in one pass.
        pixels = torch.logaddexp(logits, logits.new_zeros(())).sum(1) - logits.gather(1, known[:, None]).squeeze(1)
        return (torch.where(valid, pixels, 0) if weights is None else torch.where(valid, pixels, 0) * factor).sum()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None]:
        logits, known, factor = ctx.saved_tensors
        gradient = logits.sigmoid()
        gradient.scatter_add_(1, known[:, None], gradient.new_full((), -1).expand_as(known[:, None]))
        return gradient.mul_(factor[:, None] * gradients[0]), None, None, None


def summed_bce(logits: Tensor, labels: Tensor, ignore: int = IGNORE, weights: Tensor | None = None) -> Tensor:
    """Sigmoid cross entropy summed over valid pixels and classes, not divided by anything.

    Args:
        logits: (N, C, H, W), float32 or float64.
        labels: (N, H, W) integers, 0..C-1 or ``ignore``; not checked.
        ignore: the label of pixels that do not count.
        weights: of each pixel, (N, H, W) like ``logits`` in type, or None for ones.

    Returns:
        Scalar >= 0.
    """
    valid = labels != ignore
    total: Tensor = _SummedBce.apply(logits, torch.where(valid, labels.long(), 0), valid, weights)
    return total


def bce(
    logits: Tensor, labels: Tensor, *, weights: Tensor | None = None, ignore: int = IGNORE, check: bool = True
) -> Tensor:
    """Sigmoid cross entropy summed over pixels and classes, divided by (valid pixels + 1).

    A pixel of weight w counts like w pixels, in the sum and in its divisor. With several processes the pixels of all of
    them are counted (see ``reduction``).

    Args:
        logits: (N, C, H, W).
        labels: (N, H, W) integers, 0..C-1 or ``ignore``.
        weights: >= 0, of each image (N,) or each pixel (N, H, W); None for ones.
        ignore: the label of pixels that do not count.
        check: check the label ids; a caller that has done so passes False.

    Returns:
        Scalar >= 0, at least float32; zero with zero gradients where every pixel is ignored.

    Raises:
        UserError: the sizes do not match, or a label is not a class.
    """
    check_sizes(logits, labels)
    if check:
        check_labels(labels, logits.shape[1], ignore)
    with full_precision(logits):
        logits = at_least_float32(logits)
        each = each_pixel(weights, labels, logits)
        if each is None:
            total = torch.stack([summed_bce(z, y, ignore) for z, y in portions(logits, labels)]).sum()
            return total / global_count((labels != ignore).sum().to(logits.dtype), extra=1)
        total = torch.stack([summed_bce(z, y, ignore, w) for z, y, w in portions(logits, labels, each)]).sum()
        return total / global_count((each * (labels != ignore)).sum(), extra=1)
