"""CamVid with 11 classes in its common layout: ``train/`` with ``trainannot/``, ``val/`` with ``valannot/``.

Void is id 11, not 255. The official val split is one clip of a few seconds cut out of a train sequence,
so hold-outs by sequence matter: ``include`` and ``exclude`` take sequences (``0006R0``), or any beginning of a name.

Source: Brostow et al., Semantic Object Classes in Video, Pattern Recognition Letters 30(2), 2009; the 11 classes, the
    size of 480 x 360 and the split of 367, 101 and 233 images are those of SegNet (Badrinarayanan et al., PAMI 2017).
"""

from pathlib import Path
from typing import Literal

from polyscale.data.file_data import FileData
from polyscale.data.file_kinds import FilesConfig
from polyscale.data.folders import FolderConfig, find_files
from polyscale.labels import LabelClass, LabelSpace

__all__ = ["CAMVID", "CamVidConfig", "camvid_splits"]

_CLASSES: tuple[tuple[str, tuple[int, int, int]], ...] = (
    ("sky", (128, 128, 128)),
    ("building", (128, 0, 0)),
    ("pole", (192, 192, 128)),
    ("road", (128, 64, 128)),
    ("pavement", (60, 40, 222)),
    ("tree", (128, 128, 0)),
    ("sign symbol", (192, 128, 128)),
    ("fence", (64, 64, 128)),
    ("car", (64, 0, 128)),
    ("pedestrian", (64, 64, 0)),
    ("bicyclist", (0, 128, 192)),
)

CAMVID = LabelSpace(
    name="camvid-11",
    classes=tuple(LabelClass(name=name, color=color, ids=(number,)) for number, (name, color) in enumerate(_CLASSES)),
    ignore_ids=(11,),
)
"""The 11 classes in the order of their ids; 11 (void) and 255 are ignored."""


class CamVidConfig(FilesConfig):
    """CamVid in its common layout; images may be PNG or JPEG."""

    kind: Literal["camvid"] = "camvid"
    split: str | tuple[str, ...] | None = None
    """``train``, ``val`` or ``test``, several of them (names then begin with the split), or null for all that are
    there.
    """
    include: tuple[str, ...] = ()
    """Sequences, or beginnings or patterns of names; only these are kept."""
    exclude: tuple[str, ...] = ()
    """Sequences, or beginnings or patterns of names; these are left out."""

    def open(self, label_space: LabelSpace | None = None, lenient: bool = False) -> FileData:
        """Open CamVid.

        Raises:
            UserError: a folder is missing, an image has no mask, or a sequence has no image in the split.
        """
        del label_space
        folder = FolderConfig(
            root=self.root,
            split=self.split if self.split is not None else self.splits() or ("train", "val"),
            image="{split}/{name}",
            mask="{split}annot/{name}",
            masks=self.masks,
            include=tuple(f"{start}*" for start in self.include),
            exclude=tuple(f"{start}*" for start in self.exclude),
            long_edge=self.long_edge,
        )
        return folder.data(find_files(folder, lenient), CAMVID, lenient)

    def splits(self) -> tuple[str, ...]:
        """Those of train, val and test that are there."""
        return () if self.split is not None else camvid_splits(self.root.expanduser())

    @classmethod
    def recognised(cls, folder: Path) -> "CamVidConfig | None":
        """A folder with ``train/`` and ``trainannot/``, or another split with its masks."""
        return cls(root=folder) if camvid_splits(folder) else None


def camvid_splits(root: Path) -> tuple[str, ...]:
    """The splits that a folder offers in CamVid's layout: those of train, val and test that are there."""
    return tuple(
        split for split in ("train", "val", "test") if (root / split).is_dir() and (root / f"{split}annot").is_dir()
    )
