"""One image of a run: read whole or by parts, looked at whole or in tiles, and its results written."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from polyscale.data.images import image_size, read_image
from polyscale.data.items import DataError
from polyscale.data.rasters import TIFF_SUFFIXES, Raster, has_rasterio, open_raster
from polyscale.errors import UserError
from polyscale.inference.predictor import Predictor
from polyscale.inference.tiled import predict_in_tiles
from polyscale.memory import available_memory
from polyscale.tiles import ArrayPixels, Pixels, Tiles
from polyscale.tiles.footprint import choose_tiles

__all__ = ["Found", "Way"]

_FITTING = Tiles(2048, 256)
"""For an image that would fit into memory, but is written as it is read, by parts."""

_BYTES_WHOLE = 7
"""A pixel that Pillow has read, and its copy as an array."""


class Found(NamedTuple):
    """One image to predict."""

    path: Path
    name: str
    """Of its results: the path below the folder given, without suffix, parts joined by ``/``; unique within a run."""


@dataclass(frozen=True)
class Way:
    """How each image of a run is predicted: whole, or in tiles.

    Attributes:
        predictor: the network.
        out: folder of the results.
        scales: finest first.
        flip: also look at the mirrored image.
        outputs: which of ``OUTPUTS``.
        tiles: how images are cut; None cuts those that do not fit into memory, and a tile of 0 pixels none.
        bands: of TIFF files, that become red, green and blue.
        told: called with one line for each image that does not fit into memory.
        progress: called with (tiles done, tiles in all).
    """

    predictor: Predictor
    out: Path
    scales: tuple[float, ...]
    flip: bool
    outputs: Sequence[str]
    tiles: Tiles | None
    bands: Sequence[int] | None
    told: Callable[[str], None] | None
    progress: Callable[[int, int], None] | None

    def predict(self, item: Found, before: Callable[[], None] | None) -> None:
        """Predict one image and write the results.

        Args:
            item: the image.
            before: called before the first file appears.

        Raises:
            DataError: the image cannot be predicted.
            UserError: a result cannot be written.
        """
        if self.predictor.bands is not None:
            if self.bands:
                raise UserError("the network itself says which bands of a file it reads; leave out --bands")
            self._predict_whole(item, before)
            return
        with open_raster(item.path, self.bands) as raster:
            size = image_size(item.path) if raster is None else raster.size
            tiles = self._tiles(item.path, size, raster)
            if tiles is None and raster is not None and (raster.has_coordinates or self.bands):
                never = self.tiles is not None and not self.tiles.tile
                tiles = Tiles(max(size) + 1024, 0) if never else _FITTING
            if tiles is not None:
                image: Pixels = ArrayPixels(read_image(item.path)) if raster is None else raster
                predict_in_tiles(
                    self.predictor, image, self.out, item.name, self.outputs, tiles, self.scales, self.flip,
                    self.progress, before,
                )  # fmt: skip
                return
        self._predict_whole(item, before)

    def _predict_whole(self, item: Found, before: Callable[[], None] | None) -> None:
        try:
            prediction = self.predictor.predict(item.path, self.scales, self.flip, probabilities=False)
        except UserError as error:
            raise DataError(str(error)) from None
        if before is not None:
            before()
        prediction.save(self.out, item.name, self.outputs)

    def _tiles(self, path: Path, size: tuple[int, int], raster: Raster | None) -> Tiles | None:
        """Tiles for an image; None looks at it whole."""
        if self.tiles is not None:
            return self.tiles if self.tiles.tile and max(size) > self.tiles.tile else None
        tiles, needed = choose_tiles(self.predictor.looker, size, self.scales, self.flip)
        if tiles is None:
            return None
        if raster is None and size[0] * size[1] * _BYTES_WHOLE > (available_memory() or math.inf):
            way = "`pip install 'polyscale[geo]'` reads it by parts" if _lacks_rasterio(path) else "save it as a TIFF"
            raise DataError(f"{path} has {size[1]} x {size[0]} pixels and must be read whole, which memory does not "
                            f"suffice for; {way}")  # fmt: skip
        if self.told is not None:
            self.told(
                f"{path}: {size[1]} x {size[0]} pixels at once would take about {needed / 2**30:,.0f} GB of memory, "
                f"more than is free; it is looked at in tiles of {tiles.tile} pixels"
            )
        return tiles


def _lacks_rasterio(path: Path) -> bool:
    return path.suffix.lower() in TIFF_SUFFIXES and not has_rasterio()
