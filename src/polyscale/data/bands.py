"""Images of other channels than red, green and blue: infrared beside colours, multispectral TIFF, 16 bits.

What a value of a file means is said once for a whole data set, as the range that becomes 0 to 255. No image is
stretched by its own values: the same reflectance would then be another input in each.
"""

import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field, field_validator

from polyscale.config import Config
from polyscale.data.images import load, open_image
from polyscale.data.items import DataError
from polyscale.errors import UserError

__all__ = ["BandsConfig", "as_rgb", "measure_ranges", "read_bands", "read_values"]

Array = np.ndarray[Any, np.dtype[Any]]


class BandsConfig(Config):
    """Which bands of an image file are read, and how their values become bytes."""

    channels: tuple[int, ...] = Field(min_length=1)
    """Bands of the file in the order in which the network gets them; the first is 1."""
    ranges: tuple[tuple[float, float], ...] = ((0.0, 255.0),)
    """The values that become 0 and 255, for each channel or for all; values outside are clipped. ``polyscale data
    ranges`` measures them as percentiles of a data set.
    """

    @field_validator("channels")
    @classmethod
    def _from_one(cls, channels: tuple[int, ...]) -> tuple[int, ...]:
        if min(channels) < 1:
            raise ValueError("bands are counted from 1")
        return channels

    @field_validator("ranges")
    @classmethod
    def _rising(cls, ranges: tuple[tuple[float, float], ...], info: Any) -> tuple[tuple[float, float], ...]:
        if any(not low < high for low, high in ranges):
            raise ValueError("each range is [low, high] with low below high")
        if len(ranges) not in (1, len(info.data.get("channels", ranges))):
            raise ValueError("give one range for all channels, or one for each")
        return ranges


def read_bands(path: str | Path, bands: BandsConfig) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Read some bands of an image file as bytes.

    Returns:
        (H, W, C) uint8, C the number of ``bands.channels``; values that are no number become 0.

    Raises:
        UserError: the file cannot be read, or has fewer bands.
    """
    values = read_values(path)
    if max(bands.channels) > values.shape[2]:
        raise DataError(
            f"{path} has {values.shape[2]} bands, and none of number {max(bands.channels)}; bands are counted from 1"
        )
    low, high = np.array(bands.ranges, dtype=np.float32).T
    chosen = values[..., [number - 1 for number in bands.channels]].astype(np.float32)
    scaled = (chosen - low) * (np.float32(255) / (high - low))
    finite = np.nan_to_num(scaled, nan=0.0, posinf=255, neginf=0)
    read: np.ndarray[Any, np.dtype[np.uint8]] = np.rint(finite.clip(0, 255)).astype(np.uint8)
    return read


def read_values(path: str | Path) -> Array:
    """All bands of an image file as they are, (H, W, B) of the file's own type.

    Raises:
        UserError: the file cannot be read, or the library for TIFF is missing.
    """
    path = Path(path)
    if path.suffix.lower() in (".tif", ".tiff"):
        return _read_tiff(path)
    with open_image(path) as image:
        load(image, path)
        values = np.array(image.convert("RGB") if image.mode == "P" else image)
    return values[..., None] if values.ndim == 2 else values


def _read_tiff(path: Path) -> Array:
    try:
        import rasterio
        from rasterio.errors import NotGeoreferencedWarning, RasterioError
    except ImportError:
        raise UserError(
            f"reading the bands of {path} needs rasterio; install it with pip install 'polyscale[geo]'"
        ) from None
    if not path.is_file():
        raise DataError(f"no such image file: {path}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            # Only this driver: others read what a file names, also elsewhere.
            with rasterio.open(path, driver="GTiff") as file:
                values = file.read()
    except RasterioError as error:
        detail = " ".join(str(error).split())[:200]
        raise DataError(f"{path} cannot be read as TIFF: {detail}; replace or remove it") from None
    return np.moveaxis(values, 0, 2)


def measure_ranges(
    paths: Sequence[str | Path], percentiles: tuple[float, float], most_values: int = 4096
) -> list[tuple[float, float]]:
    """Percentiles of each band over many images, from evenly spaced pixels of each.

    Args:
        paths: the images.
        percentiles: lower and upper, 0 to 100.
        most_values: pixels of an image that are looked at.

    Raises:
        UserError: a file cannot be read, or the numbers of bands differ.
    """
    parts = list(_some_pixels(paths, most_values))
    if not parts:
        raise UserError("there are no images to measure")
    values = np.concatenate(parts)
    low, high = np.nanpercentile(np.where(np.isfinite(values), values, np.nan), percentiles, axis=0)
    return [(float(a), float(b)) for a, b in zip(low, high, strict=True)]


def _some_pixels(paths: Sequence[str | Path], most: int) -> Iterator[Array]:
    num_bands = None
    for path in paths:
        values = read_values(path)
        if num_bands not in (None, values.shape[2]):
            raise DataError(f"{path} has {values.shape[2]} bands, images before it {num_bands}; keep one kind of image")
        num_bands = values.shape[2]
        flat = values.reshape(-1, num_bands)
        yield flat[:: max(1, len(flat) // most)].astype(np.float64)


def as_rgb(image: Array) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Picture of an image (H, W, C) for a person: its first three channels, or the first one as grey."""
    if image.shape[2] < 3:
        return np.repeat(image[..., :1], 3, axis=2)
    return np.ascontiguousarray(image[..., :3])
