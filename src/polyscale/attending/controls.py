"""What attention must be compared with: cheaper ways of combining the same views, learnt from the same images.

Each has a ``head`` that is learnt and a ``chain`` like ``AttentionOverViews``, and starts as an average or as scale 1.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from polyscale.attention import ViewAttention
from polyscale.views import Fused, View, resize

__all__ = ["ClassWeights", "Control", "Recalibration", "Temperatures", "controls"]


class Control(nn.Module):
    """A way of combining views with something that is learnt."""

    name = ""
    head: nn.Module

    def chain(self, views: Mapping[float, View], known: Mapping[float, Tensor]) -> Fused:
        """Views on the segmenter's grid, and the facts read from them, give logits (N, C, h, w) on the finest grid."""
        return Fused(self.combine({s: views[s].logits for s in sorted(views)}, known), None, {})

    def combine(self, logits: dict[float, Tensor], known: Mapping[float, Tensor]) -> Tensor:
        """Logits of each scale, coarsest first, to logits on the finest grid."""
        raise NotImplementedError


class _Table(nn.Module):
    def __init__(self, scales: int, classes: int) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.zeros(scales, classes, 1, 1))


class ClassWeights(Control):
    """One weight for each class and scale, the same everywhere."""

    name = "one weight per class and scale"

    def __init__(self, num_classes: int, scales: Sequence[float]) -> None:
        super().__init__()
        self.scales = sorted(scales)
        self.head: _Table = _Table(len(self.scales), num_classes)

    def combine(self, logits: dict[float, Tensor], known: Mapping[float, Tensor]) -> Tensor:  # noqa: ARG002
        """Weighted sum; the weights of a class sum to 1."""
        size = logits[max(logits)].shape[-2:]
        weights = self.head.table[[self.scales.index(s) for s in logits]].softmax(0)
        return torch.stack([resize(x, size) * w for x, w in zip(logits.values(), weights, strict=True)]).sum(0)


class Temperatures(Control):
    """One temperature for each scale, then the average of probabilities."""

    name = "temperature per scale"

    def __init__(self, scales: Sequence[float]) -> None:
        super().__init__()
        self.scales = sorted(scales)
        self.head: _Table = _Table(len(self.scales), 1)

    def combine(self, logits: dict[float, Tensor], known: Mapping[float, Tensor]) -> Tensor:  # noqa: ARG002
        """The logarithm of the mean probability."""
        size = logits[max(logits)].shape[-2:]
        sharp = self.head.table[[self.scales.index(s) for s in logits]].exp()
        several = [(resize(x, size) * t).softmax(1) for x, t in zip(logits.values(), sharp, strict=True)]
        return torch.stack(several).mean(0).clamp_min(1e-12).log()


class Recalibration(Control):
    """A head of the attention's size that reads scale 1 only and corrects its logits: adaptation without scales."""

    name = "scale 1 recalibrated"

    def __init__(self, num_classes: int, channels: int = 48) -> None:
        super().__init__()
        self.head: ViewAttention = ViewAttention(num_classes, channels, num_classes)

    def combine(self, logits: dict[float, Tensor], known: Mapping[float, Tensor]) -> Tensor:
        """Scale 1's logits and a correction."""
        # Features, which the attention may read as well, are left out.
        read = known[1.0][:, : self.head.known]
        return logits[1.0] + resize(self.head(read, read), logits[1.0].shape[-2:])


def controls(num_classes: int, scales: Sequence[float], channels: int) -> list[Control]:
    """All controls, untrained."""
    return [ClassWeights(num_classes, scales), Temperatures(scales), Recalibration(num_classes, channels)]
