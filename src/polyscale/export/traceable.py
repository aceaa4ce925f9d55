"""A copy of a network whose graph holds for images of all sizes.

The network itself decides by the size of an image: whether it is padded and by how much, and whether the view can be
cut on the segmenter's grid or only at the image's size. A graph has no such branches. Here the same is done by
arithmetic on sizes: pixels beyond the border are fetched by their number, and the grid is enlarged by 1 or by its
stride. Divisions are of positive numbers, as ONNX rounds towards zero where Python rounds down.

A size that arithmetic gave enters the graph as a new number. Otherwise each formula would stand in those of all layers
after it, and an export take minutes.
"""

from collections.abc import Sequence
from typing import Any

import torch
from timm.layers.conv2d_same import Conv2dSame
from torch import Tensor, nn
from torch.nn import functional

from polyscale.attention import AttentionOverViews
from polyscale.models.foreign import ForeignSegmenter
from polyscale.models.prepare import EvenSame, prepare_for_use
from polyscale.models.segmenter import Segmenter
from polyscale.multiscale import MultiScale
from polyscale.views import View, resize

__all__ = ["traceable"]


def traceable(model: MultiScale) -> MultiScale:
    """A copy for export: batch norms folded, and the same result within rounding."""
    ready = prepare_for_use(model, channels_last=False)
    segmenter = ready.segmenter
    pads = isinstance(segmenter, Segmenter | ForeignSegmenter) and segmenter.multiple > 1
    for parent in list(ready.modules()):
        for name, child in list(parent.named_children()):
            conv = child.conv if isinstance(child, EvenSame) else child
            if isinstance(conv, Conv2dSame):
                setattr(parent, name, _with_fixed_padding(conv) if isinstance(segmenter, Segmenter) and pads else conv)
    if pads:
        assert isinstance(segmenter, Segmenter | ForeignSegmenter)
        ready.segmenter = _PaddedSegmenter(segmenter)
    if isinstance(ready, AttentionOverViews):
        ready = _AttentionOverViews(
            ready.segmenter, ready.head, ready.reads_features, ready.train_scales, ready.eval_scales
        )
    return ready.eval()


class _PaddedSegmenter(nn.Module):
    """A segmenter that pads images.

    Args:
        inner: whose parts are used.
    """

    def __init__(self, inner: Segmenter | ForeignSegmenter) -> None:
        super().__init__()
        self.inner = inner
        side = 2 * inner.multiple
        with torch.no_grad():
            logits, _, _ = self._run(inner.mean.new_zeros(1, 3, side, side), attention=False)
        self.stride = side // logits.shape[-1]

    def forward(self, images: Tensor) -> View:
        """Images (N, 3, H, W) to a view, as ``inner`` gives it."""
        return self._look(images, attention=True)

    def without_attention(self, images: Tensor) -> View:
        """The same without running the attention head."""
        return self._look(images, attention=False)

    def _look(self, images: Tensor, attention: bool) -> View:
        height, width = images.shape[-2:]
        high, wide = (
            self.inner.multiple * ((side + self.inner.multiple - 1) // self.inner.multiple) for side in (height, width)
        )
        padded = _pad(images, high, wide)
        logits, trust, features = self._run((padded - self.inner.mean) / self.inner.std, attention)
        # 1 where the stride divides both sides, else the stride.
        factor = 1 + (self.stride - 1) * torch.sym_min(1, height % self.stride + width % self.stride)
        whole = [_number(side // self.stride * factor) for side in (high, wide)]
        rows, columns = (_number(side * factor // self.stride) for side in (height, width))
        torch._check(rows <= whole[0])
        torch._check(columns <= whole[1])

        def cut(x: Tensor) -> Tensor:
            return resize(x, whole)[..., :rows, :columns]

        if features is not None:
            features = features[
                ..., : (height + self.stride - 1) // self.stride, : (width + self.stride - 1) // self.stride
            ]
        return View(cut(logits), None if trust is None else cut(trust), None, features)

    def _run(self, normalised: Tensor, attention: bool) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """Logits, attention and features."""
        if isinstance(self.inner, ForeignSegmenter):
            logits, _ = self.inner.run(normalised)
            return logits, None, None
        features, logits, _ = self.inner.decoder(self.inner.backbone(normalised))
        head = self.inner.attention if attention else None
        return logits, None if head is None else head(features), features


class _AttentionOverViews(AttentionOverViews):
    """The same with maps brought to the attention's grid by arithmetic."""

    def grid(self, logits: Tensor, size: Sequence[int]) -> tuple[int, int]:
        """As in ``AttentionOverViews``."""
        height, width = (
            _number(torch.sym_min(side, (whole + 3) // 4)) for side, whole in zip(logits.shape[-2:], size, strict=True)
        )
        return height, width

    def onto(self, x: Tensor, grid: Sequence[int]) -> Tensor:
        """As in ``AttentionOverViews``; ONNX has no pooling to a size that is not known beforehand."""
        sizes, wanted = (torch.stack([_scalar(x, side) for side in pair]) for pair in (x.shape[-2:], grid))
        averaged = _averaged(_averaged(x, 2, grid[0]), 3, grid[1])
        return torch.where((sizes > wanted).any(), averaged, resize(x, grid))


def _averaged(x: Tensor, axis: int, number: int) -> Tensor:
    """Adaptive average pooling along one axis, from running sums."""
    places, size = torch.arange(number, device=x.device), x.shape[axis]
    first, last = places * size // number, ((places + 1) * size + number - 1) // number
    margins = (0, 0, 1, 0) if axis == 2 else (1, 0)
    sums = functional.pad(x.cumsum(axis, dtype=torch.float64), margins)
    totals = (sums.index_select(axis, last) - sums.index_select(axis, first)).to(x.dtype)
    counts = (last - first).to(x.dtype)
    return totals / (counts[:, None] if axis == 2 else counts)


def _pad(images: Tensor, high: int, wide: int) -> Tensor:
    """Images (N, 3, H, W) to (N, 3, high, wide): mirrored where both margins are below the sides, else repeated."""
    height, width = images.shape[-2:]
    mirror = (_scalar(images, 2 * height) > _scalar(images, high)) & (
        _scalar(images, 2 * width) > _scalar(images, wide)
    )
    for axis, (side, padded) in enumerate(((height, high), (width, wide)), start=2):
        places = torch.arange(padded, device=images.device)
        beyond = torch.where(mirror, 2 * (side - 1) - places, torch.full_like(places, side - 1))
        images = images.index_select(axis, torch.where(places < side, places, beyond))
    return images


def _scalar(like: Tensor, number: int) -> Tensor:
    return torch.full((), number, dtype=torch.int64, device=like.device)


def _number(size: Any) -> Any:
    """A size as a new number of the graph; a plain number as it is."""
    if not isinstance(size, torch.SymInt):
        return size
    number: Any = torch.scalar_tensor(size, dtype=torch.int64).item()  # type: ignore[arg-type,unused-ignore]
    torch._check(number >= 2)
    return number


def _with_fixed_padding(conv: Conv2dSame) -> nn.Module:
    """TensorFlow's padding, which depends on the size, for maps whose sides the stride divides: there it does not."""
    side, stride, padding = conv.kernel_size[0], conv.stride[0], conv.kernel_size[0] - conv.stride[0]
    if conv.kernel_size != (side, side) or conv.stride != (stride, stride) or conv.dilation != (1, 1) or padding < 0:
        return conv
    # An odd padding has one pixel more at the right and bottom: a kernel with zeros in its first row and column.
    odd = padding % 2
    plain = nn.Conv2d(
        conv.in_channels, conv.out_channels, side + odd, stride, (padding + odd) // 2, groups=conv.groups,
        bias=conv.bias is not None,
    )  # fmt: skip
    plain.weight = nn.Parameter(functional.pad(conv.weight, (odd, 0, odd, 0)), requires_grad=False)
    plain.bias = conv.bias
    return plain
