"""Positions of the classes: one representative pixel for every class in every tile of every mask, cached by content.

A tile's representative is the pixel *of the class* that lies nearest to the mean of the class's pixels;
the mean itself, which the reference implementation takes, falls outside the class for anything hollow or in two
parts. Partial tiles at the border count, and an image smaller than the tile is one tile. The cache's name is a hash
of the masks' bytes, of the label space and of the tile: touching, moving or renaming files keeps it, and changing one
pixel makes a new one.
"""

import functools
import hashlib
import json
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from polyscale.data.parallel import in_parallel, pixels_of
from polyscale.errors import UserError
from polyscale.files import write_atomically
from polyscale.labels import IGNORE

if TYPE_CHECKING:
    from polyscale.data.items import Item, SegmentationData

__all__ = ["Centroids", "class_centroids", "join_centroids", "tile_centroids"]

_FORMAT = 1
"""Raised whenever the computation changes: caches of another format are not found."""

_COLUMNS = 5


class Centroids(NamedTuple):
    """One row for each class in each tile of each image.

    All arrays are (K,) int64, in the order of items, tiles and classes.

    Attributes:
        names: class names in the order of train ids.
        items: the image's position in the data.
        classes: train id.
        ys: row of the representative pixel in the whole image.
        xs: column of the representative pixel in the whole image.
        pixels: how many pixels of the class the tile holds.
    """

    names: tuple[str, ...]
    items: NDArray[np.int64]
    classes: NDArray[np.int64]
    ys: NDArray[np.int64]
    xs: NDArray[np.int64]
    pixels: NDArray[np.int64]


def tile_centroids(labels: NDArray[np.uint8], tile: int) -> NDArray[np.int64]:
    """Representative pixels of one mask.

    Args:
        labels: (H, W) train ids.
        tile: side of the square tiles in pixels; those at the right and lower border may be smaller.

    Returns:
        (K, 4) of train id, y, x, number of pixels; tiles from the top left, row by row, classes rising within a tile.

    Example:
        >>> tile_centroids(np.array([[0, 0, 0], [255, 1, 1]], np.uint8), tile=1024).tolist()
        [[0, 0, 1, 3], [1, 1, 1, 2]]
    """
    rows = []
    for top in range(0, labels.shape[0], tile):
        for left in range(0, labels.shape[1], tile):
            part = labels[top : top + tile, left : left + tile]
            flat = part.ravel()
            # A stable sort of bytes is a radix sort: it lists the pixels of all classes in one pass.
            order = np.argsort(flat, kind="stable")
            counts = np.bincount(flat, minlength=256)
            ends = np.cumsum(counts)
            for train_id in np.flatnonzero(counts[:IGNORE]).tolist():
                y, x = _nearest_to_mean(order[ends[train_id] - counts[train_id] : ends[train_id]], part.shape[1])
                rows.append((train_id, top + y, left + x, int(counts[train_id])))
    return np.array(rows, dtype=np.int64).reshape(-1, 4)


def _nearest_to_mean(positions: NDArray[np.int64], width: int) -> tuple[int, int]:
    ys, xs = np.divmod(positions, width)
    nearest = int(np.argmin((ys - ys.mean()) ** 2 + (xs - xs.mean()) ** 2))
    return int(ys[nearest]), int(xs[nearest])


def class_centroids(
    data: "SegmentationData",
    tile: int = 1024,
    cache_dir: Path | None = None,
    workers: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> Centroids:
    """Representative pixels of all masks of a data set, read in parallel and cached.

    Images without a mask have no rows. Nothing is cached where masks are not files (drawn data).

    Args:
        data: the data set; several threads read from it at once. Of files only the masks are read.
        tile: side of the tiles in pixels.
        cache_dir: folder of the caches; made where missing. ``None`` reads and writes none.
        workers: number of threads.
        progress: called with (masks done, masks in all) after each mask; not called where the cache is used.

    Raises:
        UserError: a mask cannot be read, or the cache's folder cannot be written.
    """
    assert tile >= 1, tile
    assert workers >= 1, workers
    cache = None
    if cache_dir is not None:
        key = _content_key(data, tile, workers)
        cache = None if key is None else Path(cache_dir) / f"centroids-{key}.npz"
    table = None if cache is None else _read_cache(cache, len(data), data.label_space.num_classes)
    if table is None:
        table = _compute(data, tile, workers, progress)
        if cache is not None:
            with write_atomically(cache) as temporary, temporary.open("wb") as file:
                np.savez_compressed(file, table=table)
    return Centroids(data.label_space.names, *(np.ascontiguousarray(column) for column in table.T))


def join_centroids(
    parts: Sequence[Centroids], starts: Sequence[int], ids: Sequence[NDArray[np.int64] | None]
) -> Centroids:
    """Positions of several data sets whose items stand one set after the other.

    Args:
        parts: of each set; the first one's class names are the result's.
        starts: position of each set's first item.
        ids: for each set, its train ids to the first one's, or None where they are the same.
    """
    moved = [
        part._replace(items=part.items + start, classes=part.classes if table is None else table[part.classes])
        for part, start, table in zip(parts, starts, ids, strict=True)
    ]
    return Centroids(parts[0].names, *(np.concatenate(columns) for columns in list(zip(*moved, strict=True))[1:]))


def _compute(
    data: "SegmentationData", tile: int, workers: int, progress: Callable[[int, int], None] | None
) -> NDArray[np.int64]:
    def of_item(index: int) -> NDArray[np.int64]:
        labels = data.read_labels(index)
        found = np.empty((0, 4), dtype=np.int64) if labels is None else tile_centroids(labels, tile)
        return np.column_stack([np.full(len(found), index, dtype=np.int64), found])

    def pixels(index: int) -> int:
        return pixels_of(data.items[index].mask)

    parts = in_parallel(range(len(data)), of_item, workers, progress, pixels)
    return np.concatenate([np.empty((0, _COLUMNS), dtype=np.int64), *parts])


def _content_key(data: "SegmentationData", tile: int, workers: int) -> str | None:
    """Hash of all that decides the result, or None where a mask is not a file whose bytes tell."""
    if any(item.mask is not None and not item.mask.is_file() for item in data.items):
        return None
    if all(item.mask is None for item in data.items):
        return None
    space = data.label_space.model_dump(mode="json")
    reading = getattr(data, "reading", "")  # whether by colours, and at which size
    header = json.dumps([_FORMAT, type(data).__qualname__, space, reading, tile], sort_keys=True)
    digest = hashlib.sha256(header.encode())
    with ThreadPoolExecutor(workers) as pool:
        for part in pool.map(_hash_mask, data.items):
            digest.update(part)
    return digest.hexdigest()[:32]


def _hash_mask(item: "Item") -> bytes:
    digest = hashlib.sha256()
    if item.mask is None:
        return digest.digest()
    try:
        with item.mask.open("rb") as file:
            for block in iter(functools.partial(file.read, 1 << 20), b""):
                digest.update(block)
    except OSError as error:
        raise UserError(f"cannot read the mask {item.mask}: {error.strerror or error}; check the file") from None
    return digest.digest()


def _read_cache(path: Path, num_items: int, num_classes: int) -> NDArray[np.int64] | None:
    """The cached table, or None where there is none or it is damaged; it is then computed again."""
    try:
        with np.load(path, allow_pickle=False) as file:
            table: NDArray[np.int64] = file["table"]
    except Exception:  # a damaged archive raises about ten different types, and all of them mean: compute it again
        return None
    if table.dtype != np.int64 or table.ndim != 2 or table.shape[1] != _COLUMNS or (table < 0).any():
        return None
    if len(table) and (table[:, 0].max() >= num_items or table[:, 1].max() >= num_classes):
        return None
    return table
