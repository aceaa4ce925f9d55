"""Inputs of a loss: logits in at least float32, and the target, checked once for all losses of one size.

The least and greatest label are read back from the device, which on a GPU waits for it: so a target is made once and
handed to every loss.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from polyscale.errors import UserError
from polyscale.labels import IGNORE

__all__ = ["Target", "at_least_float32", "portions", "prepared"]


@dataclass(frozen=True)
class Target:
    """Labels and weights as the losses read them."""

    labels: Tensor
    """(N, H, W) int64: 0..C-1, or ``IGNORE`` where a pixel does not count."""
    valid: Tensor
    """(N, H, W) bool: the pixels that count. A pixel of weight 0 does not."""
    weights: Tensor
    """(N, H, W), of the logits' number type: the weight of each pixel, 0 where it does not count."""
    images: Tensor | None
    """(N,), of the logits' number type: the weight of each image; None where single pixels have weights."""
    weighted: bool
    """False where every pixel that counts has the weight 1."""

    @classmethod
    def of(cls, logits: Tensor, labels: Tensor, weights: Tensor | None = None, ignore: int = IGNORE) -> "Target":
        """Check and prepare.

        Args:
            logits: (N, C, H, W), at least float32; they give sizes, number type and device.
            labels: (N, H, W) integers, 0..C-1 or ``ignore``.
            weights: >= 0, of each image (N,) or each pixel (N, H, W); None for ones.
            ignore: the label of pixels that do not count.

        Raises:
            UserError: the sizes do not match, or a label is not a class.
        """
        _check_sizes(logits, labels, weights)
        labels = labels.long()
        _check_ids(labels, logits.shape[1], ignore)
        valid = labels != ignore
        given = logits.new_ones(len(labels)) if weights is None else weights.to(logits)
        of_images = given.ndim == 1
        pixels = valid * (given[:, None, None] if of_images else given)
        valid = valid & (pixels != 0)
        labels = torch.where(valid, labels, IGNORE)
        return cls(labels, valid, pixels, given if of_images else None, weights is not None)

    def keep(self, chosen: Tensor) -> "Target":
        """The target of which only the ``chosen`` pixels, (N, H, W) bool, count."""
        labels = torch.where(chosen, self.labels, IGNORE)
        return replace(self, labels=labels, valid=self.valid & chosen, weights=self.weights * chosen)

    def at(self, size: Sequence[int]) -> "Target":
        """The target on another grid, (N, h, w): of each of its pixels, the label under the middle."""
        labels, valid, weights = (_nearest(x, size) for x in (self.labels, self.valid, self.weights))
        return replace(self, labels=labels, valid=valid, weights=weights)


@contextmanager
def prepared(
    logits: Tensor, labels: Tensor | Target, weights: Tensor | None = None, ignore: int = IGNORE
) -> Iterator[tuple[Tensor, Target]]:
    """Logits in at least float32 and their target, with autocast off inside.

    Args:
        logits: (N, C, H, W).
        labels: (N, H, W) integers; or a target of the logits' size, which is taken as it is.
        weights: as for ``Target.of``.
        ignore: as for ``Target.of``.

    Raises:
        UserError: the sizes do not match, or a label is not a class.
    """
    with torch.autocast(logits.device.type, enabled=False):
        logits = at_least_float32(logits)
        yield logits, labels if isinstance(labels, Target) else Target.of(logits, labels, weights, ignore)


def portions(logits: Tensor, target: Target) -> Iterator[tuple[Tensor, Target]]:
    """A batch in portions whose losses are summed: image by image on a CPU, all at once elsewhere.

    On a CPU the temporaries of one image stay in the cache, and those of a whole batch do not.

    Yields:
        (n, C, H, W) logits and their target.
    """
    if logits.device.type != "cpu":
        yield logits, target
        return
    for k in range(len(logits)):
        part = slice(k, k + 1)
        images = None if target.images is None else target.images[part]
        yield (
            logits[part],
            Target(target.labels[part], target.valid[part], target.weights[part], images, target.weighted),
        )


def at_least_float32(logits: Tensor) -> Tensor:
    """Half-precision logits as float32; float32 and float64 as they are."""
    return logits.float() if logits.dtype in (torch.float16, torch.bfloat16) else logits


def _check_sizes(logits: Tensor, labels: Tensor, weights: Tensor | None) -> None:
    if logits.ndim != 4 or labels.shape != (logits.shape[0], *logits.shape[2:]):
        raise UserError(
            f"logits {tuple(logits.shape)} and labels {tuple(labels.shape)} do not match: "
            "(N, C, H, W) logits need (N, H, W) labels; resize one to the other"
        )
    if labels.is_floating_point() or labels.dtype == torch.bool:
        raise UserError(f"labels must be integers, got {labels.dtype}; convert them with labels.long()")
    if weights is not None and weights.shape not in (labels.shape, labels.shape[:1]):
        raise UserError(
            f"weights {tuple(weights.shape)} do not fit labels {tuple(labels.shape)}; give one for each image (N,) or "
            "for each pixel (N, H, W)"
        )


def _check_ids(labels: Tensor, num_classes: int, ignore: int) -> None:
    if not labels.numel():
        return
    counted = torch.where(labels == ignore, 0, labels)
    low, high = torch.stack(torch.aminmax(counted)).tolist()
    if low < 0 or high >= num_classes:
        ids = torch.unique(counted[(counted < 0) | (counted >= num_classes)]).tolist()
        listed = ", ".join(map(str, ids[:5])) + (f" and {len(ids) - 5} more" if len(ids) > 5 else "")
        raise UserError(
            f"label ids outside 0 to {num_classes - 1}: {listed}; "
            f"map them in the label space, or set them to {ignore} to ignore them"
        )


def _nearest(x: Tensor, size: Sequence[int]) -> Tensor:
    for axis, wanted in zip((1, 2), size, strict=True):
        side = x.shape[axis]
        middles = (2 * torch.arange(wanted, device=x.device) + 1) * side // (2 * wanted)
        x = x.index_select(axis, middles)
    return x
