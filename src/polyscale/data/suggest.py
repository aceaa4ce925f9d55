"""A label space for masks that came without one: which ids or colours occur, as YAML that lacks only names.

Unusual here: colours come from the masks' own palettes where these tell classes apart. An id of 255 is suggested as
ignored, except in masks of 0 and 255 only, which are black-and-white pictures of one class.
"""

import colorsys
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np

from polyscale.config import dump_yaml
from polyscale.data.folders import LABEL_SPACE_FILE, FolderConfig, find_files
from polyscale.data.images import open_image, to_rgb
from polyscale.data.masks import read_mask
from polyscale.data.open import data_config, list_splits
from polyscale.errors import UserError

__all__ = ["suggest_label_space"]

_MOST = 255

Color = tuple[int, int, int]


class _Content(NamedTuple):
    """What a mask holds: pixels of each value (an id or a packed colour), and the palette's colour of each id."""

    colored: bool
    pixels: dict[int, int]
    palette: dict[int, Color]


def suggest_label_space(
    where: str | Path | FolderConfig,
    split: str | None = None,
    *,
    workers: int | None = None,
    progress: Callable[[int, int], None] | None = None,
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
        UserError: there are no masks, one is unreadable, some hold ids and some colours, or the values are too many to
            be classes.
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
    pixels: Counter[int] = Counter()
    masks: Counter[int] = Counter()
    palette: dict[int, Color] = {}
    kinds: dict[bool, Path] = {}
    pool = ThreadPoolExecutor(workers)
    try:
        for done, (path, content) in enumerate(zip(paths, pool.map(_content, paths), strict=True), start=1):
            kinds.setdefault(content.colored, path)
            pixels.update(content.pixels)
            masks.update(content.pixels.keys())
            palette = content.palette | palette
            if len(kinds) == 2:
                raise UserError(f"{kinds[False]} holds ids and {kinds[True]} colours; make all masks of one kind")
            if len(pixels) > _MOST + 1:
                values = "colours" if content.colored else "ids"
                raise UserError(
                    f"masks in {config.root} hold more than {_MOST} different {values}, "
                    f"too many to be classes: is {path} a picture, or a mask of instances?"
                )
            if progress is not None:
                progress(done, len(paths))
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
    return _yaml(config, True in kinds, pixels, masks, palette, len(paths))


def _content(path: Path) -> _Content:
    with open_image(path) as image:
        if image.mode in ("RGB", "RGBA"):
            rgb = to_rgb(image).astype(np.uint32)
            values, counts = np.unique((rgb[..., 0] << 16) | (rgb[..., 1] << 8) | rgb[..., 2], return_counts=True)
            return _Content(True, dict(zip(values.tolist(), counts.tolist(), strict=True)), {})
        table = (image.getpalette("RGB") or []) if image.mode == "P" else []
    values, counts = np.unique(read_mask(path), return_counts=True)
    pixels = dict(zip(values.tolist(), counts.tolist(), strict=True))
    return _Content(False, pixels, {i: _color(table[3 * i : 3 * i + 3]) for i in pixels if len(table) >= 3 * i + 3})


def _yaml(
    config: FolderConfig,
    colored: bool,
    pixels: Counter[int],
    masks: Counter[int],
    palette: dict[int, Color],
    num_masks: int,
) -> str:
    total = sum(pixels.values())
    values = sorted(pixels)
    ignored = [value for value in values if value == (0 if colored else 255)]
    if not colored and values == [0, 255]:
        ignored = []
    classes = [value for value in values if value not in ignored] or values
    if colored:
        colors = [_color([value >> 16, value >> 8 & 255, value & 255]) for value in classes]
    else:
        known = [palette.get(value) for value in classes]
        distinct = (
            len(set(known)) == len(known) and None not in known and any(len(set(color or ())) > 1 for color in known)
        )
        colors = [color for color in known if color] if distinct else list(_distinct_colors(len(classes)))
    lines = [
        f"# Suggested from {num_masks} masks. Name the classes, then save this as {config.root / LABEL_SPACE_FILE}.",
        f"name: {dump_yaml(config.root.resolve().name or 'custom').splitlines()[0]}",
        "classes:",
    ]
    if colored:
        lines.insert(1, "# The masks are colour-coded: also set color_coded: true in the data set's config.")
    for position, (value, color) in enumerate(zip(classes, colors, strict=True)):
        ids = f"ids: [{position if colored else value}]"
        share = f"{100 * pixels[value] / total:.2f} % of the pixels, in {masks[value]} masks"
        name = f"class_{position if colored else value}"
        lines.append(f"  - {{name: {name}, color: {list(color)}, {ids}}}  # {share}")
    if not colored:
        lines.append(f"ignore_ids: {ignored}")
    for value in ignored:
        what = "black" if colored else f"id {value}"
        lines.append(f"# {what} is {100 * pixels[value] / total:.2f} % of the pixels, in {masks[value]} masks: ignored")
    return "\n".join(lines) + "\n"


def _color(values: Iterable[int]) -> Color:
    red, green, blue = values
    return int(red), int(green), int(blue)


def _distinct_colors(count: int) -> Iterable[Color]:
    """Colours that differ: hues a golden section of the circle apart, in three shades."""
    for position in range(count):
        channels = colorsys.hsv_to_rgb(
            position * 0.618 % 1, 0.75 - 0.2 * (position % 2), (0.9, 0.65, 0.45)[position % 3]
        )
        yield _color(round(255 * channel) for channel in channels)
