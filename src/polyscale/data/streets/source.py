"""Drawn streets: street scenes with exact labels, drawn by the package; the data set of the demo and of the tests.

What is drawn, and why: a level camera sees a street that runs away from it, or looks over one at the houses opposite,
in changing light and with sensor noise. Two things are hard on purpose, the two that scale attention is for (Tao, Sapra
and Catanzaro 2020, sections 1 and 4):

* *Thin things.* Lamp posts, sign posts and bollards are one to three pixels wide at 256 x 512, and a part of the signs
  are seen edge-on or are street names as thin. A half-scale view cannot resolve them.
* *Large plain regions.* Sky and plain walls take colour and texture from one distribution, often the same tone within a
  scene; walls reach the upper edge of the image, and sky comes down to the horizon between them. Road, sidewalk and
  median share one asphalt. A window of a hundred pixels within such a region does not say which it is; its edges, the
  doors at a wall's foot or the kerb lines do.

Scene ``index`` of ``seed`` depends on nothing else, so a data set needs no files, and splits are ranges
of indices that cannot meet (``split_starts``). The label of a wire is what hangs behind it, of a tree's trunk
vegetation, of a median sidewalk.
"""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from polyscale.data.masks import write_mask
from polyscale.data.streets.coarse import coarse_labels
from polyscale.data.streets.scene import STREETS, Scene, checked_size, draw_scene
from polyscale.errors import UserError
from polyscale.files import write_atomically
from polyscale.labels import LabelSpace

__all__ = ["StreetsSource", "claim_like", "draw_missing", "split_starts", "write_streets"]

Array = np.ndarray[Any, np.dtype[np.uint8]]

SCENES_PER_SPLIT = 1_000_000

# Raise it when the same (seed, index) draws another picture, so that folders written before are not filled up with a
# mixture.
_DRAWING = 1
_MANIFEST = "streets.json"


def split_starts(split_sizes: Mapping[str, int]) -> dict[str, int]:
    """The first scene index of each split: ranges that cannot meet, and that do not move when a split grows.

    Raises:
        UserError: a split's name is no plain folder name, or its size is negative or above a million.
    """
    for name, count in split_sizes.items():
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]*", name):
            raise UserError(f"split name {name!r} must consist of letters, digits, '-' and '_', for example train")
        if not 0 <= count <= SCENES_PER_SPLIT:
            raise UserError(f"split {name!r} has {count} scenes; allowed are 0 to {SCENES_PER_SPLIT}")
    return {name: position * SCENES_PER_SPLIT for position, name in enumerate(split_sizes)}


@dataclass(frozen=True)
class StreetsSource:
    """A data set of drawn streets without files: scenes are drawn when they are read.

    Attributes:
        seed: of the data set, 0 or more.
        count: number of scenes.
        size: (height, width) in pixels, each 64 or more.
        start: index of the first scene, 0 or more; ``split_starts`` gives those of splits that do not meet.

    Example:
        >>> source = StreetsSource(seed=0, count=2, size=(64, 96))
        >>> len(source), source.names
        (2, ('street_0000000', 'street_0000001'))
    """

    seed: int = 0
    count: int = 100
    size: tuple[int, int] = (256, 512)
    start: int = 0

    def __post_init__(self) -> None:
        checked_size(self.size)
        if min(self.seed, self.count, self.start) < 0:
            raise UserError(
                f"drawn streets need seed, count and start of 0 or more, got {self.seed}, {self.count} and {self.start}"
            )

    @property
    def label_space(self) -> LabelSpace:
        """``STREETS``."""
        return STREETS

    @property
    def names(self) -> tuple[str, ...]:
        """A name for each scene, the one that ``write_streets`` gives its files."""
        return tuple(_name(self.start + index) for index in range(self.count))

    def __len__(self) -> int:
        return self.count

    def read(self, index: int) -> tuple[str, Array, Array]:
        """Draw scene ``index`` of this source: its name, image (H, W, 3) and labels (H, W).

        Raises:
            IndexError: ``index`` is not in 0 .. count - 1.
        """
        if not 0 <= index < self.count:
            raise IndexError(f"scene {index} of {self.count}")
        scene = draw_scene(self.seed, self.start + index, self.size)
        return _name(self.start + index), scene.image, scene.labels


def _name(index: int) -> str:
    return f"street_{index:07d}"


def write_streets(
    folder: str | Path,
    split_sizes: Mapping[str, int],
    size: tuple[int, int] = (256, 512),
    seed: int = 0,
    coarse: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> int:
    """Write drawn streets as an ordinary folder data set.

    Makes ``images/<split>/<name>.png``, ``masks/<split>/<name>.png`` (8-bit palette PNG of train ids),
    ``label_space.yaml`` and, with ``coarse``, ``coarse/<split>/<name>.png`` (255 is ignored). Each file appears whole
    or not at all. A second call with the same arguments draws only what is missing; ``streets.json`` remembers the
    arguments.

    Args:
        folder: new or empty, or written by an earlier call.
        split_sizes: number of scenes of each split, for example ``{"train": 200, "val": 50}``; the order decides which
            scenes each gets.
        size: (height, width) in pixels.
        seed: of the data set, 0 or more.
        coarse: whether to write coarse polygon labels too.
        progress: called with (scenes done, scenes in all) after each scene.

    Returns:
        The number of scenes that had to be drawn.

    Raises:
        UserError: an argument is out of range, the folder cannot be written or holds something else, or was written
            with other arguments.
    """
    folder = Path(folder)
    height, width = checked_size(size)
    split_starts(split_sizes)  # checks them
    if seed < 0:
        raise UserError(f"seed of drawn streets must be 0 or more, got {seed}")
    _claim(
        folder,
        {
            "drawing": _DRAWING,
            "seed": seed,
            "size": [height, width],
            # A list, because the order of splits matters and an object's keys have none.
            "splits": [[name, count] for name, count in split_sizes.items()],
            "coarse": coarse,
        },
    )
    if not (folder / "label_space.yaml").exists():
        STREETS.to_yaml(folder / "label_space.yaml")
    kinds = ("images", "masks", "coarse") if coarse else ("images", "masks")

    def draw(split: str, _: int, index: int) -> bool:
        paths = {kind: folder / kind / split / f"{_name(index)}.png" for kind in kinds}
        missing = {kind: path for kind, path in paths.items() if not path.exists()}
        if missing:
            _write_scene(missing, draw_scene(seed, index, (height, width)), seed, index)
        return bool(missing)

    return draw_missing(split_sizes, draw, progress)


def draw_missing(
    split_sizes: Mapping[str, int],
    draw: Callable[[str, int, int], bool],
    progress: Callable[[int, int], None] | None = None,
) -> int:
    """Draw the scenes of each split that are not there yet.

    Args:
        split_sizes: number of scenes of each split.
        draw: called with split, position in the split and index of the scene; says whether it had to draw it.
        progress: called with (scenes done, scenes in all) after each scene.

    Returns:
        The number of scenes that had to be drawn.
    """
    starts = split_starts(split_sizes)
    total, done, drawn = sum(split_sizes.values()), 0, 0
    for split, count in split_sizes.items():
        for position in range(count):
            drawn += draw(split, position, starts[split] + position)
            done += 1
            if progress is not None:
                progress(done, total)
    return drawn


def claim_like(
    folder: Path, like: str, split_sizes: Mapping[str, int], size: tuple[int, int], seed: int
) -> dict[str, int]:
    """Claim a folder for streets in the layout of another data set; returns the splits that hold scenes."""
    sizes = {split: count for split, count in split_sizes.items() if count}
    split_starts(sizes)  # checks them
    _claim(folder, {"like": like, "seed": seed, "size": list(size), "splits": [list(item) for item in sizes.items()]})
    return sizes


def _claim(folder: Path, arguments: dict[str, Any]) -> None:
    """Leave the arguments in the folder, or check that they are those left there before."""
    path = folder / _MANIFEST
    if path.exists():
        try:
            before = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            raise UserError(f"{path} cannot be read; remove {folder} or choose another folder") from None
        if before != arguments:
            raise UserError(
                f"{folder} holds drawn streets of other arguments ({json.dumps(before)}, not {json.dumps(arguments)}); "
                "ask for the same ones, remove the folder or choose another"
            )
        return
    # A hidden file is what a killed call leaves behind; it is nobody's data.
    if folder.exists() and (not folder.is_dir() or any(not entry.name.startswith(".") for entry in folder.iterdir())):
        raise UserError(f"{folder} exists and was not written as drawn streets; choose a new or empty folder")
    with write_atomically(path) as temporary:
        temporary.write_text(json.dumps(arguments) + "\n", encoding="utf-8")


def _write_scene(paths: Mapping[str, Path], scene: Scene, seed: int, index: int) -> None:
    for kind, path in paths.items():
        if kind == "images":
            with write_atomically(path) as temporary:
                Image.fromarray(scene.image).save(temporary, format="PNG", compress_level=3)
        else:
            labels = scene.labels if kind == "masks" else coarse_labels(scene.labels, seed=[seed, index])
            write_mask(path, labels, STREETS)
