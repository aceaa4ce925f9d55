"""Mapillary Vistas 1.2 and 2.0 as they are downloaded.

Version 1.2 alone is ``training/images`` and ``training/labels`` with ``config.json``; the package of 2.0 holds both
versions, ``training/v1.2/labels`` and ``training/v2.0/labels`` with ``config_v1.2.json`` and ``config_v2.0.json``.
Masks are palette PNGs. Names and colours of classes, and which of them count, are those of the config file.

Source: Neuhold et al., The Mapillary Vistas Dataset for Semantic Understanding of Street Scenes, ICCV 2017.
"""

import json
from pathlib import Path
from typing import Literal

import numpy as np

from polyscale.data.file_data import FileData
from polyscale.data.file_kinds import FilesConfig
from polyscale.data.images import open_image
from polyscale.data.known_spaces import known_space
from polyscale.data.layout import Found, list_items, merge_splits
from polyscale.data.masks import palette_of
from polyscale.errors import UserError, nearest
from polyscale.labels import LabelClass, LabelSpace

__all__ = ["MapillaryConfig", "vistas_label_space"]

_FOLDERS = {"train": "training", "val": "validation", "test": "testing"}
Version = Literal["1.2", "2.0"]


class MapillaryConfig(FilesConfig):
    """Mapillary Vistas."""

    kind: Literal["mapillary"] = "mapillary"
    split: str | tuple[str, ...] | None = None
    """``train``, ``val`` or ``test`` (whose images have no labels), or several of them; null is train and val."""
    long_edge: int | None = None
    """The longer side, in pixels, to which images and masks are resized. The published recipe trains at 2177 and is
    scored at the images' own size, which is null.
    """
    version: Version | None = None
    """Version of the labels; by default the newest that is there."""

    def open(self, label_space: LabelSpace | None = None, lenient: bool = False) -> FileData:
        """Open Mapillary Vistas.

        Raises:
            UserError: a folder is missing, an image has no mask, or the masks are of another version than the config.
        """
        del label_space
        splits = self.split if isinstance(self.split, tuple) else (self.split,) if self.split else ("train", "val")
        splits = tuple(_canonical(split) for split in splits)
        update: dict[str, object] = {"split": splits if len(splits) > 1 else splits[0]}
        if splits == ("test",) and self.masks == "required":
            update["masks"] = "none"
        config = self.model_copy(update=update)
        version = config.chosen_version
        space = vistas_label_space(config.folder, version)
        found = config.chosen(merge_splits({split: config._find(split, version) for split in splits}), lenient)
        _check_version(found, space, version)
        return FileData(
            found,
            space,
            config.where,
            config.masks == "required",
            root=config.folder,
            long_edge=config.long_edge,
        )

    def splits(self) -> tuple[str, ...]:
        """Those that are there."""
        root = self.root.expanduser()
        return () if self.split is not None else tuple(k for k, v in _FOLDERS.items() if (root / v / "images").is_dir())

    @classmethod
    def recognised(cls, folder: Path) -> "MapillaryConfig | None":
        """A folder with ``training/images`` or ``validation/images`` and labels of either version."""
        for split in ("training", "validation"):
            if (folder / split / "images").is_dir() and any(
                (folder / split / labels).is_dir() for labels in ("labels", "v1.2/labels", "v2.0/labels")
            ):
                return cls(root=folder)
        return None

    @property
    def chosen_version(self) -> Version:
        """The version of the labels."""
        if self.version is not None:
            return self.version
        return "2.0" if any((self.folder / name / "v2.0").is_dir() for name in _FOLDERS.values()) else "1.2"

    def _find(self, split: str, version: Version) -> Found:
        root, folder = self.folder, _FOLDERS[split]
        masks = next((m for m in (f"{folder}/v{version}/labels", f"{folder}/labels") if (root / m).is_dir()), None)
        if masks == f"{folder}/labels" and version == "2.0":
            masks = None  # labels without a version are those of 1.2
        if masks is None and self.masks == "required":
            raise UserError(
                f"{root / folder} has no labels of version {version} (v{version}/labels); unpack them, choose another "
                "version, or set masks: none"
            )
        mask = None if masks is None or self.masks == "none" else f"{masks}/{{name}}.png"
        return list_items(root, f"{folder}/images/{{name}}.jpg", mask, None)


def vistas_label_space(root: Path, version: Version) -> LabelSpace:
    """The classes that count, by the data set's config file; by the label space of the package where there is none.

    Raises:
        UserError: the config file is damaged, or names a class twice.
    """
    names = [f"config_v{version}.json", *(["config.json"] if version == "1.2" else [])]
    path = next((root / name for name in names if (root / name).is_file()), None)
    if path is None:
        return known_space(f"mapillary-vistas-{version}")
    try:
        labels = json.loads(path.read_text(encoding="utf-8"))["labels"]
        rows = [(str(row["readable"]), tuple(row["color"]), bool(row["evaluate"])) for row in labels]
        counted = [
            LabelClass(name=name, color=color, ids=(number,)) for number, (name, color, on) in enumerate(rows) if on
        ]
        ignored = tuple(number for number, (_, _, on) in enumerate(rows) if not on)
        return LabelSpace(name=f"mapillary-vistas-{version}", classes=tuple(counted), ignore_ids=ignored)
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise UserError(
            f"{path} is no config file of Mapillary Vistas ({' '.join(str(error).split())[:200]}); unpack it again"
        ) from None


def _canonical(split: str) -> str:
    names = {folder: name for name, folder in _FOLDERS.items()}
    if split not in _FOLDERS and split not in names:
        raise UserError(
            f"Mapillary Vistas has no split {split!r}{nearest(split, _FOLDERS)}; its splits are {', '.join(_FOLDERS)}"
        )
    return names.get(split, split)


def _check_version(found: Found, space: LabelSpace, version: Version) -> None:
    """The first mask's palette is that of the label space: the two versions number their classes differently."""
    path = next((item.mask for item in found.items if item.mask is not None), None)
    if path is None:
        return
    try:
        with open_image(path) as image:
            palette = palette_of(image)
    except UserError:
        return  # told when it is read
    if palette is None:
        return
    known = [(item.ids[0], item.color) for item in space.classes if item.ids[0] < len(palette)]
    different = sum(not np.array_equal(palette[number], color) for number, color in known)
    if 2 * different > len(known):
        raise UserError(
            f"{path} has another palette than version {version} of Mapillary Vistas, so its labels are of another one; "
            "set version, or put the right config file beside them"
        )
