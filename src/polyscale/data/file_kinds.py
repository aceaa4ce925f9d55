"""Common parts of the data sets that are files: a root, splits, a choice of names."""

from pathlib import Path
from typing import Literal

from polyscale.data.images import IMAGE_SUFFIXES
from polyscale.data.items import DataError
from polyscale.data.kind import DataSetConfig
from polyscale.data.layout import Found, first_three, keep
from polyscale.errors import UserError

__all__ = ["FilesConfig"]


class FilesConfig(DataSetConfig):
    """Images and masks as files below one folder."""

    root: Path
    """The data set's folder."""
    split: str | tuple[str, ...] | None = None
    """One split, several (names then begin with the split), or null for all."""
    masks: Literal["required", "optional", "none"] = "required"
    """``required`` refuses images without a mask, ``optional`` reads them without labels, ``none`` ignores all masks.
    """
    include: tuple[str, ...] = ()
    """Name patterns; only items that fit one are kept."""
    exclude: tuple[str, ...] = ()
    """Name patterns; items that fit one are left out, for example ``["0006R0*"]``."""
    long_edge: int | None = None
    """The longer side, in pixels, to which images and masks are resized when they are read; null keeps their size."""

    @property
    def folder(self) -> Path:
        """The root, with ``~`` resolved.

        Raises:
            UserError: there is no such folder.
        """
        root = self.root.expanduser()
        if not root.is_dir():
            missing = f"no such data folder: {root}" if not root.exists() else f"{root} is a file, not a data folder"
            raise UserError(missing)
        return root

    @property
    def where(self) -> str:
        """Name of the data set in messages: its root, and its splits in parentheses."""
        split = self.split
        if split is None:
            return f"{self.root}"
        return f"{self.root} ({split if isinstance(split, str) else ', '.join(split)})"

    def chosen(self, found: Found, lenient: bool = False) -> Found:
        """The items that ``include`` and ``exclude`` leave of those found, each with its mask.

        Raises:
            UserError: there are no images, a pattern fits none, or (unless ``lenient``) an image has no mask where
                masks are required.
        """
        if not found.items:
            raise UserError(f"there are no images in {self.where} ({', '.join(IMAGE_SUFFIXES)})")
        num_splits = len(self.split) if isinstance(self.split, tuple) else 1
        found = keep(found, self.include, self.exclude, self.where, num_splits)
        bare = [item.image for item in found.items if item.mask is None]
        if bare and self.masks == "required" and not lenient:
            raise DataError(
                f"{len(bare)} of {len(found.items)} images in {self.where} have no mask: {first_three(bare)}; "
                "add the masks, leave the images out with exclude, or set masks: optional",
                "missing",
            )
        return found
