"""Sums of RMI over every pixel and every pair of neighbours, with the backward passes written out.

Both functions go through the batch in blocks of images and classes. On a CPU a block stays in the cache and its memory
is used again for the next; what autograd would keep (probabilities, and a copy of the maps for each neighbour) is
computed again in the backward pass, which costs less than to fetch fresh memory for it.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

from polyscale.losses.inputs import Target

__all__ = ["joint_covariance", "pixels_and_cells", "pooled_one_hot"]

_ADDED_PROBABILITY = 1e-6


def pixels_and_cells(logits: Tensor, target: Target, pool: int) -> tuple[Tensor, Tensor]:
    """The two things RMI reads from the logits, in one pass: the summed BCE, and the average-pooled probabilities.

    Args:
        logits: (N, C, H, W).
        target: of the same size.
        pool: side and stride of the pooling; half of it is zero padding, which counts.

    Returns:
        The sum over pixels, times their weights, and classes, a scalar >= 0; and (N, C, h, w), sigmoids that are 0
        where a pixel does not count, plus 1e-6.
    """
    known = torch.where(target.valid, target.labels, 0)
    pixels, cells = _PixelsAndCells.apply(logits, known, target.valid, target.weights, pool)
    return pixels, cells


def pooled_one_hot(target: Target, like: Tensor, pool: int) -> Tensor:
    """The average-pooled one-hot labels, (N, C, h, w) like ``like``, by adding each pixel to the cell that holds it."""
    num_images, num_classes, height, width = like.shape
    rows, columns = (
        _cells(side, pool, cells, like.device)
        for side, cells in zip(target.labels.shape[1:], (height, width), strict=True)
    )
    counts = target.valid & ((rows < height)[:, None] & (columns < width))
    places = rows.clamp(max=height - 1)[:, None] * width + columns.clamp(max=width - 1)
    images = torch.arange(num_images, device=like.device)[:, None, None]
    index = (images * num_classes + torch.where(target.valid, target.labels, 0)) * (height * width) + places
    pooled = torch.zeros(like.numel(), dtype=like.dtype, device=like.device)
    pooled.scatter_add_(0, index.flatten(), counts.flatten().to(like.dtype))
    return pooled.view(like.shape) / pool**2


def joint_covariance(p: Tensor, y: Tensor, radius: int) -> Tensor:
    """Covariance sums of the neighbourhoods of two maps, differentiable in the first.

    Args:
        p: (N, C, h, w).
        y: the same shape.
        radius: side of a neighbourhood; d is its square.

    Returns:
        (N, C, 2d, 2d): the neighbours in ``p`` first, then those in ``y``. A map smaller than a neighbourhood is padded
        with zeros to one.
    """
    covariance: Tensor = _JointCovariance.apply(_centred(p, radius), _centred(y, radius), radius)
    return covariance


def _centred(x: Tensor, radius: int) -> Tensor:
    # Covariances do not change when a constant is taken away, and sums near zero lose no digits.
    x = x - x.mean((2, 3), keepdim=True).detach()
    below, right = (max(radius - side, 0) for side in x.shape[-2:])
    return functional.pad(x, (0, right, 0, below)) if below or right else x


def _cells(side: int, pool: int, num_cells: int, device: torch.device) -> Tensor:
    """The pooled cell of each pixel of a side; ``num_cells`` for the last pixels, which do not fill a cell."""
    return ((torch.arange(side, device=device) + pool // 2) // pool).clamp(max=num_cells)


def _blocks(x: Tensor, copies: int = 1) -> Iterator[tuple[slice, slice]]:
    """Slices of images and classes of (N, C, h, w), of which ``copies`` have a size that suits the device."""
    num_images, num_classes, height, width = x.shape
    largest = 2**18 if x.device.type == "cpu" else 2**26
    maps = max(1, largest // max(1, copies * height * width))
    classes = min(maps, num_classes)
    images = max(1, maps // max(1, num_classes))
    for n in range(0, num_images, images):
        for c in range(0, num_classes, classes):
            yield slice(n, n + images), slice(c, c + classes)


class _PixelsAndCells(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, logits: Tensor, known: Tensor, valid: Tensor, weights: Tensor, pool: int
    ) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(logits, known, valid, weights)
        ctx.pool = pool
        # Over classes: sum of log(1 + exp(z)), less z at the label. logaddexp is exact at both ends, in one pass.
        entropy = -logits.gather(1, known[:, None]).squeeze(1)
        counts, zero = valid[:, None].to(logits.dtype), logits.new_zeros(())
        sides = [(side + pool // 2 * 2 - pool) // pool + 1 for side in logits.shape[2:]]
        cells = logits.new_empty(*logits.shape[:2], *sides)
        for images, classes in _blocks(logits):
            z = logits[images, classes]
            entropy[images] += torch.logaddexp(z, zero).sum(1)
            probabilities = z.sigmoid().mul_(counts[images]).add_(_ADDED_PROBABILITY)
            cells[images, classes] = functional.avg_pool2d(probabilities, pool, stride=pool, padding=pool // 2)
        return (torch.where(valid, entropy, 0) * weights).sum(), cells

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None, None]:
        logits, known, valid, weights = ctx.saved_tensors
        pixels, cells = weights[:, None] * gradients[0], gradients[1] / ctx.pool**2
        rows, columns = (
            _cells(side, ctx.pool, num_cells, logits.device)
            for side, num_cells in zip(logits.shape[2:], cells.shape[2:], strict=True)
        )
        cells = functional.pad(cells, (0, 1, 0, 1))  # pixels that fill no cell find a zero
        counts = valid[:, None].to(logits.dtype)
        gradient = torch.empty_like(logits)
        for images, classes in _blocks(logits):
            p = torch.sigmoid(logits[images, classes], out=gradient[images, classes])
            # Of BCE the slope is p, and of the regions p (1 - p) times that of their cell; both less 1 at the label.
            slope = cells[images, classes].index_select(3, columns).index_select(2, rows)
            slope.addcmul_(slope, p, value=-1).add_(pixels[images])
            p.mul_(slope).mul_(counts[images])
        gradient.scatter_add_(1, known[:, None], -pixels)
        return gradient, None, None, None, None


class _JointCovariance(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, p: Tensor, y: Tensor, radius: int) -> Tensor:
        size = 2 * radius**2
        products = p.new_empty(*p.shape[:2], size + 1, size + 1)
        for images, classes in _blocks(p, size):
            samples = _samples(p[images, classes], y[images, classes], radius)
            products[images, classes] = samples @ samples.transpose(2, 3)
        sums, count = products[:, :, :-1, -1:], products[:, :, -1:, -1:]
        ctx.save_for_backward(p, y, sums / count)
        ctx.radius = radius
        return products[:, :, :-1, :-1] - sums @ sums.transpose(2, 3) / count

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        p, y, means = ctx.saved_tensors
        radius = ctx.radius
        both = gradients[0] + gradients[0].transpose(2, 3)
        weights = both[:, :, : radius**2]
        weights = torch.cat([weights, -weights @ means], dim=3)
        gradient = torch.zeros_like(p)
        for images, classes in _blocks(p, both.shape[2]):
            slopes = weights[images, classes] @ _samples(p[images, classes], y[images, classes], radius)
            for slope, shift in zip(slopes.unbind(2), _shifts(gradient[images, classes], radius), strict=True):
                shift += slope.view(shift.shape)
        return gradient, None, None


def _samples(p: Tensor, y: Tensor, radius: int) -> Tensor:
    """(n, c, 2d + 1, K): of each of K neighbourhoods the d values in ``p``, those in ``y``, and a 1.

    The row of ones brings the sums along with the products.
    """
    shifts = [*_shifts(p, radius), *_shifts(y, radius)]
    samples = p.new_empty(*p.shape[:2], len(shifts) + 1, shifts[0].shape[2] * shifts[0].shape[3])
    for row, shift in zip(samples.unbind(2), shifts, strict=False):
        row.view(shift.shape).copy_(shift)
    samples[:, :, -1] = 1
    return samples


def _shifts(x: Tensor, radius: int) -> list[Tensor]:
    """Views of (n, c, h, w), one for each position in a neighbourhood."""
    height, width = (side - radius + 1 for side in x.shape[2:])
    return [x[:, :, i : i + height, j : j + width] for i in range(radius) for j in range(radius)]
