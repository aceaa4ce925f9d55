"""Confidence maps beside auto-labels: the level of each pixel, as weights for training and for other thresholds.

``polyscale autolabel --confidence`` writes ``confidence/NAME.png`` beside ``masks/NAME.png``. Each value covers a
square of pixels and is a *level*: an index into ``confidence_levels`` of ``autolabel.json``, the levels' lower bounds.
The last level, 1, is that of labels that were given and not predicted. These may be thinner than a square, so
``certain/NAME.png`` marks them pixel by pixel.
"""

from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError, field_validator

from polyscale.data.items import DataError, Item
from polyscale.data.masks import read_mask
from polyscale.errors import UserError

__all__ = ["ConfidenceMaps", "MapFormat", "first_problem", "read_levels", "stride_of"]

_MEGAPIXEL = 1_000_000

Fraction = Annotated[float, Field(ge=0, le=1)]


class MapFormat(BaseModel):
    """The part of ``autolabel.json`` that says what the maps hold."""

    model_config = ConfigDict(frozen=True, strict=True, allow_inf_nan=False)

    settings: dict[str, JsonValue]
    confidence_levels: Annotated[tuple[Fraction, ...], Field(min_length=2, max_length=256)] | None
    """Lower bounds of the levels, rising; None without confidence maps."""
    confidence_stride: Annotated[int, Field(ge=1, le=16)] | None
    """Pixels a side that a stored value covers; see ``stride_of``."""

    @field_validator("confidence_levels")
    @classmethod
    def _rising(cls, levels: tuple[float, ...] | None) -> tuple[float, ...] | None:
        if levels is not None and list(levels) != sorted(set(levels)):
            raise ValueError("the levels do not rise")
        return levels

    @field_validator("settings")
    @classmethod
    def _says_what_was_given(cls, settings: dict[str, JsonValue]) -> dict[str, JsonValue]:
        if not isinstance(settings.get("coarse_labels", 0), str | None):
            raise ValueError("coarse_labels must be text or null")
        return settings

    @property
    def levels(self) -> tuple[float, ...]:
        """Lower bounds of the levels; empty without confidence maps."""
        return self.confidence_levels or ()

    @property
    def has_given(self) -> bool:
        """Whether some labels may be given ones, which ``certain`` marks."""
        return self.settings["coarse_labels"] is not None


def first_problem(error: ValidationError) -> str:
    """The first thing that is wrong with a JSON file, in a few printable words."""
    found = error.errors(include_url=False, include_input=False)[0]
    text = str(found["msg"]).removeprefix("Value error, ")
    if found["type"] != "value_error" and found["loc"]:
        text = f"{'.'.join(str(part) for part in found['loc'])}: {text}"
    return text[:200] if text.isprintable() else repr(text[:200])[1:-1]


def stride_of(chosen: int | None, height: int, width: int) -> int:
    """How many pixels a side one stored value covers.

    Args:
        chosen: the folder's ``confidence_stride``; None for 4 in images of a megapixel and more, and 2 in smaller ones.
        height: of the image.
        width: of the image.
    """
    return chosen or (4 if height * width >= _MEGAPIXEL else 2)


def read_levels(
    root: Path, file: str | Path, form: MapFormat, size: tuple[int, ...]
) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """The level of each pixel of one image.

    Args:
        root: the auto-labelled folder.
        file: of the image's mask, relative to ``masks``.
        form: of the folder.
        size: (H, W) of the image.

    Returns:
        (H, W) uint8 in 0 .. K-1; K-1 where the label was given.

    Raises:
        UserError: a file is missing, damaged or of another size.
    """
    path, num_levels = root / "confidence" / file, len(form.levels)
    found = read_mask(path)
    if found.dtype != np.uint8 or found.max(initial=0) >= num_levels:
        raise DataError(f"{path} holds more than the {num_levels} levels of {root / 'autolabel.json'}; {_AGAIN}")
    height, width = size
    stride = stride_of(form.confidence_stride, height, width)
    if found.shape != (-(-height // stride), -(-width // stride)):
        raise DataError(f"{path} does not have the size of the image's labels; {_AGAIN}", "size")
    levels = np.repeat(np.repeat(found, stride, axis=0), stride, axis=1)[:height, :width]
    if form.has_given:
        path = root / "certain" / file
        given = read_mask(path)
        if given.shape != levels.shape:
            raise DataError(f"{path} does not have the size of the image's labels; {_AGAIN}", "size")
        levels[given != 0] = num_levels - 1
    return levels


class ConfidenceMaps:
    """The confidence levels of the images of one auto-labelled folder.

    Args:
        root: the folder.

    Attributes:
        levels: (K,) float32, the lower bound of each level, rising, in [0, 1].

    Raises:
        UserError: the folder was not auto-labelled, or without confidence maps.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        try:
            self._form = MapFormat.model_validate_json((root / "autolabel.json").read_bytes())
        except OSError:
            raise UserError(
                f"{root} has no readable autolabel.json, so it holds no confidence maps; {_REMEDY}"
            ) from None
        except ValidationError as error:
            problem = first_problem(error)
            raise UserError(f"{root} has no readable autolabel.json ({problem}), so no maps; {_REMEDY}") from None
        if not self._form.levels:
            raise UserError(f"{root} was labelled without confidence maps; {_REMEDY}")
        self.levels: np.ndarray[Any, np.dtype[np.float32]] = np.array(self._form.levels, dtype=np.float32)

    def read(self, item: Item, size: tuple[int, ...]) -> np.ndarray[Any, np.dtype[np.uint8]]:
        """The level of each pixel of an item's mask.

        Args:
            item: one of the folder's.
            size: (H, W) of its mask.

        Returns:
            (H, W) uint8 in 0 .. K-1.

        Raises:
            UserError: the map is missing, damaged or of another size.
        """
        assert item.mask is not None, item.name
        try:
            file = item.mask.resolve().relative_to((self.root / "masks").resolve())
        except ValueError:
            raise UserError(f"{item.mask} is not in {self.root / 'masks'}, so it has no confidence map") from None
        return read_levels(self.root, file, self._form, size)


_AGAIN = "remove it, and label the image again"
_REMEDY = "make them with `polyscale autolabel --confidence`, or set confidence_power to 0"
