"""Label spaces: class names, colours, and how a data set's ids map to train ids.

The ignored train id is one constant, ``IGNORE`` (255), everywhere in the package, whatever the data set
uses. A dataset id that the label space does not know is an error by default rather than silently ignored.
"""

import hashlib
import json
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from pydantic import Field, field_validator, model_validator

from polyscale.config import Config, dump_yaml, read_yaml, validate
from polyscale.errors import UserError
from polyscale.files import write_atomically

__all__ = ["IGNORE", "ClassMatch", "LabelClass", "LabelSpace"]

IGNORE = 255
"""The train id of a pixel that counts neither in a loss nor in a score."""


class LabelClass(Config):
    """One class: its name, its colour (R, G, B in 0..255), and the dataset ids that mean it."""

    name: str
    """Its name in tables and legends."""
    color: tuple[int, int, int]
    """Red, green and blue, 0 to 255; how it is drawn, and what colour-coded masks hold."""
    ids: tuple[int, ...] = ()
    """Values of a mask's pixels that mean it; by default its position among the classes."""

    @field_validator("name")
    @classmethod
    def _named(cls, name: str) -> str:
        if not name.strip():
            raise ValueError("a class has a name, got an empty one")
        return name

    @field_validator("color")
    @classmethod
    def _in_range(cls, color: tuple[int, int, int]) -> tuple[int, int, int]:
        if not all(0 <= channel <= 255 for channel in color):
            raise ValueError(f"a colour is three numbers from 0 to 255, got {color}")
        return color


class ClassMatch(NamedTuple):
    """How the classes of another label space are those of this one, by their names; see ``LabelSpace.match``."""

    table: np.ndarray[Any, np.dtype[np.uint8]]
    """(256,) train ids of the other space to those of this one; ``IGNORE`` where there is no such class."""
    lacking: tuple[str, ...]
    """Classes of this space that the other one has not."""
    strange: tuple[str, ...]
    """Classes of the other space that this one has not."""

    @property
    def same_classes(self) -> bool:
        """Whether both have the same classes, in whatever order."""
        return not self.lacking and not self.strange

    @property
    def same_order(self) -> bool:
        """Whether both have the same classes in the same order, so that train ids mean the same."""
        known = self.table[self.table != IGNORE]
        return self.same_classes and np.array_equal(known, np.arange(len(known)))


class LabelSpace(Config):
    """Classes in the order of their train ids 0 .. C-1; a class without ``ids`` has its position as its only id.

    ``ignore_ids`` are dataset ids that become ``IGNORE``; with ``ignore_unknown`` so does every id that is not listed.
    The id 255 is ignored unless a class claims it.

    Example:
        >>> space = LabelSpace(name="lanes", classes=(LabelClass(name="road", color=(128, 64, 128), ids=(7,)),
        ...                                           LabelClass(name="line", color=(255, 255, 255), ids=(8, 9))))
        >>> space.encode(np.array([[7, 8], [9, 255]], np.uint8)).tolist()
        [[0, 1], [1, 255]]
    """

    name: str = "custom"
    """Name of the label space in messages."""
    classes: tuple[LabelClass, ...] = Field(min_length=1, max_length=255)
    """The classes in the order of their train ids."""
    ignore_ids: tuple[int, ...] = ()
    """Values of a mask's pixels that are ignored; 255 always is, unless a class claims it."""
    ignore_unknown: bool = False
    """Ignore every value that no class and no ``ignore_ids`` name, instead of refusing the mask."""

    @model_validator(mode="before")
    @classmethod
    def _fill_ids(cls, values: Any) -> Any:
        if not isinstance(values, dict) or not isinstance(values.get("classes"), list | tuple):
            return values
        filled = []
        for position, item in enumerate(values["classes"]):
            plain = item.model_dump() if isinstance(item, LabelClass) else item
            if isinstance(plain, dict) and not plain.get("ids"):
                plain = {**plain, "ids": (position,)}
            filled.append(plain)
        return {**values, "classes": tuple(filled)}

    @model_validator(mode="after")
    def _check(self) -> "LabelSpace":
        names = [item.name for item in self.classes]
        doubled = sorted({name for name in names if names.count(name) > 1})
        if doubled:
            raise ValueError(f"class names must differ, given twice: {', '.join(doubled)}")
        owner: dict[int, str] = {}
        for item in self.classes:
            for number in item.ids:
                if not 0 <= number <= 65535:
                    raise ValueError(f"class {item.name!r}: id {number} is outside 0 to 65535")
                if number in owner:
                    raise ValueError(f"id {number} belongs to both {owner[number]!r} and {item.name!r}")
                owner[number] = item.name
        claimed = sorted(set(self.ignore_ids) & set(owner))
        if claimed:
            raise ValueError(f"id {claimed[0]} is both ignored and of class {owner[claimed[0]]!r}")
        return self

    @property
    def num_classes(self) -> int:
        """C, the number of classes; ignored pixels are not a class."""
        return len(self.classes)

    @property
    def names(self) -> tuple[str, ...]:
        """Class names in the order of train ids."""
        return tuple(item.name for item in self.classes)

    @property
    def palette(self) -> np.ndarray[Any, np.dtype[np.uint8]]:
        """Colours, shape (C, 3), uint8 RGB."""
        return np.array([item.color for item in self.classes], dtype=np.uint8)

    def encode(self, mask: np.ndarray[Any, Any]) -> np.ndarray[Any, np.dtype[np.uint8]]:
        """Dataset ids to train ids.

        Args:
            mask: (H, W), any integer type or bool, values 0..65535.

        Returns:
            (H, W) uint8, values 0..C-1 or ``IGNORE``.

        Raises:
            UserError: a pixel's id is not in the label space; the message names the ids and how many pixels have them.
        """
        if mask.dtype == np.bool_:
            mask = mask.astype(np.uint8)
        if not np.issubdtype(mask.dtype, np.integer):
            raise UserError(f"label ids must be whole numbers, got an array of {mask.dtype}")
        if mask.dtype not in (np.uint8, np.uint16) and mask.size and (mask.min() < 0 or mask.max() > 65535):
            raise UserError(f"label ids must lie in 0 to 65535, got {mask.min()} to {mask.max()}")
        train_ids = _encoding(self)[mask]
        unknown = train_ids < 0
        if unknown.any():
            ids, counts = np.unique(mask[unknown], return_counts=True)
            listed = ", ".join(f"{i} ({n} px)" for i, n in list(zip(ids.tolist(), counts.tolist(), strict=True))[:5])
            more = f" and {len(ids) - 5} more" if len(ids) > 5 else ""
            raise UserError(
                f"ids outside the label space {self.name!r}: {listed}{more}; known ids are {self._known()}; "
                "add them to a class or to ignore_ids, or set ignore_unknown: true"
            )
        return np.asarray(train_ids, dtype=np.uint8)

    def _known(self) -> str:
        ids = sorted([number for item in self.classes for number in item.ids] + list(self.ignore_ids))
        return _ranges(ids)

    def decode(self, train_ids: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """Train ids to dataset ids: each class's first id; ``IGNORE`` becomes the first ignored id, or 255.

        Args:
            train_ids: (H, W), values 0..C-1 or ``IGNORE``.

        Returns:
            (H, W) uint8, or uint16 where an id of the label space is above 255.

        Raises:
            UserError: pixels are ignored, but the label space has no id that says so.
        """
        claimed = {number for item in self.classes for number in item.ids}
        candidates = [number for number in (*self.ignore_ids, IGNORE) if 0 <= number <= 65535 and number not in claimed]
        if not candidates and (train_ids == IGNORE).any():
            raise UserError(f"label space {self.name!r} has no id for ignored pixels; add one to ignore_ids")
        table = np.full(256, candidates[0] if candidates else 0, dtype=np.uint16)
        table[: self.num_classes] = [item.ids[0] for item in self.classes]
        return np.asarray(table[train_ids], dtype=np.uint16 if table.max() > 255 else np.uint8)

    def colorize(self, train_ids: np.ndarray[Any, Any]) -> np.ndarray[Any, np.dtype[np.uint8]]:
        """Train ids (H, W) as a picture (H, W, 3) uint8; ignored pixels are black."""
        table = np.zeros((256, 3), dtype=np.uint8)
        table[: self.num_classes] = self.palette
        return np.asarray(table[train_ids])

    def match(self, other: "LabelSpace") -> ClassMatch:
        """Match the classes of another label space to those of this one: by name, in upper or lower case.

        Example:
            >>> first = LabelSpace(classes=tuple(LabelClass(name=n, color=(0, 0, 0)) for n in ("road", "sky")))
            >>> other = LabelSpace(classes=tuple(LabelClass(name=n, color=(0, 0, 0)) for n in ("Sky", "car", "road")))
            >>> first.match(other).table[:3].tolist(), first.match(other).strange
            ([1, 255, 0], ('car',))
        """
        places = {name.casefold(): place for place, name in reversed(list(enumerate(self.names)))}
        places |= {name: place for place, name in enumerate(self.names)}
        found = [places.get(name, places.get(name.casefold(), IGNORE)) for name in other.names]
        table = np.full(256, IGNORE, dtype=np.uint8)
        table[: len(found)] = found
        return ClassMatch(
            table,
            tuple(name for place, name in enumerate(self.names) if place not in found),
            tuple(name for name, place in zip(other.names, found, strict=True) if place == IGNORE),
        )

    @property
    def digest(self) -> str:
        """Short fingerprint of everything that decides how a mask is read: equal spaces have equal digests."""
        content = [[item.name, sorted(item.ids)] for item in self.classes]
        text = json.dumps([content, sorted(self.ignore_ids), self.ignore_unknown])
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    @classmethod
    def from_yaml(cls, path: str | Path) -> "LabelSpace":
        """Read a label space.

        Raises:
            UserError: the file is missing or not a label space.
        """
        values = read_yaml(path)
        if values is None:
            raise UserError(
                f"{path} is not a label space but empty; remove it, and `polyscale data check` suggests one"
            )
        if not isinstance(values, dict) or "classes" not in values:
            raise UserError(f"{path} is not a label space: it needs 'classes', a list of {{name, color, ids}}")
        misplaced = [key for key in ("color_coded", "ignore_colors", "image", "mask", "split") if key in values]
        if misplaced:
            raise UserError(
                f"{path}: {misplaced[0]} is about files, not about classes; write it into data.yaml in the same folder"
            )
        try:
            return validate(cls, values)
        except UserError as error:
            raise UserError(f"{path}: {error}") from None

    def to_yaml(self, path: str | Path) -> None:
        """Write the label space; ``from_yaml`` reads an equal one.

        Raises:
            UserError: the file cannot be written.
        """
        values = self.model_dump(mode="json")
        with write_atomically(path) as temporary:
            temporary.write_text(dump_yaml(values), encoding="utf-8")


# Cached here rather than on the label space: an array among its attributes would break == and swell its pickle.
@lru_cache(maxsize=64)
def _encoding(space: LabelSpace) -> np.ndarray[Any, np.dtype[np.int16]]:
    """Dataset id -> train id, with -1 for an id that is not known; shape (65536,)."""
    table = np.full(65536, IGNORE if space.ignore_unknown else -1, dtype=np.int16)
    table[IGNORE] = IGNORE
    table[[number for number in space.ignore_ids if 0 <= number <= 65535]] = IGNORE
    for train_id, item in enumerate(space.classes):
        table[list(item.ids)] = train_id
    return table


def _ranges(numbers: Iterable[int]) -> str:
    """Sorted numbers as text with runs joined: 0-3, 7."""
    parts: list[list[int]] = []
    for number in numbers:
        if parts and number == parts[-1][1] + 1:
            parts[-1][1] = number
        else:
            parts.append([number, number])
    return ", ".join(str(a) if a == b else f"{a}-{b}" for a, b in parts) or "none"
