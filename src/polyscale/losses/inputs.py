"""What every loss asks of its inputs: matching sizes, known label ids, at least float32, no autocast.

Unusual here: label ids are checked with the least and greatest of the label map only. On a GPU that waits for the
device, so the objective checks once for all of its terms.
"""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager

import torch
from torch import Tensor

from polyscale.errors import UserError
from polyscale.labels import IGNORE

__all__ = ["at_least_float32", "check_labels", "check_sizes", "each_pixel", "full_precision", "nearest", "portions"]


def at_least_float32(logits: Tensor) -> Tensor:
    """Half-precision logits as float32; float32 and float64 as they are."""
    return logits.float() if logits.dtype in (torch.float16, torch.bfloat16) else logits


def full_precision(logits: Tensor) -> AbstractContextManager[object]:
    """A context in which autocast leaves the arithmetic on ``logits``' device alone."""
    return torch.autocast(logits.device.type, enabled=False)


def check_sizes(logits: Tensor, labels: Tensor) -> None:
    """Check that there is one label for each pixel of the logits.

    Args:
        logits: (N, C, H, W), floating point.
        labels: (N, H, W), integers.

    Raises:
        UserError: the shapes or types do not belong together.
    """
    if logits.ndim != 4 or labels.shape != (logits.shape[0], *logits.shape[2:]):
        raise UserError(
            f"logits {tuple(logits.shape)} and labels {tuple(labels.shape)} do not match: "
            "(N, C, H, W) logits need (N, H, W) labels; resize one to the other"
        )
    if labels.is_floating_point() or labels.dtype == torch.bool:
        raise UserError(f"labels must be integers, got {labels.dtype}; convert them with labels.long()")


def check_labels(labels: Tensor, num_classes: int, ignore: int = IGNORE) -> None:
    """Check that every label is a train id 0..C-1 or ``ignore``.

    Raises:
        UserError: other ids occur; the message names them.
    """
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


def each_pixel(weights: Tensor | None, labels: Tensor, logits: Tensor) -> Tensor | None:
    """Weights of images or pixels as one for each pixel.

    Args:
        weights: (N,), (N, H, W) or None.
        labels: (N, H, W).
        logits: gives the number type.

    Returns:
        (N, H, W), or None where there are no weights.

    Raises:
        UserError: the shape is another.
    """
    if weights is None:
        return None
    if weights.shape not in (labels.shape, labels.shape[:1]):
        raise UserError(
            f"weights {tuple(weights.shape)} do not fit labels {tuple(labels.shape)}; give one for each image (N,) or "
            "for each pixel (N, H, W)"
        )
    return (weights if weights.ndim == labels.ndim else weights[:, None, None]).to(logits).expand(labels.shape)


def nearest(labels: Tensor, size: Sequence[int]) -> Tensor:
    """Labels (N, H, W) on another grid, (N, h, w): of each of its pixels, the label under the middle."""
    for axis, wanted in zip((1, 2), size, strict=True):
        side = labels.shape[axis]
        middles = (2 * torch.arange(wanted, device=labels.device) + 1) * side // (2 * wanted)
        labels = labels.index_select(axis, middles)
    return labels


def portions(*batch: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """Logits, labels and more of one batch in portions to be summed: image by image on a CPU, all at once elsewhere.

    A CPU spends more time on fetching fresh memory for whole-batch temporaries than on the
    arithmetic; an image's temporaries stay in its cache.

    Yields:
        One part of each, such as (n, C, H, W) and (n, H, W).
    """
    size = 1 if batch[0].device.type == "cpu" else max(len(batch[0]), 1)
    yield from zip(*(torch.split(x, size) for x in batch), strict=True)
