"""What a network averages over the whole image, kept while it sees a part.

Image pooling (ASPP, light decoders) and squeeze-and-excitation take the mean of a map over all its pixels. In a tile
that would be the tile's mean: each tile would be judged by another scene, and the result change at the seams. So such
means are noted first, and then stand in the place of each tile's own. Which operations they are, a look tells; no list
of architectures is needed.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

__all__ = ["ImageAverages"]

_AXES = ({2, 3}, {-1, -2})


class ImageAverages:
    """Means over an image of what a network averages, scale by scale and in the order in which it does so."""

    def __init__(self) -> None:
        self._sums: dict[float, list[Tensor]] = {}
        self._areas: dict[float, int] = {}

    @contextmanager
    def noted(self, scale: float, area: int) -> Iterator[None]:
        """While a part of ``area`` pixels is seen at a scale, note its means."""
        found: list[Tensor] = []
        with _Noting(found):
            yield
        sums = self._sums.setdefault(scale, [torch.zeros_like(mean) for mean in found])
        assert len(sums) == len(found), "the network averages another number of maps each time"
        for total, mean in zip(sums, found, strict=True):
            total += mean * area
        self._areas[scale] = self._areas.get(scale, 0) + area

    @contextmanager
    def used(self, scale: float) -> Iterator[None]:
        """While a part is seen at a scale, the means of the whole image stand for its own."""
        sums = self._sums.get(scale, [])
        if not sums:
            yield
            return
        with _Using([total / self._areas[scale] for total in sums]):
            yield

    def has(self, scale: float) -> bool:
        """Whether the network averages anything at a scale."""
        return bool(self._sums.get(scale))


class _Noting(TorchFunctionMode):
    def __init__(self, found: list[Tensor]) -> None:
        super().__init__()
        self.found = found

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if _is_average(func, args, kwargs or {}):
            self.found.append(result)
        return result


class _Using(TorchFunctionMode):
    def __init__(self, means: list[Tensor]) -> None:
        super().__init__()
        self.means = iter(means)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if _is_average(func, args, kwargs or {}):
            return next(self.means)
        return func(*args, **(kwargs or {}))


def _is_average(func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bool:
    """Whether a call takes the mean of maps (N, C, h, w) over all their pixels."""
    if func is functional.adaptive_avg_pool2d:
        size = args[1] if len(args) > 1 else kwargs.get("output_size")
        return size == 1 or size in ((1, 1), [1, 1])
    if func not in (Tensor.mean, torch.mean) or not args or args[0].ndim != 4:
        return False
    axes = args[1] if len(args) > 1 else kwargs.get("dim")
    return isinstance(axes, list | tuple) and set(axes) in _AXES
