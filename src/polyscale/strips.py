"""The class of each pixel from logits on a coarser grid, a strip of rows at a time.

At the image's size the logits are the largest map of all: 19 classes at 100 megapixels are 7.6 GB. Here they exist for
some rows only, which stay in the processor's cache.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from polyscale.views import resize

__all__ = ["Classes", "classify", "largest"]

_STRIP = {"cpu": 2**20}
_STRIP_ELSEWHERE = 2**26
"""Numbers in a strip of logits: what a processor's cache holds, or what keeps a GPU busy."""


class Classes(NamedTuple):
    """The most probable class of each pixel."""

    labels: Tensor
    """(N, H, W) uint8; the lowest of equal ones."""
    confidence: Tensor
    """Its probability, (N, H, W) float32 in [1/C, 1]; not finite where a logit is not."""


def classify(maps: Sequence[Tensor], size: Sequence[int]) -> Classes:
    """What ``resize(logits, size).softmax(1).max(1)`` gives, without maps of all classes at the image's size.

    Args:
        maps: logits (N, C, h, w), C at most 256. With several, on grids that may differ, the probabilities of each at
            the image's size are averaged.
        size: (H, W) of the image.
    """
    height, width = int(size[0]), int(size[1])
    first = maps[0]
    shape = (first.shape[0], height, width)
    labels = torch.empty(shape, dtype=torch.uint8, device=first.device)
    confidence = torch.empty(shape, dtype=torch.float32, device=first.device)
    row = first.shape[0] * first.shape[1] * width
    step = max(1, _STRIP.get(first.device.type, _STRIP_ELSEWHERE) // row)
    for top in range(0, height, step):
        rows = slice(top, min(top + step, height))
        strips = (_strip(logits, rows, height, width) for logits in maps)
        labels[:, rows], confidence[:, rows] = _top(next(strips)) if len(maps) == 1 else _top_of_mean(strips, len(maps))
    return Classes(labels, confidence)


def _strip(logits: Tensor, rows: slice, height: int, width: int) -> Tensor:
    """``resize(logits, (height, width))[:, :, rows].float()``."""
    if logits.shape[2] == height:
        return resize(logits[:, :, rows].float(), (rows.stop - rows.start, width))
    # As torch computes it: single precision, pixel centres aligned.
    places = torch.arange(rows.start, rows.stop, dtype=torch.float32, device=logits.device)
    places = ((places + 0.5) * (logits.shape[2] / height) - 0.5).clamp_min(0)
    above = places.long()
    below = (above + 1).clamp_max(logits.shape[2] - 1)
    first, last = int(above[0]), int(below[-1]) + 1
    source = logits[:, :, first:last].float()
    source = resize(source, (last - first, width))
    share = (places - above)[:, None]
    return source.index_select(2, above - first).lerp_(source.index_select(2, below - first), share)


def _top(logits: Tensor) -> tuple[Tensor, Tensor]:
    """Labels and confidence (N, r, W) of logits (N, C, r, W)."""
    labels, best = largest(logits)
    return labels, (logits - best[:, None]).exp_().sum(1).reciprocal_()


def _top_of_mean(strips: Iterator[Tensor], number: int) -> tuple[Tensor, Tensor]:
    total = _probabilities(next(strips))
    for logits in strips:
        total += _probabilities(logits)
    return largest(total.div_(number))


def _probabilities(logits: Tensor) -> Tensor:
    """``logits.softmax(1)``, which on a CPU takes twice as long as its parts."""
    powers = (logits - logits.amax(1, keepdim=True)).exp_()
    return powers.mul_(powers.sum(1, keepdim=True).reciprocal_())


def largest(values: Tensor) -> tuple[Tensor, Tensor]:
    """Class of the largest of values (N, C, r, W), and the largest itself."""
    if values.device.type != "cpu":
        best, labels = values.max(1)
        return labels.to(torch.uint8), best
    # On a CPU a reduction that also gives the place takes four times as long as this.
    best = values[:, 0].clone()
    labels = torch.zeros(best.shape, dtype=torch.uint8)
    is_larger = torch.empty(best.shape, dtype=torch.bool)
    for number in range(1, values.shape[1]):
        torch.gt(values[:, number], best, out=is_larger)
        torch.maximum(best, values[:, number], out=best)
        # Numbers rise, so the last class that was larger than all before it is the largest number.
        torch.maximum(labels, is_larger.view(torch.uint8).mul_(number), out=labels)
    return labels, best
