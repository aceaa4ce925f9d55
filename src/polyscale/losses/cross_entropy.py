"""Softmax cross entropy with class weights, label smoothing and online hard example mining, in any combination.

The mean is PyTorch's: weighted losses divided by the sum of the weights of the pixels that count. Here that sum runs
over all processes (see ``reduction``), and where nothing counts the loss is zero instead of NaN.
"""

import math
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from polyscale.errors import UserError
from polyscale.labels import IGNORE
from polyscale.losses.inputs import at_least_float32, check_labels, check_sizes, each_pixel, full_precision, portions
from polyscale.losses.reduction import global_count

__all__ = ["cross_entropy", "inverse_log_weights"]


def inverse_log_weights(pixel_counts: Tensor) -> Tensor:
    """Class weights 1 / ln(1.1 + f) from each class's share f of the labelled pixels: 1.3 for all, 10.5 for none.

    The form is ENet's (Paszke et al. 2016, arXiv:1606.02147, section 5.2), with 1.1 for its 1.02: rare classes gain
    less.

    Args:
        pixel_counts: (C,), how many pixels each class has.

    Returns:
        (C,) float32.

    Example:
        >>> [round(weight, 3) for weight in inverse_log_weights(torch.tensor([90, 10])).tolist()]
        [1.443, 5.485]
    """
    counts = pixel_counts.float()
    return 1 / torch.log(1.1 + counts / counts.sum().clamp(min=1))


def cross_entropy(
    logits: Tensor,
    labels: Tensor,
    *,
    class_weights: Tensor | None = None,
    pixel_weights: Tensor | None = None,
    label_smoothing: float = 0.0,
    ohem_threshold: float | None = None,
    ohem_fraction: float = 0.1,
    ignore: int = IGNORE,
    check: bool = True,
) -> Tensor:
    """Mean cross entropy of softmax(logits).

    Online hard example mining (Shrivastava et al. 2016, arXiv:1604.03540, by pixels) keeps the pixels whose true class
    has a probability below ``ohem_threshold``, and at least the hardest ``ohem_fraction`` of the valid pixels of this
    process's batch; ties with the last of these are kept too. The mean is over the pixels kept.

    A pixel of weight w counts like w pixels in the mean. Mining goes by hardness alone; pixels of weight 0 are none.

    Args:
        logits: (N, C, H, W).
        labels: (N, H, W) integers, 0..C-1 or ``ignore``.
        class_weights: (C,) >= 0, or None for ones.
        pixel_weights: >= 0, of each image (N,) or each pixel (N, H, W); None for ones.
        label_smoothing: share of the target that is spread evenly over all classes, in [0, 1).
        ohem_threshold: probability in [0, 1], or None to keep every pixel; 0 keeps the hardest ``ohem_fraction`` only.
        ohem_fraction: in [0, 1]; matters only with ``ohem_threshold``.
        ignore: the label of pixels that do not count.
        check: check the label ids; a caller that has done so passes False.

    Returns:
        Scalar >= 0, at least float32; zero with zero gradients where every pixel is ignored.

    Raises:
        UserError: the sizes do not match, a label is not a class, or the number of weights is not C.
    """
    check_sizes(logits, labels)
    num_classes = logits.shape[1]
    if check:
        check_labels(labels, num_classes, ignore)
    if class_weights is not None and class_weights.shape != (num_classes,):
        raise UserError(
            f"{class_weights.numel()} class weights for {num_classes} classes; give one for each class, in their order"
        )
    with full_precision(logits):
        logits, labels = at_least_float32(logits), labels.long()
        weights = None if class_weights is None else class_weights.to(logits)
        each = each_pixel(pixel_weights, labels, logits)
        if each is not None:
            labels = torch.where(each > 0, labels, ignore)
        if ohem_threshold is not None:
            labels = torch.where(_hard(logits, labels, ohem_threshold, ohem_fraction, ignore), labels, ignore)
        options: dict[str, Any] = {"weight": weights, "ignore_index": ignore, "label_smoothing": label_smoothing}
        if each is None:
            sums = [functional.cross_entropy(z, y, reduction="sum", **options) for z, y in portions(logits, labels)]
        else:
            sums = [
                (functional.cross_entropy(z, y, reduction="none", **options) * w).sum()
                for z, y, w in portions(logits, labels, each)
            ]
        divisor = global_count(_weight_of(labels, weights, each, ignore).to(logits.dtype))
        return torch.stack(sums).sum() / torch.where(divisor > 0, divisor, 1)


def _weight_of(labels: Tensor, weights: Tensor | None, each: Tensor | None, ignore: int) -> Tensor:
    """The sum of the weights, of class times pixel, of all pixels that count."""
    valid = labels != ignore
    counted = valid if weights is None else weights[torch.where(valid, labels, 0)] * valid
    return (counted if each is None else counted * each).sum()


@torch.no_grad()
def _hard(logits: Tensor, labels: Tensor, threshold: float, fraction: float, ignore: int) -> Tensor:
    """Which pixels hard example mining keeps, (N, H, W) bool; hardness is -ln p of the true class."""
    entropies = [
        functional.cross_entropy(z, y, ignore_index=ignore, reduction="none") for z, y in portions(logits, labels)
    ]
    hardness, valid = torch.cat(entropies), labels != ignore
    kept = valid & (hardness > (-math.log(threshold) if threshold > 0 else math.inf))
    num_kept, num_valid = torch.stack([kept.sum(), valid.sum()]).tolist()
    least = math.ceil(fraction * num_valid)
    if num_kept >= least:
        return kept
    bound = hardness[valid].kthvalue(num_valid - least + 1).values
    return valid & (hardness >= bound)
