"""What every loss asks of its inputs: matching sizes, known label ids, at least float32, no autocast.

Unusual here: label ids are checked with the least and greatest of the label map only. On a GPU that waits for the
device, so the objective checks once for all of its terms.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager

import torch
from torch import Tensor

from polyscale.config import UserError
from polyscale.labels import IGNORE

__all__ = ["at_least_float32", "check_labels", "check_sizes", "full_precision", "portions"]


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


def portions(logits: Tensor, labels: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Logits and labels in portions to be summed: image by image on a CPU, all at once elsewhere.

    A CPU spends more time on fetching fresh memory for whole-batch temporaries than on the arithmetic; an image's
    temporaries stay in its cache.

    Yields:
        (n, C, H, W) and (n, H, W).
    """
    size = 1 if logits.device.type == "cpu" else max(len(logits), 1)
    yield from zip(torch.split(logits, size), torch.split(labels, size), strict=True)
