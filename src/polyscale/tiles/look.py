"""A network's look at an image of any size, a tile at a time.

A tile owns a rectangle of the image, its core. At each scale the network sees the core and ``overlap / 2`` of *its own*
pixels around it: at 0.5x twice as much of the image as at 1x, at 2x half as much. Windows begin where the network's
strides would lie on the whole image, so a view equals that of the whole image wherever what it depends on lies in the
window. Along the seams the probabilities of neighbours are blended by a ramp, away from the windows' ends.
"""

import itertools
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction

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
        images: Tensor,  # noqa: ARG001 - of these the view is kept, but more is shown
        scale: float,
        features: bool = False,
        grid: bool = False,
    ) -> View:
        shown = part(windows[scale])
        with averages.used(scale):
            view = look(segmenter, shown, scale, features, grid)
        inside = [
            Span(axis[1].start - w.start, axis[1].stop - w.start) for axis, w in zip(axes, windows[scale], strict=True)
        ]
        return _cut(view, scaled_size(shown.shape[-2:], scale), inside, scale, scaled_size(plan.size, scale))

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


def _cut(view: View, shown: Sequence[int], inside: Sequence[Span], scale: float, whole: Sequence[int]) -> View:
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
    if not any(places) and lengths == list(shown):
        return view
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
