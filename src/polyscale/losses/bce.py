"""Binary cross entropy: every class of every pixel is a yes-or-no question, answered by a sigmoid.

It is the sum over pixels and classes, divided by (valid pixels + 1), as published with RMI (arXiv:1910.12037): with 19
classes it starts near 13, not near 0.7. The weights of the auxiliary and per-scale terms assume this.

The backward pass is written out. The gradient is probability minus label, so neither a one-hot tensor nor a second
tensor of the logits' size is kept.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from polyscale.labels import IGNORE
from polyscale.losses.inputs import Target, portions, prepared
from polyscale.losses.reduction import global_count

__all__ = ["bce", "summed_bce"]


def bce(logits: Tensor, labels: Tensor | Target, *, weights: Tensor | None = None, ignore: int = IGNORE) -> Tensor:
    """Sigmoid cross entropy summed over pixels and classes, divided by (valid pixels + 1).

    Args:
        logits: (N, C, H, W).
        labels: (N, H, W) integers, 0..C-1 or ``ignore``; or a prepared target, which holds the weights too.
        weights: >= 0, of each image (N,) or each pixel (N, H, W); None for ones. A pixel of weight w counts like w
            pixels, in the sum and in its divisor.
        ignore: the label of pixels that do not count.

    Returns:
        Scalar >= 0, at least float32; zero with zero gradients where every pixel is ignored.

    Raises:
        UserError: the sizes do not match, or a label is not a class.
    """
    with prepared(logits, labels, weights, ignore) as (logits, target):
        total = torch.stack([summed_bce(z, part) for z, part in portions(logits, target)]).sum()
        return total / global_count(target.weights.sum(), extra=1)


def summed_bce(logits: Tensor, target: Target) -> Tensor:
    """Sigmoid cross entropy summed over pixels and classes, a scalar >= 0 that is not divided by anything."""
    known = torch.where(target.valid, target.labels, 0)
    total: Tensor = _SummedBce.apply(logits, known, target.valid, target.weights)
    return total


class _SummedBce(torch.autograd.Function):
    """Sum over valid pixels and all classes of the cross entropy of sigmoid(logits) against the one-hot label."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, known: Tensor, valid: Tensor, weights: Tensor) -> Tensor:
        ctx.save_for_backward(logits, known, weights)
        # Over classes: sum of log(1 + exp(z)), less z at the label. logaddexp is exact at both ends, in one pass.
        pixels = torch.logaddexp(logits, logits.new_zeros(())).sum(1) - logits.gather(1, known[:, None]).squeeze(1)
        return (torch.where(valid, pixels, 0) * weights).sum()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None]:
        logits, known, weights = ctx.saved_tensors
        gradient = logits.sigmoid()
        gradient.scatter_add_(1, known[:, None], gradient.new_full((), -1).expand_as(known[:, None]))
        return gradient.mul_(weights[:, None] * gradients[0]), None, None, None
