"""How sure a difference between two ways of predicting the same images is."""

from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ["Difference", "bootstrap_difference", "mean_iou"]


class Difference(NamedTuple):
    """A difference of two mIoU, as a fraction, with its interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{100 * self.value:+.1f} [{100 * self.low:+.1f}, {100 * self.high:+.1f}]"


def mean_iou(confusion: Tensor) -> Tensor:
    """Mean IoU of confusion matrices (..., C, C); classes in neither truth nor prediction are left out."""
    table = confusion.double()
    hits = table.diagonal(dim1=-2, dim2=-1)
    union = table.sum(-1) + table.sum(-2) - hits
    return (hits / union).nanmean(-1)


def bootstrap_difference(
    first: Tensor, second: Tensor, draws: int = 1000, fraction: float = 0.95, seed: int = 0
) -> Difference:
    """The mIoU of ``first`` less that of ``second``, and how far it varies over other draws of the same images.

    Args:
        first: (I, C, C) confusion matrix of each of I images.
        second: the same images, predicted another way.
        draws: how many sets of I images are drawn, with repetition.
        fraction: of the draws that the interval holds.
        seed: of the draws.

    Raises:
        ValueError: other shapes, or no image.
    """
    if first.shape != second.shape or first.ndim != 3 or not len(first):
        raise ValueError(f"two sets of confusion matrices (I, C, C) are needed, got {first.shape} and {second.shape}")
    generator = torch.Generator().manual_seed(seed)
    images = len(first)
    picks = torch.randint(images, (draws, images), generator=generator)
    counts = torch.zeros(draws, images, dtype=torch.float64).scatter_add_(1, picks, torch.ones_like(picks).double())
    sums = [torch.einsum("di,icp->dcp", counts, table.cpu().double()) for table in (first, second)]
    spread = mean_iou(sums[0]) - mean_iou(sums[1])
    margin = (1 - fraction) / 2
    low, high = spread.quantile(torch.tensor([margin, 1 - margin], dtype=torch.float64)).tolist()
    value = mean_iou(first.cpu().sum(0)) - mean_iou(second.cpu().sum(0))
    return Difference(float(value), low, high)
