"""Paired augmentation: random scale, crop, flip and colour for an image and its labels together.

Only the part of the source under the crop is resized. The crop's position is chosen first, on the pixel grid that the
*resized* image would have. The result is the same as resizing the whole image and then cropping, at a fraction of the
cost. Labels are taken by whole-number arithmetic from the
source pixel under each output pixel's centre, so that they stay exactly below the image at every scale. All random
numbers come from the generator that is given, those of the geometry first: a change of the photometric options alone
leaves every crop where it was.
"""

import math
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageStat
from pydantic import Field, field_validator

from polyscale.config import Config
from polyscale.crops.color import PHOTOMETRIC, apply_color, apply_gain, color_matrix, gaussian_blur, to_tensor
from polyscale.crops.extra import ExtraTransform, apply_extra
from polyscale.errors import UserError
from polyscale.labels import IGNORE

__all__ = ["AugmentConfig", "augment", "augment_planes", "to_tensor"]

GEOMETRIC = ("rotate", "shear_x", "shear_y", "translate_x", "translate_y")
"""Geometric operations of the RandAugment-style option, applied to image and labels alike."""


class AugmentConfig(Config):
    """How training images are varied.

    The defaults are those of the reference's Cityscapes runs, but for the crop and the hue.
    """

    crop: tuple[int, int] = (512, 512)
    """Height and width of the crop in pixels."""
    scale: tuple[float, float] = (0.5, 2.0)
    """Smallest and largest factor by which an image is resized before the crop."""
    scale_distribution: Literal["uniform", "log-uniform"] = "uniform"
    """``uniform`` in the factor (the reference) or ``log-uniform``, which sees 0.5 as often as 2."""
    flip: float = Field(default=0.5, ge=0.0, le=1.0)
    """Probability of a mirror image, left to right."""
    color_jitter: float = Field(default=0.25, ge=0.0, le=1.0)
    """Brightness, contrast and saturation are each multiplied by a factor from 1 - this to 1 + this."""
    hue: float = Field(default=0.02, ge=0.0, le=0.5)
    """Hue is turned by up to this part of a whole turn, either way."""
    blur: float = Field(default=0.0, ge=0.0, le=1.0)
    """Probability of a Gaussian blur."""
    blur_sigma: tuple[float, float] = (0.15, 1.3)
    """Smallest and largest standard deviation of that blur, in pixels of the crop."""
    rand_augment: int = Field(default=0, ge=0, le=16)
    """Number of randomly chosen further operations an image; 0 is none."""
    rand_augment_magnitude: float = Field(default=0.3, ge=0.0, le=1.0)
    """Their largest strength, from 0 (no effect) to 1 (strong)."""
    extra: tuple[ExtraTransform, ...] = ()
    """Photometric transforms of torchvision before the colour jitter, in order:
    ``[{name: RandomGrayscale, p: 0.1}, {name: GaussianNoise, p: 0.2, options: {sigma: 0.05}}]``.
    """
    fill: tuple[int, int, int] | None = None
    """Colour (R, G, B in 0..255) where the image does not fill the crop; null is the image's own mean. The labels
    there are ignored.
    """

    @field_validator("crop")
    @classmethod
    def _positive(cls, crop: tuple[int, int]) -> tuple[int, int]:
        if min(crop) < 1:
            raise ValueError("a crop is [height, width], both at least 1 pixel")
        return crop

    @field_validator("scale", "blur_sigma")
    @classmethod
    def _range(cls, limits: tuple[float, float]) -> tuple[float, float]:
        if not 0.0 < limits[0] <= limits[1]:
            raise ValueError("must be [smallest, largest], both above 0")
        return limits

    @field_validator("fill")
    @classmethod
    def _color(cls, fill: tuple[int, int, int] | None) -> tuple[int, int, int] | None:
        if fill is not None and not all(0 <= channel <= 255 for channel in fill):
            raise ValueError("a colour is three numbers from 0 to 255")
        return fill


class _Span(NamedTuple):
    """One axis of the crop.

    The source's ``size`` pixels become ``resized``; ``length`` of these, from ``start`` on, go to ``pad`` in the crop.
    """

    size: int
    resized: int
    start: int
    length: int
    pad: int

    @property
    def source(self) -> NDArray[np.int64]:
        """The source pixel under the centre of each of the ``length`` output pixels."""
        steps = 2 * np.arange(self.start, self.start + self.length, dtype=np.int64) + 1
        return steps * self.size // (2 * self.resized)

    @property
    def box(self) -> tuple[float, float]:
        """Where the output begins and ends, in source pixels."""
        return self.start * self.size / self.resized, (self.start + self.length) * self.size / self.resized

    @property
    def window(self) -> tuple[int, int]:
        """First and one-past-last source pixel that the antialiasing bilinear filter reads."""
        reach = max(1.0, self.size / self.resized) + 1.0
        first, last = self.box
        return max(0, math.floor(first - reach)), min(self.size, math.ceil(last + reach))


def augment(
    image: NDArray[np.uint8],
    labels: NDArray[np.uint8],
    config: AugmentConfig,
    rng: np.random.Generator,
    centre: tuple[int, int] | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """One random training crop of an image and its labels.

    Args:
        image: (H, W, 3) RGB bytes.
        labels: (H, W) train ids, `IGNORE` where nothing is to be learnt.
        config: what is varied and how much.
        rng: the only source of randomness; an equal generator gives bit-identical results.
        centre: (y, x) source pixel that the crop contains, at a random place in it; ``None`` puts the crop anywhere.
            (The geometric operations of ``rand_augment`` come afterwards and may push it over the crop's edge.)

    Returns:
        Image (3, h, w) float32 in [0, 1] and labels (h, w) int64, of the configured crop's size. Where the image does
        not fill the crop the labels are `IGNORE`.
    """
    tensor, (target,) = augment_planes(image, [(labels, IGNORE)], config, rng, centre)
    return tensor, torch.from_numpy(target.astype(np.int64, order="C"))


def augment_planes(
    image: NDArray[np.uint8],
    planes: Sequence[tuple[NDArray[np.uint8], int]],
    config: AugmentConfig,
    rng: np.random.Generator,
    centre: tuple[int, int] | None = None,
) -> tuple[torch.Tensor, list[NDArray[np.uint8]]]:
    """``augment`` for an image with several planes of bytes, such as labels and confidence levels.

    Args:
        image: (H, W, 3) RGB bytes; or (H, W, C) of other channels, whose jitter is brightness and contrast alone, and
            whose fill is their mean.
        planes: each (H, W), with the value that it has where the image does not fill the crop.
        config: what is varied and how much.
        rng: the only source of randomness; what is drawn does not depend on the number of planes.
        centre: as in ``augment``.

    Returns:
        Image (C, h, w) float32 in [0, 1], and the planes, (h, w) each; all of them take the same source pixels.
    """
    for plane, _ in planes:
        assert image.dtype == plane.dtype == np.uint8, (image.dtype, plane.dtype)
        assert image.shape[:2] == plane.shape, (image.shape, plane.shape)
    scale = _draw_scale(config, rng)
    rows = _draw_span(image.shape[0], scale, config.crop[0], None if centre is None else centre[0], rng)
    columns = _draw_span(image.shape[1], scale, config.crop[1], None if centre is None else centre[1], rng)
    mirrored = rng.random() < config.flip
    # All are drawn whether used or not: switching one off leaves the others as they were.
    factors = rng.uniform(-1.0, 1.0, size=4)
    blurred, sigma = rng.random() < config.blur, rng.uniform(*config.blur_sigma)
    operations = _draw_operations(config, rng)

    colored = image.shape[2] == 3
    # Pillow has pictures of three channels, and of one.
    layers = [image] if colored else [image[..., channel] for channel in range(image.shape[2])]
    pictures = [_resize(layer, rows, columns) for layer in layers]
    targets = [plane[rows.source][:, columns.source] for plane, _ in planes]
    fills = [beyond for _, beyond in planes]
    if blurred:
        pictures = [gaussian_blur(picture, sigma) for picture in pictures]
    for name, strength in operations:
        if name in PHOTOMETRIC:
            pictures = [PHOTOMETRIC[name](picture, strength) for picture in pictures]
    mean = np.concatenate([ImageStat.Stat(picture).mean for picture in pictures])
    fills_of = [config.fill or tuple(round(value) for value in mean)] if colored else [round(value) for value in mean]
    if targets[0].shape != config.crop:
        padding = zip(pictures, fills_of, strict=True)
        pictures = [_pad_picture(picture, rows, columns, config.crop, fill) for picture, fill in padding]
        targets = [_pad(*pair, rows, columns, config.crop) for pair in zip(targets, fills, strict=True)]
    moves = [(name, strength) for name, strength in operations if name in GEOMETRIC]
    if moves:
        coefficients = _affine(pictures[0].size, moves)
        affine, bilinear, nearest = Image.Transform.AFFINE, Image.Resampling.BILINEAR, Image.Resampling.NEAREST
        pictures = [
            picture.transform(picture.size, affine, coefficients, bilinear, fillcolor=fill)
            for picture, fill in zip(pictures, fills_of, strict=True)
        ]
        masks = [Image.fromarray(np.ascontiguousarray(target)) for target in targets]
        targets = [
            np.asarray(plane.transform(plane.size, affine, coefficients, nearest, fillcolor=beyond))
            for plane, beyond in zip(masks, fills, strict=True)
        ]

    pixels = np.asarray(pictures[0]) if colored else np.stack([np.asarray(picture) for picture in pictures], axis=2)
    if config.extra:
        if not colored:
            raise UserError("augment.extra takes images of three channels; leave it out for these images")
        pixels = apply_extra(pixels, config.extra, rng)
    if mirrored:
        pixels, targets = pixels[:, ::-1], [target[:, ::-1] for target in targets]
    brightness, contrast, saturation = (1.0 + config.color_jitter * factors[:3]).tolist()
    if not colored:
        offset = np.full(len(mean), brightness * (1.0 - contrast) * float(mean.mean()) / 255.0)
        tensor = apply_gain(pixels, brightness * contrast, offset)
    elif config.color_jitter or config.hue:
        matrix, offset = color_matrix(mean / 255.0, brightness, contrast, saturation, config.hue * float(factors[3]))
        tensor = apply_color(pixels, matrix, offset)
    else:
        tensor = to_tensor(pixels)
    return tensor, targets


def _draw_scale(config: AugmentConfig, rng: np.random.Generator) -> float:
    low, high = config.scale
    if config.scale_distribution == "log-uniform":
        return math.exp(rng.uniform(math.log(low), math.log(high)))
    return float(rng.uniform(low, high))


def _draw_span(size: int, scale: float, crop: int, centre: int | None, rng: np.random.Generator) -> _Span:
    resized = max(1, round(size * scale))
    if resized <= crop:
        return _Span(size, resized, 0, resized, int(rng.integers(0, crop - resized, endpoint=True)))
    low, high = 0, resized - crop
    if centre is not None:
        assert 0 <= centre < size, f"centre {centre} is outside 0 to {size - 1}"
        # The source pixel covers [centre, centre + 1) * resized / size of the resized grid: all of it shall be
        # inside.
        high = min(high, centre * resized // size)
        low = min(high, max(low, -(-(centre + 1) * resized // size) - crop))
    return _Span(size, resized, int(rng.integers(low, high, endpoint=True)), crop, 0)


def _resize(image: NDArray[np.uint8], rows: _Span, columns: _Span) -> Image.Image:
    """The crop's part of the resized image, bilinear with antialiasing."""
    (top, bottom), (left, right) = rows.window, columns.window
    part = Image.fromarray(np.ascontiguousarray(image[top:bottom, left:right]))
    (first_y, last_y), (first_x, last_x) = rows.box, columns.box
    # The box is computed in floats: keep it from ending a hair's breadth outside, which Pillow refuses.
    box = (first_x - left, first_y - top, min(last_x - left, part.width), min(last_y - top, part.height))
    return part.resize((columns.length, rows.length), Image.Resampling.BILINEAR, box=box)


def _pad_picture(
    picture: Image.Image, rows: _Span, columns: _Span, crop: tuple[int, int], fill: int | tuple[int, ...]
) -> Image.Image:
    canvas = Image.new(picture.mode, (crop[1], crop[0]), fill)
    canvas.paste(picture, (columns.pad, rows.pad))
    return canvas


def _pad(
    target: NDArray[np.uint8], beyond: int, rows: _Span, columns: _Span, crop: tuple[int, int]
) -> NDArray[np.uint8]:
    padded = np.full(crop, beyond, dtype=np.uint8)
    padded[rows.pad : rows.pad + rows.length, columns.pad : columns.pad + columns.length] = target
    return padded


def _draw_operations(config: AugmentConfig, rng: np.random.Generator) -> list[tuple[str, float]]:
    names = (*PHOTOMETRIC, *GEOMETRIC)
    chosen = rng.integers(len(names), size=config.rand_augment)
    strengths = rng.uniform(-1.0, 1.0, size=config.rand_augment) * config.rand_augment_magnitude
    return [(names[number], float(strength)) for number, strength in zip(chosen, strengths, strict=True)]


def _affine(size: tuple[int, int], moves: list[tuple[str, float]]) -> tuple[float, ...]:
    """Pillow's coefficients of all moves as one, so that pictures are resampled once.

    They rotate (up to 30 degrees), shear (0.3) and translate (0.2 of the side) about the middle.
    """
    width, height = size
    matrix: NDArray[Any] = np.eye(3)
    for name, strength in moves:
        step = np.eye(3)
        angle = math.radians(30.0) * strength
        match name:
            case "rotate":
                step[:2, :2] = [[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]]
            case "shear_x":
                step[0, 1] = 0.3 * strength
            case "shear_y":
                step[1, 0] = 0.3 * strength
            case "translate_x":
                step[0, 2] = 0.2 * strength * width
            case "translate_y":
                step[1, 2] = 0.2 * strength * height
        matrix = step @ matrix
    to_middle = np.array([[1.0, 0.0, -width / 2], [0.0, 1.0, -height / 2], [0.0, 0.0, 1.0]])
    # Pillow asks where an output pixel's centre comes from, for both filters alike: image and labels move as one.
    inverse = np.linalg.inv(to_middle) @ np.linalg.inv(matrix) @ to_middle
    return tuple(inverse[:2].ravel().tolist())
