"""Attention that is learnt after plain training, and reads the views themselves.

The published head reads one scale's features: what a place looks like. This one reads what two views *say* of it: the
class probabilities, the entropy and the margin of a scale and of the finer result. Where they disagree, that tells
more, and nothing is needed of a network but its logits. The chain is the published one, and it starts as the average:

    fused <- a * L_s + (1 - a) * fused,    a = sigmoid(head(L_s, fused) + logit(1 / k)) at the k-th scale of the chain

With the head's last layer at zero each of k scales counts 1 / k. There may be one map, or one for each class.
"""

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from polyscale.multiscale import MultiScale, chained_weights
from polyscale.views import Fused, Look, View, look, resize

__all__ = ["AttentionOverViews", "ViewAttention", "statistics"]


def statistics(logits: Tensor) -> Tensor:
    """What a view says: class probabilities, entropy, and margin between the two most probable classes.

    Args:
        logits: (N, C, h, w).

    Returns:
        (N, C + 2, h, w) in [0, 1]; the entropy is divided by log C.
    """
    log_probabilities = logits.log_softmax(1)
    probabilities = log_probabilities.exp()
    entropy = -(probabilities * log_probabilities).sum(1, keepdim=True) / math.log(max(logits.shape[1], 2))
    best = probabilities.topk(min(2, logits.shape[1]), dim=1).values
    return torch.cat([probabilities, entropy, best[:, :1] - best[:, 1:].sum(1, keepdim=True)], dim=1)


class ViewAttention(nn.Module):
    """Two views to the trust in the coarser one.

    Args:
        num_classes: C.
        channels: width of the hidden layers.
        maps: 1, or C for one map for each class.
        features: channels of the decoder's features that are read as well, from each view; 0 for none.
    """

    def __init__(self, num_classes: int, channels: int = 64, maps: int = 1, features: int = 0) -> None:
        super().__init__()
        last = nn.Conv2d(channels, maps, 1)
        nn.init.zeros_(last.weight)
        assert last.bias is not None
        nn.init.zeros_(last.bias)
        self.layers = nn.Sequential(
            nn.Conv2d(2 * (num_classes + 2 + features), channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(channels),
            nn.ReLU(inplace=True),
            # What lies around: a depthwise layer that reaches four grid points.
            nn.Conv2d(channels, channels, 5, padding=4, dilation=2, groups=channels, bias=False),
            nn.Conv2d(channels, channels, 1, bias=False),
            nn.BatchNorm2d(channels),
            nn.ReLU(inplace=True),
            nn.Conv2d(channels, channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(channels),
            nn.ReLU(inplace=True),
            last,
        )

    def forward(self, coarse: Tensor, finer: Tensor) -> Tensor:
        """What is known of each view, (N, C + 2 + F, h, w), to (N, maps, h, w); 0 trusts all scales alike."""
        trust: Tensor = self.layers(torch.cat([coarse, finer], dim=1))
        return trust


class AttentionOverViews(MultiScale):
    """A segmenter that is shown each scale in turn; the trust in a scale is read from it and the finer result.

    Views are fused on the segmenter's grid, and the result is resized once.

    Args:
        segmenter: (N, 3, h, w) -> View, on any grid; with features where the head reads them.
        head: the attention.
        reads_features: the head reads the decoder's features as well.
        train_scales: scales of a training step.
        eval_scales: scales used where none are asked for.
    """

    method = "hierarchical"
    shows_scales = True

    def __init__(
        self,
        segmenter: nn.Module,
        head: nn.Module,
        reads_features: bool = False,
        train_scales: Sequence[float] = (0.5, 1.0, 2.0),
        eval_scales: Sequence[float] = (0.5, 1.0, 2.0),
    ) -> None:
        super().__init__(segmenter, train_scales, eval_scales)
        self.head = head
        self.reads_features = reads_features

    def combine(self, images: Tensor, scales: tuple[float, ...]) -> Fused:
        """Look at each scale, and fuse."""
        return self.fuse(self._look(images, scales), images.shape[-2:])

    def maps(
        self, images: Tensor, scales: tuple[float, ...], look: Look = look
    ) -> tuple[list[Tensor], dict[float, View]]:
        """The fused logits."""
        fused = self.fuse(self._look(images, scales, look), images.shape[-2:])
        return [fused.logits], fused.views

    def _look(self, images: Tensor, scales: tuple[float, ...], look: Look = look) -> dict[float, View]:
        order = tuple(reversed(scales))
        return {scale: look(self.segmenter, images, scale, self.reads_features, grid=True) for scale in order}

    def fuse(self, views: Mapping[float, View], size: Sequence[int]) -> Fused:
        """Fuse views that lie on the segmenter's grid.

        Args:
            views: scale -> view; 1 must be among the scales.
            size: (H, W) of the result.

        Returns:
            Logits (N, C, H, W), and the views with their attention, finest first.
        """
        finest, *coarser = sorted(views, reverse=True)
        # A quarter of the image's size is enough for the attention; some networks give logits at the image's own.
        grid = [min(side, -(-whole // 4)) for side, whole in zip(views[1.0].logits.shape[-2:], size, strict=True)]
        fused, aux, features = views[finest].logits, views[finest].aux, views[finest].features
        done = {finest: views[finest]._replace(attention=None, features=None)}
        for number, scale in enumerate(coarser, start=2):
            view = views[scale]
            known = [self._read(x, kept, grid) for x, kept in ((view.logits, view.features), (fused, features))]
            attention = (self.head(*known).float() - math.log(number - 1)).sigmoid()
            fused = _blend(fused, view.logits, attention)
            aux = None if aux is None or view.aux is None else _blend(aux, view.aux, attention.mean(1, keepdim=True))
            features = view.features
            done[scale] = view._replace(attention=resize(attention, view.logits.shape[-2:]), features=None)
        return Fused(resize(fused, size), None if aux is None else resize(aux, size), done)

    def _read(self, logits: Tensor, features: Tensor | None, grid: Sequence[int]) -> Tensor:
        """What the head reads of a view. Views finer than the grid are averaged over its pixels, not sampled."""
        # Detached: a view learns to be right, not to be trusted.
        read = _onto(statistics(logits.detach()), grid)
        if not self.reads_features:
            return read
        assert features is not None, "the segmenter gives no features"
        return torch.cat([read, _onto(features.detach().float(), grid)], dim=1)

    def weights(self, views: Mapping[float, View]) -> dict[float, Tensor]:
        """The products of attentions down the chain; see ``chained_weights``."""
        return chained_weights(views)

    def parts(self) -> dict[str, nn.Module]:
        """The attention is the head over views."""
        return {**super().parts(), "attention": self.head}


def _blend(fused: Tensor, logits: Tensor, attention: Tensor) -> Tensor:
    size = fused.shape[-2:]
    attention = resize(attention, size)
    return attention * resize(logits, size) + (1 - attention) * fused


def _onto(x: Tensor, grid: Sequence[int]) -> Tensor:
    height, width = x.shape[-2:]
    if height > grid[0] or width > grid[1]:
        return nn.functional.adaptive_avg_pool2d(x, (grid[0], grid[1]))
    return resize(x, grid)
