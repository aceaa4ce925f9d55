"""The images to label: a folder, a list file or a data set becomes a sorted list of images with names.

The labels become a data set, and the images stay where they are. So one file-name template must lead from each name to
its image; images that it would not find again are refused.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from polyscale.autolabel.folder import DESCRIPTION
from polyscale.autolabel.settings import digest
from polyscale.config import validate
from polyscale.data.camvid import camvid_splits
from polyscale.data.file_data import FileData
from polyscale.data.folders import FolderConfig, find_files, folder_splits
from polyscale.data.images import IMAGE_SUFFIXES, load, open_image
from polyscale.data.items import DataError
from polyscale.data.layout import first_three, stands_in_list
from polyscale.data.open import DATA_FILE, data_config, open_data
from polyscale.errors import UserError
from polyscale.files import check_name, walk_files
from polyscale.labels import LabelSpace

__all__ = ["CoarseLabels", "Source", "find_source", "read_frame"]


class Source(NamedTuple):
    """Images to label."""

    paths: dict[str, Path]
    """Path of each image by name, sorted."""
    root: Path
    """The folder that names are relative to; absolute."""
    template: str
    """File-name template of the images, as a data config has it."""
    repeated: int
    """Lines of a list that name an image again."""


def find_source(images: str | Path, out: str | Path) -> Source:
    """Find the images. Folders that hold auto-labels are not searched.

    Args:
        images: a folder of images (searched to any depth), a data set's folder, ``FOLDER:SPLIT``, a YAML file of a data
            config, or a text file with one image path a line (relative to the file's folder or the working directory).
        out: the output folder, which is not searched.

    Raises:
        UserError: there are no images, a listed image does not exist, two images would have one name, or a data set
            could not find an image again.
    """
    path = Path(images).expanduser()
    if path.is_file() and path.suffix.lower() not in (".yaml", ".yml"):
        return _from_list(path)
    if path.is_dir() and not _is_data_set(path):
        return _from_folder(path, Path(out))
    config = data_config(images)
    if not config.has_files:
        raise UserError(f"{images} is drawn when it is read; write it as files first with `polyscale data draw`")
    if isinstance(config, FolderConfig):
        items = find_files(config.model_copy(update={"masks": "none"})).items
    else:
        items = tuple(open_data(config).items)
    return _source({item.name: item.image for item in items}, str(images))


def _is_data_set(path: Path) -> bool:
    """Whether a folder says what it holds, has masks, or has nothing but one folder ``images``."""
    if (path / DATA_FILE).exists() or camvid_splits(path):
        return True
    if (path / "images").is_dir():
        others = [entry for entry in path.iterdir() if entry.name != "images" and not entry.name.startswith(".")]
        return (path / "masks").is_dir() or not any(
            entry.is_dir() or entry.suffix.lower() in IMAGE_SUFFIXES for entry in others
        )
    return any((path / split / "masks").is_dir() for split in folder_splits(path))


def _from_folder(folder: Path, out: Path) -> Source:
    folder, closed = _absolute(folder), out.resolve()
    paths: dict[str, Path] = {}
    for name in walk_files(folder, IMAGE_SUFFIXES, closed=[closed], unless=DESCRIPTION):
        _add(paths, os.path.splitext(name)[0], folder / name)  # noqa: PTH122 - one Path an image: there may be millions
    return _source(paths, str(folder))


def _from_list(file: Path) -> Source:
    try:
        lines = [line.strip() for line in file.read_text(encoding="utf-8-sig").splitlines()]
    except (OSError, UnicodeDecodeError):
        raise UserError(
            f"{file} is neither a folder, a data config (.yaml) nor a text file with an image path a line"
        ) from None
    lines = [line for line in lines if line and not line.startswith("#")]
    if not lines:
        raise UserError(f"{file} lists no images; write one path a line")
    found = [file.parent / line if (file.parent / line).is_file() else Path(line) for line in lines]
    missing = [line for line, path in zip(lines, found, strict=True) if not path.is_file()]
    if missing:
        raise UserError(
            f"{file} lists {len(missing)} images that do not exist: {first_three(missing)}; correct the list"
        )
    files = list(dict.fromkeys(_absolute(path) for path in found))
    base = _absolute(file.parent)
    if not all(path.is_relative_to(base) for path in files):
        base = Path(os.path.commonpath([path.parent for path in files]))
    paths: dict[str, Path] = {}
    for path in files:
        _add(paths, path.relative_to(base).with_suffix("").as_posix(), path)
    return _source(paths, str(file), len(lines) - len(files))


def _add(paths: dict[str, Path], name: str, path: Path) -> None:
    other = paths.setdefault(name, path)
    if other != path:
        raise UserError(f"two images have the name {name!r}: {other} and {path}; rename one")


def _source(paths: dict[str, Path], where: str, repeated: int = 0) -> Source:
    if not paths:
        raise UserError(f"there are no images in {where}; files ending in {' '.join(IMAGE_SUFFIXES)} are looked for")
    for name in paths:
        if not stands_in_list(name) or not _is_text(name):
            raise UserError(f"image name {name!a} cannot stand in a list of names; rename it")
        check_name(name)
        if name.startswith(".") or "/." in name:
            raise UserError(f"image {name!r} is hidden, and hidden files are not looked for; rename it or its folder")
    absolute = {name: _absolute(paths[name]) for name in sorted(paths)}
    roots, endings = set(), set()
    for name, path in absolute.items():
        text = str(path) if os.sep == "/" else path.as_posix()
        position = text.rfind(f"/{name}")
        if position < 0:
            raise UserError(f"{path} does not contain its name {name!r}; give its folder, or a list of image files")
        roots.add(text[:position])
        endings.add(text[position + 1 + len(name) :])
    if len(roots) > 1:
        listed = first_three(sorted(roots))
        raise UserError(f"the images lie under several folders ({listed}); label one at a time, or give a list file")
    root = roots.pop()
    if not root:
        raise UserError(f"the images of {where} lie in folders that have only / in common; label one folder at a time")
    if "{" in root or not _is_text(root):  # a field of a template begins with a brace
        raise UserError(f"the path {root!a} cannot stand in a file-name template; rename the folder")
    if len(endings) == 1:
        ending = endings.pop()
    elif all(ending.lower() in IMAGE_SUFFIXES for ending in endings):
        ending = ""
        _check_neighbours(absolute)
    else:
        raise UserError(f"image files of {where} end in several ways ({first_three(sorted(endings))}); split the set")
    return Source(absolute, Path(root), f"{root}/{{name}}{ending}", repeated)


def _absolute(path: Path) -> Path:
    """The absolute path; of symbolic links only those before a ``..`` are resolved."""
    parts = path.absolute().parts
    if ".." not in parts:
        return path.absolute()
    last = len(parts) - 1 - parts[::-1].index("..")
    return Path(*parts[: last + 1]).resolve().joinpath(*parts[last + 1 :])


def _is_text(name: str) -> bool:
    """Whether a path's bytes are UTF-8."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _check_neighbours(paths: dict[str, Path]) -> None:
    """Without a common suffix, no other image in these folders may have one of the names."""
    given = set(paths.values())
    stems = {path.with_suffix("") for path in given}
    for folder in sorted({path.parent for path in given}):
        for other in sorted(folder.iterdir()):
            if other.suffix.lower() in IMAGE_SUFFIXES and other.with_suffix("") in stems and other not in given:
                raise UserError(f"{other} has the name of an image that is to be labelled, but is not; rename one")


def read_frame(path: Path) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """The pixels of a frame mask that may be labelled, (H, W): those that are not 0.

    Raises:
        UserError: it is no image, or 0 everywhere.
    """
    with open_image(path) as image:
        load(image, path)
        # Of a palette the index counts, as in masks; of colours the brightness.
        grey = image if image.mode in ("1", "L", "P") else image.convert("L")
        found: np.ndarray[Any, np.dtype[np.bool_]] = np.asarray(grey) != 0
    if not found.any():
        raise UserError(f"the frame mask {path} is 0 everywhere: nothing would be labelled; 0 means ignored")
    return found


class CoarseLabels:
    """Coarse labels by the names of their images, in the teacher's train ids.

    Args:
        where: the data set, as for ``open_data``; its items are named as the images are.
        space: of the teacher. Classes are matched by name.
        names: of the images to label.

    Raises:
        UserError: the teacher lacks a class of the coarse labels, or no image has one.
    """

    def __init__(self, where: str | Path, space: LabelSpace, names: Sequence[str]) -> None:
        config = data_config(where)
        if not config.has_files:
            raise UserError(f"{where} is drawn when it is read; write it as files first with `polyscale data draw`")
        if isinstance(config, FolderConfig):
            config = validate(FolderConfig, {**config.model_dump(), "masks": "optional"})
        data = open_data(config, label_space=space)
        assert isinstance(data, FileData)
        self._data = data
        theirs = data.label_space
        match = space.match(theirs)
        if match.strange:
            raise UserError(
                f"the coarse labels' label space {theirs.name!r} has classes that the teacher does not know: "
                f"{first_three(match.strange)}; the teacher's are {', '.join(space.names)}"
            )
        self.digest = digest(data.reading)
        self._table = match.table
        self._index = {item.name: number for number, item in enumerate(data.items) if item.mask is not None}
        if not any(name in self._index for name in names):
            raise UserError(
                f"no image has a coarse label in {where}: names there are like {first_three(list(self._index)[:2])}, "
                f"those of the images like {first_three(list(names)[:2])}"
            )

    def path(self, name: str) -> Path | None:
        """The mask of an image, or None where it has no coarse label."""
        index = self._index.get(name)
        return None if index is None else self._data.items[index].mask

    def read(self, name: str, size: tuple[int, ...]) -> np.ndarray[Any, np.dtype[np.uint8]] | None:
        """The coarse label of an image, (H, W) the teacher's train ids or ``IGNORE``; None where it has none.

        Raises:
            UserError: its file is unreadable, has unknown ids or another size than the image.
        """
        index = self._index.get(name)
        if index is None:
            return None
        labels = self._data.read_labels(index)
        assert labels is not None
        if labels.shape != size:
            raise DataError(self._data.size_message(index, size, labels.shape), "size")
        found: np.ndarray[Any, np.dtype[np.uint8]] = self._table[labels]
        return found
