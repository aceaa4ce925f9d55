"""Backdrops: the image out of focus, a colour, a picture, or a video of its own."""

from collections.abc import Iterator
from pathlib import Path

import torch
from PIL import ImageColor
from torch import Tensor
from torch.nn import functional

from polyscale.data.images import IMAGE_SUFFIXES, read_image
from polyscale.errors import UserError
from polyscale.video.matte import blurred
from polyscale.video.source import Array, Frame, Source, open_source

__all__ = ["Backdrop", "open_backdrop"]


class Backdrop:
    """Blur, a colour or a picture.

    Args:
        picture: (1, 3, h, w) in [0, 1], a colour where h and w are 1; None for the image itself, out of focus.
    """

    def __init__(self, picture: Tensor | None = None) -> None:
        self._picture = picture
        self._fitted: Tensor | None = None

    def behind(self, image: Tensor, alpha: Tensor, seconds: float) -> Tensor:  # noqa: ARG002 - one of three kinds
        """The picture behind a frame.

        Args:
            image: (1, 3, H, W), RGB in [0, 1].
            alpha: (1, 1, H, W), the matte of what is kept.
            seconds: when the frame is shown.

        Returns:
            (1, 3, H, W) in [0, 1].
        """
        if self._picture is None:
            return blurred(image, alpha)
        if self._fitted is None or self._fitted.shape != image.shape:
            self._fitted = _cover(self._picture.to(image.device), image.shape[-2:])
        return self._fitted

    def close(self) -> None:
        """Let go of files."""


class MovingBackdrop(Backdrop):
    """A video, shown at its own pace and from the start again when it ends.

    Args:
        path: of the video.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path
        self._opened: Source | None = None
        self._frames: Iterator[tuple[float, Array]] = iter(())
        self._start = 0.0
        self._current = self._following = self._next()

    def behind(self, image: Tensor, alpha: Tensor, seconds: float) -> Tensor:  # noqa: ARG002 - one of three kinds
        """See ``Backdrop``."""
        while self._following[0] <= seconds:
            self._current, self._following = self._following, self._next()
        pixels = torch.from_numpy(self._current[1]).to(image.device).permute(2, 0, 1)[None].float() / 255
        return _cover(pixels, image.shape[-2:])

    def close(self) -> None:
        """Let go of the file."""
        if self._opened is not None:
            self._opened.close()

    def _next(self) -> tuple[float, Array]:
        """The next frame and when it is shown."""
        following = next(self._frames, None)
        if following is None:
            if self._opened is not None:
                self._start = self._following[0] + 1 / float(self._opened.rate)
            self.close()
            self._opened = open_source(self._path)
            self._frames = _timed(self._opened, self._start)
            following = next(self._frames)
        return following


def open_backdrop(given: str) -> Backdrop:
    """A backdrop by what a user calls it: ``blur``, a colour (``white``, ``#00ff00``), an image file or a video file.

    Raises:
        UserError: it is none of these, or cannot be read.
    """
    if given == "blur":
        return Backdrop()
    path = Path(given)
    if path.is_file():
        if path.suffix.lower() in IMAGE_SUFFIXES and path.suffix.lower() != ".gif":
            return Backdrop(torch.from_numpy(read_image(path)).permute(2, 0, 1)[None].float() / 255)
        return MovingBackdrop(path)
    try:
        color = ImageColor.getrgb(given)[:3]
    except ValueError:
        raise UserError(
            f"no such background: {given!r}; choose blur, a colour such as white or #00b140, or an image or video file"
        ) from None
    return Backdrop(torch.tensor(color).reshape(1, 3, 1, 1) / 255)


def _timed(source: Source, start: float) -> Iterator[tuple[float, Array]]:
    first: int | None = None
    for item in source.frames():
        if isinstance(item, Frame):
            first = item.pts if first is None else first
            yield start + float((item.pts - first) * source.time_base), item.pixels


def _cover(picture: Tensor, size: torch.Size) -> Tensor:
    """The picture enlarged or reduced until it covers ``size``, and cut at its middle."""
    height, width = picture.shape[-2:]
    factor = max(size[0] / height, size[1] / width)
    covering = [max(whole, round(side * factor)) for side, whole in zip((height, width), size, strict=True)]
    resized = functional.interpolate(picture, covering, mode="bilinear", antialias=True)
    top, left = (covering[0] - size[0]) // 2, (covering[1] - size[1]) // 2
    return resized[..., top : top + size[0], left : left + size[1]]
