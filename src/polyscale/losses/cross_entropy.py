"""Softmax cross entropy with class weights, label smoothing and online hard example mining, in any combination.

The mean is PyTorch's: weighted losses divided by the sum of the weights of the pixels that count. Here that sum runs
over all processes, and where nothing counts the loss is zero instead of NaN.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional

from polyscale.errors import UserError
from polyscale.labels import IGNORE
from polyscale.losses.inputs import Target, portions, prepared
from polyscale.losses.reduction import global_count

__all__ = ["cross_entropy", "inverse_log_weights", "mean_divisor", "one_for_each_class"]


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
    labels: Tensor | Target,
    *,
    class_weights: Tensor | None = None,
    label_smoothing: float = 0.0,
    ohem_threshold: float | None = None,
    ohem_fraction: float = 0.1,
    weights: Tensor | None = None,
    ignore: int = IGNORE,
) -> Tensor:
    """Mean cross entropy of softmax(logits).

    Online hard example mining (Shrivastava et al. 2016, arXiv:1604.03540, by pixels) keeps the pixels whose true class
    has a probability below ``ohem_threshold``, and at least the hardest ``ohem_fraction`` of the valid pixels of this
    process's batch; ties with the last of these are kept too. The mean is over the pixels kept.

    A pixel of weight w counts like w pixels in the mean. Mining goes by hardness alone; pixels of weight 0 are none.

    Args:
        logits: (N, C, H, W).
        labels: (N, H, W) integers, 0..C-1 or ``ignore``; or a prepared target, which holds the weights too.
        class_weights: (C,) >= 0, or None for ones.
        label_smoothing: share of the target that is spread evenly over all classes, in [0, 1).
        ohem_threshold: probability in [0, 1], or None to keep every pixel; 0 keeps the hardest ``ohem_fraction`` only.
        ohem_fraction: in [0, 1]; matters only with ``ohem_threshold``.
        weights: >= 0, of each image (N,) or each pixel (N, H, W); None for ones.
        ignore: the label of pixels that do not count.

    Returns:
        Scalar >= 0, at least float32; zero with zero gradients where every pixel is ignored.

    Raises:
        UserError: the sizes do not match, a label is not a class, or the number of class weights is not C.
    """
    with prepared(logits, labels, weights, ignore) as (logits, target):
        classes = one_for_each_class(class_weights, logits)
        if ohem_threshold is not None:
            target = target.keep(_hard(logits, target, ohem_threshold, ohem_fraction))
        sums = []
        for z, part in portions(logits, target):
            entropies = functional.cross_entropy(
                z,
                part.labels,
                classes,
                ignore_index=IGNORE,
                label_smoothing=label_smoothing,
                reduction="none" if part.weighted else "sum",  # a sum needs no map of its own
            )
            sums.append((entropies * part.weights).sum() if part.weighted else entropies)
        return torch.stack(sums).sum() / mean_divisor(target, classes)


def one_for_each_class(class_weights: Tensor | None, logits: Tensor) -> Tensor | None:
    """Class weights (C,) in the logits' number type and on their device.

    Raises:
        UserError: their number is not C.
    """
    num_classes = logits.shape[1]
    if class_weights is not None and class_weights.shape != (num_classes,):
        raise UserError(
            f"{class_weights.numel()} class weights for {num_classes} classes; give one for each class, in their order"
        )
    return None if class_weights is None else class_weights.to(logits)


def mean_divisor(target: Target, class_weights: Tensor | None) -> Tensor:
    """Divisor of a sum over pixels: the sum of their weights over all processes, 1 where it is 0."""
    weights = target.weights
    if class_weights is not None:
        weights = class_weights[torch.where(target.valid, target.labels, 0)] * weights
    divisor = global_count(weights.sum())
    return torch.where(divisor > 0, divisor, 1)


@torch.no_grad()
def _hard(logits: Tensor, target: Target, threshold: float, fraction: float) -> Tensor:
    """Pixels that hard example mining keeps, (N, H, W) bool; hardness is -ln p of the true class."""
    entropies = [
        functional.cross_entropy(z, part.labels, ignore_index=IGNORE, reduction="none")
        for z, part in portions(logits, target)
    ]
    hardness, valid = torch.cat(entropies), target.valid
    kept = valid & (hardness > (-math.log(threshold) if threshold > 0 else math.inf))
    num_kept, num_valid = torch.stack([kept.sum(), valid.sum()]).tolist()
    least = math.ceil(fraction * num_valid)
    if num_kept >= least:
        return kept
    bound = hardness[valid].kthvalue(num_valid - least + 1).values
    return valid & (hardness >= bound)
