"""TIFF files read and written by parts, with their coordinates; by rasterio, which stands on GDAL.

Only GDAL's driver for TIFF is used: others read what a file names, also elsewhere. Files whose pixels would have to be
turned or converted (an orientation, CMYK, fewer than 8 bits) are left to Pillow.
"""

import contextlib
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from polyscale.data.images import open_image, orientation
from polyscale.data.items import DataError
from polyscale.data.left_out import warn_of_bands, warn_of_left_out
from polyscale.errors import UserError

__all__ = ["TIFF_SUFFIXES", "Raster", "RasterWriter", "has_rasterio", "open_raster"]

TIFF_SUFFIXES = (".tif", ".tiff")

_INSTALL = "pip install 'polyscale[geo]'"
_CACHE_MB = 256
"""Decoded strips that GDAL keeps: tiles side by side read the same ones."""


def has_rasterio() -> bool:
    """Whether TIFF files can be read by parts."""
    try:
        import rasterio  # noqa: F401
    except ImportError:
        return False
    return True


class Raster:
    """An opened TIFF file, of which any part can be read.

    Attributes:
        path: of the file.
        size: height and width.
        has_coordinates: whether it says where on earth it lies.
    """

    def __init__(self, path: Path, source: Any, bands: Sequence[int] | None) -> None:
        self.path, self.source = path, source
        self.size = int(source.height), int(source.width)
        self.has_coordinates = source.crs is not None or not source.transform.is_identity or bool(source.gcps[0])
        self._bands = list(bands) if bands is not None else [1, 2, 3] if source.count >= 3 else [1]
        wrong = [band for band in self._bands if not 1 <= band <= source.count]
        if wrong:
            raise DataError(
                f"{path} has {source.count} bands, and none of number {wrong[0]}; choose three of 1 to {source.count}"
            )
        kinds = {source.dtypes[band - 1] for band in self._bands}
        if not kinds <= {"uint8", "uint16"}:
            listed = ", ".join(sorted(kinds - {"uint8", "uint16"}))
            raise DataError(f"{path} has values of type {listed}, without a fixed range; save it with 8 or 16 bits")
        is_palette = source.count == 1 and source.colorinterp[0].name == "palette"
        self._palette = _table(source.colormap(1)) if is_palette else None

    def read(self, rows: slice, columns: slice) -> np.ndarray[Any, np.dtype[np.uint8]]:
        """A part, (h, w, 3) RGB; of 16-bit values the high byte, as of other images.

        Raises:
            UserError: the file is damaged there.
        """
        from rasterio.errors import RasterioError

        try:
            values = self.source.read(self._bands, window=((rows.start, rows.stop), (columns.start, columns.stop)))
        except RasterioError:
            raise DataError(
                f"{self.path} cannot be read at rows {rows.start} to {rows.stop}: it is truncated or damaged; "
                "replace it"
            ) from None
        if values.dtype == np.uint16:
            values = (values >> 8).astype(np.uint8)
        if self._palette is not None:
            return np.asarray(self._palette[values[0]])
        return np.repeat(values[0][..., None], 3, axis=2) if len(values) == 1 else np.moveaxis(values, 0, 2)


def _table(colors: dict[int, tuple[int, ...]]) -> np.ndarray[Any, np.dtype[np.uint8]]:
    table = np.zeros((256, 3), dtype=np.uint8)
    for index, color in colors.items():
        if index < len(table):
            table[index] = color[:3]
    return table


@contextlib.contextmanager
def open_raster(path: str | Path, bands: Sequence[int] | None = None) -> Iterator[Raster | None]:
    """Open a TIFF file to read parts of it; None where it must be read whole, or is no TIFF.

    Args:
        path: of the file.
        bands: three that become red, green and blue, counted from 1; None takes the first three, or the only one.

    Raises:
        UserError: bands are asked for, and the file has none of that number or is no TIFF, or rasterio is missing; or
            its values have no fixed range.
    """
    path = Path(path)
    if path.suffix.lower() not in TIFF_SUFFIXES:
        if bands is not None:
            raise DataError(f"{path} is no TIFF file, and only of these bands can be chosen; leave out --bands")
        yield None
        return
    if not has_rasterio():
        if bands is not None:
            raise UserError(f"choosing bands needs rasterio, which is not installed; {_INSTALL}")
        yield None
        return
    import rasterio
    from rasterio.errors import NotGeoreferencedWarning, RasterioError

    turned = _is_turned(path, bands is None)
    with contextlib.ExitStack() as stack:
        stack.enter_context(rasterio.Env(GDAL_CACHEMAX=_CACHE_MB, GDAL_DISABLE_READDIR_ON_OPEN="EMPTY_DIR"))
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", NotGeoreferencedWarning)
                source = stack.enter_context(rasterio.open(path, driver="GTiff"))
        except RasterioError:
            if turned is not None and bands is None:
                yield None
                return
            raise DataError(f"{path} is not an image that can be read; replace or remove it") from None
        if turned or _is_converted(source):
            if bands is not None:
                raise DataError(f"{path} is turned, or of colours of another kind than RGB; leave out --bands")
            yield None
            return
        if turned is None and bands is None:
            warn_of_bands(path, source.count)
        yield Raster(path, source, bands)


def _is_turned(path: Path, warn: bool) -> bool | None:
    """Whether the image is to be turned or mirrored; None where Pillow does not know this kind of TIFF."""
    try:
        with open_image(path) as image:
            if warn:
                warn_of_left_out(image, path)
            return orientation(image) != 1
    except UserError:
        if not path.is_file() or path.stat().st_size == 0:
            raise
        return None


def _is_converted(source: Any) -> bool:
    """Whether the numbers in the file are not those of an image."""
    structure, first = source.tags(ns="IMAGE_STRUCTURE"), source.tags(1, ns="IMAGE_STRUCTURE")
    few = int(first.get("NBITS", structure.get("NBITS", 8))) not in (8, 16)
    names = {kind.name for kind in source.colorinterp}
    return few or bool(names & {"cyan", "magenta", "yellow", "black"}) or structure.get("MINISWHITE") == "YES"


class RasterWriter:
    """A GeoTIFF of labels that is written some rows at a time, with the coordinates of an image.

    Args:
        path: where to; the caller sees to it that it appears whole.
        like: the image.
        dtype: of the ids, ``uint8`` or ``uint16``.
        palette: (K, 3) colour of each id; only with ``uint8``.
    """

    def __init__(
        self, path: Path, like: Raster, dtype: str, palette: np.ndarray[Any, np.dtype[np.uint8]] | None
    ) -> None:
        import rasterio

        source = like.source
        points, points_crs = source.gcps
        height, width = like.size
        blocks = {"tiled": True, "blockxsize": 256, "blockysize": 256} if min(height, width) >= 256 else {}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)  # of coordinates without an area
            self._file = rasterio.open(
                path, "w", driver="GTiff", height=height, width=width, count=1, dtype=dtype, crs=source.crs,
                transform=source.transform, compress="deflate", bigtiff="if_safer", **blocks,
            )  # fmt: skip
        if points:
            self._file.gcps = (points, points_crs)
        if palette is not None:
            self._file.write_colormap(1, {k: (*map(int, color), 255) for k, color in enumerate(palette)})
        self._row, self._width = 0, width

    def add(self, ids: np.ndarray[Any, Any]) -> None:
        """Write the next rows, (h, W)."""
        self._file.write(ids, 1, window=((self._row, self._row + len(ids)), (0, self._width)))
        self._row += len(ids)

    def close(self) -> None:
        """All rows are there."""
        self._file.close()
