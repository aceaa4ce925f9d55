"""One look at one scale: normalise, backbone, decoder, scale-attention head.

Unusual here: normalisation belongs to the network, as buffers. It takes RGB in [0, 1]; nothing outside knows mean and
std.
"""

import torch
from torch import Tensor, nn

from polyscale.backbones import Backbone
from polyscale.decoders import Decoder
from polyscale.multiscale import View

__all__ = ["ScaleAttention", "Segmenter"]


class ScaleAttention(nn.Sequential):
    """Features to weight maps: two 3 x 3 convolutions, then 1 x 1 (arXiv:2005.10821, section 3.1).

    Args:
        in_channels: of the decoder's features (times the number of scales for the explicit form).
        channels: width of the two hidden layers.
        maps: output channels: 1 for the hierarchical form, one a scale for the explicit form.
        sigmoid: end in a sigmoid, so that the maps lie in [0, 1].
        initial: the hierarchical attention's value before training, everywhere and for every input, through the last
            layer's bias; None keeps the published layer, which has no bias.
        batch_norm: False leaves out the norms and the second convolution, as the released explicit head without batch
            norm does; its last convolution has a border of one pixel, so that its maps are two pixels larger.
    """

    def __init__(
        self,
        in_channels: int,
        channels: int = 256,
        maps: int = 1,
        sigmoid: bool = True,
        initial: float | None = None,
        batch_norm: bool = True,
    ) -> None:
        last = nn.Conv2d(channels, maps, 1, padding=0 if batch_norm else 1, bias=initial is not None)
        if initial is not None:
            nn.init.zeros_(last.weight)
            assert last.bias is not None
            nn.init.constant_(last.bias, float(torch.logit(torch.tensor(initial))) if sigmoid else initial)
        first = nn.Conv2d(in_channels, channels, 3, padding=1, bias=False)
        squash = nn.Sigmoid() if sigmoid else nn.Identity()
        if not batch_norm:
            super().__init__(first, nn.ReLU(inplace=True), last, squash)
            return
        super().__init__(
            first,
            nn.BatchNorm2d(channels),
            nn.ReLU(inplace=True),
            nn.Conv2d(channels, channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(channels),
            nn.ReLU(inplace=True),
            last,
            squash,
        )


class Segmenter(nn.Module):
    """An image at one scale to class logits, features and, with an attention head, the trust in this scale.

    Args:
        backbone: normalised images to feature maps.
        decoder: feature maps to features and logits on one grid.
        attention: the decoder's features to (N, 1, h, w) in [0, 1]; None for methods without it.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, backbone: Backbone, decoder: Decoder, attention: nn.Module | None = None) -> None:
        super().__init__()
        self.backbone = backbone
        self.decoder = decoder
        self.attention = attention
        self.register_buffer("mean", torch.tensor(backbone.mean).reshape(3, 1, 1))
        self.register_buffer("std", torch.tensor(backbone.std).reshape(3, 1, 1))

    def forward(self, images: Tensor) -> View:
        """Images (N, 3, H, W), RGB in [0, 1], to a view on the decoder's grid (stride 4 for most decoders)."""
        view = self.without_attention(images)
        return view if self.attention is None else view._replace(attention=self.attention(view.features))

    def without_attention(self, images: Tensor) -> View:
        """The same without running the attention head."""
        decoded = self.decoder(self.backbone((images - self.mean) / self.std))
        return View(decoded.logits, None, decoded.aux, decoded.features)
