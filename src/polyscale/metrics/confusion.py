"""The confusion matrix: rows are the truth, columns the prediction.

On a CPU the maps are counted in strips that stay in the cache, with numbers as short as possible. Neighbours count in
different lanes of the table, which are summed at the end: they are mostly equal, and a processor waits to count the
same cell again.
"""

import torch
from torch import Tensor

from polyscale.labels import IGNORE

__all__ = ["as_bytes", "confusion_matrix", "top_class"]

_STRIP = 2**17
_LANES = 4


def confusion_matrix(prediction: Tensor, labels: Tensor, num_classes: int) -> Tensor:
    """Count pixels by true and predicted class.

    Args:
        prediction: any shape, integers 0..C-1; anything is allowed where ``labels`` is ignored.
        labels: the same shape, integers 0..C-1 or ``IGNORE``.
        num_classes: C, at most 255.

    Returns:
        (C, C) int64 on the inputs' device: entry [t, p] counts pixels of true class t that were predicted as p.

    Raises:
        ValueError: the shapes differ, or a pixel that counts has an id outside 0..C-1.

    Example:
        >>> confusion_matrix(torch.tensor([0, 1, 1, 1]), torch.tensor([0, 0, 1, 255]), 2).tolist()
        [[1, 1], [0, 1]]
    """
    if prediction.shape != labels.shape:
        raise ValueError(
            f"prediction {tuple(prediction.shape)} and labels {tuple(labels.shape)} must have the same shape"
        )
    truth, guess = as_bytes(labels, "labels").flatten(), as_bytes(prediction, "prediction").flatten()
    # Rows: ignored, the classes, ids that are none. Columns: the classes, ids that are none.
    shape = (num_classes + 2, num_classes + 1)
    size = shape[0] * shape[1]
    lanes, dtype = (_LANES, torch.int16) if _LANES * size < 2**15 else (1, torch.int32)
    strip = _STRIP if truth.device.type == "cpu" else max(1, truth.numel())
    lane = (torch.arange(min(strip, truth.numel()), device=truth.device) % lanes * size).to(dtype)
    table = torch.zeros(lanes * size, dtype=torch.int64, device=truth.device)
    for rows, columns in zip(torch.split(truth, strip), torch.split(guess, strip), strict=True):
        rows = (rows + 1).clamp(max=min(num_classes + 1, 255))  # of bytes, so that 255 + 1 is 0
        cells = rows.to(dtype).mul_(shape[1]).add_(columns.clamp(max=num_classes)).add_(lane[: len(rows)])
        table += torch.bincount(cells, minlength=len(table))
    matrix = table.view(lanes, *shape).sum(0)[1:]
    if matrix[-1].any() or matrix[:, -1].any():
        counted = truth != IGNORE
        where, ids = ("labels", truth) if matrix[-1].any() else ("prediction", guess)
        raise ValueError(
            f"{where} hold ids up to {int(ids[counted].max())}, but there are {num_classes} classes, 0 to "
            f"{num_classes - 1}"
        )
    return matrix[:-1, :-1].clone()


def top_class(scores: Tensor) -> tuple[Tensor, Tensor]:
    """The best class of each pixel; the first one where several are equal.

    On a CPU ``Tensor.max`` over the class axis is not vectorised; comparing each class's map with the maximum is, and
    is 5 to 10 times quicker.

    Args:
        scores: (C, H, W) floats, logits or probabilities, C at most 255.

    Returns:
        The best score, (H, W), and its class, (H, W) uint8. Where a score is NaN so is the best score, and the class is
        C.
    """
    best = scores.amax(0)
    num_classes = len(scores)
    rank = torch.zeros(best.shape, dtype=torch.uint8, device=scores.device)
    for index in range(num_classes):
        rank = torch.maximum(rank, (scores[index] == best).view(torch.uint8) * (num_classes - index))
    return best, num_classes - rank


def as_bytes(x: Tensor, what: str) -> Tensor:
    """Integer ids as uint8.

    Raises:
        ValueError: ``x`` is not of an integer type, or has a value outside 0..255.
    """
    if x.dtype == torch.uint8:
        return x
    if x.is_floating_point() or x.is_complex() or x.dtype == torch.bool:
        raise ValueError(f"{what} must be integers, got {x.dtype}")
    if x.numel() and (x.min() < 0 or x.max() > IGNORE):
        raise ValueError(f"{what} must lie in 0 to {IGNORE}, got {int(x.min())} to {int(x.max())}")
    return x.to(torch.uint8)
