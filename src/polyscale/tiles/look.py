"""A network's look at an image of any size, a tile at a time.

A tile owns a rectangle of the image, its core. At each scale the network sees the core and ``overlap / 2`` of *its own*
pixels around it: at 0.5x twice as much of the image as at 1x, at 2x half as much. Windows begin where the network's
strides would lie on the whole image, so a view equals that of the whole image wherever what it depends on lies in the
window. Along the seams the probabilities of neighbours are blended by a ramp, away from the windows' ends.
"""

import itertools
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from polyscale.errors import UserError
from polyscale.looker import Classified, Looker, not_finite, weights_of
from polyscale.scales import scaled_size
from polyscale.tiles.averages import ImageAverages
from polyscale.tiles.blend import Block, blend
from polyscale.tiles.plan import Pixels, Plan, Span, Tiles, round_down
from polyscale.views import Fused, Look, View, at_size, look, resize

__all__ = ["classify_in_tiles", "look_in_tiles"]

_SAMPLE = 512
"""Side of the parts of an image that tell its averages, in pixels of the scale."""

_SAMPLES = 4
"""Such parts along a side, at most."""


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
    plan = Plan.of(looker, image.size, tiles, looker.choose(scales))
    averages = _averages(looker, image, plan)
    return blend(plan, lambda rows, columns: _tile(looker, image, plan, averages, rows, columns, flip), plan.scales)


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


@torch.inference_mode()
def _averages(looker: Looker, image: Pixels, plan: Plan) -> ImageAverages:
    """What the network averages over the image, from a few parts of it at each scale."""
    found = ImageAverages()
    if not plan.by_scale or len(plan.rows) * len(plan.columns) == 1:
        return found
    for scale in plan.scales:
        axes = [
            _samples(length, max(plan.units[scale], round_down(int(_SAMPLE / scale), plan.units[scale])))
            for length in plan.size
        ]
        for rows, columns in itertools.product(*axes):
            seen = _read(looker, image, rows, columns)
            with found.noted(scale, seen.shape[2] * seen.shape[3]):
                looker.view(seen, scale)
            if not found.has(scale):
                return found
    return found


def _samples(length: int, side: int) -> list[Span]:
    """A few parts of an axis, spread evenly; all of it where that is little."""
    if length <= _SAMPLES * side:
        number = -(-length // side)
        cuts = [length * k // number for k in range(number + 1)]
        return [Span(start, stop) for start, stop in itertools.pairwise(cuts)]
    starts = [(length - side) * k // (_SAMPLES - 1) for k in range(_SAMPLES)]
    return [Span(start, start + side) for start in starts]


def _read(looker: Looker, image: Pixels, rows: Span, columns: Span) -> Tensor:
    """A part of the image as the network takes it, (1, 3, h, w) on its device."""
    pixels = torch.from_numpy(np.array(image.read(slice(*rows), slice(*columns))))
    return pixels.to(looker.device).permute(2, 0, 1)[None].contiguous().float() / 255


def _tile(
    looker: Looker, image: Pixels, plan: Plan, averages: ImageAverages, rows: Span, columns: Span, flip: bool
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
    plan: Plan,
    averages: ImageAverages,
    cores: tuple[Span, Span],
    region: tuple[Span, Span],
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
    outer = [Span(min(w[k].start for w in windows.values()), max(w[k].stop for w in windows.values())) for k in (0, 1)]
    columns = outer[1].mirrored(width) if mirror else outer[1]
    seen = _read(looker, image, outer[0], columns)
    seen = seen.flip(3) if mirror else seen

    def part(window: Sequence[Span]) -> Tensor:
        high, wide = (slice(w.start - o.start, w.stop - o.start) for w, o in zip(window, outer, strict=True))
        return seen[:, :, high, wide].contiguous()

    def show(
        segmenter: Callable[[Tensor], View],
        images: Tensor,  # of these the view is kept, but more is shown
        scale: float,
        features: bool = False,
        grid: bool = False,
    ) -> View:
        whole = scaled_size(plan.size, scale)
        ratios = [length / side for length, side in zip(plan.size, whole, strict=True)]
        window = windows[scale]
        # In pixels of the scale; the ratio is not quite that of the scale where a side is odd.
        starts = [round(w.start / ratio) for w, ratio in zip(window, ratios, strict=True)]
        stops = [round(w.stop / ratio) for w, ratio in zip(window, ratios, strict=True)]
        size = [stop - start for start, stop in zip(starts, stops, strict=True)]
        shown = part(window)
        firsts = [(start + 0.5) * ratio - 0.5 - w.start for start, ratio, w in zip(starts, ratios, window, strict=True)]
        if all(ratio * count == side for ratio, count, side in zip(ratios, size, shown.shape[-2:], strict=True)):
            shown = resize(shown, size)
        else:
            shown = _sampled(shown, firsts, ratios, size)
        with averages.used(scale):
            view = look(segmenter, shown, 1, features, grid)
        inside = [
            (axis[1].start / ratio - start, axis[1].stop / ratio - start)
            for axis, ratio, start in zip(axes, ratios, starts, strict=True)
        ]
        return _cut(view, size, inside, scaled_size(images.shape[-2:], scale), whole)

    inner = part([axis[1] for axis in axes])
    try:
        found = _fused(looker, inner, plan.scales, show if plan.by_scale else None)
    except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
        if not isinstance(error, torch.OutOfMemoryError | MemoryError) and "allocate memory" not in str(error):
            raise
        raise UserError(
            f"a tile of {inner.shape[3]} x {inner.shape[2]} pixels does not fit into memory; choose a smaller --tile, "
            "or fewer or smaller scales"
        ) from None
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


def _cut(
    view: View,
    shown: Sequence[int],
    inside: Sequence[tuple[float, float]],
    counts: Sequence[int],
    whole: Sequence[int],
) -> View:
    """The part of a window's view that lies inside the region.

    Args:
        view: on any grid.
        shown: size of the window at the view's scale.
        inside: begin and end of the region in it, by axis.
        counts: the region's size at the scale.
        whole: size of the image at the scale. The view stays on its grid only where that of the whole image would.
    """
    places = [round(start) for start, _ in inside]
    if places == [0, 0] and list(counts) == list(shown):
        return view
    features = view.features
    if features is not None:
        cells = tuple(round(a / b) for a, b in zip(shown, features.shape[-2:], strict=True))
        features = _sliced(features, places, counts, cells)
    maps = view.logits, view.attention, view.aux
    steps = [side / cells for side, cells in zip(shown, view.logits.shape[-2:], strict=True)]
    step = int(steps[0])
    even = all(
        abs(start - place) + abs(stop - place - count) < 1e-6
        for (start, stop), place, count in zip(inside, places, counts, strict=True)
    )
    if not even or steps != [step, step] or any(side % step for side in (*places, *counts, *whole)):
        maps, step = at_size(view, shown)[:3], 1
    if even:
        logits, attention, aux = (None if x is None else _sliced(x, places, counts, (step, step)) for x in maps)
    else:
        steps = [(stop - start) / count for (start, stop), count in zip(inside, counts, strict=True)]
        firsts = [start + step / 2 - 0.5 for (start, _), step in zip(inside, steps, strict=True)]
        logits, attention, aux = (None if x is None else _sampled(x, firsts, steps, counts) for x in maps)
    assert logits is not None
    return View(logits, attention, aux, features)


def _sliced(x: Tensor, places: Sequence[int], counts: Sequence[int], steps: Sequence[int]) -> Tensor:
    """Part of a map whose cells are ``steps`` pixels large."""
    rows, columns = (
        slice(place // step, place // step - (-count // step))
        for place, count, step in zip(places, counts, steps, strict=True)
    )
    return x[..., rows, columns]


def _sampled(x: Tensor, firsts: Sequence[float], steps: Sequence[float], counts: Sequence[int]) -> Tensor:
    """Values of a map at ``first + k * step`` along each axis, linear between pixels; 0 is the first one's centre."""
    for axis, first, step, count in zip((2, 3), firsts, steps, counts, strict=True):
        places = torch.arange(count, dtype=torch.float64, device=x.device) * step + first
        places = places.clamp(0, x.shape[axis] - 1)
        below = places.long()
        share = (places - below).to(x.dtype).reshape([-1, 1] if axis == 2 else [-1])
        above = (below + 1).clamp_max(x.shape[axis] - 1)
        x = x.index_select(axis, below).lerp(x.index_select(axis, above), share)
    return x
