"""Drawn streets in the form in which Cityscapes is downloaded, to try things for it without having it.

Folders, file names, ids and file types are those of the real data set: ``leftImg8bit`` images; ``gtFine`` and
``gtCoarse`` with ``labelIds`` (8 bits), ``instanceIds`` (16 bits), ``color`` (RGBA) and ``polygons.json``; test labels
that mark nothing but what is never scored; and the teacher's labels with probabilities of ``refinement_final``. Frames
have a border of rectification and a bonnet.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from polyscale.data.cityscapes import inside_border
from polyscale.data.known_spaces import known_space
from polyscale.data.polygons import area, fill, trace
from polyscale.data.streets.coarse import coarse_labels
from polyscale.data.streets.scene import STREETS, draw_scene
from polyscale.data.streets.source import claim_like, draw_missing
from polyscale.files import write_atomically
from polyscale.labels import IGNORE, LabelSpace

__all__ = ["write_like_cityscapes"]

Array = np.ndarray[Any, np.dtype[Any]]

_CITIES = {
    "train": ("aachen", "bochum", "bremen", "cologne", "darmstadt", "dusseldorf", "erfurt", "hamburg", "hanover",
              "jena", "krefeld", "monchengladbach", "strasbourg", "stuttgart", "tubingen", "ulm", "weimar", "zurich"),
    "val": ("frankfurt", "lindau", "munster"),
    "test": ("berlin", "bielefeld", "bonn", "leverkusen", "mainz", "munich"),
    "train_extra": ("augsburg", "bad-honnef", "bamberg", "bayreuth", "dortmund", "dresden"),
}  # fmt: skip
_UNLABELED, _EGO, _RECTIFICATION, _OUT_OF_ROI = 0, 1, 2, 3
_WITH_INSTANCES = range(24, 34)
_SIGN = "traffic sign"


def write_like_cityscapes(
    folder: str | Path,
    split_sizes: Mapping[str, int],
    size: tuple[int, int] = (1024, 2048),
    seed: int = 0,
    nested: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> int:
    """Write drawn streets in the layout of Cityscapes; a second call draws only what is missing.

    Args:
        folder: new or empty, or written by an earlier call.
        split_sizes: number of scenes of train, val, test and train_extra, spread over their cities.
        size: (height, width) in pixels.
        seed: of the scenes, 0 or more.
        nested: each zip in a folder of its own, as the authors' project has them.
        progress: called with (scenes done, scenes in all) after each scene.

    Returns:
        The number of scenes that had to be drawn.

    Raises:
        UserError: an argument is out of range, or the folder holds something else.
    """
    folder = Path(folder)
    sizes = claim_like(folder, "cityscapes-nested" if nested else "cityscapes", split_sizes, size, seed)

    def draw(split: str, position: int, index: int) -> bool:
        cities = _CITIES[split]
        city = cities[position % len(cities)]
        name = f"{city}/{city}_{position // len(cities):06d}_000019"
        image = folder / _base("leftImg8bit", split, nested) / f"{name}_leftImg8bit.png"
        if image.exists():  # it comes last: where it is there, all is
            return False
        scene = draw_scene(seed, index, size)
        _write_labels(folder, split, name, scene.labels, [seed, index], nested)
        _save(image, scene.image)
        return True

    return draw_missing(sizes, draw, progress)


def _base(kind: str, split: str, nested: bool) -> str:
    """The folder of a split's images or labels."""
    if not nested:
        return f"{kind}/{split}"
    if kind == "leftImg8bit":
        zipped = "leftImg8bit_trainextra" if split == "train_extra" else "leftImg8bit_trainvaltest"
        return f"{zipped}/leftImg8bit/{split}"
    return f"{'gtFine_trainvaltest' if kind == 'gtFine' else 'gtCoarse'}/{kind}/{split}"


def _write_labels(folder: Path, split: str, name: str, labels: Array, seed: list[int], nested: bool) -> None:
    table = known_space("cityscapes-all")
    to_ids = np.zeros(256, dtype=np.uint8)
    wanted = [_SIGN if title == "sign" else title for title in STREETS.names]
    to_ids[: len(wanted)] = [table.names.index(title) for title in wanted]
    fine = _framed(to_ids[labels])
    coarse = _framed(to_ids[coarse_labels(labels, seed=seed)])
    if split == "test":
        fine[fine > _OUT_OF_ROI] = _UNLABELED
    if split != "train_extra":
        _write_set(folder / _base("gtFine", split, nested) / f"{name}_gtFine", fine, table)
    if split != "test":
        _write_set(folder / _base("gtCoarse", split, nested) / f"{name}_gtCoarse", coarse, table)
    if split == "train_extra":
        stem = folder / "refinement_final" / split / f"{name}_leftImg8bit"
        _save(stem.with_name(f"{stem.name}.png"), to_ids[labels])
        _save(stem.with_name(f"{stem.name}_prob.png"), _probability(labels))


def _write_set(stem: Path, ids: Array, table: LabelSpace) -> None:
    colors = np.concatenate([table.palette, np.full((table.num_classes, 1), 255, np.uint8)], axis=1)
    instances = ids.astype(np.uint16)
    regions: list[tuple[float, str, Array]] = []
    for number in np.unique(ids).tolist():
        for position, rings in enumerate(trace(ids == number)):
            regions.append((area(rings[0]), table.names[number], rings[0]))
            if number in _WITH_INSTANCES:
                instances[fill(rings, *ids.shape)] = number * 1000 + position
    # Later polygons lie over earlier ones, so holes need no ring of their own.
    regions.sort(key=lambda region: -region[0])
    objects = [{"label": title, "polygon": ring.astype(int).tolist()} for _, title, ring in regions]
    content = {"imgHeight": ids.shape[0], "imgWidth": ids.shape[1], "objects": objects}
    with write_atomically(stem.with_name(f"{stem.name}_polygons.json")) as temporary:
        temporary.write_text(json.dumps(content), encoding="utf-8")
    for kind, pixels in (("labelIds", ids), ("instanceIds", instances), ("color", colors[ids])):
        _save(stem.with_name(f"{stem.name}_{kind}.png"), pixels)


def _framed(ids: Array) -> Array:
    """Label ids with the border that rectification leaves, and the car's own bonnet at the bottom."""
    height, width = ids.shape
    outside = ~inside_border(height, width)
    framed: Array = ids.copy()
    framed[outside] = _RECTIFICATION
    below = np.flatnonzero(~outside[:, width // 2])
    framed[below[-1] + 1 :] = _EGO
    for edge in _edges(framed, max(1, height // 256)):
        edge[...] = _OUT_OF_ROI
    return framed


def _edges(pixels: Array, width: int) -> Iterator[Array]:
    yield from (pixels[:width], pixels[-width:], pixels[:, :width], pixels[:, -width:])


def _probability(labels: Array) -> Array:
    """A teacher's probability as 8 bits: low where classes meet."""
    probability = np.full(labels.shape, 250, dtype=np.uint8)
    meeting = np.zeros(labels.shape, dtype=bool)
    meeting[:, 1:] |= labels[:, 1:] != labels[:, :-1]
    meeting[1:] |= labels[1:] != labels[:-1]
    probability[meeting] = 100
    probability[labels == IGNORE] = 0
    return probability


def _save(path: Path, pixels: Array) -> None:
    with write_atomically(path) as temporary:
        Image.fromarray(np.ascontiguousarray(pixels)).save(temporary, format="PNG", compress_level=3)
