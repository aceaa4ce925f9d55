"""The computation of an exported file: images to logits at their size, and how much each scale counts."""

import torch
from torch import Tensor, nn

from polyscale.looker import weights_of
from polyscale.models.onnx_network import ALIKE
from polyscale.multiscale import MultiScale
from polyscale.views import Fused, resize

__all__ = ["Exportable"]


class Exportable(nn.Module):
    """A network whose scales are chosen.

    Args:
        model: the network.
        scales: as ``model.choose`` gives them.
    """

    def __init__(self, model: MultiScale, scales: tuple[float, ...]) -> None:
        super().__init__()
        self.model = model
        self.scales = scales

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Images (N, 3, H, W), RGB in [0, 1].

        Returns:
            Logits (N, C, H, W), whose softmax is the probability. Of methods that weigh the scales also how much each
            counts in the class chosen, (N, S, H, W), finest scale first.
        """
        maps, views = self.model.maps(images, self.scales)
        size = images.shape[-2:]
        logits = resize(maps[0], size)
        if len(maps) > 1:
            mean = torch.stack([resize(x, size).softmax(1) for x in maps]).mean(0)
            logits = mean.clamp_min(torch.finfo(mean.dtype).tiny).log()
        if self.model.method in ALIKE:
            return (logits,)
        weights = weights_of(self.model, Fused(logits, None, views), size)
        return logits, torch.cat(list(weights.values()), dim=1)
