"""Trust of each class in each scale: the mean weight of a scale's logits in the result, over the class's true pixels.

What is averaged is not a network's attention, which is relative, but the effective weights of
``polyscale.inference``, the products down the chain, which sum to 1 over the scales at each pixel.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from polyscale.labels import IGNORE
from polyscale.metrics import FIXED_POINT
from polyscale.scales import check_scales

__all__ = ["AttentionTable", "AttentionTotals"]


class AttentionTotals:
    """Exact sums of weights by true class and scale; adding ``state`` over processes, in place, merges them.

    Args:
        classes: C names.
        scales: S scales.
    """

    def __init__(self, classes: Sequence[str], scales: Sequence[float]) -> None:
        self.classes = tuple(classes)
        self.scales = check_scales(scales)
        self._sums = torch.zeros(len(self.classes), len(self.scales), dtype=torch.int64)
        self._pixels = torch.zeros(len(self.classes), dtype=torch.int64)

    def update(self, weights: Mapping[float, Tensor], labels: Tensor) -> None:
        """Add one image.

        Args:
            weights: scale -> (1, 1, H, W).
            labels: (H, W) uint8, train ids or ``IGNORE``.
        """
        index = labels.flatten().long()
        self._pixels += torch.bincount(index, minlength=IGNORE + 1)[: len(self.classes)].cpu()
        for k, scale in enumerate(self.scales):
            # Fixed point, as for confidences: the sum is the same in any order.
            fixed = (weights[scale].flatten().float() * FIXED_POINT).round().long()
            sums = torch.zeros(IGNORE + 1, dtype=torch.int64, device=fixed.device).scatter_add_(0, index, fixed)
            self._sums[:, k] += sums[: len(self.classes)].cpu()

    def state(self) -> dict[str, Tensor]:
        """The sums themselves, int64 on the CPU."""
        return {"sums": self._sums, "pixels": self._pixels}

    def compute(self) -> "AttentionTable":
        """Mean weights of everything seen so far."""
        pixels, sums = self._pixels.tolist(), self._sums.tolist()
        shares = tuple(_shares(row, count) for row, count in zip(sums, pixels, strict=True))
        return AttentionTable(self.classes, self.scales, shares, _shares(self._sums.sum(0).tolist(), sum(pixels)))


def _shares(sums: Sequence[int], pixels: int) -> tuple[float, ...] | None:
    return tuple(total / (pixels * FIXED_POINT) for total in sums) if pixels else None


@dataclass(frozen=True)
class AttentionTable:
    """Mean weight of each scale in the result, as fractions."""

    classes: tuple[str, ...]
    scales: tuple[float, ...]
    """Finest first."""
    per_class: tuple[tuple[float, ...] | None, ...]
    """For each class the weight of each scale; None for a class that the truth does not have."""
    overall: tuple[float, ...] | None
    """The same over all pixels that are not ignored."""

    def to_json(self) -> dict[str, Any]:
        """Plain values: class -> scale -> mean weight."""

        def by_scale(row: tuple[float, ...] | None) -> dict[str, float] | None:
            return None if row is None else {f"{s:g}": share for s, share in zip(self.scales, row, strict=True)}

        classes = zip(self.classes, self.per_class, strict=True)
        return {"overall": by_scale(self.overall), "per_class": {name: by_scale(row) for name, row in classes}}
