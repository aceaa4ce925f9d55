"""Attention that is learnt after plain training, and reads the views themselves.

The published head reads one scale's features: what a place looks like. This one reads what two views *say* of it: the
class probabilities, how sure the view is, and the same of what lies around. Where they disagree, that tells more, and
nothing is needed of a network but its logits. The chain is the published one, and it starts as the average:

    fused <- a * L_s + (1 - a) * fused,    a = sigmoid(head(what L_s says, what the finer views say) + logit(1 / k))

at the k-th scale of the chain. With the head's last layer at zero each of k scales counts 1 / k. There may be one map,
or one for each class. The head looks at each point by itself, so it can be learnt from a few points of each image.
"""

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from polyscale.multiscale import HierarchicalMultiScale
from polyscale.views import Fused, Look, View, look, resize

__all__ = ["AttentionOverViews", "ViewAttention", "disagreement", "statistics", "surroundings"]

WINDOWS = (3, 13)
"""Sides of what lies around a point, in points of a grid a quarter of the image's size."""


def statistics(logits: Tensor) -> Tensor:
    """What a view says: class probabilities, and five measures of how sure it is.

    Args:
        logits: (N, C, h, w).

    Returns:
        (N, C + 5, h, w): probabilities, entropy divided by log C, margin between the two most probable classes, each in
        [0, 1]; then of the logits, divided by 5: log-sum-exp, largest less mean, standard deviation.
    """
    log_probabilities = logits.log_softmax(1)
    probabilities = log_probabilities.exp()
    entropy = -(probabilities * log_probabilities).sum(1, keepdim=True) / math.log(max(logits.shape[1], 2))
    best = probabilities.topk(min(2, logits.shape[1]), dim=1).values
    margin = best[:, :1] - best[:, 1:].sum(1, keepdim=True)
    height = logits.logsumexp(1, keepdim=True)
    mean = logits.mean(1, keepdim=True)
    peak = logits.amax(1, keepdim=True) - mean
    spread = (logits - mean).square().mean(1, keepdim=True).sqrt()
    return torch.cat([probabilities, entropy, margin, height / 5, peak / 5, spread / 5], dim=1)


def surroundings(x: Tensor) -> Tensor:
    """Each point and the means of what lies around it, (N, D, h, w) to (N, 3 D, h, w)."""
    # Channels last, and along the columns, then along the rows: the same means at a fraction of the cost.
    x = x.contiguous(memory_format=torch.channels_last)
    around = [x]
    for side in WINDOWS:
        mean = functional.avg_pool2d(x, (side, 1), 1, (side // 2, 0), count_include_pad=False)
        around.append(functional.avg_pool2d(mean, (1, side), 1, (0, side // 2), count_include_pad=False))
    return torch.cat(around, dim=1)


def disagreement(coarse: Tensor, finer: Tensor) -> Tensor:
    """How far two sets of class probabilities (N, C, h, w) differ.

    Returns:
        (N, 4, h, w): the divergence of Kullback and Leibler in both directions, at most 5 each; the probability that
        both draw the same class; the sum of absolute differences.
    """
    p, q = coarse.clamp_min(1e-6), finer.clamp_min(1e-6)
    ratio = p.log() - q.log()
    measures = [p * ratio, -q * ratio, p * q, (p - q).abs()]
    return torch.stack([measure.sum(1) for measure in measures], dim=1).clamp_max(5)


class ViewAttention(nn.Module):
    """What two views say, to the trust in the coarser one.

    Args:
        num_classes: C.
        channels: width of the hidden layers.
        maps: 1, or C for one map for each class.
        features: channels of the decoder's features that are read as well, from each view; 0 for none.
    """

    def __init__(self, num_classes: int, channels: int = 48, maps: int = 1, features: int = 0) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.known = (num_classes + 5) * (1 + len(WINDOWS)) + features
        last = nn.Conv2d(channels, maps, 1)
        nn.init.zeros_(last.weight)
        assert last.bias is not None
        nn.init.zeros_(last.bias)
        self.layers = nn.Sequential(
            nn.Conv2d(2 * self.known + 4, channels, 1, bias=False),
            nn.BatchNorm2d(channels),
            nn.ReLU(inplace=True),
            nn.Conv2d(channels, channels, 1, bias=False),
            nn.BatchNorm2d(channels),
            nn.ReLU(inplace=True),
            last,
        )

    def forward(self, coarse: Tensor, finer: Tensor) -> Tensor:
        """From the facts of each view, (N, 3 (C + 5) + F, h, w), to maps (N, maps, h, w); 0 trusts all scales alike."""
        differ = disagreement(coarse[:, : self.num_classes], finer[:, : self.num_classes])
        trust: Tensor = self.layers(torch.cat([coarse, finer, differ], dim=1))
        return trust


class AttentionOverViews(HierarchicalMultiScale):
    """A segmenter that is shown each scale in turn; the trust in a scale is read from it and the finer result.

    Views are fused on the segmenter's grid, and the result is resized once.

    Args:
        segmenter: (N, 3, h, w) -> View, on any grid; with features where the head reads them.
        head: the attention.
        reads_features: the head reads the decoder's features as well.
        train_scales: scales of a training step.
        eval_scales: scales used where none are asked for.
    """

    def __init__(
        self,
        segmenter: nn.Module,
        head: nn.Module,
        reads_features: bool = False,
        train_scales: Sequence[float] = (0.5, 1.0, 2.0),
        eval_scales: Sequence[float] = (0.5, 1.0, 2.0),
    ) -> None:
        super().__init__(segmenter, fast=True, train_scales=train_scales, eval_scales=eval_scales)
        self.head = head
        self.reads_features = reads_features

    def _look(self, images: Tensor, scales: tuple[float, ...], look: Look = look) -> dict[float, View]:
        order = tuple(reversed(scales))
        return {scale: look(self.segmenter, images, scale, self.reads_features, grid=True) for scale in order}

    def _fuse(self, views: Mapping[float, View], size: Sequence[int]) -> Fused:
        return self.chain(views, self.known(views, size))

    def known(self, views: Mapping[float, View], size: Sequence[int]) -> dict[float, Tensor]:
        """What the head may know of each view of an image of ``size``: scale -> (N, 3 (C + 5) + F, gh, gw).

        No gradient comes back from here: a view learns to be right, not to be trusted.
        """
        grid = self.grid(views[1.0].logits, size)
        known = {s: surroundings(self.onto(statistics(view.logits.detach()), grid)) for s, view in views.items()}
        if self.reads_features:
            for scale, view in views.items():
                assert view.features is not None, "the segmenter gives no features"
                known[scale] = torch.cat([known[scale], self.onto(view.features.detach().float(), grid)], dim=1)
        return known

    def grid(self, logits: Tensor, size: Sequence[int]) -> tuple[int, int]:
        """(gh, gw) of the attention, from the view of scale 1 and the size of the image.

        A quarter of the image's size is enough; some networks give logits at the image's own.
        """
        height, width = (min(side, (whole + 3) // 4) for side, whole in zip(logits.shape[-2:], size, strict=True))
        return height, width

    def onto(self, x: Tensor, grid: Sequence[int]) -> Tensor:
        """Maps (N, K, h, w) on the attention's grid. Finer ones are averaged over its points, not sampled."""
        if x.shape[-2] > grid[0] or x.shape[-1] > grid[1]:
            return functional.adaptive_avg_pool2d(x, (grid[0], grid[1]))
        return resize(x, grid)

    def chain(self, views: Mapping[float, View], known: Mapping[float, Tensor]) -> Fused:
        """Fuse on the finest view's grid, with what ``known`` gives of each view."""
        finest, *coarser = sorted(views, reverse=True)
        fused, aux, finer = views[finest].logits, views[finest].aux, known[finest]
        done = {finest: views[finest]._replace(attention=None, features=None)}
        for number, scale in enumerate(coarser, start=2):
            view = views[scale]
            attention = (self.head(known[scale], finer).float() - math.log(number - 1)).sigmoid()
            fused = _blend(fused, view.logits, attention)
            aux = None if aux is None or view.aux is None else _blend(aux, view.aux, attention.mean(1, keepdim=True))
            finer = finer + (known[scale] - finer) / number
            # Below scale 1 a view's grid may be coarser than the attention's, which stays as it was blended.
            shown = attention if scale < 1 else resize(attention, view.logits.shape[-2:])
            done[scale] = view._replace(attention=shown, features=None)
        return Fused(fused, aux, done)

    def parts(self) -> dict[str, nn.Module]:
        """The attention is the head over views."""
        return {**super().parts(), "attention": self.head}


def _blend(fused: Tensor, logits: Tensor, attention: Tensor) -> Tensor:
    size = fused.shape[-2:]
    attention = resize(attention, size)
    return attention * resize(logits, size) + (1 - attention) * fused
