"""Images of any common kind as uint8 RGB arrays.

EXIF rotation is always applied, so that an image has the size that a person sees; 16-bit values keep their high byte
(Pillow's own conversion of 16-bit grey clips at 255 instead); an alpha channel is dropped, not blended. Only formats
that photos and masks come in are opened: some of the others that Pillow knows run external programs. ``MAX_PIXELS``
takes the place of Pillow's guard against huge images, but only where Pillow asks for it: the process keeps its own
setting.
"""

import contextlib
import io
import os
import stat
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from PIL import Image, UnidentifiedImageError

from polyscale.data.items import DataError
from polyscale.data.left_out import warn_of_left_out
from polyscale.data.png_read import decode_quickly, has_late_metadata, png_bytes, png_header
from polyscale.errors import UserError

__all__ = [
    "IMAGE_SUFFIXES",
    "MAX_PIXELS",
    "bits_of",
    "decode_image",
    "image_size",
    "load",
    "open_image",
    "orientation",
    "read_image",
    "to_rgb",
]

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff", ".bmp", ".gif")
"""Suffixes (in lower case) of files that count as images when a folder is listed."""

MAX_PIXELS = 2_000_000_000
"""The largest image that is read, in pixels."""

_FORMATS = ("JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF")
_ORIENTATION = 0x0112
_SIXTEEN_BITS = ("I;16", "I;16L", "I;16B", "I;16N", "I")
_DEFLATE_RATIO = 1032
"""No deflate stream grows by more when it is unpacked (zlib's technical notes)."""
_RATIOS = {"GIF": 2600, "BMP": 2600, "JPEG": 2600, "TIFF": 10_000}
"""By how much pixels of other formats grow at most: LZW by 2600, blank pages of a fax by more. A plain WebP has no
limit, but no more than 16383 x 16383 pixels."""
_SMALL = 16_000_000
"""Bytes of pixels that any file may have."""
_BYTES = {"1": 0.125, "L": 1, "P": 1, "LA": 2, "PA": 2, "RGB": 3}

_guard = threading.Lock()
if hasattr(os, "register_at_fork"):
    # A worker forked while another thread reads a header would otherwise start with a lock that nobody releases.
    os.register_at_fork(before=_guard.acquire, after_in_parent=_guard.release, after_in_child=_guard.release)


def read_image(path: str | Path) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Read an image file: JPEG, PNG, WebP, TIFF, BMP or GIF.

    Grey, palette, CMYK, alpha and 16 bits are read too. Of a file with several frames or pages the first is read, of
    one with more bands the first three, with a ``PartialImageWarning`` once a run; see ``to_rgb`` for how pixels become
    RGB.

    Returns:
        (H, W, 3) uint8 RGB, after EXIF rotation.

    Raises:
        UserError: the file is missing, empty, truncated, not an image, too large, or of a kind without a fixed range of
            values.
    """
    with open_image(path) as image:
        if image.format == "PNG" and (pixels := decode_quickly(path, image.size)) is not None:
            warn_of_left_out(image, path)
            return np.ascontiguousarray(_rotate(pixels, orientation(image)))
        load(image, path)
        try:
            return to_rgb(image)
        except UserError as error:
            raise DataError(f"{path}: {error}") from None


def to_rgb(image: Image.Image) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """A Pillow image as an RGB array, rotated as its EXIF data say.

    Grey becomes three equal channels, a palette its colours, CMYK is converted, an alpha channel is dropped (what lies
    under transparent pixels stays), and of 16-bit values the high byte is kept.

    Returns:
        (H, W, 3) uint8, contiguous, writable, not shared with ``image``.

    Raises:
        UserError: it is damaged, or its mode has no fixed range (32-bit float, integers above 65535) or cannot be
            converted.
    """
    try:
        load(image)
    except Exception as error:  # As in open_image: what decoders raise on damaged data has no common type.
        raise UserError(
            f"image {getattr(image, 'filename', '') or ''} cannot be decoded: {error}; replace it"
        ) from None
    if image.mode in _SIXTEEN_BITS:
        values = np.asarray(image)
        if image.mode == "I" and values.size and (values.min() < 0 or values.max() > 65535):
            raise UserError(
                f"integers from {values.min()} to {values.max()} have no fixed range as an image; scale them to 0 to "
                "65535 and save it with 16 bits"
            )
        pixels = np.repeat((values >> 8).astype(np.uint8)[:, :, None], 3, axis=2)
    elif image.mode == "F":
        raise UserError("32-bit floats have no fixed range as an image; save it with 8 or 16 bits")
    else:
        try:
            straight = image.convert(image.mode[:-1] + "A") if image.mode in ("RGBa", "La") else image
            pixels = np.array(straight if straight.mode == "RGB" else straight.convert("RGB"))
        except ValueError as error:
            raise UserError(f"colours of mode {image.mode} cannot be read as RGB ({error}); save it as RGB") from None
    return np.ascontiguousarray(_rotate(pixels, orientation(image)))


def image_size(path: str | Path) -> tuple[int, int]:
    """Size of an image after EXIF rotation, from its header where the header tells (pixels are not decoded).

    Returns:
        Height and width in pixels: the first two numbers of ``read_image(path).shape``.

    Raises:
        UserError: the file is missing, empty, not an image or too large.
    """
    with open_image(path) as image:
        width, height = image.size
        if image.format == "TIFF":
            tags: Any = getattr(image, "tag_v2", {})  # Pillow may report the size of a TIFF with the rotation applied.
            width, height = int(tags.get(256, width)), int(tags.get(257, height))
        elif image.format == "PNG" and has_late_metadata(path):
            image.load()
        return (width, height) if orientation(image) in (5, 6, 7, 8) else (height, width)


@contextlib.contextmanager
def open_image(path: str | Path) -> Iterator[Image.Image]:
    """Open an image file lazily, with whatever Pillow raises inside the block turned into one line that names the file.

    Raises:
        UserError: the file is missing, empty, truncated, not an image, or has more than ``MAX_PIXELS`` pixels.
    """
    path = Path(path)
    try:
        found = path.stat()
        if not stat.S_ISREG(found.st_mode):  # opening a pipe would wait for ever
            kind = "a folder" if stat.S_ISDIR(found.st_mode) else "a pipe or device"
            raise DataError(f"{path} is {kind}, not an image file; replace or remove it")
        if found.st_size == 0:
            raise DataError(f"{path} is empty (0 bytes); replace or remove it")
        with path.open("rb") as file, _open_header(file) as image:
            if image.width * image.height > MAX_PIXELS:
                raise DataError(
                    f"{path} has {image.width} x {image.height} pixels, more than the {MAX_PIXELS:,} that can be read; "
                    "cut it into parts"
                )
            if _claims_too_much(path, image, found.st_size):
                raise DataError(
                    f"{path} cannot be read: its {found.st_size:,} bytes are too few for "
                    f"{image.width} x {image.height} pixels; replace or remove it"
                )
            yield image
    except UserError:
        raise
    except FileNotFoundError:
        raise DataError(f"no such image file: {path}") from None
    except PermissionError:
        raise DataError(f"{path} may not be read: permission denied; change its permissions or remove it") from None
    except MemoryError:
        raise DataError(f"{path} does not fit into memory; cut it into parts or make it smaller") from None
    except UnidentifiedImageError:
        raise DataError(f"{path} is not an image that can be read; allowed are {', '.join(_FORMATS)}") from None
    except Exception as error:  # Decoders raise a dozen types on damaged data, SyntaxError and struct.error among them.
        detail = error.strerror if isinstance(error, OSError) and error.strerror else str(error) or type(error).__name__
        raise DataError(f"{path} cannot be read: {' '.join(detail.split())}; replace or remove it") from None


def load(image: Image.Image, path: str | Path = "image") -> None:
    """Decode the pixels of an opened image, and warn once a run if parts of its file are left out.

    Args:
        image: from ``open_image``.
        path: for the warning.
    """
    warn_of_left_out(image, path)
    if image.format == "TIFF":
        with _no_limit():  # Pillow checks the size of a TIFF a second time where it makes room for its pixels
            getattr(image, "load_prepare", lambda: None)()
    image.load()


def bits_of(path: str | Path, image: Image.Image) -> int:
    """Bits of a pixel's one channel in an opened file: 1 to 16 in a PNG or TIFF, 8 in other formats."""
    if image.format == "PNG":
        return png_header(path)[0]
    if image.format == "TIFF":
        tags: Any = getattr(image, "tag_v2", {})
        return int(tags.get(258, (8,))[0])
    return 8


def _claims_too_much(path: Path, image: Image.Image, size: int) -> bool:
    """Whether a file of so many bytes cannot hold the pixels that its header speaks of; they are not decoded."""
    if image.format == "PNG":
        return png_bytes(path, image.size) > _DEFLATE_RATIO * size
    ratio = _RATIOS.get(image.format or "")
    return ratio is not None and image.width * image.height * _BYTES.get(image.mode, 4) > _SMALL + ratio * size


@contextlib.contextmanager
def _no_limit() -> Iterator[None]:
    """Pillow's own limit of pixels is off; ``MAX_PIXELS`` was checked, or is next."""
    with _guard:
        limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS = limit


def decode_image(content: bytes, where: str, most_pixels: int = MAX_PIXELS) -> Image.Image:
    """An image in memory, decoded.

    Args:
        content: the bytes of a file.
        where: they come from, for messages.
        most_pixels: a larger image is refused.

    Raises:
        UserError: they are no image that can be read, or it is too large.
    """
    try:
        image = _open_header(io.BytesIO(content))
        if image.width * image.height <= most_pixels:
            load(image, where)
            return image
    except UnidentifiedImageError:
        raise DataError(f"{where} is not an image that can be read; allowed are {', '.join(_FORMATS)}") from None
    except Exception as error:  # as in open_image
        detail = " ".join(str(error).split())[:120]
        raise DataError(f"{where} holds an image that cannot be read ({detail}); replace it") from None
    raise DataError(
        f"{where} has {image.width} x {image.height} pixels, more than the {most_pixels:,} that can be read here; "
        "make it smaller"
    )


def _open_header(file: BinaryIO) -> Image.Image:
    with _no_limit():
        return Image.open(file, formats=_FORMATS)


def orientation(image: Image.Image) -> int:
    """EXIF orientation 1 to 8; damaged EXIF data count as none."""
    try:
        # The base class's method: that of PNG files would decode all pixels to look for EXIF data behind them.
        value = Image.Image.getexif(image).get(_ORIENTATION, 1)
    except Exception:
        return 1
    return value if value in range(1, 9) else 1


def _rotate(pixels: np.ndarray[Any, Any], orientation: int) -> np.ndarray[Any, Any]:
    """Turn stored pixels (H, W, ...) as EXIF orientation 1 to 8 says (Exif 2.32, section 4.6.4, tag 274)."""
    if orientation in (5, 6, 7, 8):
        pixels = pixels.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return pixels
