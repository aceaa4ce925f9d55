"""Focal loss (Lin et al. 2017, arXiv:1708.02002) over softmax probabilities: cross entropy that fades where it is easy.

With two classes it equals the sigmoid form of that paper on the difference of the two logits.
"""

import torch
from torch import Tensor
from torch.nn import functional

from polyscale.labels import IGNORE
from polyscale.losses.cross_entropy import mean_divisor, one_for_each_class
from polyscale.losses.inputs import Target, portions, prepared

__all__ = ["focal"]


def focal(
    logits: Tensor,
    labels: Tensor | Target,
    *,
    gamma: float = 2.0,
    class_weights: Tensor | None = None,
    weights: Tensor | None = None,
    ignore: int = IGNORE,
) -> Tensor:
    """Mean of -(1 - p) ** gamma * ln p, with p the softmax probability of the true class.

    As in cross entropy, the sum is divided by the sum of the weights, of class times pixel.

    Args:
        logits: (N, C, H, W).
        labels: (N, H, W) integers, 0..C-1 or ``ignore``; or a prepared target, which holds the weights too.
        gamma: how fast easy pixels fade, >= 0; 0 is cross entropy.
        class_weights: (C,) >= 0, the paper's alpha of each class; None for ones.
        weights: >= 0, of each image (N,) or each pixel (N, H, W); None for ones.
        ignore: the label of pixels that do not count.

    Returns:
        Scalar >= 0, at least float32; zero with zero gradients where every pixel is ignored.

    Raises:
        UserError: as for ``cross_entropy``.
    """
    with prepared(logits, labels, weights, ignore) as (logits, target):
        classes = one_for_each_class(class_weights, logits)
        sums = [(_entropies(z, part, gamma, classes) * part.weights).sum() for z, part in portions(logits, target)]
        return torch.stack(sums).sum() / mean_divisor(target, classes)


def _entropies(logits: Tensor, target: Target, gamma: float, class_weights: Tensor | None) -> Tensor:
    """The loss of each pixel, (N, H, W); 0 where it is ignored."""
    entropy = functional.cross_entropy(logits, target.labels, ignore_index=IGNORE, reduction="none")
    # A power below 1 has no finite slope at 0: there 1 - p is held at the smallest number instead.
    wrong = (-torch.expm1(-entropy)).clamp(min=torch.finfo(entropy.dtype).tiny)
    faded = wrong**gamma * entropy
    return faded if class_weights is None else class_weights[torch.where(target.valid, target.labels, 0)] * faded
