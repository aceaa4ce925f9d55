"""Hierarchical attention read from two neighbouring scales at once (the authors' released code, its second variant).

The published head sees the features of one scale and judges it against every finer one. Here it sees the features of a
scale and of the next finer one, side by side; the fusion is the same.
"""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from polyscale.multiscale import HierarchicalMultiScale
from polyscale.views import Look, View, look, resize

__all__ = ["PairwiseMultiScale"]


class PairwiseMultiScale(HierarchicalMultiScale):
    """A segmenter that is shown each scale in turn; the trust in a scale is read from it and the next finer one.

    Args:
        segmenter: (N, 3, h, w) -> View with features, on any grid.
        head: (N, 2F, h, w) -> (N, 1, h, w) in [0, 1]: the features of a scale first, then those of the next finer one,
            resized to the first ones' size.
        fast, train_scales, eval_scales: as for ``HierarchicalMultiScale``.
    """

    def __init__(
        self,
        segmenter: nn.Module,
        head: nn.Module,
        fast: bool = False,
        train_scales: Sequence[float] = (0.5, 1.0),
        eval_scales: Sequence[float] = (0.5, 1.0, 2.0),
    ) -> None:
        super().__init__(segmenter, fast=fast, train_scales=train_scales, eval_scales=eval_scales)
        self.head = head

    def _look(self, images: Tensor, scales: tuple[float, ...], look: Look = look) -> dict[float, View]:
        """A view of each scale; the finest has no attention, as there is none finer to compare with."""
        # Coarsest first: batch-norm statistics are updated in the order of the published training.
        order = tuple(reversed(scales))
        views = {scale: look(self.segmenter, images, scale, features=True, grid=self.fast) for scale in order}
        for finer, scale in pairwise(scales):
            own, other = views[scale].features, views[finer].features
            assert own is not None, "the segmenter gives no features"
            assert other is not None, "the segmenter gives no features"
            attention = self.head(torch.cat([own, resize(other, own.shape[-2:])], dim=1))
            attention = attention.float() if attention.dtype in (torch.float16, torch.bfloat16) else attention
            views[scale] = views[scale]._replace(attention=resize(attention, views[scale].logits.shape[-2:]))
        return {scale: view._replace(features=None) for scale, view in views.items()}

    def parts(self) -> dict[str, nn.Module]:
        """The attention is the head over pairs."""
        return {**super().parts(), "attention": self.head}
