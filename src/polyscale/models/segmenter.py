"""One look at one scale: normalise, backbone, decoder, scale-attention head.

Normalisation belongs to the network, as buffers. It takes RGB in [0, 1]; nothing outside knows mean and
std. And images are padded, by mirroring at their border, to sides that the backbone's strides divide. Else coarse maps
reach beyond the image and do not lie on the fine ones that they are joined with, and with TensorFlow's kind of padding
every stride may begin at another pixel than in training: at 353 x 449 pixels that cost 11 points of mIoU.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from polyscale.backbones import Backbone
from polyscale.decoders import Decoder
from polyscale.multiscale import View, resize

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
        pad: pad images to multiples of the backbone's ``multiple``.

    Attributes:
        auxiliary: whether views have auxiliary logits, where the decoder gives some.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self, backbone: Backbone, decoder: Decoder, attention: nn.Module | None = None, pad: bool = True
    ) -> None:
        super().__init__()
        self.multiple = backbone.multiple if pad else 1
        self.auxiliary = True
        self.backbone = backbone
        self.decoder = decoder
        self.attention = attention
        self.register_buffer("mean", torch.tensor(backbone.mean).reshape(-1, 1, 1))
        self.register_buffer("std", torch.tensor(backbone.std).reshape(-1, 1, 1))

    def forward(self, images: Tensor) -> View:
        """Images (N, 3, H, W), RGB in [0, 1], to a view on the decoder's grid (stride 4 for most decoders).

        A backbone of other channels takes as many.

        Where images are padded and the grid's stride does not divide their sides, the view but for its features comes
        at their own size.
        """
        return self._look(images, self.attention)

    def without_attention(self, images: Tensor) -> View:
        """The same without running the attention head."""
        return self._look(images, None)

    def _look(self, images: Tensor, attention: nn.Module | None) -> View:
        height, width = images.shape[-2:]
        margins = (-height % self.multiple, -width % self.multiple)
        if any(margins):
            mode = "reflect" if margins[0] < height and margins[1] < width else "replicate"
            images = functional.pad(images, (0, margins[1], 0, margins[0]), mode=mode)
        features, logits, aux = self.decoder(self.backbone((images - self.mean) / self.std))
        aux = aux if self.auxiliary else None
        trust = None if attention is None else attention(features)
        if any(margins):
            stride = images.shape[-2] // logits.shape[-2]
            rows, columns = -(-height // stride), -(-width // stride)
            features = features[..., :rows, :columns]
            if height % stride or width % stride:
                logits, aux, trust = (None if x is None else resize(x, images.shape[-2:]) for x in (logits, aux, trust))
                rows, columns = height, width
            logits, aux, trust = (None if x is None else x[..., :rows, :columns] for x in (logits, aux, trust))
        return View(logits, trust, aux, features)
