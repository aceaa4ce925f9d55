"""Drawn streets in the form in which Mapillary Vistas is downloaded, to try things for it without having it.

JPEG images of several sizes, palette PNGs of label ids in version 1.2 or in both versions, instances of 16 bits, and
the config files that name the classes. The panoptic files of 2.0 are left out, and ``name`` in the config files is made
of the readable one.
"""

import base64
import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image

from polyscale.data.known_spaces import known_space
from polyscale.data.polygons import fill, trace
from polyscale.data.streets.scene import STREETS, draw_scene
from polyscale.data.streets.source import claim_like, draw_missing
from polyscale.files import write_atomically
from polyscale.labels import LabelSpace

__all__ = ["write_like_mapillary"]

Array = np.ndarray[Any, np.dtype[Any]]

_FOLDERS = {"train": "training", "val": "validation", "test": "testing"}
_SIZES = ((1.0, 1.0), (0.75, 0.75), (1.25, 1.25), (1.25, 0.75))
"""Factors of height and width: cameras differ, and some stood upright."""
_NAMES = {"sign": "Traffic Sign (Front)"}
_WITH_INSTANCES = ("Car", "Person", "Pole", "Traffic Sign (Front)")


def write_like_mapillary(
    folder: str | Path,
    split_sizes: Mapping[str, int],
    size: tuple[int, int] = (768, 1024),
    seed: int = 0,
    version: Literal["1.2", "2.0"] = "1.2",
    progress: Callable[[int, int], None] | None = None,
) -> int:
    """Write drawn streets in the layout of Mapillary Vistas; a second call draws only what is missing.

    Args:
        folder: new or empty, or written by an earlier call.
        split_sizes: number of scenes of train, val and test.
        size: (height, width) in pixels of every fourth image; the others are smaller, larger or upright.
        seed: of the scenes, 0 or more.
        version: of the download; that of 2.0 holds the labels of both.
        progress: called with (scenes done, scenes in all) after each scene.

    Returns:
        The number of scenes that had to be drawn.

    Raises:
        UserError: a split is too large, or the folder holds something else.
    """
    folder = Path(folder)
    sizes = claim_like(folder, f"mapillary-{version}", split_sizes, size, seed)
    versions = ("1.2",) if version == "1.2" else ("1.2", "2.0")
    for each in versions:
        name = "config.json" if version == "1.2" else f"config_v{each}.json"
        with write_atomically(folder / name) as temporary:
            temporary.write_text(json.dumps(_config(known_space(f"mapillary-vistas-{each}"), each)), encoding="utf-8")

    def draw(split: str, _: int, index: int) -> bool:
        image = folder / _FOLDERS[split] / "images" / f"{_name(seed, index)}.jpg"
        if image.exists():  # it comes last: where it is there, all is
            return False
        high, wide = _SIZES[index % len(_SIZES)]
        scene = draw_scene(seed, index, (max(64, round(size[0] * high)), max(64, round(size[1] * wide))))
        for each in versions if split != "test" else ():
            below = "" if version == "1.2" else f"v{each}"
            _write_labels(folder / _FOLDERS[split] / below, image.stem, scene.labels, each)
        with write_atomically(image) as temporary:
            Image.fromarray(scene.image).save(temporary, format="JPEG", quality=95)
        return True

    return draw_missing(sizes, draw, progress)


def _name(seed: int, index: int) -> str:
    """22 characters, of which the first may be a hyphen, as real names are."""
    digest = hashlib.sha256(f"{seed}/{index}".encode()).digest()
    return base64.urlsafe_b64encode(digest).decode()[:22]


def _write_labels(folder: Path, name: str, labels: Array, version: str) -> None:
    space = known_space(f"mapillary-vistas-{version}")
    rows = _labels(space)
    ids = {title: number for number, (title, _, _) in enumerate(rows)}
    table = np.array([ids[_NAMES.get(title, title.capitalize())] for title in STREETS.names], dtype=np.uint8)
    numbers = table[labels]
    picture = Image.fromarray(numbers)
    picture.putpalette(np.array([color for _, color, _ in rows], dtype=np.uint8).tobytes())
    instances = numbers.astype(np.uint16) * 256
    for title in _WITH_INSTANCES:
        for position, rings in enumerate(trace(numbers == ids[title])[:256]):
            instances[fill(rings, *labels.shape)] += np.uint16(position)
    for kind, image in (("labels", picture), ("instances", Image.fromarray(instances))):
        with write_atomically(folder / kind / f"{name}.png") as temporary:
            image.save(temporary, format="PNG", compress_level=3)


def _labels(space: LabelSpace) -> list[tuple[str, tuple[int, int, int], bool]]:
    """Name, colour and whether it counts of each id."""
    counted = [(item.name, item.color, True) for item in space.classes]
    return [*counted, ("Unlabeled", (0, 0, 0), False)]


def _config(space: LabelSpace, version: str) -> dict[str, Any]:
    return {
        "version": version,
        "mapping": "public",
        "folder_structure": "{split}/{content}/{image_id:s}.{ext:s}",
        "labels": [
            {
                "color": list(color),
                "evaluate": counts,
                "instances": title in _WITH_INSTANCES,
                "name": title.lower().replace(" ", "-"),
                "readable": title,
            }
            for title, color, counts in _labels(space)
        ],
    }
