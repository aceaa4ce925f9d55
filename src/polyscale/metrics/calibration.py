"""Expected calibration error (Naeini et al. 2015; Guo et al. 2017, arXiv:1706.04599, section 2).

Confidences are summed in fixed point, as integers of 2^-20, and their bin follows from the same integer: sums over
images and processes are exact in any order.
"""

import torch
from torch import Tensor

from polyscale.labels import IGNORE

__all__ = ["FIXED_POINT", "calibration_counts", "expected_calibration_error"]

FIXED_POINT = 2**20
"""A real number in an exact sum is the integer nearest to it times this; int64 then holds the sum over some 10^12
pixels."""


def calibration_counts(confidence: Tensor, prediction: Tensor, labels: Tensor, num_bins: int = 15) -> Tensor:
    """Count pixels by confidence; bin k of B holds k/B <= confidence < (k+1)/B, the last one also 1.

    Args:
        confidence: any shape, the probability of the predicted class in [0, 1].
        prediction: the same shape, integers.
        labels: the same shape, integers or ``IGNORE``.
        num_bins: B.

    Returns:
        (3, B) int64: pixels, pixels that are right, and the sum of confidences times ``FIXED_POINT``.

    Raises:
        ValueError: a confidence is outside [0, 1] or not a number.
    """
    lowest, highest = torch.aminmax(confidence) if confidence.numel() else (torch.zeros(()), torch.zeros(()))
    if not (lowest >= 0 and highest <= 1 + 1e-5):
        raise ValueError(f"confidences must be probabilities in [0, 1], got {float(lowest):g} to {float(highest):g}")
    fixed = (confidence.float().flatten() * FIXED_POINT).round().int().clamp_max(FIXED_POINT)
    bins = ((fixed * num_bins) >> FIXED_POINT.bit_length() - 1).clamp_max_(num_bins - 1)
    bins = torch.where(labels.flatten() == IGNORE, num_bins, bins)
    right = (prediction == labels).flatten()
    counts = torch.bincount(bins * 2 + right, minlength=2 * num_bins + 2).view(num_bins + 1, 2)
    sums = torch.zeros(num_bins + 1, dtype=torch.int64, device=fixed.device)
    sums.scatter_add_(0, bins.long(), fixed.long())
    return torch.stack([counts.sum(1), counts[:, 1], sums])[:, :num_bins]


def expected_calibration_error(counts: Tensor) -> float | None:
    """Mean over pixels of how far each bin's accuracy is from its mean confidence.

    Args:
        counts: (3, B) int64, summed ``calibration_counts``.

    Returns:
        A fraction in [0, 1]; None where there is no pixel.
    """
    num_pixels = int(counts[0].sum())
    gap = int((counts[1] * FIXED_POINT - counts[2]).abs().sum())
    return gap / (num_pixels * FIXED_POINT) if num_pixels else None
