"""Less flicker from frame to frame, and how much of it there is."""

import torch
from torch import Tensor
from torch.nn import functional

__all__ = ["Flicker", "Smoothing", "change"]

_STILL = 0.02
"""A pixel is still where the image changes by less, of 1: a little more than the noise of compressed video."""
_MOVED = 0.06
"""Change at which the past counts 1/e of what it counts in a still pixel."""


def change(image: Tensor, before: Tensor) -> Tensor:
    """How much an image differs from the one before it.

    Args:
        image: (1, 3, H, W), RGB in [0, 1].
        before: likewise.

    Returns:
        (1, 1, H, W) in [0, 1]: the largest difference over the colours, each a mean over 3 x 3 pixels.
    """
    means = functional.avg_pool2d(image - before, 3, stride=1, padding=1, count_include_pad=False)
    return means.abs().amax(1, keepdim=True)


class Smoothing:
    """Exponential average of probabilities over frames, which forgets where the image changes.

    A plain average drags the classes behind whatever moves, and mixes two scenes at a cut.

    Args:
        share: of the past in a still pixel, from 0 (none) to below 1.
    """

    def __init__(self, share: float) -> None:
        self.share = share
        self._average: Tensor | None = None

    def __call__(self, probabilities: Tensor, changed: Tensor | None) -> Tensor:
        """The average so far.

        Args:
            probabilities: (1, C, H, W) of this frame.
            changed: (1, 1, H, W), its ``change`` from the frame before; None for the first.
        """
        if self._average is not None and changed is not None:
            past = self.share * torch.exp(-((changed / _MOVED) ** 2))
            probabilities = probabilities + past * (self._average - probabilities)
        self._average = probabilities
        return probabilities


class Flicker:
    """Counts the still pixels that change class from one frame to the next."""

    def __init__(self) -> None:
        self._before: Tensor | None = None
        self._still = self._changed = 0

    def update(self, labels: Tensor, changed: Tensor | None) -> None:
        """Add a frame: its labels (H, W), and its ``change`` (1, 1, H, W) from the frame before."""
        if self._before is not None and changed is not None:
            still = changed[0, 0] < _STILL
            self._still += int(still.sum())
            self._changed += int(((labels != self._before) & still).sum())
        self._before = labels

    @property
    def share(self) -> float | None:
        """Fraction of the still pixels that change class; None where nothing was still."""
        return self._changed / self._still if self._still else None
