"""Masks, and images, as arrays: NumPy's ``.npy`` and ``.npz``, MATLAB's ``.mat`` and the columns of a parquet table."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from polyscale.data.images import IMAGE_SUFFIXES, decode_image, read_image
from polyscale.data.items import DataError, Item, Sample, SegmentationData
from polyscale.data.torch_data import image_of, mask_of
from polyscale.errors import UserError
from polyscale.files import check_name, walk_files
from polyscale.labels import LabelSpace

__all__ = ["ArrayData", "ParquetData", "read_array"]

Array = np.ndarray[Any, Any]

_ARRAYS = (".npy", ".npz", ".mat")
_IMAGE_COLUMNS = ("image", "pixel_values", "img")
_MASK_COLUMNS = ("annotation", "label", "mask", "segmentation_mask", "semantic_segmentation", "labels", "seg")


class ArrayData(SegmentationData):
    """``images/`` (image files or arrays) and ``masks/`` (arrays) with the same names.

    Args:
        root: the folder.
        label_space: what the ids mean.

    Raises:
        UserError: a folder is missing, or an image has no mask.
    """

    def __init__(self, root: Path, label_space: LabelSpace) -> None:
        self.label_space = label_space
        folders = root / "images", root / "masks"
        for folder in folders:
            if not folder.is_dir():
                raise UserError(f"{root} needs the folders images and masks, each with the same names")
        images = _by_name(folders[0], (*IMAGE_SUFFIXES, *_ARRAYS))
        masks = _by_name(folders[1], _ARRAYS)
        bare = [name for name in images if name not in masks]
        if bare or not images:
            listed = ", ".join(bare[:3])
            raise DataError(f"{len(bare)} of {len(images)} images in {root} have no mask: {listed}", "missing")
        self.items = tuple(Item(name, images[name], masks[name]) for name in sorted(images))

    def read(self, index: int) -> Sample:
        """Read one image and its mask."""
        item = self.items[index]
        assert item.mask is not None
        pixels: Any = read_array(item.image) if item.image.suffix.lower() in _ARRAYS else read_image(item.image)
        return _sample(item.name, pixels, read_array(item.mask), self.label_space, f"{item.mask}")


class ParquetData(SegmentationData):
    """A folder of parquet files as ``datasets`` of Hugging Face writes them, with an image and a mask column.

    Args:
        root: the folder, or one file.
        label_space: what the ids mean.
        columns: names of the image and mask columns; by default those that are usual.

    Raises:
        UserError: pyarrow is missing, a file is damaged or has no such columns.
    """

    def __init__(self, root: Path, label_space: LabelSpace, columns: tuple[str, str] | None = None) -> None:
        try:
            from pyarrow import parquet
        except ImportError:
            raise UserError('parquet files need pyarrow: pip install "polyscale[parquet]"') from None
        self.label_space = label_space
        paths = [root] if root.is_file() else [root / name for name in walk_files(root, (".parquet",))]
        if not paths:
            raise UserError(f"there are no parquet files in {root}")
        self._rows: list[tuple[Path, int, int]] = []
        self._columns = columns
        items: list[Item] = []
        for path in paths:
            try:
                file = parquet.ParquetFile(path)
                chosen = _columns(path, file.schema_arrow.names, columns)
                groups = [file.metadata.row_group(k).num_rows for k in range(file.num_row_groups)]
            except (OSError, ValueError) as error:
                if isinstance(error, UserError):
                    raise
                raise UserError(f"{path} is no parquet file that can be read ({_line(error)}); load it again") from None
            self._columns = chosen
            stem = path.relative_to(root.parent if root.is_file() else root).with_suffix("").as_posix()
            for group, count in enumerate(groups):
                if count > path.stat().st_size:
                    raise UserError(f"{path} is damaged: it cannot hold {count} rows; load it again")
                for row in range(count):
                    name = f"{stem}-{len(items):06d}"
                    items.append(Item(name, path / name, path / name))
                    self._rows.append((path, group, row))
        self.items = tuple(items)
        self._held: tuple[Path, int, Any] | None = None

    def read(self, index: int) -> Sample:
        """Decode one row."""
        path, group, row = self._rows[index]
        table = self._group(path, group)
        assert self._columns is not None
        where = f"{path}, row {row} of group {group}"
        image, mask = (_decoded(table[name][row].as_py(), where) for name in self._columns)
        return _sample(self.items[index].name, image, np.asarray(mask), self.label_space, where)

    def _group(self, path: Path, group: int) -> Any:
        """One row group; the last one is kept, as rows are read in order."""
        from pyarrow import parquet

        held = self._held
        if held is None or held[:2] != (path, group):
            try:
                table = parquet.ParquetFile(path).read_row_group(group, columns=list(self._columns or ()))
            except (OSError, ValueError, MemoryError) as error:
                raise DataError(f"{path} cannot be read ({_line(error)}); load it again") from None
            held = self._held = (path, group, table)
        return held[2]


def read_array(path: Path) -> Array:
    """The array of a ``.npy``, ``.npz`` or ``.mat`` file; of several the only one with two or three dimensions.

    Raises:
        UserError: the file is damaged, holds objects that would run code, or several arrays.
    """
    try:
        match path.suffix.lower():
            case ".npy":
                return np.asarray(np.load(path, allow_pickle=False))
            case ".npz":
                with np.load(path, allow_pickle=False) as file:
                    return _only(path, {name: file[name] for name in file.files})
            case _:
                return _only(path, _matlab(path))
    except UserError:
        raise
    except ImportError:
        raise UserError('MATLAB files need scipy: pip install "polyscale[matlab]"') from None
    except NotImplementedError:
        raise DataError(f"{path} is a MATLAB file of version 7.3; save it with -v7, or as .npy") from None
    except Exception as error:  # of damaged files the readers raise about ten different types
        raise DataError(f"{path} holds no array that can be read ({_line(error)}); save it again") from None


def _matlab(path: Path) -> dict[str, Array]:
    from scipy.io import loadmat
    from scipy.io.matlab import MatReadError

    try:
        found = loadmat(path)
    except MatReadError as error:
        raise ValueError(str(error)) from None
    return {name: value for name, value in found.items() if not name.startswith("__")}


def _only(path: Path, arrays: dict[str, Any]) -> Array:
    fitting = {name: value for name, value in arrays.items() if _fits(value)}
    if len(fitting) != 1:
        names = ", ".join(arrays)
        raise DataError(f"{path} holds {len(fitting)} arrays of numbers ({names}); keep the mask alone in it")
    return next(iter(fitting.values()))


def _fits(value: Any) -> bool:
    return isinstance(value, np.ndarray) and value.ndim in (2, 3) and value.dtype.kind in "biuf" and value.size > 0


def _sample(name: str, image: Any, mask: Any, space: LabelSpace, where: str) -> Sample:
    try:
        pixels, labels = image_of(image), space.encode(_whole(mask_of(mask)))
    except UserError as error:
        raise DataError(f"{where}: {error}", "ids") from None
    if pixels.shape[:2] != labels.shape:
        raise DataError(f"{where}: its mask is {labels.shape[::-1]} pixels, its image {pixels.shape[1::-1]}", "size")
    return Sample(name, pixels, labels)


def _whole(ids: Array) -> Array:
    """Ids that MATLAB wrote as floating-point numbers as whole ones."""
    if ids.dtype.kind == "f" and bool((ids == np.rint(ids)).all()):
        return ids.astype(np.int64)
    return ids


def _by_name(folder: Path, suffixes: Sequence[str]) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for name in walk_files(folder, suffixes):
        other = found.setdefault(Path(check_name(name)).with_suffix("").as_posix(), folder / name)
        if other != folder / name:
            raise UserError(f"two files have the name {name!r}: {other} and {folder / name}; rename one")
    return found


def _columns(path: Path, names: Sequence[str], wanted: tuple[str, str] | None) -> tuple[str, str]:
    usual: tuple[Sequence[str], Sequence[str]] = (_IMAGE_COLUMNS, _MASK_COLUMNS)
    candidates = usual if wanted is None else tuple((name,) for name in wanted)
    found = [next((name for name in some if name in names), None) for some in candidates]
    if None in found:
        raise UserError(
            f"{path} has the columns {', '.join(names)}; say which hold image and mask with --columns IMAGE,MASK"
        )
    image, mask = (str(name) for name in found)
    return image, mask


def _decoded(value: Any, where: str) -> Any:
    """A cell: encoded bytes, alone or as ``datasets`` writes images, or nested lists of numbers."""
    content = value.get("bytes") if isinstance(value, dict) else value
    if not isinstance(content, bytes):
        if isinstance(content, list):
            return np.array(content)
        raise DataError(f"{where} holds no image bytes (only a path, perhaps); embed the images and save it again")
    return decode_image(content, where)


def _line(error: BaseException) -> str:
    return json.dumps(" ".join(str(error).split())[:120])[1:-1]
