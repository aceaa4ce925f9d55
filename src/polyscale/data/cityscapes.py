"""Cityscapes as it is downloaded: fine and coarse labels, and labels that a teacher made.

The zips may be unpacked into one folder (``leftImg8bit/train``, ``gtFine/train``) or each into its own
(``leftImg8bit_trainvaltest/leftImg8bit/train``, ``gtCoarse/gtCoarse/train_extra``), as the authors' project has them.
The labels that the authors released are ``refinement_final/<split>/<city>/<name>_leftImg8bit.png`` with label ids, and
their probabilities beside them, ``…_leftImg8bit_prob.png``.

Source: Cordts et al., The Cityscapes Dataset for Semantic Urban Scene Understanding, CVPR 2016; cross-validation by
    cities as in NVIDIA/semantic-segmentation.
"""

import math
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import Field

from polyscale.data.file_data import FileData
from polyscale.data.file_kinds import FilesConfig
from polyscale.data.items import DataError
from polyscale.data.known_spaces import known_space
from polyscale.data.layout import Found, list_items, merge_splits
from polyscale.data.masks import read_mask
from polyscale.data.palettes import Color
from polyscale.errors import UserError, nearest
from polyscale.labels import IGNORE, LabelSpace

__all__ = ["CityscapesConfig", "CityscapesData", "inside_border"]

_SPLITS = ("train", "val", "test", "train_extra")
_IMAGES = ("leftImg8bit", "leftImg8bit_trainvaltest/leftImg8bit", "leftImg8bit_trainextra/leftImg8bit")
_LABELS = {
    "fine": ("gtFine", "gtFine_trainvaltest/gtFine"),
    "coarse": ("gtCoarse", "gtCoarse/gtCoarse"),
    "auto": ("refinement_final", "refinement_final/refinement_final"),
}
_ENDINGS = {"fine": "_gtFine_labelIds.png", "coarse": "_gtCoarse_labelIds.png", "auto": "_leftImg8bit.png"}
_ZIPS = {"fine": "gtFine_trainvaltest.zip", "coarse": "gtCoarse.zip", "auto": "refinement_final_v0.zip"}
_FOLDS = 3

_KEPT = (15, 840, 14, 2030)
"""First and last row and column that the rectification's border and the car's bonnet leave, of 1024 x 2048."""


class CityscapesConfig(FilesConfig):
    """Cityscapes."""

    kind: Literal["cityscapes"] = "cityscapes"
    split: str | tuple[str, ...] | None = None
    """``train``, ``val``, ``test`` or ``train_extra``, or several of them such as train and val together; null is train
    and val.
    """
    labels: Literal["fine", "coarse", "auto"] | None = None
    """``fine``, ``coarse`` or ``auto`` (``refinement_final``); by default coarse for train_extra alone, and fine
    otherwise.
    """
    fold: Literal[0, 1, 2] = 0
    """0 is the published split of train and val; 1 and 2 hold out other cities of train, as many as val has."""
    threshold: float = Field(default=0.0, ge=0, le=1)
    """In ``auto`` labels, pixels whose probability is below this are ignored."""
    ignore_border: bool = False
    """Ignore the border that rectification leaves and the car's own bonnet. Only the given labels mark them; a teacher
    predicts something there.
    """

    def open(self, label_space: LabelSpace | None = None, lenient: bool = False) -> "CityscapesData":
        """Open Cityscapes; its classes are the 19 that are scored.

        Raises:
            UserError: a folder or a city is missing, an image has no mask.
        """
        del label_space
        splits = self.split if isinstance(self.split, tuple) else (self.split,) if self.split else ("train", "val")
        config = self.model_copy(update={"split": splits if len(splits) > 1 else splits[0]})
        found = config.chosen(merge_splits({split: self._find(split, lenient) for split in splits}), lenient)
        return CityscapesData(config, found)

    def splits(self) -> tuple[str, ...]:
        """Those that are there."""
        if self.split is not None:
            return ()
        root = self.root.expanduser()
        return tuple(split for split in _SPLITS if any((root / base / split).is_dir() for base in _IMAGES))

    @classmethod
    def recognised(cls, folder: Path) -> "CityscapesConfig | None":
        """A folder with ``leftImg8bit``, in either form."""
        return cls(root=folder) if any((folder / base).is_dir() for base in _IMAGES) else None

    def _find(self, split: str, lenient: bool) -> Found:
        if split not in _SPLITS:
            raise UserError(
                f"Cityscapes has no split {split!r}{nearest(split, _SPLITS)}; its splits are {', '.join(_SPLITS)}"
            )
        kind = self.labels or ("coarse" if split == "train_extra" else "fine")
        if self.fold == 0 or split not in ("train", "val"):
            return self._list(split, kind, lenient)
        held_out = set(self._held_out())
        parts = [self._list(part, kind, lenient) for part in ("train", "val")]
        items = [item for part in parts for item in part.items]
        wanted = [item for item in items if (item.name.partition("/")[0] in held_out) == (split == "val")]
        return Found(tuple(sorted(wanted, key=lambda item: item.name)), ())

    def _held_out(self) -> list[str]:
        """Cities of the fold: the list of val's and then train's, as many as val has, from a third on."""
        cities = {
            split: sorted(entry.name for entry in self._base(_IMAGES, split, "images").iterdir() if entry.is_dir())
            for split in ("train", "val")
        }
        whole = cities["val"] + cities["train"]
        start = self.fold * len(whole) // _FOLDS
        return whole[start : start + len(cities["val"])]

    def _list(self, split: str, kind: str, lenient: bool) -> Found:
        root = self.folder
        images = self._base(_IMAGES, split, "images").relative_to(root).as_posix()
        if self.masks == "none":
            return list_items(root, f"{images}/{{name}}_leftImg8bit.png", None, None)
        masks = self._base(_LABELS[kind], split, f"{kind} labels").relative_to(root).as_posix()
        found = list_items(root, f"{images}/{{name}}_leftImg8bit.png", f"{masks}/{{name}}{_ENDINGS[kind]}", None)
        if self.masks == "required" and not lenient:
            cities = {item.name.partition("/")[0] for item in found.items}
            labelled = {item.name.partition("/")[0] for item in found.items if item.mask is not None}
            if missing := sorted(cities - labelled):
                raise DataError(
                    f"{root / masks} has no labels of {', '.join(missing[:3])} ({len(missing)} of {len(cities)} "
                    f"cities): {_ZIPS[kind]} is unpacked in part; unpack it again",
                    "missing",
                )
        return found

    def _base(self, candidates: tuple[str, ...], split: str, what: str) -> Path:
        root = self.folder
        for candidate in candidates:
            if (root / candidate / split).is_dir():
                return root / candidate / split
        looked_for = " nor ".join(f"{candidate}/{split}" for candidate in candidates)
        raise UserError(
            f"{root} has no {what} of Cityscapes' split {split}: neither {looked_for} is there; unpack the zip into it"
        )


class CityscapesData(FileData):
    """Cityscapes, with what its configuration ignores besides."""

    def __init__(self, config: CityscapesConfig, found: Found) -> None:
        super().__init__(
            found,
            known_space("cityscapes"),
            config.where,
            config.masks == "required",
            root=config.folder,
            long_edge=config.long_edge,
        )
        self._threshold = config.threshold
        self._ignore_border = config.ignore_border

    @property
    def instance_files(self) -> dict[str, Path]:
        """The files of instance ids by the items' names.

        None at all where one is missing (a teacher's labels have none), or where labels are resized as they are read.
        """
        masks = {item.name: item.mask for item in self.items}
        ending = "_labelIds.png"
        found = {
            name: mask.with_name(mask.name.removesuffix(ending) + "_instanceIds.png")
            for name, mask in masks.items()
            if mask is not None and mask.name.endswith(ending)
        }
        whole = len(found) == len(masks) and self._long_edge is None and all(path.is_file() for path in found.values())
        return found if whole else {}

    @property
    def reading(self) -> str:
        """All that decides how a mask's file becomes labels."""
        return f"{super().reading} {self._threshold} {self._ignore_border}"

    def read_labels_and_colors(self, index: int) -> tuple[np.ndarray[Any, np.dtype[np.uint8]] | None, dict[int, Color]]:
        """The labels as they are used, and the colours of the mask's palette."""
        labels, colors = super().read_labels_and_colors(index)
        path = self.items[index].mask
        if labels is None or path is None:
            return labels, colors
        if self._threshold:
            beside = path.with_name(f"{path.stem}_prob.png")
            probability = read_mask(beside)
            if probability.shape != labels.shape:
                raise DataError(f"{beside} does not have the size of {path}", "size")
            labels[probability < self._threshold * 255] = IGNORE
        if self._ignore_border:
            labels[~inside_border(*labels.shape)] = IGNORE
        return labels, colors


def inside_border(height: int, width: int) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Mask (H, W) of a Cityscapes frame's pixels that show neither the rectification's border nor the bonnet."""
    top, bottom, left, right = _KEPT
    inside = np.zeros((height, width), dtype=np.bool_)
    rows = slice(math.ceil(top * height / 1024), bottom * height // 1024)
    inside[rows, math.ceil(left * width / 2048) : right * width // 2048] = True
    return inside
