"""Prediction of one file in tiles: results are written row by row while the network looks on.

A row of tiles is all that is held of the image's results, apart from a reduced overlay.
"""

import contextlib
import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from polyscale import pictures
from polyscale.data.png import IndexPng
from polyscale.data.rasters import Raster, RasterWriter
from polyscale.errors import UserError
from polyscale.files import write_atomically
from polyscale.inference.predictor import Predictor
from polyscale.labels import LabelSpace
from polyscale.tiles import Block, Pixels, Tiles, look_in_tiles

__all__ = ["LARGEST_OVERLAY", "overlay_step", "predict_in_tiles"]

Array = np.ndarray[Any, np.dtype[np.uint8]]

LARGEST_OVERLAY = 40_000_000
"""Pixels of an overlay; of a larger image it shows every second pixel, every third and so on."""


def predict_in_tiles(
    predictor: Predictor,
    image: Pixels,
    folder: Path,
    name: str,
    outputs: Sequence[str],
    tiles: Tiles,
    scales: Sequence[float],
    flip: bool = False,
    progress: Callable[[int, int], None] | None = None,
    before: Callable[[], None] | None = None,
) -> list[Path]:
    """Write what ``Prediction.save`` writes, without holding the image's results.

    The labels of an image with coordinates are a GeoTIFF, ``labels/NAME.tif``, and the overlay has at most
    ``LARGEST_OVERLAY`` pixels. All files appear when the last tile is done, or none.

    Args:
        predictor: the network.
        image: of any size.
        folder: of the results.
        name: of the files, without suffix.
        outputs: which of ``OUTPUTS``.
        tiles: how the image is cut.
        scales: finest first.
        flip: also look at the mirrored image, and average both.
        progress: called with (tiles done, tiles in all).
        before: called when all is looked at, before the first file appears.

    Returns:
        The files written.

    Raises:
        UserError: as for ``look_in_tiles``, or a file cannot be written.
    """
    blocks = look_in_tiles(predictor.looker, image, tiles, scales, flip)  # wrong tiles are told before a file is made
    space = predictor.label_space
    with contextlib.ExitStack() as stack:
        writers, written = _open(stack, image, folder, name, outputs, scales, space)
        overlay = _Overlay(image, space) if "overlay" in outputs else None
        for row in _rows(blocks, image.size[1], scales, progress, overlay):
            for kind, writer in writers.items():
                writer.add(space.decode(row[kind]) if kind == "labels" else row[kind])
        for writer in writers.values():
            writer.close()
        if overlay is not None:
            written.append(folder / "overlay" / f"{name}.jpg")
            temporary = stack.enter_context(write_atomically(written[-1]))
            overlay.save(temporary)
        if before is not None:
            before()
    if "labels" in outputs:  # of an earlier run, which found the image without coordinates, or with them
        (folder / "labels" / f"{name}{'.png' if written[0].suffix == '.tif' else '.tif'}").unlink(missing_ok=True)
    return written


class _Writer(Protocol):
    def add(self, rows: np.ndarray[Any, Any], /) -> None:
        """The next rows."""

    def close(self) -> None:
        """All are there."""


def _open(
    stack: contextlib.ExitStack,
    image: Pixels,
    folder: Path,
    name: str,
    outputs: Sequence[str],
    scales: Sequence[float],
    space: LabelSpace,
) -> tuple[dict[str, _Writer], list[Path]]:
    """Writers of the outputs that are written in rows, by kind, and their files."""
    writers: dict[str, _Writer] = {}
    written: list[Path] = []

    def png(kind: str, path: Path, palette: Array | None, deep: bool = False) -> None:
        file = stack.enter_context(stack.enter_context(write_atomically(path)).open("wb"))
        writers[kind] = IndexPng(file, image.size, palette, deep)
        written.append(path)

    if "labels" in outputs:
        ids = space.decode(np.arange(space.num_classes, dtype=np.uint8))
        palette = np.zeros((int(ids.max()) + 1, 3), dtype=np.uint8) if ids.dtype == np.uint8 else None
        if palette is not None:
            palette[ids] = space.palette
        if isinstance(image, Raster) and image.has_coordinates:
            written.append(folder / "labels" / f"{name}.tif")
            temporary = stack.enter_context(write_atomically(written[-1]))
            raster = RasterWriter(temporary, image, str(ids.dtype), palette)
            stack.callback(raster.close)
            writers["labels"] = raster
        else:
            png("labels", folder / "labels" / f"{name}.png", palette, palette is None)
    if "confidence" in outputs:
        png("confidence", folder / "confidence" / f"{name}.png", None)
    if "attention" in outputs:
        for scale in scales:
            png(f"{scale:g}x", folder / "attention" / f"{name}_{scale:g}x.png", pictures.heat_palette())
    return writers, written


def _rows(
    blocks: Iterator[Block],
    width: int,
    scales: Sequence[float],
    progress: Callable[[int, int], None] | None,
    overlay: "_Overlay | None",
) -> Iterator[dict[str, Array]]:
    """Rows over the whole width, made of the blocks side by side."""
    row: dict[str, Array] = {}
    for block in blocks:
        if block.columns.start == 0:
            names = ("labels", "confidence", *(f"{scale:g}x" for scale in scales))
            row = {name: np.empty((block.rows.stop - block.rows.start, width), dtype=np.uint8) for name in names}
        row["labels"][:, block.columns] = block.labels
        row["confidence"][:, block.columns] = pictures.to_grey8(block.confidence)
        for scale, weight in block.weights.items():
            row[f"{scale:g}x"][:, block.columns] = pictures.to_grey8(weight)
        if overlay is not None:
            overlay.add(block)
        if block.columns.stop == width:
            yield row
        if progress is not None:
            progress(block.done, block.total)


def overlay_step(size: tuple[int, int]) -> int:
    """How many pixels of an image's side one of its overlay stands for; 1 for all but the largest."""
    longest = -(-max(size) // 65_500)  # of a JPEG
    return max(longest, math.ceil(math.sqrt(size[0] * size[1] / LARGEST_OVERLAY)))


class _Overlay:
    """The overlay, reduced to ``LARGEST_OVERLAY`` pixels: means of the image, and every n-th label."""

    def __init__(self, image: Pixels, space: LabelSpace) -> None:
        self.image, self.space, self.step = image, space, overlay_step(image.size)
        height, width = (max(1, side // self.step) for side in image.size)
        self.pixels = np.zeros((height, width, 3), dtype=np.uint8)
        self.labels = np.zeros((height, width), dtype=np.uint8)

    def add(self, block: Block) -> None:
        """What one block shows."""
        step = self.step
        (top, bottom), (left, right) = (
            (-(-part.start // step), min(-(-part.stop // step), cells))
            for part, cells in zip((block.rows, block.columns), self.labels.shape, strict=True)
        )
        if top >= bottom or left >= right:
            return
        rows, columns = slice(top * step, bottom * step), slice(left * step, right * step)
        cells = self.image.read(rows, columns).reshape(bottom - top, step, right - left, step, 3)
        self.pixels[top:bottom, left:right] = cells[:, 0, :, 0] if step == 1 else cells.mean((1, 3), dtype=np.float32)
        first, start = rows.start - block.rows.start, columns.start - block.columns.start
        self.labels[top:bottom, left:right] = block.labels[first::step, start::step][: bottom - top, : right - left]

    def save(self, path: Path) -> None:
        """Write the JPEG."""
        picture = pictures.overlay(self.pixels, self.labels, self.space, 0.5, True)
        try:
            picture.save(path, quality=92, subsampling=0)
        except ValueError as error:
            raise UserError(f"the overlay {path} cannot be written: {error}") from None
