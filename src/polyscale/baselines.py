"""The other ways of combining scales that the paper compares with: one scale, average pooling, explicit attention.

All are networks of several scales like ``HierarchicalMultiScale``, so that training, evaluation and prediction treat
the four alike.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from polyscale.multiscale import MultiScale
from polyscale.views import Fused, Look, View, look, resize

__all__ = ["AveragePooling", "ExplicitMultiScale", "SingleScale", "average_logits", "average_probabilities"]


def average_probabilities(views: Mapping[float, View]) -> Tensor:
    """Mean over scales of the softmax probabilities at scale 1's size, (N, C, H, W) in [0, 1]."""
    size = views[1.0].logits.shape[-2:]
    return torch.stack([resize(view.logits, size).softmax(1) for view in views.values()]).mean(0)


def average_logits(views: Mapping[float, View]) -> Tensor:
    """Mean over scales of the logits at scale 1's size, (N, C, H, W)."""
    size = views[1.0].logits.shape[-2:]
    return torch.stack([resize(view.logits, size) for view in views.values()]).mean(0)


class SingleScale(MultiScale):
    """The image as it is, at scale 1 only.

    Args:
        segmenter: (N, 3, h, w) -> View, on any grid.
    """

    method = "single"
    shows_scales = True

    def __init__(self, segmenter: nn.Module) -> None:
        super().__init__(segmenter, (1.0,), (1.0,), fixed=True)

    def combine(self, images: Tensor, scales: tuple[float, ...]) -> Fused:
        """Look once."""
        view = look(self.segmenter, images, scales[0])
        return Fused(view.logits, view.aux, {1.0: view})

    def maps(
        self, images: Tensor, scales: tuple[float, ...], look: Look = look
    ) -> tuple[list[Tensor], dict[float, View]]:
        """The logits on the segmenter's grid."""
        view = look(self.segmenter, images, scales[0], grid=True)
        return [view.logits], {1.0: view}


class AveragePooling(MultiScale):
    """Mean of the probabilities over scales. It is trained at scale 1, where it equals one scale.

    The logits given are the log of the mean probability, whose softmax is that mean; with scale 1 alone they are the
    network's own.

    Args:
        segmenter: (N, 3, h, w) -> View, on any grid.
        eval_scales: scales used where none are asked for.
    """

    method = "average"
    shows_scales = True

    def __init__(self, segmenter: nn.Module, eval_scales: Sequence[float] = (0.5, 1.0, 2.0)) -> None:
        super().__init__(segmenter, (1.0,), eval_scales)

    def maps(
        self, images: Tensor, scales: tuple[float, ...], look: Look = look
    ) -> tuple[list[Tensor], dict[float, View]]:
        """The logits of each scale on the segmenter's grid: enlarged once, where ``combine`` does so twice."""
        views = {scale: look(self.segmenter, images, scale, grid=True) for scale in scales}
        return [view.logits for view in views.values()], views

    def combine(self, images: Tensor, scales: tuple[float, ...]) -> Fused:
        """Look at each scale, and average."""
        views = {scale: look(self.segmenter, images, scale) for scale in scales}
        if len(views) == 1:
            return Fused(views[1.0].logits, views[1.0].aux, views)
        probabilities = average_probabilities(views)
        return Fused(probabilities.clamp_min(torch.finfo(probabilities.dtype).tiny).log(), None, views)


class ExplicitMultiScale(MultiScale):
    """One attention head over the concatenated features of a fixed set of scales (Chen et al. 2016, arXiv:1511.03339).

    All scales take part in training and none can be added afterwards: that is what the hierarchical form mends.

    Args:
        segmenter: (N, 3, h, w) -> View with features, on any grid.
        head: (N, F * S, h, w) -> (N, S, h, w) weights, one channel for each scale in ascending order. It sees the
            features of scale 1 first and then the others' in ascending order, all at scale 1's feature size.
        scales: the fixed set of S scales, which contains 1.
        softmax: normalise the weights over scales (as in the paper); else they are used as they are (as in the released
            code).
        fast: leave the views on the segmenter's grid, and resize them once, to the image's size.
    """

    method = "explicit"
    shows_scales = True

    def __init__(
        self,
        segmenter: nn.Module,
        head: nn.Module,
        scales: Sequence[float],
        softmax: bool = True,
        fast: bool = False,
    ) -> None:
        super().__init__(segmenter, scales, scales, fixed=True)
        self.head = head
        self.softmax = softmax
        self.fast = fast

    def combine(self, images: Tensor, scales: tuple[float, ...]) -> Fused:
        """Look at each scale, and weigh. Each view carries its weight as its attention."""
        return self._combine(images, scales)

    def maps(
        self, images: Tensor, scales: tuple[float, ...], look: Look = look
    ) -> tuple[list[Tensor], dict[float, View]]:
        """The weighted logits."""
        fused = self._combine(images, scales, look)
        return [fused.logits], fused.views

    def _combine(self, images: Tensor, scales: tuple[float, ...], look: Look = look) -> Fused:
        ascending = tuple(reversed(scales))
        order = (1.0, *(scale for scale in ascending if scale != 1.0))
        views = {scale: look(self.segmenter, images, scale, features=True, grid=self.fast) for scale in order}
        features = [view.features for view in views.values()]
        assert all(x is not None for x in features), "the segmenter gives no features"
        grid = features[0].shape[-2:]  # type: ignore[union-attr]
        weights = self.head(torch.cat([resize(x, grid) for x in features if x is not None], dim=1))
        weights = weights.float() if weights.dtype in (torch.float16, torch.bfloat16) else weights
        if self.softmax:
            weights = weights.softmax(1)
        shown, weights = weights, resize(weights, images.shape[-2:])
        shown = shown if self.fast else weights

        def combine(maps: Mapping[float, Tensor]) -> Tensor:
            terms = [
                resize(maps[scale], images.shape[-2:]) * weights[:, k : k + 1] for k, scale in enumerate(ascending)
            ]
            return torch.stack(terms).sum(0)

        auxiliary = {scale: view.aux for scale, view in views.items() if view.aux is not None}
        weighted = {
            scale: views[scale]._replace(attention=shown[:, ascending.index(scale) : ascending.index(scale) + 1])
            for scale in scales
        }
        logits = combine({scale: view.logits for scale, view in views.items()})
        return Fused(logits, combine(auxiliary) if len(auxiliary) == len(views) else None, weighted)

    def weights(self, views: Mapping[float, View]) -> dict[float, Tensor]:
        """The weights as the network uses them; without softmax they need not sum to 1."""
        size = views[1.0].logits.shape[-2:]
        found = {scale: views[scale].attention for scale in sorted(views, reverse=True)}
        return {scale: resize(weight.float(), size) for scale, weight in found.items() if weight is not None}

    def parts(self) -> dict[str, nn.Module]:
        """The attention is the head over all scales."""
        return {**super().parts(), "attention": self.head}
