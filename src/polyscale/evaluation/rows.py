"""The rows that are scored: the network's own result, and from the same views the other ways of combining scales.

A comparison needs only the best class of each pixel, so a map is given as logits wherever the softmax
would not change the order of the classes.
"""

from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor

from polyscale.baselines import average_logits, average_probabilities
from polyscale.multiscale import View, fuse, resize

__all__ = [
    "AVERAGE_LOGITS",
    "AVERAGE_PROBABILITIES",
    "AVERAGE_WITH_FLIP",
    "CONSTANT_ATTENTION",
    "FUSED",
    "FUSED_WITHOUT_FLIP",
    "ORACLE",
    "comparisons",
    "row_names",
    "scale_row",
]

FUSED = "fused"
"""The network's own method, with the mirrored image where flip is asked for."""
FUSED_WITHOUT_FLIP = "fused without flip"
AVERAGE_PROBABILITIES = "average of probabilities"
AVERAGE_WITH_FLIP = "average of probabilities with flip"
AVERAGE_LOGITS = "average of logits"
CONSTANT_ATTENTION = "constant attention 0.5"
"""A control: the hierarchical chain with 0.5 everywhere in place of the learnt attention."""
ORACLE = "oracle over scales"
"""A bound for reports: right wherever any scale alone is right, elsewhere as the network's own result."""


def scale_row(scale: float) -> str:
    """Name of the row of one scale alone."""
    return f"scale {scale:g}"


def rival_row(method: str, rows: Sequence[str]) -> str | None:
    """The row that the network's own result is compared with pixel by pixel, or None where there is none.

    It is the average of probabilities; for a network that averages scales it is scale 1.
    """
    row = scale_row(1.0) if method == "average" else AVERAGE_PROBABILITIES
    return row if row in rows else None


def row_names(method: str, scales: Sequence[float], flip: bool, compare: bool) -> tuple[str, ...]:
    """Names of the rows in the tables' order; known before the first image, so every process has the same ones."""
    if not compare:
        return (FUSED,)
    single = [scale_row(scale) for scale in sorted(scales)]
    names = [FUSED, *([FUSED_WITHOUT_FLIP] if flip else []), *single]
    if len(single) > 1:
        names += [AVERAGE_PROBABILITIES, *([AVERAGE_WITH_FLIP] if flip else []), AVERAGE_LOGITS]
        names += [CONSTANT_ATTENTION] if method == "hierarchical" else []
    return tuple(names)


def comparisons(views: Mapping[float, View], method: str) -> Iterator[tuple[str, Tensor]]:
    """Other results from the same views, one after the other, so that only one is in memory.

    Args:
        views: scale -> view of one image, 1 among them.
        method: the network's own method; the control of constant attention belongs to "hierarchical".

    Yields:
        The row's name and a map (C, H, W) whose largest entry is the class: logits, or for the average of probabilities
        those.
    """
    size = views[1.0].logits.shape[-2:]
    for scale in sorted(views):
        yield scale_row(scale), resize(views[scale].logits, size)[0]
    if len(views) == 1:
        return
    yield AVERAGE_PROBABILITIES, average_probabilities(views)[0]
    yield AVERAGE_LOGITS, average_logits(views)[0]
    if method == "hierarchical":
        half = {scale: View(view.logits, torch.full_like(view.logits[:, :1], 0.5)) for scale, view in views.items()}
        yield CONSTANT_ATTENTION, fuse(half).logits[0]
