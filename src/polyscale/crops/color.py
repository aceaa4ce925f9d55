"""Photometric augmentation: colour jitter, Gaussian blur, and the photometric half of the RandAugment-style option.

Brightness, contrast, saturation and hue are all linear in (R, G, B), and each keeps what the others
need (the mean grey, each pixel's grey), so they commute. The whole jitter is therefore *one* 3 x 3 matrix and an
offset, applied in the pass that turns bytes into floats and clipped once at the end. That is more than ten times as
fast as one step after the other, and loses nothing to rounding between them. The factors mean what torchvision's
mean, except that hue turns around the grey axis (in YIQ) rather than in HSV. Only numpy and Pillow are used: their
elementwise results do not depend on the number of threads, so that equal random numbers give equal bits in a worker
and in the main process.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageEnhance, ImageFilter, ImageOps

__all__ = ["PHOTOMETRIC", "apply_color", "apply_gain", "color_matrix", "gaussian_blur", "to_tensor"]

LUMA = np.array([0.299, 0.587, 0.114])
"""Share of R, G and B in grey (ITU-R BT.601)."""

_YIQ = np.array([LUMA, [0.5959, -0.2746, -0.3213], [0.2115, -0.5227, 0.3112]])
_STRIP = 32
"""Rows that are converted at a time: small enough for a strip of floats to stay in the processor's cache."""


def to_tensor(image: NDArray[np.uint8]) -> torch.Tensor:
    """Bytes (H, W, C) to a float32 tensor (C, H, W) in [0, 1], without any augmentation.

    Example:
        >>> to_tensor(np.full((2, 4, 3), 255, np.uint8)).shape
        torch.Size([3, 2, 4])
    """
    if image.shape[2] != 3:
        return apply_gain(image, 1.0, np.zeros(image.shape[2]))
    return apply_color(image, np.eye(3), np.zeros(3))


def color_matrix(
    mean: NDArray[np.floating[Any]],
    brightness: float = 1.0,
    contrast: float = 1.0,
    saturation: float = 1.0,
    hue: float = 0.0,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The colour jitter as one affine map of colour.

    Args:
        mean: (3,) mean colour of the picture in [0, 1]; contrast pulls towards its grey.
        brightness: factor, 1 changes nothing, 0 is black.
        contrast: factor, 1 changes nothing, 0 is the mean grey.
        saturation: factor, 1 changes nothing, 0 is grey.
        hue: part of a whole turn of the hue around the grey axis, in [-0.5, 0.5]; above 0 turns red to yellow.

    Returns:
        Matrix (3, 3) and offset (3,) of ``matrix @ rgb + offset`` for colours in [0, 1].
    """
    grey = np.tile(LUMA, (3, 1))
    angle = 2.0 * np.pi * hue
    turn = np.eye(3)
    turn[1:, 1:] = [[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]]
    matrix = saturation * (np.linalg.inv(_YIQ) @ turn @ _YIQ) + (1.0 - saturation) * grey
    offset = np.full(3, brightness * (1.0 - contrast) * float(LUMA @ mean))
    return brightness * contrast * matrix, offset


def apply_color(image: NDArray[np.uint8], matrix: NDArray[np.float64], offset: NDArray[np.float64]) -> torch.Tensor:
    """Map the colours of bytes (H, W, 3) and clip: float32 tensor (3, H, W) in [0, 1].

    Args:
        image: RGB; any strides (a mirrored view costs nothing).
        matrix: (3, 3), as from `color_matrix`.
        offset: (3,), as from `color_matrix`.
    """
    height, width = image.shape[:2]
    out = np.empty((3, height, width), dtype=np.float32)
    weights = (matrix / 255.0).astype(np.float32)
    added = offset.astype(np.float32)
    identity = not added.any() and np.array_equal(matrix, np.eye(3))
    for top in range(0, height, _STRIP):
        planes = image[top : top + _STRIP].transpose(2, 0, 1).astype(np.float32, order="C")
        strip = out[:, top : top + _STRIP]
        if identity:  # exactly value / 255, as other toolkits convert
            np.divide(planes, np.float32(255.0), out=strip)
            continue
        for channel in range(3):
            np.multiply(planes[0], weights[channel, 0], out=strip[channel])
            strip[channel] += planes[1] * weights[channel, 1]
            strip[channel] += planes[2] * weights[channel, 2]
            strip[channel] += added[channel]
        np.clip(strip, 0.0, 1.0, out=strip)
    return torch.from_numpy(out)


def apply_gain(image: NDArray[np.uint8], gain: float, offset: NDArray[np.floating[Any]]) -> torch.Tensor:
    """Bytes (H, W, C) of any channels, each times ``gain`` and more by its ``offset``, clipped: (C, H, W) float32."""
    planes = image.transpose(2, 0, 1).astype(np.float32, order="C") / np.float32(255.0)
    if gain != 1 or offset.any():
        planes = (planes * np.float32(gain) + offset.astype(np.float32)[:, None, None]).clip(0.0, 1.0)
    return torch.from_numpy(planes)


def gaussian_blur(image: Image.Image, sigma: float) -> Image.Image:
    """Gaussian blur with a standard deviation of ``sigma`` pixels (Pillow's approximation by three box filters)."""
    return image.filter(ImageFilter.GaussianBlur(sigma))


def _posterize(image: Image.Image, strength: float) -> Image.Image:
    return ImageOps.posterize(image, 8 - round(4 * abs(strength)))


def _solarize(image: Image.Image, strength: float) -> Image.Image:
    return ImageOps.solarize(image, 256 - round(128 * abs(strength)))


def _brightness(image: Image.Image, strength: float) -> Image.Image:
    return ImageEnhance.Brightness(image).enhance(1.0 + 0.9 * strength)


def _contrast(image: Image.Image, strength: float) -> Image.Image:
    return ImageEnhance.Contrast(image).enhance(1.0 + 0.9 * strength)


def _saturation(image: Image.Image, strength: float) -> Image.Image:
    return ImageEnhance.Color(image).enhance(1.0 + 0.9 * strength)


def _sharpness(image: Image.Image, strength: float) -> Image.Image:
    return ImageEnhance.Sharpness(image).enhance(1.0 + 0.9 * strength)


def _autocontrast(image: Image.Image, strength: float) -> Image.Image:
    return Image.blend(image, ImageOps.autocontrast(image), abs(strength))


def _equalize(image: Image.Image, strength: float) -> Image.Image:
    return Image.blend(image, ImageOps.equalize(image), abs(strength))


PHOTOMETRIC: dict[str, Callable[[Image.Image, float], Image.Image]] = {
    "autocontrast": _autocontrast,
    "brightness": _brightness,
    "contrast": _contrast,
    "equalize": _equalize,
    "posterize": _posterize,
    "saturation": _saturation,
    "sharpness": _sharpness,
    "solarize": _solarize,
}
"""Photometric operations of the RandAugment-style option: (RGB picture, strength in [-1, 1]) to picture.

A strength of 0 changes nothing. Unlike in RandAugment (Cubuk et al. 2020) equalising and stretching the contrast are
blended in by the strength, so that one magnitude means mild or hard for every operation.
"""
