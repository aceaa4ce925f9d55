"""Published data sets whose layout a few templates describe: one row of the table each.

Sources: ADE20K (Zhou et al., CVPR 2017; the 150 classes of the scene-parsing challenge), Pascal VOC (Everingham et
    al., IJCV 2010), BDD100K (Yu et al., CVPR 2020), COCO-Stuff (Caesar et al., CVPR 2018), KITTI (Alhaija et al.,
    IJCV 2018), LoveDA (Wang et al., NeurIPS 2021).
"""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

from polyscale.data.file_data import FileData
from polyscale.data.file_kinds import FilesConfig
from polyscale.data.folders import FolderConfig, find_files
from polyscale.data.known_spaces import known_space
from polyscale.data.layout import template_parts
from polyscale.errors import UserError, nearest
from polyscale.labels import LabelSpace

__all__ = ["PUBLISHED", "Published", "PublishedConfig"]


class Published(NamedTuple):
    """The layout of one data set.

    Attributes:
        label_space: name of one that comes with the package.
        splits: ``{split}`` in the templates by our name of each split.
        image: template of images, see ``FolderConfig``.
        mask: template of masks.
        split_file: text file that lists a split, or None.
    """

    label_space: str
    splits: Mapping[str, str]
    image: str
    mask: str
    split_file: str | None = None


PUBLISHED = {
    "ade20k": Published(
        "ade20k",
        {"train": "training", "val": "validation"},
        "images/{split}/{name}.jpg",
        "annotations/{split}/{name}.png",
    ),
    "voc": Published(
        "voc",
        {"train": "train", "val": "val", "trainval": "trainval"},
        "JPEGImages/{name}.jpg",
        "SegmentationClass/{name}.png",
        "ImageSets/Segmentation/{split}.txt",
    ),
    "bdd100k": Published(
        "cityscapes-train-ids",
        {"train": "train", "val": "val"},
        "images/10k/{split}/{name}.jpg",
        "labels/sem_seg/masks/{split}/{name}.png",
    ),
    "coco-stuff": Published(
        "coco-stuff",
        {"train": "train2017", "val": "val2017"},
        "images/{split}/{name}.jpg",
        "annotations/{split}/{name}.png",
    ),
    "kitti": Published(
        "cityscapes",
        {"train": "training"},
        "{split}/image_2/{name}.png",
        "{split}/semantic/{name}.png",
    ),
    "loveda": Published(
        "loveda",
        {"train": "Train", "val": "Val"},
        "{split}/{folder}/images_png/{name}.png",
        "{split}/{folder}/masks_png/{name}.png",
    ),
}
"""Layout by kind; another data set is one row here and its label space in ``spaces/``."""

if TYPE_CHECKING:
    _Kind = str
else:
    _Kind = Literal[tuple(PUBLISHED)]


class PublishedConfig(FilesConfig):
    """A published data set in the layout in which it is downloaded; ``kind`` names it."""

    kind: _Kind
    split: str | tuple[str, ...] | None = None
    """``train``, ``val`` or what else the data set has, or several of them; null is train alone."""

    def open(self, label_space: LabelSpace | None = None, lenient: bool = False) -> FileData:
        """Open the data set; its label space is its own.

        Raises:
            UserError: a folder is missing, there is no such split, an image has no mask.
        """
        del label_space
        published = PUBLISHED[self.kind]
        splits = self.split if isinstance(self.split, tuple) else (self.split or "train",)
        for split in splits:
            if split not in published.splits:
                hint, known = nearest(split, published.splits), ", ".join(published.splits)
                raise UserError(f"data of kind {self.kind!r} have no split {split!r}{hint}; their splits are {known}")
        theirs = tuple(published.splits[split] for split in splits)
        folder = FolderConfig(
            root=self.root,
            split=theirs if len(theirs) > 1 else theirs[0],
            image=published.image,
            mask=published.mask,
            split_file=published.split_file,
            masks=self.masks,
            include=self.include,
            exclude=self.exclude,
            long_edge=self.long_edge,
        )
        return folder.data(find_files(folder, lenient), known_space(published.label_space), lenient)

    def splits(self) -> tuple[str, ...]:
        """Those that are there."""
        return () if self.split is not None else tuple(_present(self.root.expanduser(), PUBLISHED[self.kind]))

    @classmethod
    def recognised(cls, folder: Path) -> "PublishedConfig | None":
        """A folder that has images and masks where a row of the table has them."""
        for kind, published in PUBLISHED.items():
            if _present(folder, published):
                return cls(kind=kind, root=folder)
        return None


def _present(root: Path, published: Published) -> list[str]:
    """The splits whose images and masks are there."""
    found = []
    for name, text in published.splits.items():
        bases = [template_parts(root, template, text, "image")[0] for template in (published.image, published.mask)]
        listed = published.split_file is None or (root / published.split_file.replace("{split}", text)).is_file()
        inner = "{folder}" not in published.image or any(
            (entry / Path(published.image).parent.name).is_dir() for entry in bases[0].glob("*")
        )
        if listed and inner and all(base.is_dir() for base in bases):
            found.append(name)
    return found
