"""Images of any size, a tile at a time: memory is bounded by the tile, and every scale keeps its context.

A tile owns a rectangle of the image, its core. At each scale the network sees the core and ``overlap / 2`` of *its own*
pixels around it: at 0.5x twice as much of the image as at 1x, at 2x half as much. Windows begin where the network's
strides would lie on the whole image, so a view equals that of the whole image wherever what it depends on lies in the
window. Along the seams the probabilities of neighbours are blended by a ramp, away from the windows' ends.

Finished parts come row by row. Between tiles only the seams are kept.
"""

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from polyscale.averages import ImageAverages
from polyscale.errors import UserError
from polyscale.looker import Classified, Looker, not_finite, weights_of
from polyscale.scales import scaled_size
from polyscale.views import Fused, Look, View, at_size, look, resize

__all__ = ["ArrayPixels", "Block", "Pixels", "Tiles", "classify_in_tiles", "look_in_tiles"]

Pair = tuple[int, int]

_STRIDE = 32
"""Of the coarsest map of nearly every backbone, and a multiple of the others'."""

_SAMPLE = 512
"""Side of the parts of an image that tell its averages, in pixels of the scale."""

_SAMPLES = 4
"""Such parts along a side, at most."""


class Pixels(Protocol):
    """An image of which any part can be read."""

    @property
    def size(self) -> Pair:
        """Height and width."""

    def read(self, rows: slice, columns: slice) -> np.ndarray[Any, np.dtype[np.uint8]]:
        """A part, (h, w, 3) RGB."""


class ArrayPixels:
    """An image in memory, (H, W, 3) uint8 RGB."""

    def __init__(self, pixels: np.ndarray[Any, np.dtype[np.uint8]]) -> None:
        self._pixels = pixels
        self.size: Pair = (pixels.shape[0], pixels.shape[1])

    def read(self, rows: slice, columns: slice) -> np.ndarray[Any, np.dtype[np.uint8]]:
        """A part, (h, w, 3) RGB."""
        return self._pixels[rows, columns]


class Tiles(NamedTuple):
    """How an image is cut."""

    tile: int = 1024
    """Largest side in pixels of what is seen of the image at scale 1."""
    overlap: int = 128
    """Pixels at scale 1 that neighbouring tiles share."""

    def check(self, stride: int = _STRIDE) -> None:
        """Make sure that tiles can be cut so.

        Raises:
            UserError: the overlap is negative or too large, or a tile is smaller than the network's stride.
        """
        if self.tile < stride:
            raise UserError(
                f"a tile of {self.tile} pixels is smaller than the network's stride of {stride}; choose --tile 1024, "
                "or 512 where memory is short"
            )
        if not 0 <= self.overlap <= self.tile - stride:
            raise UserError(
                f"an overlap of {self.overlap} pixels does not suit tiles of {self.tile}; choose --overlap from 0 to "
                f"{self.tile - stride}, such as {self.tile // 8}"
            )


class Block(NamedTuple):
    """A finished part of the image; blocks come in rows from top to bottom, and in a row from left to right."""

    rows: slice
    columns: slice
    labels: np.ndarray[Any, np.dtype[np.uint8]]
    """Most probable class, (h, w)."""
    confidence: np.ndarray[Any, np.dtype[np.float32]]
    """Its probability, (h, w)."""
    weights: dict[float, np.ndarray[Any, np.dtype[np.float32]]]
    """Scale -> how much it counts in the class chosen, (h, w), finest first."""
    done: int
    """Tiles that are done."""
    total: int
    """Tiles of the image."""


def look_in_tiles(
    looker: Looker, image: Pixels, tiles: Tiles, scales: Sequence[float] | None = None, flip: bool = False
) -> Iterator[Block]:
    """What ``Looker.classify`` says of an image, a tile at a time.

    Args:
        looker: the network.
        image: of any size.
        tiles: how it is cut. An image that is not larger than a tile is seen whole.
        scales: as for ``Looker.look``.
        flip: also look at the mirrored image, and average both.

    Raises:
        UserError: tiles that the network cannot take, a tile that does not fit into memory, a part of the image that
            cannot be read, or a result that is not finite.
    """
    plan = _Plan.of(looker, image.size, tiles, looker.choose(scales))
    averages = _averages(looker, image, plan)
    return _blocks(plan, lambda rows, columns: _tile(looker, image, plan, averages, rows, columns, flip), plan.scales)


def classify_in_tiles(
    looker: Looker, image: Pixels, tiles: Tiles, scales: Sequence[float] | None = None, flip: bool = False
) -> Classified:
    """``Looker.classify`` of one image that is itself small enough for memory, as its result is: on the CPU."""
    chosen = looker.choose(scales)
    labels = torch.empty(1, *image.size, dtype=torch.uint8)
    confidence = torch.empty(1, *image.size)
    weights = {scale: torch.empty(1, *image.size) for scale in chosen}
    for block in look_in_tiles(looker, image, tiles, chosen, flip):
        labels[0, block.rows, block.columns] = torch.from_numpy(block.labels)
        confidence[0, block.rows, block.columns] = torch.from_numpy(block.confidence)
        for scale, weight in block.weights.items():
            weights[scale][0, block.rows, block.columns] = torch.from_numpy(weight)
    return Classified(labels, confidence, weights)


class _Core(NamedTuple):
    """What a tile owns of one axis."""

    start: int
    stop: int

    def grown(self, by: int, length: int) -> "_Core":
        """With ``by`` more pixels at each end, as far as the image reaches."""
        return _Core(max(0, self.start - by), min(length, self.stop + by))

    def mirrored(self, length: int) -> "_Core":
        return _Core(length - self.stop, length - self.start)


class _Plan(NamedTuple):
    """Where the tiles of an image lie, and what is seen of it."""

    size: Pair
    scales: tuple[float, ...]
    margin: int
    """Pixels of each scale's own that it sees around a core."""
    units: dict[float, int]
    """Scale -> pixels of the image after which the network's strides begin anew; one of all scales at key 0."""
    by_scale: bool
    """Each scale has a window of its own; else all scales see what the coarsest needs."""
    region: int
    """Pixels around a core on which views are fused."""
    seam: int
    """Pixels to each side of a seam in which two tiles are blended."""
    rows: list[_Core]
    columns: list[_Core]

    @classmethod
    def of(cls, looker: Looker, size: Pair, tiles: Tiles, scales: tuple[float, ...]) -> "_Plan":
        stride = math.lcm(_STRIDE, int(getattr(looker.model.segmenter, "multiple", 1)))
        tiles.check(stride)
        kept, margin = tiles.tile - tiles.overlap, tiles.overlap // 2
        units = {scale: _unit(scale, stride) for scale in scales}
        unit = math.lcm(*units.values())
        by_scale = looker.model.shows_scales and unit <= kept
        if not by_scale:
            unit = stride
        units[0] = unit
        if by_scale:  # where an eighth of the stride is a whole number of pixels at each scale
            region = _down(int(margin / scales[0]), max(1, unit // 8))
            seam = region // 2
        else:
            region, seam = math.ceil(margin / scales[-1] / unit) * unit, margin // 2
        axes = [_cores(length, tiles, unit) for length in size]
        return cls(size, scales, margin, units, by_scale, region, seam, *axes)

    def window(self, core: _Core, region: _Core, scale: float, length: int) -> _Core:
        """What one scale sees of an axis: the region, the margin, and what lies up to the network's next stride."""
        unit, margin = self.units[scale], math.ceil(self.margin / scale)
        start = max(0, _down(core.start - margin, unit))
        start = min(start, region.start)
        start += (region.start - start) % max(1, self.units[0] // 8)  # only in a mirrored image it is none
        return _Core(start, min(length, start - _down(start - max(core.stop + margin, region.stop), unit)))


def _unit(scale: float, stride: int) -> int:
    """The least number of image pixels that are a multiple of ``stride`` pixels at a scale."""
    factor = Fraction(str(scale))
    return stride * factor.denominator // math.gcd(factor.numerator, stride * factor.denominator)


def _down(value: int, step: int) -> int:
    return value // step * step


def _cores(length: int, tiles: Tiles, unit: int) -> list[_Core]:
    """Cut an axis at multiples of ``unit`` into parts of nearly equal size."""
    if length <= tiles.tile:
        return [_Core(0, length)]
    # The first and the last tile have a neighbour at one end only, and so may own more.
    more = tiles.overlap // 2 // unit
    inner = -(-length // unit) - 2 * more
    number = max(2, -(-inner // max(1, (tiles.tile - tiles.overlap) // unit)))
    cuts = [0, *((more + inner * k // number) * unit for k in range(1, number)), length]
    return [_Core(start, stop) for start, stop in zip(cuts[:-1], cuts[1:], strict=True) if start < stop]


@torch.inference_mode()
def _averages(looker: Looker, image: Pixels, plan: _Plan) -> ImageAverages:
    """What the network averages over the image, from a few parts of it at each scale."""
    found = ImageAverages()
    if not plan.by_scale or len(plan.rows) * len(plan.columns) == 1:
        return found
    for scale in plan.scales:
        axes = [_samples(length, max(plan.units[scale], _down(int(_SAMPLE / scale), plan.units[scale]))) for length in plan.size]
        for rows, columns in itertools.product(*axes):
            seen = _read(looker, image, rows, columns)
            with found.noted(scale, seen.shape[2] * seen.shape[3]):
                looker.view(seen, scale)
            if not found.has(scale):
                return found
    return found


def _samples(length: int, side: int) -> list[_Core]:
    """A few parts of an axis, spread evenly; all of it where that is little."""
    if length <= _SAMPLES * side:
        number = -(-length // side)
        cuts = [length * k // number for k in range(number + 1)]
        return [_Core(start, stop) for start, stop in zip(cuts[:-1], cuts[1:], strict=True)]
    starts = [(length - side) * k // (_SAMPLES - 1) for k in range(_SAMPLES)]
    return [_Core(start, start + side) for start in starts]


def _read(looker: Looker, image: Pixels, rows: _Core, columns: _Core) -> Tensor:
    """A part of the image as the network takes it, (1, 3, h, w) on its device."""
    pixels = torch.from_numpy(np.array(image.read(slice(*rows), slice(*columns))))
    return pixels.to(looker.device).permute(2, 0, 1)[None].contiguous().float() / 255


def _tile(
    looker: Looker, image: Pixels, plan: _Plan, averages: ImageAverages, rows: _Core, columns: _Core, flip: bool
) -> Tensor:
    """Probabilities and weights (C + S, h, w) of a core and its seams."""
    height, width = plan.size
    region = rows.grown(plan.region, height), columns.grown(plan.region, width)
    kept = rows.grown(plan.seam, height), columns.grown(plan.seam, width)
    cut = tuple(slice(a.start - b.start, a.stop - b.start) for a, b in zip(kept, region, strict=True))
    found = _pass(looker, image, plan, averages, (rows, columns), region, False)
    if flip:
        found = (found + _pass(looker, image, plan, averages, (rows, columns), region, True)) / 2
    if not found.amax().isfinite():
        raise not_finite()
    return found[:, cut[0], cut[1]]


@torch.inference_mode()
def _pass(
    looker: Looker,
    image: Pixels,
    plan: _Plan,
    averages: ImageAverages,
    cores: tuple[_Core, _Core],
    region: tuple[_Core, _Core],
    mirror: bool,
) -> Tensor:
    """Probabilities and weights of a region, seen as it is or in a mirror."""
    height, width = plan.size
    axes = [(cores[0], region[0], height), (cores[1], region[1], width)]
    if mirror:
        axes[1] = (cores[1].mirrored(width), region[1].mirrored(width), width)
    windows = {scale: [plan.window(*axis[:2], scale, axis[2]) for axis in axes] for scale in plan.scales}
    if not plan.by_scale:
        windows = {1.0: [axis[1] for axis in axes]}
    outer = [_Core(min(w[k].start for w in windows.values()), max(w[k].stop for w in windows.values())) for k in (0, 1)]
    columns = outer[1].mirrored(width) if mirror else outer[1]
    seen = _read(looker, image, outer[0], columns)
    seen = seen.flip(3) if mirror else seen

    def part(window: Sequence[_Core]) -> Tensor:
        high, wide = (slice(w.start - o.start, w.stop - o.start) for w, o in zip(window, outer, strict=True))
        return seen[:, :, high, wide].contiguous()

    def show(
        segmenter: Callable[[Tensor], View],
        images: Tensor,  # noqa: ARG001 - of these the view is kept, but more is shown
        scale: float,
        features: bool = False,
        grid: bool = False,
    ) -> View:
        shown = part(windows[scale])
        with averages.used(scale):
            view = look(segmenter, shown, scale, features, grid)
        inside = [_Core(axis[1].start - w.start, axis[1].stop - w.start) for axis, w in zip(axes, windows[scale], strict=True)]
        return _cut(view, scaled_size(shown.shape[-2:], scale), inside, scale, scaled_size(plan.size, scale))

    inner = part([axis[1] for axis in axes])
    with _told_in_one_line(inner):
        found = _fused(looker, inner, plan.scales, show if plan.by_scale else None)
    return found.flip(2) if mirror else found


def _fused(looker: Looker, images: Tensor, scales: tuple[float, ...], show: Look | None) -> Tensor:
    """Probabilities and weights, (C + S, h, w) float32, of one image."""
    size = images.shape[-2:]
    maps, views = looker.maps(images, scales, show)
    probabilities = resize(maps[0].float(), size).softmax(1)
    for logits in maps[1:]:
        probabilities += resize(logits.float(), size).softmax(1)
    probabilities /= len(maps)
    weights = weights_of(looker.model, Fused(probabilities, None, views), size)
    return torch.cat([probabilities, *(weights[scale] for scale in scales)], dim=1)[0]


def _cut(view: View, shown: Sequence[int], inside: Sequence[_Core], scale: float, whole: Sequence[int]) -> View:
    """Of a view of a window, the part that lies inside the region.

    Args:
        view: on any grid.
        shown: size of the window at this scale.
        inside: the region in the window, in pixels at scale 1.
        scale: of the view.
        whole: size of the image at this scale. The view stays on its grid only where that of the whole image would.
    """
    factor = Fraction(str(scale))
    places = [core.start * factor.numerator // factor.denominator for core in inside]
    lengths = list(scaled_size([core.stop - core.start for core in inside], scale))
    steps = [side / cells for side, cells in zip(shown, view.logits.shape[-2:], strict=True)]
    step = int(steps[0])
    if steps != [step, step] or any(side % step for side in (*places, *lengths, *whole)):
        view, step = at_size(view, shown), 1

    def cut(x: Tensor | None, steps: Sequence[int]) -> Tensor | None:
        if x is None:
            return None
        first, second = (
            slice(place // step, place // step - (-length // step))
            for place, length, step in zip(places, lengths, steps, strict=True)
        )
        return x[..., first, second]

    features = view.features
    cells = (1, 1) if features is None else tuple(round(a / b) for a, b in zip(shown, features.shape[-2:], strict=True))
    logits = cut(view.logits, (step, step))
    assert logits is not None
    return View(logits, cut(view.attention, (step, step)), cut(view.aux, (step, step)), cut(features, cells))


def _blocks(plan: _Plan, look_at: Callable[[_Core, _Core], Tensor], scales: Sequence[float]) -> Iterator[Block]:
    """Blend the tiles at their seams, and give each part when nothing more is added to it."""
    (height, width), seam = plan.size, plan.seam
    total, done = len(plan.rows) * len(plan.columns), 0
    above: Tensor | None = None
    for rows in plan.rows:
        high = rows.grown(seam, height)
        below: Tensor | None = None
        left: Tensor | None = None
        for columns in plan.columns:
            wide = columns.grown(seam, width)
            found = look_at(rows, columns)
            for axis, core, length in ((1, rows, height), (2, columns, width)):
                found = _faded(found, axis, seam, core.start > 0, core.stop < length)
            if left is not None:
                found[:, :, : 2 * seam] += left
            bottom = high.stop - (2 * seam if rows.stop < height else 0)
            right = wide.stop - (2 * seam if columns.stop < width else 0)
            left = found[:, :, right - wide.start :].clone()
            found = found[:, :, : right - wide.start]
            if bottom < high.stop:
                if below is None:
                    below = found.new_empty(len(found), high.stop - bottom, width)
                below[:, :, wide.start : right] = found[:, bottom - high.start :]
            found = found[:, : bottom - high.start]
            if above is not None:
                found[:, : 2 * seam] += above[:, :, wide.start : right]
            done += 1
            yield _block(found, slice(high.start, bottom), slice(wide.start, right), scales, done, total)
        above = below


def _faded(found: Tensor, axis: int, seam: int, first: bool, last: bool) -> Tensor:
    """Let a tile fade out over its seams; with what its neighbour adds the shares are 1 everywhere."""
    if not seam or not (first or last):
        return found
    ramp = (torch.arange(2 * seam, device=found.device, dtype=found.dtype) + 0.5) / (2 * seam)
    share = found.new_ones(found.shape[axis])
    if first:
        share[: 2 * seam] *= ramp
    if last:
        share[-2 * seam :] *= 1 - ramp
    return found * (share[:, None] if axis == 1 else share)


def _block(found: Tensor, rows: slice, columns: slice, scales: Sequence[float], done: int, total: int) -> Block:
    num_classes = len(found) - len(scales)
    confidence, labels = found[:num_classes].max(0)
    weights = {scale: found[num_classes + k].cpu().numpy() for k, scale in enumerate(scales)}
    return Block(rows, columns, labels.to(torch.uint8).cpu().numpy(), confidence.cpu().numpy(), weights, done, total)


class _told_in_one_line:  # noqa: N801 - used as a function
    """Too little memory for a tile becomes a line that says so."""

    def __init__(self, images: Tensor) -> None:
        self.size = images.shape[3], images.shape[2]

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if isinstance(error, torch.OutOfMemoryError | MemoryError) or (
            isinstance(error, RuntimeError) and "allocate memory" in str(error)
        ):
            raise UserError(
                f"a tile of {self.size[0]} x {self.size[1]} pixels does not fit into memory; choose a smaller --tile, "
                "or fewer or smaller scales"
            ) from None
