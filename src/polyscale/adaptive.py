"""Looking again only where the coarser scales are not sure.

The finest scale costs most: three quarters of 0.5, 1 and 2. It is needed where the coarser ones are unsure, along a few
edges and far away. So they look first, and the finest is shown windows of the image. Fusion is done again in these,
with the same windows of the coarser views, which have seen the whole image. ``docs/explanation/performance.md`` has
what that costs and saves.
"""

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from polyscale.errors import UserError
from polyscale.multiscale import MultiScale
from polyscale.views import Fused, Look, View, look, resize
from polyscale.windows import Window, cover

__all__ = ["MARGIN", "TILE", "AdaptiveMultiScale"]

TILE = 16
"""Side in pixels of the squares that are sure or not."""

MARGIN = 16
"""Pixels around a window that are shown with it and not used: a network sees less at a border."""


class AdaptiveMultiScale(MultiScale):
    """A network whose finest scale is shown only windows of the image, for use and not for training.

    Of its views the finest holds the result in place of its own logits, and as attention where it was looked at (1) and
    where not (0). The view of the next scale has attention 1 where there is nothing finer.

    Args:
        model: a network that any scales can be asked of.
        sure: a probability. Squares of ``TILE`` pixels in which the coarser scales' mean confidence is below it are
            looked at again; 1 looks again everywhere.

    Raises:
        UserError: the network needs all its scales everywhere, or ``sure`` is not a probability above 0.
    """

    def __init__(self, model: MultiScale, sure: float) -> None:
        if not 0 < sure <= 1:
            raise UserError(f"the confidence of adaptive looking must lie above 0 and up to 1, got {sure:g}; try 0.7")
        if model.fixed or not model.shows_scales:
            raise UserError(f"a network of method {model.method!r} needs all its scales everywhere and cannot adapt")
        super().__init__(model.segmenter, model.train_scales, model.eval_scales)
        self.model, self.sure = model, sure
        self.method, self.config, self.fast = model.method, model.config, True

    def choose(self, scales: Sequence[float] | None = None) -> tuple[float, ...]:
        """As for every network, but one scale must be above 1.

        Raises:
            ValueError: none is, or the scales do not suit the network.
        """
        chosen = self.model.choose(scales)
        if chosen[0] <= 1:
            listed = ",".join(f"{scale:g}" for scale in sorted(chosen))
            raise ValueError(f"adaptive looking saves at scales above 1, got {listed}; for example 0.5,1,2")
        return chosen

    def combine(self, images: Tensor, scales: tuple[float, ...]) -> Fused:
        """Look at the coarser scales, and at the finest where they are not sure."""
        maps, views = self.maps(images, scales)
        return Fused(resize(maps[0], images.shape[-2:]), None, views)

    def maps(
        self,
        images: Tensor,
        scales: tuple[float, ...],
        look: Look = look,  # noqa: ARG002 - not through this: ``shows_scales`` is False
    ) -> tuple[list[Tensor], dict[float, View]]:
        """The fused logits, on the grid of the finest view where it divides the image."""
        size, (finest, *coarser) = images.shape[-2:], scales
        seen: dict[float, View] = {}
        maps, done = self.model.maps(images, tuple(coarser), _remember(self.model, seen))
        coarse = _as_one(maps)
        confidence = resize(coarse.softmax(1).amax(1, keepdim=True), size)
        means = functional.avg_pool2d(confidence, TILE, ceil_mode=True, count_include_pad=False)[:, 0]
        unsure = (means < self.sure).cpu().numpy()
        trust = {scale: _attention(done[scale], whole=scale == coarser[0]) for scale in coarser}
        found: list[tuple[int, Window, Window, Tensor]] = []
        for number in range(len(images)):
            for window in cover(unsure[number], MARGIN / TILE):
                core = window.times(TILE).clip(size)
                outer = window.times(TILE).grown(MARGIN).clip(size)
                pixels = images[number : number + 1, :, outer.rows, outer.columns]
                known = {scale: _part(view, number, outer, size) for scale, view in seen.items()}
                maps, again = self.model.maps(pixels, scales, _recall(known))
                found.append((number, core, outer, _as_one(maps)))
                for scale, map_ in trust.items():
                    new = again[scale].attention
                    if map_ is not None and new is not None:
                        if map_.shape[1] != new.shape[1]:  # ones, until a window tells that each class has a map
                            map_ = trust[scale] = map_.repeat(1, new.shape[1], 1, 1)
                        to, rest = core.on(map_.shape, size), outer.on(map_.shape, size)
                        inner = to.within(rest)
                        map_[number, :, to.rows, to.columns] = new[0, :, inner.rows, inner.columns]
        result, shown = _pasted(coarse, found, size)
        views = {scale: done[scale]._replace(attention=trust[scale]) for scale in coarser}
        return [result], {finest: View(result, shown), **views}

    def weights(self, views: Mapping[float, View]) -> dict[float, Tensor]:
        """The network's own weights of its scales; where the finest was not shown its weight is 0."""
        if self.method != "average":
            return self.model.weights(views)
        finest, *coarser = sorted(views, reverse=True)
        shown = views[finest].attention
        assert shown is not None
        shown = resize(shown, views[1.0].logits.shape[-2:]) / len(views)
        return {finest: shown, **dict.fromkeys(coarser, (1 - shown) / len(coarser))}


def _remember(model: MultiScale, seen: dict[float, View]) -> Look:
    """Look as usual and keep each view, with its attention also where no finer scale is looked at yet."""

    def whole(
        segmenter: Callable[[Tensor], View],  # noqa: ARG001 - the whole one instead
        images: Tensor,
        scale: float,
        features: bool = False,
        grid: bool = False,
    ) -> View:
        seen[scale] = look(model.segmenter, images, scale, features, grid)
        return seen[scale]

    return whole


def _recall(known: Mapping[float, View]) -> Look:
    """The views that are known, and a look at the others."""

    def part(
        segmenter: Callable[[Tensor], View], images: Tensor, scale: float, features: bool = False, grid: bool = False
    ) -> View:
        return known[scale] if scale in known else look(segmenter, images, scale, features, grid)

    return part


def _as_one(maps: Sequence[Tensor]) -> Tensor:
    """Logits whose softmax is the mean of those of ``maps``, on the finest of their grids."""
    if len(maps) == 1:
        return maps[0]
    grid = max((x.shape[-2:] for x in maps), key=lambda shape: shape[0] * shape[1])
    return torch.stack([resize(x, grid).softmax(1) for x in maps]).mean(0).clamp_min(1e-30).log()


def _attention(view: View, whole: bool) -> Tensor | None:
    """A copy to paste into; ``whole``: of the scale that is the finest until a window is looked at."""
    if whole:
        return torch.ones_like(view.logits[:, :1] if view.attention is None else view.attention)
    return None if view.attention is None else view.attention.clone()


def _part(view: View, number: int, window: Window, size: Sequence[int]) -> View:
    """The view of a window of one image, each map on its own grid."""

    def part(x: Tensor | None) -> Tensor | None:
        if x is None:
            return None
        place = window.on(x.shape, size)
        return x[number : number + 1, :, place.rows, place.columns]

    logits = part(view.logits)
    assert logits is not None
    return View(logits, part(view.attention), None, part(view.features))


def _pasted(
    coarse: Tensor, found: Sequence[tuple[int, Window, Window, Tensor]], size: Sequence[int]
) -> tuple[Tensor, Tensor]:
    """The logits with those of the windows in them, and (N, 1, h, w) where these are.

    Args:
        coarse: (N, C, h, w).
        found: of each window the image's number, the window, the same with its margin, and logits of that.
        size: (H, W) of the images.
    """
    share = max((logits.shape[-2] / (outer.bottom - outer.top) for _, _, outer, logits in found), default=None)
    if share is None:
        return coarse, torch.zeros_like(coarse[:, :1])
    if share > 1 or not all(float(share * side).is_integer() for side in (TILE, MARGIN, *size)):
        share = 1.0
    grid = (round(size[0] * share), round(size[1] * share))
    result = resize(coarse, grid)
    result = result.clone() if result is coarse else result
    shown = torch.zeros_like(result[:, :1])
    for number, core, outer, logits in found:
        to, rest = core.on(grid, size), outer.on(grid, size)
        logits = resize(logits, (rest.bottom - rest.top, rest.right - rest.left))
        inner = to.within(rest)
        result[number, :, to.rows, to.columns] = logits[0, :, inner.rows, inner.columns]
        shown[number, :, to.rows, to.columns] = 1
    return result, shown
