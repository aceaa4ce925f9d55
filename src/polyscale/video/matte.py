"""Turns class probabilities into a soft matte that follows the edges of the image, and composes pictures with it."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from polyscale.metrics.boundary import sliding
from polyscale.multiscale import resize

__all__ = ["blurred", "compose", "foreground", "guided", "without_islands"]

_RADIUS = 1 / 120
"""Radius of the guided filter's window, as a share of the image's longer side."""
_COARSE = 4
"""Pixels of the guided filter's radius on the reduced picture in which its coefficients are found."""
_EPSILON = 1e-4
"""Variance of colours, from 0 to 1, below which the guided filter smooths instead of following an edge."""
_FINE = 4
"""Width of a blur in pixels of the reduced picture in which it is made."""
_TRACE = 1e-4
"""Weight of the whole picture in a blur of one side."""
_GRID = 8
"""Pixels a side of the cells in which regions are looked for."""
_ISLAND = 0.1
"""Share of the largest region's size below which a region is left out."""
_STEEPER = 4
"""Factor by which probabilities rise faster at the edge before they are filtered: networks give wide edges."""
_STEEPER_AFTER = 1.5
"""The same after it, as an edge in a window leaves the two sides short of 0 and 1."""


def guided(values: Tensor, image: Tensor) -> Tensor:
    """The guided filter (He, Sun, Tang, 2010): in each window the values are linear in the image's colours.

    What the values say with certainty stays: they only move within a window's radius of where they change. The
    coefficients of a window change slowly, so they are found on a reduced picture (He, Sun, 2015).

    Args:
        values: (1, 1, H, W) in [0, 1].
        image: (1, 3, H, W), RGB in [0, 1].

    Returns:
        (1, 1, H, W) in [0, 1].
    """
    size = image.shape[-2:]
    radius = max(3, round(max(size) * _RADIUS))
    values = ((values - 0.5) * _STEEPER + 0.5).clamp(0, 1)
    factor = max(1, radius // _COARSE)
    both = _reduced(torch.cat([image, values], dim=1), factor)
    coefficients = resize(_coefficients(both[:, :3], both[:, 3:], max(1, round(radius / factor))), size)
    result = (coefficients[:, :3] * image).sum(1, keepdim=True).add_(coefficients[:, 3:])
    result = result.sub_(0.5).mul_(_STEEPER_AFTER).add_(0.5)
    lowest, highest = _extreme(values, radius, torch.minimum), _extreme(values, radius, torch.maximum)
    return torch.minimum(torch.maximum(result, lowest), highest)


def _coefficients(image: Tensor, values: Tensor, radius: int) -> Tensor:
    """Slope by red, green and blue, and offset, (1, 4, H, W), as the mean over the windows around each pixel."""
    pairs = [(0, 0), (0, 1), (0, 2), (1, 1), (1, 2), (2, 2)]
    products = [image[:, i : i + 1] * image[:, j : j + 1] for i, j in pairs]
    means = _box(torch.cat([image, values, *products, image * values], dim=1), radius)
    mean, mean_value = means[:, :3], means[:, 3:4]
    squares = torch.cat([mean[:, i : i + 1] * mean[:, j : j + 1] for i, j in pairs], dim=1)
    rr, rg, rb, gg, gb, bb = (means[:, 4:10] - squares).unbind(1)
    rr, gg, bb = rr + _EPSILON, gg + _EPSILON, bb + _EPSILON
    covariance = means[:, 10:] - mean * mean_value
    # The inverse of a symmetric matrix of three rows, by its cofactors.
    a, b, c = gg * bb - gb * gb, rb * gb - rg * bb, rg * gb - rb * gg
    d, e, f = rr * bb - rb * rb, rb * rg - rr * gb, rr * gg - rg * rg
    rows = [torch.stack(row, dim=1) for row in ((a, b, c), (b, d, e), (c, e, f))]
    slope = (
        torch.cat([(row * covariance).sum(1, keepdim=True) for row in rows], dim=1)
        / (rr * a + rg * b + rb * c)[:, None]
    )
    offset = mean_value - (slope * mean).sum(1, keepdim=True)
    return _box(torch.cat([slope, offset], dim=1), radius)


def _extreme(values: Tensor, radius: int, best: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """``best`` over windows of (2 radius + 1) squared, cut at the border."""
    padded = functional.pad(values, (radius,) * 4, mode="replicate")
    return sliding(padded, 2 * radius + 1, best)


def without_islands(values: Tensor) -> Tensor:
    """The values, 0 around regions of less than a tenth of the largest: a tree far away that was taken for a person.

    Regions are found on a grid of 8 pixels, where they are above one half; those that touch at a corner are one.

    Args:
        values: (1, 1, H, W) in [0, 1].
    """
    small = functional.interpolate(values, [max(1, side // _GRID) for side in values.shape[-2:]], mode="area")
    inside = (small > 0.5).float()
    # Each cell takes the largest number of its region, step by step.
    numbers = inside * torch.arange(1, inside.numel() + 1, device=values.device).reshape(inside.shape)
    while not torch.equal(grown := functional.max_pool2d(numbers, 3, 1, 1) * inside, numbers):
        numbers = grown
    cells = numbers.long()
    sizes = cells.flatten().bincount()
    sizes[0] = 0
    islands = inside * (sizes < _ISLAND * sizes.max())[cells]
    if not islands.any():
        return values
    kept = inside - islands
    around = functional.max_pool2d(islands, 5, 1, 2) * (1 - functional.max_pool2d(kept, 3, 1, 1))
    return values * (1 - resize(around, values.shape[-2:]))


def _box(x: Tensor, radius: int, times: int = 1) -> Tensor:
    """Mean over windows of (2 radius + 1) squared, fewer pixels at the border; so many times."""
    x = x.contiguous(memory_format=torch.channels_last)  # three times quicker on a CPU
    for _ in range(times):
        for kernel, padding in (((2 * radius + 1, 1), (radius, 0)), ((1, 2 * radius + 1), (0, radius))):
            x = functional.avg_pool2d(x, kernel, stride=1, padding=padding, count_include_pad=False)
    return x.contiguous()


def compose(image: Tensor, alpha: Tensor, backdrop: Tensor) -> Tensor:
    """The kept foreground over the backdrop; all (1, c, H, W) in [0, 1]."""
    return alpha * image + (1 - alpha) * backdrop


def blurred(image: Tensor, alpha: Tensor) -> Tensor:
    """The image out of focus, without what is kept: it leaves no halo.

    Args:
        image: (1, 3, H, W) in [0, 1].
        alpha: (1, 1, H, W) in [0, 1], the matte of what is kept.
    """
    return resize(_spread(image, alpha, max(image.shape[-2:]) / 40)[1], image.shape[-2:])


def foreground(image: Tensor, alpha: Tensor) -> Tensor:
    """The colours of what is kept, with the old background taken out of pixels that hold some of both.

    Blur-fusion (Forte, 2021): the colours of either side are spread over the edge, and what of the pixel they do not
    explain is given to the foreground.

    Args:
        image: (1, 3, H, W) in [0, 1].
        alpha: (1, 1, H, W) in [0, 1].
    """
    width = max(3, max(image.shape[-2:]) / 100)
    near, far = (resize(colors, image.shape[-2:]) for colors in _spread(image, alpha, width))
    return (near + alpha * (image - alpha * near - (1 - alpha) * far)).clamp(0, 1)


def _spread(image: Tensor, alpha: Tensor, sigma: float) -> tuple[Tensor, Tensor]:
    """Mean colours of what is kept and of the rest on a reduced picture.

    Each is weighted by its share and, about, a Gaussian of ``sigma`` pixels.
    """
    factor = max(1, round(sigma / _FINE))
    both = _reduced(torch.cat([image, image * alpha, alpha], dim=1), factor)
    # Three boxes of radius r have the variance r (r + 1).
    radius = max(1, round(((sigma / factor) ** 2 + 0.25) ** 0.5 - 0.5))
    both = _box(both, radius, 3)
    every, kept, share = both[:, :3], both[:, 3:6], both[:, 6:]
    # A trace of the whole keeps pixels defined that are far from anything of weight.
    near = (kept + _TRACE * every) / (share + _TRACE)
    far = (every * (1 + _TRACE) - kept) / (1 + _TRACE - share)
    return near, far


def _reduced(x: Tensor, factor: int) -> Tensor:
    """Means over squares of ``factor`` pixels."""
    small = [max(1, side // factor) for side in x.shape[-2:]]
    return functional.interpolate(x, small, mode="area") if factor > 1 else x
