"""Predicts how much memory a look at an image takes.

A small image is looked at, and its tensors are counted as they come and go. Maps grow with the image, so what the small
one took per pixel the large one takes too.
"""

import functools
import weakref
from collections.abc import Sequence
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from polyscale.looker import Looker
from polyscale.memory import available_memory
from polyscale.tiles.plan import Tiles

__all__ = ["bytes_of_look", "choose_tiles", "free_memory"]

_SIDE = 256
_SMALL = 2**22
"""Pixels at the finest scale that any machine has memory for."""

_MORE = 1.4
"""Memory beside the tensors: what convolutions work with, and gaps between blocks."""

_HOST = 24
"""Bytes a pixel of the image itself and of the pictures made of the result."""

_TRIED = (1024, 512, 256)


def choose_tiles(looker: Looker, size: Sequence[int], scales: Sequence[float], flip: bool) -> tuple[Tiles | None, int]:
    """Tiles for an image that does not fit into the memory that is free, or None where it does.

    Args:
        looker: the network.
        size: (H, W) of the image.
        scales: to look at.
        flip: the mirrored image is looked at as well.

    Returns:
        The tiles, and the bytes that a look at the whole image takes, or 0 where it is so small that nobody counted.
    """
    pixels, free = size[0] * size[1], free_memory(looker.device)
    if pixels * max(scales) ** 2 <= _SMALL or free is None:
        return None, 0
    each = bytes_of_look(looker, tuple(scales), flip) / _SIDE**2
    here = available_memory() or free
    needed = int(pixels * (each * _MORE + (_HOST if looker.device.type == "cpu" else 0)))
    if needed <= free and pixels * _HOST <= here:
        return None, needed
    # Half of what is free: the rest is for reading, for what is blended and for what is written.
    sides = [side for side in _TRIED if side**2 * each * _MORE <= free / 2]
    side = sides[0] if sides else _TRIED[-1]
    return Tiles(side, side // 8), needed


@functools.lru_cache(maxsize=1)
def bytes_of_look(looker: Looker, scales: tuple[float, ...], flip: bool) -> int:
    """The most bytes that tensors take at once while an image of 256 x 256 is looked at."""
    counter = _Counter()
    image = torch.zeros(1, 3, _SIDE, _SIDE)
    with counter:
        looker.classify(image, scales, flip)
    return counter.most


def free_memory(device: torch.device) -> int | None:
    """Bytes that are free where a network computes; None where nobody knows."""
    if device.type == "cuda":
        held = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(torch.cuda.mem_get_info(device)[0]) + held
    return available_memory() if device.type == "cpu" else None


class _Counter(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the bytes of tensors while they live."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.now = self.most = 0
        self._known: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = {x.untyped_storage().data_ptr() for x in tree_leaves((args, kwargs)) if isinstance(x, torch.Tensor)}
        result = func(*args, **(kwargs or {}))
        for x in tree_leaves(result):
            if isinstance(x, torch.Tensor):
                self._add(x, given)
        return result

    def _add(self, x: torch.Tensor, given: set[int]) -> None:
        storage = x.untyped_storage()
        place = storage.data_ptr()
        if place in self._known or place in given:
            return
        size = storage.nbytes()
        self._known.add(place)
        self.now += size
        self.most = max(self.most, self.now)
        weakref.finalize(storage, self._remove, place, size)

    def _remove(self, place: int, size: int) -> None:
        self._known.discard(place)
        self.now -= size
