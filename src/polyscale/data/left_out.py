"""Parts of image files that are not read: further bands, pages and frames."""

import warnings
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image

__all__ = ["LeftOut", "PartialImageWarning", "left_out", "stay_silent", "warn_of_bands", "warn_of_left_out"]

_MOST_PAGES = 64
"""Pages of a TIFF that are looked at for one that is left out."""

_COLORS = {2: 3, 5: 4, 6: 3, 8: 3}
"""Colour channels of a TIFF by its photometric interpretation (TIFF 6.0, tag 262); 1 in all others."""


class PartialImageWarning(UserWarning):
    """A file holds more than is read of it."""


class LeftOut(NamedTuple):
    """The parts of a file that are not read.

    Attributes:
        kind: ``bands``, ``pages`` or ``frames``.
        message: what the file has, as the end of a sentence that begins with its name.
    """

    kind: str
    message: str


_told: set[str] = set()
"""Kinds that were warned of in this process: one warning a run is enough."""


def left_out(image: Image.Image) -> LeftOut | None:
    """The parts of an opened image file that are not read.

    Bands beyond the third (alpha is none), full-size pages of a TIFF, and further frames of an animation. The second
    picture of a phone's JPEG and the small copies in a TIFF do not count.
    """
    if image.format == "TIFF":
        return _bands(image) or _pages(image)
    if image.format in ("PNG", "GIF", "WEBP") and getattr(image, "is_animated", False):
        return LeftOut("frames", "is an animation, of which only the first frame is read")
    return None


def warn_of_left_out(image: Image.Image, path: str | Path) -> None:
    """Warn of the parts that are left out, once for each kind in this process."""
    part = left_out(image)
    if part is not None:
        _warn(part, path)


def warn_of_bands(path: str | Path, bands: int) -> None:
    """The same for a file that Pillow does not know; the first three of its bands are read."""
    if bands > 3:
        _warn(LeftOut("bands", f"has {bands} bands, of which only the first three are read"), path)


def _warn(part: LeftOut, path: str | Path) -> None:
    if part.kind not in _told:
        _told.add(part.kind)
        warnings.warn(f"{path} {part.message} (other files may be alike)", PartialImageWarning, stacklevel=3)


def stay_silent() -> None:
    """Give no such warning in this process, as another one does."""
    _told.update(("bands", "pages", "frames"))


def _bands(image: Image.Image) -> LeftOut | None:
    tags: Any = getattr(image, "tag_v2", {})
    bands, colors = int(tags.get(277, 1)), _COLORS.get(int(tags.get(262, 1)), 1)
    alphas = sum(kind in (1, 2) for kind in tags.get(338, ()))
    if bands <= colors + alphas:
        return None
    read = {1: "the first is", 3: "the first three are", 4: "the first four are"}[colors]
    return LeftOut("bands", f"has {bands} bands, of which only {read} read")


def _pages(image: Image.Image) -> LeftOut | None:
    if not getattr(image, "is_animated", False):
        return None
    tags: Any = getattr(image, "tag_v2", {})
    try:
        for page in range(1, _MOST_PAGES):
            image.seek(page)
            if not int(tags.get(254, 0)) & 0b101:  # neither a small copy nor a mask of another page
                return LeftOut("pages", "has several pages, of which only the first is read")
    except EOFError:
        pass
    finally:
        image.seek(0)
    return None
