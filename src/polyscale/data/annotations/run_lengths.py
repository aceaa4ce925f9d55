"""COCO's run-length codes of masks: counts of pixels outside and inside by turns, column by column.

The compressed form writes counts as characters of six bits, as differences to the count two before (maskApi.c of
pycocotools describes it).
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from polyscale.data.items import DataError

__all__ = ["decode_run_lengths", "encode_run_lengths"]

Mask = np.ndarray[Any, np.dtype[np.bool_]]


def decode_run_lengths(counts: str | Sequence[int], size: tuple[int, int], where: str) -> Mask:
    """The mask of a run-length code.

    Args:
        counts: as numbers, or compressed as text.
        size: (H, W).
        where: the annotation, for messages.

    Raises:
        UserError: the counts are damaged, or do not give as many pixels as the size.
    """
    try:
        numbers = _unpacked(counts) if isinstance(counts, str) else [int(count) for count in counts]
    except (ValueError, TypeError, IndexError, OverflowError):
        raise DataError(f"{where}: its run lengths are damaged; export it again") from None
    total = sum(numbers)
    if total != size[0] * size[1] or min(numbers, default=0) < 0:
        wanted = size[0] * size[1]
        raise DataError(f"{where}: its run lengths give {total} pixels, but its size {wanted}; export it again")
    inside = np.arange(len(numbers)) % 2 == 1
    mask: Mask = np.repeat(inside, numbers).reshape(size[::-1]).T
    return mask


def encode_run_lengths(mask: Mask) -> list[int]:
    """The counts of a mask (H, W), beginning with those outside."""
    flat = mask.T.ravel()
    changes = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    bounds = [0, *changes.tolist(), len(flat)]
    counts = np.diff(bounds).tolist()
    return [0, *counts] if len(flat) and flat[0] else counts


def _unpacked(text: str) -> list[int]:
    numbers: list[int] = []
    at = 0
    while at < len(text):
        value = shift = 0
        more = True
        while more:
            bits = ord(text[at]) - 48
            if not 0 <= bits < 64:
                raise ValueError(text[at])
            value |= (bits & 0x1F) << shift
            more = bool(bits & 0x20)
            at, shift = at + 1, shift + 5
            if not more and bits & 0x10:
                value -= 1 << shift  # a negative difference
        if len(numbers) > 2:
            value += numbers[-2]
        numbers.append(value)
    return numbers
