"""A label space for masks that came without one: which ids or colours occur, as YAML that lacks only names.

Masks are read by their colours where one of them is RGB, or where palettes differ. Of ids, the colours come from the
palette where it tells them apart. An id of 255 is suggested as ignored, except in masks of 0 and 255 only, which are
black-and-white pictures of one class.
"""

import colorsys
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from polyscale.config import dump_yaml
from polyscale.data.folders import LABEL_SPACE_FILE, FolderConfig, find_files
from polyscale.data.images import open_image, to_rgb
from polyscale.data.masks import read_index_mask
from polyscale.data.open import data_config, list_splits
from polyscale.data.palettes import Color, Palettes, colors_of
from polyscale.data.parallel import Progress, in_parallel, pixels_of
from polyscale.errors import UserError

__all__ = ["distinct_colors", "suggest_label_space"]

_MOST = 255


class _Content(NamedTuple):
    """Counts of a mask: pixels of each id, of each packed colour, and the palette's colour of each id."""

    mode: Literal["ids", "palette", "colors"]
    ids: dict[int, int]
    colors: dict[int, int]
    palette: dict[int, Color]


class _Counts:
    """Pixels of each value, and masks with it."""

    def __init__(self) -> None:
        self.pixels: Counter[int] = Counter()
        self.masks: Counter[int] = Counter()

    def add(self, pixels: Mapping[int, int]) -> None:
        self.pixels.update(pixels)
        self.masks.update(pixels.keys())

    @property
    def too_many(self) -> bool:
        return len(self.pixels) > _MOST + 1


def suggest_label_space(
    where: str | Path | FolderConfig,
    split: str | None = None,
    *,
    workers: int | None = None,
    progress: Progress | None = None,
) -> str:
    """Read all masks of a folder and write down a label space for them.

    Args:
        where: as for ``open_data``; a plain folder, which needs no label space.
        split: overrides the config's split; by default the masks of all splits are read.
        workers: number of threads.
        progress: called with (masks read, masks in all).

    Returns:
        YAML text with comments, ready to be saved as ``label_space.yaml`` once the classes have names.

    Raises:
        UserError: there are no masks, one is unreadable, some hold ids of 16 bits and some colours, or the values are
            too many to be classes.
    """
    config = data_config(where, split)
    if not isinstance(config, FolderConfig):
        raise UserError(
            f"data of kind {config.kind!r} have a label space of their own; suggestions are for plain folders"
        )
    if config.split is None and (splits := list_splits(config)):
        config = config.model_copy(update={"split": splits})
    paths = [item.mask for item in find_files(config, lenient=True).items if item.mask is not None]
    if not paths:
        raise UserError(
            f"there are no masks in {config.root} to suggest a label space from: a mask has its image's name, or "
            f"{config.root / 'data.yaml'} says both, for example image: images/{{split}}/{{name}} and "
            "mask: masks/{split}/{name}_mask.png"
        )
    ids, colors = _Counts(), _Counts()
    palettes = Palettes()
    palette: dict[int, Color] = {}
    first: dict[str, Path] = {}
    reason = None  # why the masks are read by their colours
    for path, content in zip(paths, in_parallel(paths, _content, workers, progress, pixels_of), strict=True):
        first.setdefault(content.mode, path)
        ids.add(content.ids)
        colors.add(content.colors)
        reason = reason or (
            f"{path.name} holds colours"
            if content.mode == "colors"
            else palettes.disagreement(Path(path.name), content.palette)
        )
        palette = content.palette | palette
        if (colors if reason else ids).too_many:
            values = "colours" if reason else "ids"
            raise UserError(
                f"masks in {config.root} hold more than {_MOST} different {values}, "
                f"too many to be classes: is {path} a picture, or a mask of instances?"
            )
    if reason is None:
        return _yaml(config, ids, palette, len(paths))
    if "ids" in first and any(value > 255 for value in ids.pixels):
        raise UserError(f"{first['ids']} holds ids and {first['colors']} colours; make all masks of one kind")
    return _color_yaml(config, colors, reason, first.get("ids"), len(paths))


def _content(path: Path) -> _Content:
    with open_image(path) as image:
        if image.mode in ("RGB", "RGBA"):
            rgb = to_rgb(image).astype(np.uint32)
            values = _counted((rgb[..., 0] << 16) | (rgb[..., 1] << 8) | rgb[..., 2])
            return _Content("colors", {}, values, {})
    mask = read_index_mask(path)
    pixels = _counted(mask.ids)
    if mask.palette is None:
        return _Content("ids", pixels, {value * 0x010101: n for value, n in pixels.items()}, {})
    packed: Counter[int] = Counter()
    for value, count in pixels.items():
        red, green, blue = mask.palette[value].tolist() if value < len(mask.palette) else (0, 0, 0)
        packed[red << 16 | green << 8 | blue] += count
    return _Content("palette", pixels, dict(packed), colors_of(mask))


def _counted(values: np.ndarray[Any, Any]) -> dict[int, int]:
    found, counts = np.unique(values, return_counts=True)
    return dict(zip(found.tolist(), counts.tolist(), strict=True))


def _yaml(config: FolderConfig, counts: _Counts, palette: Mapping[int, Color], num_masks: int) -> str:
    """A label space of ids, in the colours of their palette where it tells them apart."""
    values = sorted(counts.pixels)
    ignored = [value for value in values if value == 255 and values != [0, 255]]
    classes = [value for value in values if value not in ignored] or values
    known = [palette.get(value) for value in classes]
    distinct = len(set(known)) == len(known) and None not in known and any(len(set(color or ())) > 1 for color in known)
    colors = [color for color in known if color] if distinct else list(distinct_colors(len(classes)))
    lines = _head(config, num_masks)
    for value, color in zip(classes, colors, strict=True):
        lines.append(f"  - {{name: class_{value}, color: {list(color)}, ids: [{value}]}}  # {_share(counts, value)}")
    lines.append(f"ignore_ids: {ignored}")
    lines += [f"# id {value} is {_share(counts, value)}: ignored" for value in ignored]
    return "\n".join(lines) + "\n"


def _color_yaml(config: FolderConfig, counts: _Counts, reason: str, grey: Path | None, num_masks: int) -> str:
    """A label space of colours; black is ignored where there are others."""
    values = sorted(counts.pixels)
    classes = [value for value in values if value] or values
    lines = _head(config, num_masks)
    lines.insert(1, f"# The masks are colour-coded ({reason.partition(';')[0]}).")
    lines.insert(2, f"# So write 'color_coded: true' into {config.root / 'data.yaml'} as well.")
    if grey is not None:
        lines.insert(3, f"# {grey.name} is grey: its values count as colours here; if they are ids, save all as ids.")
    for position, value in enumerate(classes):
        color = [value >> 16, value >> 8 & 255, value & 255]
        lines.append(f"  - {{name: class_{position}, color: {color}, ids: [{position}]}}  # {_share(counts, value)}")
    lines += [f"# black is {_share(counts, value)}: ignored" for value in values if value not in classes]
    return "\n".join(lines) + "\n"


def _head(config: FolderConfig, num_masks: int) -> list[str]:
    return [
        f"# Suggested from {num_masks} masks. Name the classes, then save this as {config.root / LABEL_SPACE_FILE}.",
        f"name: {dump_yaml(config.root.resolve().name or 'custom').splitlines()[0]}",
        "classes:",
    ]


def _share(counts: _Counts, value: int) -> str:
    total = sum(counts.pixels.values())
    return f"{100 * counts.pixels[value] / total:.2f} % of the pixels, in {counts.masks[value]} masks"


def distinct_colors(count: int) -> Iterable[Color]:
    """Colours that differ: hues a golden section of the circle apart, in three shades."""
    for position in range(count):
        channels = colorsys.hsv_to_rgb(
            position * 0.618 % 1, 0.75 - 0.2 * (position % 2), (0.9, 0.65, 0.45)[position % 3]
        )
        red, green, blue = (round(255 * channel) for channel in channels)
        yield red, green, blue
